"""CMMD for suites: the Gaussian-kernel distance of unit-length embeddings, made for CLIP's."""

from __future__ import annotations

import numpy as np

from bench.metrics.base import Evidence, Metric
from bench.metrics.kernel import cmmd
from bench.metrics.layers import first_layer, named_after
from bench.record import Measurement


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1 (zero rows stay), as CLIP embeddings are before they are compared."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


PUBLISHED_WITH = "clip_vitl14_336"


class CLIPDistance(Metric):
    """CMMD of unit-length embeddings (of CLIP's ViT-L/14 at 336 pixels; with another extractor the name says so): as published, and unbiased."""

    paper = "Rethinking FID: Towards a Better Evaluation Metric for Image Generation, Jayasumana et al. 2024 (arXiv 2401.09603)"
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None) -> None:
        """layer: default ``embedding`` where there is one, else ``final``, ``pool`` or the widest."""
        self.layer = layer

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ("embedding", "final", "pool"))
        real, fake = (unit_rows(evidence.features(split, layer)) for split in ("real", "fake"))
        found = [cmmd(real, fake), cmmd(real, fake, unbiased=True)]
        if evidence.extractor == PUBLISHED_WITH:
            return found
        return [measured.replace(name=named_after(measured.name, evidence, layer)) for measured in found]
