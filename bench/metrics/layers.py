"""Which feature layers a metric looks at, and how a measurement made on one is named."""

from __future__ import annotations

from bench.metrics.base import Evidence

LOGITS = "logits"


def feature_layers(evidence: Evidence) -> list[str]:
    """The extractor's layers that hold features, not class scores."""
    return [layer for layer in evidence.layers if layer != LOGITS]


def widest_layer(evidence: Evidence) -> str:
    """The extractor's widest feature layer: for the usual networks the one before the classifier."""
    return max(feature_layers(evidence), key=lambda layer: evidence.layers[layer])


def named_after(measure: str, evidence: Evidence, layer: str) -> str:
    """``kid_effnetlite0`` on the layer named ``final``, ``kid_effnetlite0_mid`` on another."""
    name = f"{measure}_{evidence.extractor}"
    return name if layer == "final" else f"{name}_{layer}"
