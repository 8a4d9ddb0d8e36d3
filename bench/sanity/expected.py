"""What each measurement is documented to notice: the claims that ``bench sanity`` holds it to.

``worse``: it must get worse as the corruption grows, and notice the strongest. ``better``: it is known to be misled, and rises.
What is not listed is not claimed; the page shows what was found.
"""

from __future__ import annotations

from typing import Literal

Response = Literal["worse", "better"]

PIXELS = ("noise", "blur")
EVERYTHING = ("noise", "blur", "mode-dropping")


def _worse(*corruptions: str) -> dict[str, Response]:
    return dict.fromkeys(corruptions, "worse")


EXPECTED: dict[str, dict[str, Response]] = {
    # distances between distributions
    "fd": _worse(*EVERYTHING, "jpeg", "duplication"),
    "fd_corrected": _worse(*EVERYTHING, "jpeg"),
    "fd_infinity": _worse(*EVERYTHING, "jpeg"),
    "sfd": _worse(*EVERYTHING),
    "sfd_corrected": _worse(*EVERYTHING),
    "kid": _worse(*EVERYTHING, "jpeg"),
    "cmmd": _worse(*EVERYTHING, "jpeg"),
    "cmmd_unbiased": _worse(*EVERYTHING, "jpeg"),
    "sliced_w2": _worse(*EVERYTHING),
    "fld": _worse(*PIXELS, "memorised"),
    "fld_gap": _worse("memorised"),
    # fidelity and diversity
    "precision": _worse(*PIXELS),
    "density": _worse(*PIXELS),
    "recall": _worse("mode-dropping", "duplication"),
    "coverage": _worse(*EVERYTHING, "duplication"),
    "clipped_density": _worse(*PIXELS),
    "clipped_coverage": _worse(*EVERYTHING, "duplication"),
    "realism": _worse("noise"),
    "vendi": _worse("mode-dropping", "duplication"),
    "vendi_q0.1": _worse("duplication"),
    "vendi_q2": _worse("mode-dropping"),
    "is": _worse("noise", "mode-dropping"),
    "ms_ssim_diversity": _worse("blur"),
    "pdist_effnetlite0_diversity": {"blur": "worse", "noise": "better"},
    # modes and collapse
    "ndb": _worse(*EVERYTHING),
    "jsd_bins": _worse(*EVERYTHING),
    "missing_mass": _worse("mode-dropping"),
    "repetitions": _worse("duplication"),
    "collapsed": _worse("duplication"),
    "modes_captured": _worse("mode-dropping", "spread"),
    "high_quality": _worse("spread"),
    "mode_kl": _worse("mode-dropping"),
    "factor_coverage_shape": _worse("mode-dropping"),
    "factor_kl_shape": _worse("mode-dropping"),
    # memorisation
    "authpct": _worse("memorised"),
    "data_copying_ct": _worse("memorised"),
    "nearest_train_ratio": _worse("memorised"),
    "near_copies": _worse("memorised"),
    "memorised": _worse("memorised"),
    "mifd": _worse("memorised"),
    # classes
    "intra_fd": _worse("label-noise"),
    "classification_accuracy_score": _worse("label-noise"),
    "condition_consistency": _worse("label-noise"),
    # models
    "reconstruction_mse": _worse("rebuilt-noise", "rebuilt-blur"),
    "reconstruction_psnr": _worse("rebuilt-noise", "rebuilt-blur"),
    "reconstruction_ssim": _worse("rebuilt-noise", "rebuilt-blur"),
    "reconstruction_pdist_effnetlite0": _worse("rebuilt-noise", "rebuilt-blur"),
    "rfd": _worse("rebuilt-noise", "rebuilt-blur"),
    "denoising_gain_0.25": _worse("rebuilt-noise"),
    "anomaly_auroc": _worse("contaminated"),
    "ppl_z_full_l2": _worse("winding"),
    "interpolation_smoothness": _worse("jumps"),
    "path_linearity": _worse("jumps"),
    "bits_per_dim_exact": _worse("flattening"),
    "compression_vs_png_exact": _worse("flattening"),
}

LOWER_IS_WORSE = {"data_copying_ct", "nearest_train_ratio"}
"""Measurements with an ideal in the middle: 0 and 1. Copying pulls them below it."""


OF_CLASSES = {("vendi", "mode-dropping"), ("vendi_q2", "mode-dropping")}
"""Claims for features that tell the classes of the data set apart: those of other networks may see all classes as much alike."""


def claim(measurement: str, corruption: str, knows_classes: bool) -> Response | None:
    """What the measurement is documented to do; None: nothing. knows_classes: the extractor was trained on these classes."""
    if (measurement, corruption) in OF_CLASSES and not knows_classes:
        return None
    return EXPECTED.get(measurement, {}).get(corruption)


def stem(name: str, extractor: str | None) -> str:
    """A measurement's name without extractor and layer: ``fd_effnetlite0_mid`` -> ``fd``."""
    if name in EXPECTED or extractor is None:
        return name
    return name.partition(f"_{extractor}")[0]
