"""Which feature layers a metric looks at, and how a measurement made on one is named."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import BenchError, did_you_mean
from bench.metrics.base import Evidence

LOGITS = "logits"
ONLY = "features"  # the layer of a network that gives one
STANDARD = ("final", "pool", ONLY)  # the layer before the classifier, as extractors call it


def feature_layers(evidence: Evidence) -> list[str]:
    """The extractor's layers that hold features, not class scores."""
    return [layer for layer in evidence.layers if layer != LOGITS]


def widest_layer(evidence: Evidence) -> str:
    """The extractor's widest feature layer: for the usual networks the one before the classifier."""
    return max(feature_layers(evidence), key=lambda layer: evidence.layers[layer])


def first_layer(evidence: Evidence, asked: str | None, preferred: Sequence[str]) -> str:
    """The layer that was asked for, else the first of ``preferred`` that the extractor has, else its widest one."""
    if asked is None:
        return next((layer for layer in preferred if layer in evidence.layers), None) or widest_layer(evidence)
    if asked not in evidence.layers:
        raise BenchError(
            f"extractor {evidence.extractor} has no layer '{asked}'; {did_you_mean(asked, feature_layers(evidence))}"
        )
    return asked


def with_setting(measure: str, option: str, value: float | str, default: float | str) -> str:
    """``precision`` with k = 3 instead of the default 5 is ``precision_k3``: numbers of other settings have other names."""
    if value == default:
        return measure
    return f"{measure}_{option}{value if isinstance(value, str) else format(value, 'g')}"


def named_after(measure: str, evidence: Evidence, layer: str) -> str:
    """``kid_effnetlite0`` on the layer before the classifier, ``kid_effnetlite0_mid`` on another; ``kid_raw`` without a network."""
    name = f"{measure}_{evidence.extractor}"
    return name if layer in (*STANDARD, evidence.extractor) else f"{name}_{layer}"


def named_with_layer(measure: str, evidence: Evidence, layer: str) -> str:
    """``fd_effnetlite0_mid``, ``fd_effnetlite0_final``: with the layer where there could be others; ``fd_raw`` without a network."""
    name = f"{measure}_{evidence.extractor}"
    return name if layer in (ONLY, evidence.extractor) else f"{name}_{layer}"
