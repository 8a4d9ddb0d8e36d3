"""Opt-in speed for an extractor, granted only where it is shown not to change the result on the data at hand."""

from __future__ import annotations

import copy
import dataclasses
import time

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.features.extract import extract
from bench.features.network import NetworkExtractor


@dataclasses.dataclass(frozen=True)
class SpeedCheck:
    """What a faster extractor changes, measured on ``n`` real and ``n`` fake images.

    distance: relative change of the Fréchet distance between them. features: relative change of the features.
    speed: images per second against the exact extractor, after a warm-up. allowed: ``distance`` is within the tolerance.
    """

    layer: str
    n: int
    distance: float
    features: float
    speed: float
    tolerance: float

    @property
    def allowed(self) -> bool:
        return bool(self.distance < self.tolerance)

    def __str__(self) -> str:
        verdict = "allowed" if self.allowed else "refused, the exact extractor is used"
        return (
            f"Frechet distance changes by {self.distance:.2g} (limit {self.tolerance:g}), features by {self.features:.2g} "
            f"({self.layer}, n={self.n}), {self.speed:.2f}x as fast: {verdict}"
        )


def speed_up(
    extractor: NetworkExtractor,
    real: np.ndarray,
    fake: np.ndarray,
    *,
    bfloat16: bool = True,
    compiled: bool = False,
    tolerance: float = 1e-3,
) -> tuple[NetworkExtractor, SpeedCheck]:
    """(extractor to use, check): the faster one where the Fréchet distance between ``real`` and ``fake`` keeps its value to
    ``tolerance`` relative, else ``extractor`` itself. Print the check and keep it in the record.

    real, fake: uint8 ``(N, H, W, C)``, a few hundred images of the data at hand. bfloat16: autocast. compiled: torch.compile
    (minutes for the first batch). The faster one's ``version`` says what it is.
    """
    quick = faster(extractor, bfloat16, compiled)
    check = compare(extractor, quick, real, fake, tolerance)
    return (quick if check.allowed else extractor), check


def faster(extractor: NetworkExtractor, bfloat16: bool, compiled: bool) -> NetworkExtractor:
    """The extractor in bfloat16, compiled, or both; unchecked."""
    if not (bfloat16 or compiled):
        raise BenchError("nothing to speed up: choose bfloat16, compiled or both")
    quick = copy.copy(extractor)
    quick.network = _Autocast(extractor.network) if bfloat16 else extractor.network
    if compiled:
        quick.network = torch.compile(quick.network, options={"freezing": True})  # type: ignore[assignment]
    how = "+".join(word for word, used in (("bfloat16", bfloat16), ("compiled", compiled)) if used)
    quick.version, quick.precision = f"{extractor.version.removesuffix(' float32')} {how}", how
    return quick


def compare(
    exact: NetworkExtractor, quick: NetworkExtractor, real: np.ndarray, fake: np.ndarray, tolerance: float = 1e-3
) -> SpeedCheck:
    """Both extractors on the same images; the first layer decides."""
    n = min(len(real), len(fake))
    if n < 2:
        raise BenchError("the check of a faster extractor needs at least 2 real and 2 fake images; give a few hundred")
    layer = next(iter(exact.layers))
    pairs, seconds = [], []
    for extractor in (exact, quick):
        extract(real[:n], extractor, extractor.device)  # warm-up, and compilation for these sizes of batches
        start = time.perf_counter()
        pairs.append([extract(images[:n], extractor, extractor.device)[layer] for images in (real, fake)])
        seconds.append(time.perf_counter() - start)
    distances = [_frechet_distance(*pair) for pair in pairs]
    change = max(float(np.linalg.norm(b - a) / np.linalg.norm(a)) for a, b in zip(*pairs))
    distance = abs(distances[1] - distances[0]) / distances[0] if distances[0] > 0 else float("inf")
    return SpeedCheck(layer, n, distance, change, seconds[0] / seconds[1], tolerance)


def _frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Between Gaussians fitted to few samples: the trace of the covariances' geometric mean is the nuclear norm of the
    product of the centred samples, so nothing of size d x d is made."""
    a, b = ((x - x.mean(0, dtype=np.float64)) / np.sqrt(len(x) - 1) for x in (real, fake))
    shift = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
    return float(shift @ shift + (a**2).sum() + (b**2).sum() - 2 * np.linalg.norm(a @ b.T, "nuc"))


class _Autocast(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x)
