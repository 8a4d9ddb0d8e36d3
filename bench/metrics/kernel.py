"""Kernel distances: squared maximum mean discrepancy (MMD) of two feature sets, exact over all pairs.

    MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

KID: cubic polynomial kernel (x.y / d + 1)^3, unbiased. "Demystifying MMD GANs", Binkowski et al. 2018 (arXiv 1801.01401).
CMMD: Gaussian kernel of width 10, times 1000. "Rethinking FID: Towards a Better Evaluation Metric for Image Generation",
Jayasumana et al. 2024 (arXiv 2401.09603).

Matrix products run in the precision of the features (float32: relative error below 1e-6), sums in float64, in blocks of rows
that come in an order of their content and are each computed on one thread: the same features give the same number in any order
and on any number of threads. Memory beyond a copy of the features is bounded. All pairs cost less than the usual 100 subsets of 1000 and carry no subset noise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.exact import exact_float32
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, feature_pair, seed_number, whole_number
from bench.metrics.jackknife import half_width
from bench.metrics.layers import first_layer, named_after
from bench.metrics.order import shuffled
from bench.metrics.products import row_products
from bench.record import Measurement

ROWS = 1024
SMALLEST_N = 50
"""An interval needs this many samples in both sets: kernels of skewed features have heavy tails."""

OF_FEW = {1: 2000, 2: 500, 3: 500}
"""KID of so many dimensions needs so many samples: there its kernel is nearly the third power of one value, whose tails no few
samples show."""

LARGEST = 1e12
"""Squared lengths beyond it are taken in float64: the third power of a product of two such rows is near the end of float32."""

OFFSET = 10.0
"""So are features whose mean is this many times as long (squared) as their spread: what tells samples apart would be rounded."""

FEWEST_DIMENSIONS = 4
"""CMMD of like sets is nearly a sum of squares, of which fewer dimensions have too few for an interval."""

Task = TypeVar("Task")
Result = TypeVar("Result")

BlockKernel = Callable[[Tensor, Tensor], Tensor]
"""``(B, d), (C, d) -> (B, C)``; constants may be left out, they cancel in MMD^2."""


class PairSums(NamedTuple):
    """Sums of a kernel over pairs: of each row ``(n,)`` and of each column ``(m,)``; float64."""

    rows: np.ndarray
    columns: np.ndarray


class KernelSubsets(NamedTuple):
    """Mean over random subsets, and the standard deviation between subsets (ddof 0); the latter is no error of the mean."""

    mean: Measurement
    std: float


def kernel_distance(real: Features, fake: Features) -> Measurement:
    """Kernel distance ``kid`` of features ``(N, d)`` and ``(M, d)``: the unbiased estimate from all pairs; lower is better.

    May be slightly negative: "not distinguishable from the reference". The interval is for the distributions' distance,
    by the jackknife over both sets; none below 50 samples, in two or three dimensions below 500, in one below 2000. It rests on sixth moments: of a
    few lognormal (sigma 1) values no few hundred samples show them. n: M. Raises BenchError for unusable features.
    """
    reference, samples = map(shuffled, feature_pair(real, fake))
    d = reference.shape[1]
    return _unbiased(reference, samples, cubic(d), "kid", 1.0, OF_FEW.get(d, SMALLEST_N))


def cmmd(real: Features, fake: Features, unbiased: bool = False) -> Measurement:
    """CMMD: 1000 MMD^2 with the Gaussian kernel exp(-|x - y|^2 / 200), made for unit-length CLIP embeddings ``(N, d)``.

    The published estimate is the biased one (each sample is also paired with itself), and so is the default, without an
    interval; unbiased: the estimate ``cmmd_unbiased`` without those pairs, with its interval from 50 samples and 4 dimensions on.

    Lower is better. Raises BenchError for unusable features.
    """
    reference, samples = map(shuffled, feature_pair(real, fake))
    middle = reference.mean(0, dtype=np.float64)  # distances do not change, and near the origin they are more exact
    reference, samples = (z - middle.astype(z.dtype) for z in (reference, samples))
    if unbiased:
        needed = SMALLEST_N if reference.shape[1] >= FEWEST_DIMENSIONS else None
        return _unbiased(reference, samples, gaussian(10.0), "cmmd_unbiased", 1000.0, needed)
    xx, yy, xy = _all_pairs(reference, samples, gaussian(10.0))
    n, m = len(reference), len(samples)
    own = float(xx.rows.sum()) / n**2 + float(yy.rows.sum()) / m**2  # k(x, x) - 1 = 0
    value = 1000 * (own - 2 * float(xy.rows.sum()) / (n * m))
    note = "no interval: this estimate is biased upwards by the pairs of a sample with itself; the unbiased one has one"
    return Measurement(value, name="cmmd", n=m, direction="lower", note=note)


def kernel_distance_subsets(
    real: Features, fake: Features, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> KernelSubsets:
    """KID by the protocol of random subsets, for comparison with published numbers: equal to torch-fidelity's at its seed.

    Each subset is drawn without replacement, first from ``real``, then from ``fake``, by the place of rows: unlike
    ``kernel_distance`` the number hangs on their order. Raises BenchError where a set is
    smaller than ``subset_size``.

    real ``(N, d)``, fake ``(M, d)``; lower is better.
    """
    reference, samples = feature_pair(real, fake)
    subsets, subset_size = whole_number(subsets, "subsets"), whole_number(subset_size, "subset_size")
    smaller = min(len(reference), len(samples))
    if not (2 <= subset_size <= smaller and subsets >= 1):
        raise BenchError(
            f"{subsets} subsets of {subset_size} cannot be drawn from {smaller} samples; "
            f"ask for at least 1 subset of 2 to {smaller}"
        )
    rng = np.random.RandomState(seed_number(seed))
    kernel = cubic(reference.shape[1])
    values = []
    for _ in range(subsets):
        x, y = (z[rng.choice(len(z), subset_size, replace=False)] for z in (reference, samples))
        values.append(_estimate(*_all_pairs(x, y, kernel)))
    name = f"kid_{subsets}x{subset_size}"
    note = "no interval: subsets overlap, so their spread is not the error of their mean"
    return KernelSubsets(
        Measurement(float(np.mean(values)), name=name, n=len(samples), direction="lower", note=note),
        float(np.std(values)),
    )


def cubic(d: int) -> BlockKernel:
    """(x.y / d + 1)^3 - 1."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        a = row_products(x, y).mul_(1 / d)
        cube = a + 3
        return cube.mul_(a).add_(3).mul_(a)

    return kernel


def gaussian(sigma: float) -> BlockKernel:
    """exp(-|x - y|^2 / (2 sigma^2)) - 1."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squared = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * row_products(x, y)
        return torch.expm1(squared.clamp_(min=0).mul_(-0.5 / sigma**2))

    return kernel


def pair_sums(x: Tensor, y: Tensor | None, kernel: BlockKernel) -> PairSums:
    """Sums over all pairs of rows of x and y; with y None over all pairs of two different rows of x."""
    other = x if y is None else y
    rows, columns = (torch.zeros(len(z), dtype=torch.float64, device=z.device) for z in (x, other))
    corners = [(i, j) for i in range(0, len(x), ROWS) for j in range(i if y is None else 0, len(other), ROWS)]

    def sums(corner: tuple[int, int]) -> tuple[Tensor, Tensor]:
        i, j = corner
        block = kernel(x[i : i + ROWS], other[j : j + ROWS])
        if y is None and i == j:
            block.fill_diagonal_(0)
        return block.sum(1, dtype=torch.float64), block.sum(0, dtype=torch.float64)

    for (i, j), (of_rows, of_columns) in zip(corners, one_thread_each(sums, corners), strict=True):
        rows[i : i + ROWS] += of_rows
        if y is not None or i < j:
            columns[j : j + ROWS] += of_columns
    if y is None:
        rows = columns = rows + columns  # the kernel is symmetric: only blocks on and above the diagonal were computed
    return PairSums(rows.numpy(), columns.numpy())


def one_thread_each(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """``work`` on each task, in order, as many at a time as torch has threads and each on one: products in float32 that are shared out
    among threads differ in their last digits by the number of threads."""
    threads = torch.get_num_threads()
    if threads == 1 or len(tasks) == 1:
        with _on_threads(1):
            yield from map(work, tasks)
        return
    with _on_threads(threads), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(work, tasks)


@contextlib.contextmanager
def _on_threads(threads: int) -> Iterator[None]:
    """torch on so many threads, and afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _all_pairs(real: np.ndarray, fake: np.ndarray, kernel: BlockKernel) -> tuple[PairSums, PairSums, PairSums]:
    x, y = torch.from_numpy(np.ascontiguousarray(real)), torch.from_numpy(np.ascontiguousarray(fake))
    if x.dtype != y.dtype or not all(_fit_for_float32(z) for z in (x, y)):
        x, y = x.double(), y.double()
    with exact_float32():
        return pair_sums(x, None, kernel), pair_sums(y, None, kernel), pair_sums(x, y, kernel)


def _fit_for_float32(x: Tensor) -> bool:
    """Whether a cubic kernel of these rows neither overflows nor loses its digits to an offset that all rows share."""
    squares = torch.cat([z.double().square().sum(1) for z in x.split(ROWS)])
    mean = x.mean(0, dtype=torch.float64)
    offset, spread = float(mean @ mean), float(squares.mean() - mean @ mean)
    return float(squares.max()) <= LARGEST and offset <= OFFSET * spread


def _estimate(xx: PairSums, yy: PairSums, xy: PairSums) -> float:
    n, m = len(xx.rows), len(yy.rows)
    return float(xx.rows.sum() / (n * (n - 1)) + yy.rows.sum() / (m * (m - 1)) - 2 * xy.rows.sum() / (n * m))


def _unbiased(
    real: np.ndarray, fake: np.ndarray, kernel: BlockKernel, name: str, factor: float, needed: int | None
) -> Measurement:
    xx, yy, xy = _all_pairs(real, fake, kernel)
    value = factor * _estimate(xx, yy, xy)
    measured = Measurement(value, name=name, n=len(fake), direction="lower")
    if needed is None:
        return measured.replace(note=f"no interval: of {real.shape[1]} dimensions the distance is too far from normal")
    if min(len(real), len(fake)) < needed:
        note = f"no interval: {min(len(real), len(fake))} samples of {real.shape[1]} dimensions are fewer than {needed}"
        return measured.replace(note=note)
    influences = [influence(xx.rows, xy.rows, len(fake)), influence(yy.rows, xy.columns, len(real))]
    half = factor * half_width(influences)
    return measured.replace(low=value - half, high=value + half, interval="jackknife")


def influence(own: np.ndarray, cross: np.ndarray, others: int) -> np.ndarray:
    """(n - 1)(MMD^2 - MMD^2 without sample i), from each sample's kernel sums with its own set and with the other."""
    n = len(own)
    within = 2 * (own - own.mean()) / (n - 2)
    between = 2 * (cross - cross.mean()) / others
    return within - between


class Kernel(Metric):
    """Kernel distance (KID) over all pairs of samples, unbiased, with an interval."""

    paper = "Demystifying MMD GANs, Binkowski et al. 2018 (arXiv 1801.01401)"
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None, subsets: int | None = None, subset_size: int = 1000) -> None:
        """layer: the extractor's layer; default ``final`` where there is one, else ``pool`` or the widest.
        subsets, subset_size: measure ``kid_100x1000_*``, too, the protocol of 100 subsets of 1000, for comparison with papers."""
        self.layer = layer
        self.subsets = None if subsets is None else whole_number(subsets, "subsets", 1)
        self.subset_size = whole_number(subset_size, "subset_size", 2)

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ("final", "pool"))
        real, fake = (evidence.features(split, layer) for split in ("real", "fake"))
        found = [kernel_distance(real, fake)]
        if self.subsets is not None:
            mean, spread = kernel_distance_subsets(real, fake, self.subsets, self.subset_size)
            found.append(mean.replace(note=f"standard deviation of subsets {spread:.3g}; {mean.note}"))
        return [m.replace(name=named_after(m.name, evidence, layer)) for m in found]
