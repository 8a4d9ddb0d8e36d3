"""Fréchet distances by other protocols, for suites: extrapolated to infinitely many samples, and on spatial features."""

from __future__ import annotations

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.frechet import frechet_distances
from bench.metrics.frechet_infinity import fid_infinity
from bench.metrics.inputs import whole_number
from bench.metrics.layers import first_layer, named_with_layer, with_setting
from bench.record import Measurement

SPATIAL = "spatial"


class FrechetInfinity(Metric):
    """Fréchet distance extrapolated to infinitely many samples (FID-infinity on standard Inception features)."""

    paper = (
        "Effectively Unbiased FID and Inception Score and Where to Find Them, Chong, Forsyth 2020 (arXiv 1911.07023)"
    )
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None, points: int = 15) -> None:
        """layer: as of ``frechet``. points: of the line; other than 15 they stand in the name (``fid_infinity_points10``)."""
        self.layer, self.points = layer, whole_number(points, "points", 2)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ("mid", "final", "pool"))
        real, fake = (evidence.features(split, layer) for split in ("real", "fake"))
        measured = fid_infinity(real, fake, evidence.seed, self.points)
        standard = evidence.extractor == "inception" and layer == "pool"
        name = with_setting("fid_infinity" if standard else measured.name, "points", self.points, 15)
        return [measured.replace(name=name if standard else named_with_layer(name, evidence, layer))]


class SpatialFrechet(Metric):
    """Spatial Fréchet distance: sFID on Inception's mixed_6/conv map; needs an extractor with a layer ``spatial``."""

    paper = "Generating Images with Sparse Representations, Nash et al. 2021 (arXiv 2103.03841)"
    needs = frozenset({"features"})

    def measure(self, evidence: Evidence) -> list[Measurement]:
        if SPATIAL not in evidence.layers:
            raise BenchError(
                f"sfid needs an extractor with a layer 'spatial', and {evidence.extractor} has none; use inception"
            )
        found = frechet_distances(evidence.features("real", SPATIAL), evidence.features("fake", SPATIAL))
        other = f"_{evidence.extractor}"
        names = (
            ("sfid", "sfid_corrected")
            if evidence.extractor == "inception"
            else (f"sfd{other}", f"sfd_corrected{other}")
        )
        return [measured.replace(name=name) for measured, name in zip(found, names)]
