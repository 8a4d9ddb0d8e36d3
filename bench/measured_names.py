"""How each built-in metric and the costs call their measurements, to check names in a config before anything has run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from bench import registry

STEMS = {
    "frechet": ("fd", "fd_corrected", "fid", "fid_corrected"),
    "kernel": ("kid",),
    "prdc": ("precision", "recall", "density", "coverage"),
    "inception-score": ("is",),
    "likelihood": ("bits_per_dim", "bits_per_token", "nll", "kl_from_truth", "compression_vs_png"),
    "memorisation": ("authpct", "data_copying_ct", "memorised", "mifd", "mifid", "near_copies", "nearest_train_ratio"),
    "collapse": ("collapsed", "missing_mass", "repetitions", "variance_ratio"),
    "codes": ("code_perplexity", "codes_used"),
    "vendi": ("vendi",),
    "bins": ("ndb", "jsd_bins"),
}
"""Measurements of a metric, without the extractor's name behind them. A metric that is not listed may measure anything."""

ALSO = {
    "kernel": ("mmd",),
    "inception-score": ("inception_score",),
    "sfid": ("sfid",),
    "cmmd": ("cmmd",),
    "frechet-infinity": ("fd_infinity", "fid_infinity"),
    "sliced-wasserstein": ("sliced_w2", "swd"),
    "clipped": ("clipped_coverage", "clipped_density"),
    "lpips-diversity": ("lpips", "pdist"),
    "ms-ssim-diversity": ("ms_ssim", "ms_ssim_diversity"),
    "fld": ("fld", "fld_gap"),
    "modes": ("factor_coverage", "factor_kl", "high_quality", "mode_kl", "modes_captured"),
    "conditional": ("classification_accuracy_score", "condition_consistency", "intra_fd"),
    "reconstruction": ("anomaly_auroc", "denoising_gain", "psnr", "reconstruction_mse", "rfd", "rfid", "ssim"),
    "latent-paths": ("interpolation_smoothness", "path_linearity", "ppl"),
}
"""Further words for measurements, by which people look for a metric; a metric may measure more than stands here."""

COSTS = (
    "sampling_throughput", "training_throughput", "training_step_rate", "training_seconds", "training_steps", "training_images",
    "parameters", "nfe", "time_to_first_sample", "peak_memory_sampling", "peak_memory_training", "oscillation",
)  # fmt: skip
"""Costs that every suite measures, for did-you-mean; there are more, and more of them with every device."""


def may_measure(name: str, metrics: Sequence[str], extractors: Sequence[str]) -> bool:
    """Whether a suite of these metrics and extractors may have a measurement ``name``: False where it is certain that it has none."""
    registered, own = (_endings(names) for names in (registry.entries("extractor"), extractors))
    all_known = all(metric in STEMS for metric in metrics)
    found = [(metric, stem) for metric, stems in STEMS.items() for stem in stems if _begins(name, stem)]
    if not found:
        of_features = any(f"_{ending}_" in f"{name}_" for ending in registered)
        stray = of_features and all_known and not name.startswith("accuracy_")
        return not stray and (name in COSTS or not _near(name, COSTS))
    owner, stem = max(found, key=lambda pair: len(pair[1]))
    if owner not in metrics:
        return not all_known
    rest = name[len(stem) + 1 :]
    if any(_holds(rest, ending) for ending in own):
        return True
    return not any(_holds(rest, ending) for ending in registered) and not _near(rest, own)


def measured_by(name: str) -> str | None:
    """The metric that measures ``name``: ``kernel`` for ``kid`` or ``KID_effnetlite0``. None where that is not known."""
    wanted = name.lower().replace("-", "_")
    found = [
        (len(stem), metric)
        for stems in (STEMS, ALSO)
        for metric in stems
        for stem in stems[metric]
        if _begins(wanted, stem)
    ]
    return max(found)[1] if found else None


def likely_names(metrics: Sequence[str], extractors: Sequence[str]) -> list[str]:
    """Names that such a suite measures, as far as they are known."""
    endings = _endings(extractors)
    return [f"{stem}_{ending}" for metric in metrics for stem in STEMS.get(metric, ()) for ending in endings] + list(
        COSTS
    )


def _endings(extractors: Iterable[str]) -> list[str]:
    """How extractors are called behind the name of a measurement."""
    return [re.sub(r"[-:./]", "_", name) for name in extractors]


def _begins(name: str, stem: str) -> bool:
    return name == stem or name.startswith(f"{stem}_")


def _holds(rest: str, ending: str) -> bool:
    """Whether the extractor stands in what follows the stem; settings may come before it (``k3_effnetlite0``)."""
    return f"_{ending}_" in f"_{rest}_"


def _near(name: str, known: Sequence[str]) -> bool:
    """A letter or two beside a known name."""
    return bool(difflib.get_close_matches(name, known, n=1, cutoff=0.9))
