"""How good and how diverse: one file a metric family, pure functions on arrays, imported on first use.

from bench.metrics import frechet_distance, kernel_distance, prdc
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "frechet_distance": "frechet",
    "frechet_distance_corrected": "frechet",
    "frechet_distance_from_stats": "frechet",
    "frechet_distance_of_pairs": "frechet_pairs",
    "fid_infinity": "frechet_infinity",
    "kernel_distance": "kernel",
    "kernel_distance_subsets": "kernel",
    "cmmd": "kernel",
    "inception_score": "inception",
    "prdc": "precision_recall",
    "realism_score": "precision_recall",
    "median_realism": "realism",
    "clipped_density": "clipped",
    "clipped_coverage": "clipped",
    "sliced_wasserstein": "sliced",
    "fld": "feature_likelihood",
    "fld_gap": "feature_likelihood",
    "vendi_score": "vendi",
    "vendi_score_from_kernel": "vendi",
    "perceptual_path_length": "latent",
    "interpolation_smoothness": "latent",
    "path_linearity": "latent",
    "lerp": "latent",
    "slerp": "latent",
    "slerp_unit": "latent",
    "lpips_diversity": "perceptual",
    "lpips_diversity_by_class": "perceptual",
    "ms_ssim_diversity": "perceptual",
    "ndb": "bins",
    "mixture_modes": "modes",
    "stacked_modes": "modes",
    "factor_coverage": "modes",
    "collapse_verdict": "collapse",
    "authpct": "memorisation",
    "data_copying": "memorisation",
    "nearest_train_ratio": "memorisation",
    "near_copies": "memorisation",
    "memorisation_verdict": "memorisation",
    "mifid": "memorisation",
    "mifid_distance": "memorisation",
    "mse": "reconstruction",
    "psnr": "reconstruction",
    "mean_ssim": "reconstruction",
    "reconstruction_fd": "reconstruction",
    "reconstruction_distance": "perceptual",
    "denoising_gain": "reconstruction",
    "anomaly_auroc": "reconstruction",
    "bits_per_dim": "likelihood",
    "compression_vs_png": "likelihood",
    "png_pixel_bits": "likelihood",
    "intra_class_fd": "classes",
    "classification_accuracy_score": "classes",
    "condition_consistency": "classes",
    "Moments": "moments",
    "FrechetAccumulator": "streaming",
    "InceptionScoreAccumulator": "streaming",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
