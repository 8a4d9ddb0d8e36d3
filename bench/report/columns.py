"""What a column of a table is, which group it belongs to, and which columns matter most."""

from __future__ import annotations

import dataclasses

GROUPS = (
    "quality",
    "diversity",
    "memorisation",
    "reconstruction and likelihood",
    "latent space",
    "speed",
    "memory and size",
    "cost",
    "training",
    "judge",
)
"""In the order of the tables; the last: how good the classifiers are by which models are judged."""

HEADLINE_IMPORTANCE = 10
"""Columns up to this importance say how good and how fast a model is; the others explain it."""

HARDWARE_GROUPS = frozenset({"speed", "memory and size", "cost", "training"})
"""Groups whose numbers depend on the machine: never averaged over environments."""

# Prefix of the metric's name -> (group, importance: small numbers make it into narrow tables first).
_KNOWN: dict[str, tuple[str, int]] = {
    "kid": ("quality", 1),
    "fid": ("quality", 2),
    "fd": ("quality", 2),
    "fd_corrected": ("quality", 22),
    "cmmd": ("quality", 12),
    "fld": ("quality", 13),
    "sliced_wasserstein": ("quality", 14),
    "precision": ("quality", 5),
    "density": ("quality", 11),
    "inception_score": ("quality", 15),
    "classifier_score": ("quality", 15),
    "is": ("quality", 15),
    "realism": ("quality", 16),
    "recall": ("diversity", 6),
    "coverage": ("diversity", 4),
    "clipped_coverage": ("diversity", 17),
    "vendi": ("diversity", 9),
    "lpips_diversity": ("diversity", 18),
    "pdist": ("diversity", 18),
    "ms_ssim": ("diversity", 19),
    "ndb": ("diversity", 19),
    "jsd": ("diversity", 19),
    "modes": ("diversity", 8),
    "mode": ("diversity", 19),
    "missing_mass": ("diversity", 19),
    "high_quality": ("quality", 8),
    "sprite_error": ("quality", 16),
    "reverse_kl": ("diversity", 19),
    "factor": ("diversity", 19),
    "repetitions": ("diversity", 19),
    "collapsed": ("diversity", 19),
    "intra": ("diversity", 19),
    "authpct": ("memorisation", 10),
    "data_copying": ("memorisation", 16),
    "c_t": ("memorisation", 16),
    "nearest": ("memorisation", 16),
    "near_copies": ("memorisation", 16),
    "memorised": ("memorisation", 16),
    "mifid": ("memorisation", 16),
    "mifd": ("memorisation", 16),
    "bits_per": ("reconstruction and likelihood", 10),
    "nll": ("reconstruction and likelihood", 20),
    "kl_from": ("reconstruction and likelihood", 20),
    "compression": ("reconstruction and likelihood", 21),
    "denoising_gain": ("reconstruction and likelihood", 22),
    "anomaly_auroc": ("reconstruction and likelihood", 21),
    "auroc": ("reconstruction and likelihood", 21),
    "reconstruction": ("reconstruction and likelihood", 20),
    "psnr": ("reconstruction and likelihood", 20),
    "ssim": ("reconstruction and likelihood", 20),
    "mse": ("reconstruction and likelihood", 20),
    "rfd": ("reconstruction and likelihood", 20),
    "rfid": ("reconstruction and likelihood", 20),
    "ppl": ("latent space", 21),
    "interpolation_smoothness": ("latent space", 21),
    "path_linearity": ("latent space", 21),
    "codes_used": ("latent space", 22),
    "code_perplexity": ("latent space", 22),
    "sampling_throughput": ("speed", 3),
    "training_throughput": ("speed", 7),
    "time_to_first_sample": ("speed", 15),
    "nfe": ("speed", 26),
    "best_sample_batch": ("speed", 27),
    "latency": ("speed", 25),
    "sampling_latency": ("speed", 25),
    "peak": ("memory and size", 8),
    "memory_growth": ("memory and size", 28),
    "parameters": ("memory and size", 7),
    "flops": ("cost", 25),
    "training_flops_per_image": ("cost", 25),
    "sampling_flops_per_image": ("cost", 25),
    "training_flops_coverage": ("cost", 33),
    "sampling_flops_coverage": ("cost", 33),
    "training_mfu": ("cost", 24),
    "sampling_mfu": ("cost", 24),
    "training_energy": ("cost", 26),
    "sampling_energy": ("cost", 26),
    "training_mean_power": ("cost", 29),
    "sampling_mean_power": ("cost", 29),
    "cost_per": ("cost", 23),
    "energy": ("cost", 25),
    "training": ("training", 30),
    "training_step_latency": ("training", 29),
    "data_loading": ("training", 30),
    "first_step": ("training", 31),
    "warmup": ("training", 31),
    "prior": ("training", 31),
    "final_loss": ("training", 32),
    "oscillation": ("training", 21),
    "training_collapsed": ("training", 20),
    "collapse_step": ("training", 28),
    "gradient_spike": ("training", 29),
    "discriminator": ("training", 28),
    "ema_lag": ("training", 30),
    "accuracy": ("judge", 34),
    "mode_classifier_accuracy": ("judge", 34),
    "condition_consistency_ceiling": ("judge", 34),
}

_VERDICTS = ("collapsed", "memorised", "training_collapsed")

_UNIT_GROUPS = {
    "s": "speed", "ms": "speed", "min": "speed", "steps": "training", "images": "training",
    "B": "memory and size", "KiB": "memory and size", "MiB": "memory and size", "GiB": "memory and size",
    "J": "cost", "Wh": "cost", "W": "cost", "FLOP": "cost", "USD": "cost", "gCO2": "cost",
}  # fmt: skip


def group_and_importance(metric: str, unit: str = "1") -> tuple[str, int]:
    """The group a metric is shown in and how early it is given a column; unknown names go by their unit, else to quality."""
    name = metric.replace("-", "_")
    matches = [prefix for prefix in _KNOWN if name == prefix or name.startswith(prefix + "_")]
    if matches:
        return _KNOWN[max(matches, key=len)]
    if unit.endswith("/s"):
        return ("speed", 40)
    return (_UNIT_GROUPS.get(unit.partition("/")[0], "quality"), 40)


def is_verdict(metric: str) -> bool:
    """Whether a metric says yes (1) or no (0) of a trial: over seeds, a share of them and no mean of measured values."""
    return any(metric == name or metric.startswith(name + "_") for name in _VERDICTS)


@dataclasses.dataclass(frozen=True)
class Column:
    """One measured quantity under one protocol (and, for what depends on the machine, in one environment).

    samples: the different ``n`` its values rest on. mark: tells it from columns of the same metric under another protocol or
    environment; "" where there is none.
    """

    metric: str
    protocol: str
    environment: str | None
    unit: str
    direction: str
    samples: tuple[int, ...] = ()
    mark: str = ""

    @property
    def group(self) -> str:
        return group_and_importance(self.metric, self.unit)[0]

    @property
    def importance(self) -> int:
        return group_and_importance(self.metric, self.unit)[1]

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓"}.get(self.direction, "")

    @property
    def name(self) -> str:
        return f"{self.metric} @{self.mark}" if self.mark else self.metric

    def header(self, scale: int = 0) -> str:
        """``kid_effnetlite0 ↓ (10⁻³)``: name, better direction, unit; values are shown in units of ``10**scale``."""
        power = f"10{str(scale).translate(_SUPERSCRIPT)}" if scale else ""
        unit = " ".join(part for part in (power, "" if self.unit == "1" else self.unit) if part)
        return " ".join(part for part in (self.name, self.arrow, f"({unit})" if unit else "") if part)


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
