"""Vendi score: the effective number of different samples, from the eigenvalues of their similarity matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Literal

import numpy as np
import torch
from scipy.linalg import blas
from torch import Tensor

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import Features, finite, number_vector, real_numbers, to_numpy
from bench.metrics.intervals import block_jackknife
from bench.metrics.layers import first_layer, named_after
from bench.metrics.order import order_of
from bench.record import Measurement

ORDERS = (0.1, 1.0, 2.0, math.inf)
BLOCKS = 10
LARGEST_BIAS = 4.0
"""An interval is offered where the bias removed is at most this many standard errors."""

UNSURE_BIAS = 0.25
"""Share of the removed bias that is taken as its standard error: heavy tails leave terms beyond the first order in 1/n."""

CLEAR_GAP = 6.0
"""Order inf has an interval where the two largest eigenvalues differ by so many standard errors of one."""

ROWS = 4096

ROUNDING = 1e-5
"""How far entries of a kernel matrix may be from symmetry, and its diagonal from 1."""

NEGATIVE_SHARE = 0.01
"""The sum of the negative eigenvalues of a kernel matrix may be this share of the sum of all: rounding to 16 bits leaves less."""

Kernel = Literal["cosine"] | Callable[[np.ndarray], np.ndarray]


def vendi_score(
    features: np.ndarray | Tensor, q: float = 1.0, weights: np.ndarray | None = None, kernel: Kernel = "cosine"
) -> Measurement:
    """Vendi score of order ``q`` of ``(N, d)`` features: 1 if all samples are alike, N if none resembles another.

    The exponential of the Rényi entropy of order q of the eigenvalues of K / N, with K the kernel matrix: small q counts
    rare kinds, q = inf only the commonest (1 / largest eigenvalue). Exact in float64; with the cosine kernel the smaller of
    the N x N and the d x d problem is solved, and memory beyond the features stays within that square.

    weights: ``(N,)`` non-negative, a probability for each sample (normalised to sum 1); default equal.
    kernel: "cosine", or a function from features ``(N, d)`` to a positive semi-definite ``(N, N)`` with unit diagonal.
    A feature vector of norm 0 counts as alike to the other zero vectors and unlike all else.

    The score of N samples is below that of the model's distribution. ``value`` is the plain score (comparable with papers at
    the same n); the interval is for the distribution's score: a delete-a-block jackknife removes the bias on the
    log scale, a quarter of which counts as error. None is offered where that bias exceeds 4 standard errors, nor with weights, nor for n < 50.

    "The Vendi Score", Friedman and Dieng 2023 (arXiv 2210.02410); orders: "Cousins of the Vendi Score", Pasarkar and
    Dieng 2024 (arXiv 2310.12952).

    Higher is more diverse. Raises BenchError for features that are no finite matrix, for an order, weights or a kernel that are
    none, and for a kernel matrix that is not ``(N, N)``, not symmetric, without ones on its diagonal or not positive semi-definite.
    """
    return vendi_scores(features, (q,), weights, kernel)[q]


def vendi_scores(
    features: np.ndarray | Tensor,
    orders: Sequence[float] = ORDERS,
    weights: np.ndarray | None = None,
    kernel: Kernel = "cosine",
) -> dict[float, Measurement]:
    """``vendi_score`` of several orders from the same eigenvalues; order -> Measurement (``vendi``, ``vendi_q2`` ...)."""
    array = to_numpy(features)
    if array.ndim != 2 or array.size == 0:
        raise BenchError(f"the Vendi score needs features (N, d) with N > 0 and d > 0, not {array.shape}")
    array = finite(real_numbers(array, "features"), "features")  # of any size: rows are scaled before they are squared
    n, d = array.shape
    if callable(kernel):
        return _measure(_KernelMatrix(_checked_kernel(kernel(array), n), order_of(array)), orders, weights)
    if kernel != "cosine":
        raise BenchError(f"the kernel of a Vendi score must be 'cosine' or a function of the features, not {kernel!r}")
    problem = _SecondMoment(array) if d < n else _KernelMatrix(_gram(array), order_of(array))
    return _measure(problem, orders, weights)


def vendi_score_from_kernel(matrix: Features, q: float = 1.0, weights: np.ndarray | None = None) -> Measurement:
    """``vendi_score`` from a kernel matrix ``(N, N)``, positive semi-definite with unit diagonal."""
    similarities = _checked_kernel(matrix)
    return _measure(_KernelMatrix(similarities, _order_of_kernel(similarities)), (q,), weights)[q]


def diversity_of_order(eigenvalues: Tensor, q: float) -> float:
    """exp of the Rényi entropy of order ``q`` of non-negative eigenvalues with sum 1 (Hill number)."""
    if not isinstance(q, Real) or not q > 0:
        raise BenchError(f"the order q of a Vendi score must be positive, not {q}")
    smallest = len(eigenvalues) * torch.finfo(torch.float64).eps * float(eigenvalues.max())
    p = eigenvalues[eigenvalues > smallest]  # what is below is rounding, and small orders would count it
    if q == 1:
        return float(torch.exp(-(p * p.log()).sum()))
    if math.isinf(q):
        return 1 / float(p.max())
    return float((p**q).sum() ** (1 / (1 - q)))


class _KernelMatrix:
    """Eigenvalues of a kernel matrix, of all samples or without a block of them."""

    def __init__(self, matrix: np.ndarray, order: np.ndarray) -> None:
        """order: a random one ``(N,)`` of the samples, for the blocks."""
        self.order = order
        self.matrix = torch.from_numpy(matrix)
        self.n = len(matrix)

    def eigenvalues(self, weights: np.ndarray | None) -> Tensor:
        if weights is None:
            return _spectrum(self.matrix / self.n)
        root = torch.from_numpy(np.sqrt(weights))
        return _spectrum(self.matrix * torch.outer(root, root))

    def without_each_block(self) -> Iterator[Tensor]:
        blocks = _block_of(self.order)
        for block in range(BLOCKS):
            kept = torch.from_numpy(blocks != block)
            yield _spectrum(self.matrix[kept][:, kept] / kept.sum())


class _SecondMoment:
    """The same eigenvalues from the d x d second moment of unit vectors: the cosine kernel's dual, for d < N."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = features
        self.n = len(features)
        self.has_zeros = bool((~features.any(1)).any())

    def eigenvalues(self, weights: np.ndarray | None) -> Tensor:
        if weights is None:
            self.total = self._sum(slice(None), None)
            return _spectrum(self.total / self.n)
        return _spectrum(self._sum(slice(None), weights))

    def without_each_block(self) -> Iterator[Tensor]:
        blocks = _block_of(order_of(self.features))
        for block in range(BLOCKS):
            left_out = np.flatnonzero(blocks == block)
            yield _spectrum((self.total - self._sum(left_out, None)) / (self.n - len(left_out)))

    def _sum(self, rows: slice | np.ndarray, weights: np.ndarray | None) -> Tensor:
        """Lower triangle of the sum of w x x' over the chosen rows, some thousands at a time."""
        chosen = self.features[rows]
        width = chosen.shape[1] + self.has_zeros
        total = np.zeros((width, width), order="F")
        for start in range(0, len(chosen), ROWS):
            unit = _unit_rows(chosen[start : start + ROWS], self.has_zeros)
            if weights is not None:
                unit *= torch.from_numpy(np.sqrt(weights[start : start + ROWS, None]))
            total = blas.dsyrk(1.0, unit.numpy().T, beta=1.0, c=total, overwrite_c=1)  # its upper triangle
        return torch.from_numpy(total.T)


def _block_of(order: np.ndarray) -> np.ndarray:
    """The block of each sample, from a random order of them."""
    blocks = np.empty(len(order), dtype=np.int64)
    blocks[order] = np.arange(len(order)) % BLOCKS
    return blocks


def _checked_kernel(matrix: Features, n: int | None = None) -> np.ndarray:
    """float64 ``(N, N)`` where it is finite, symmetric and has ones on its diagonal, else BenchError. n: N, where it is known."""
    array = to_numpy(matrix)
    rows = len(array) if n is None and array.ndim else n
    if array.shape != (rows, rows) or array.size == 0:
        wanted = "square, (N, N)" if n is None else f"({n}, {n}), as there are {n} rows of features"
        raise BenchError(f"a kernel matrix must be {wanted}, not {array.shape}")
    array = np.ascontiguousarray(real_numbers(array, "a kernel matrix"), dtype=np.float64)
    if not np.isfinite(array).all():
        raise BenchError("a kernel matrix must be finite, but it holds NaN or infinity; look at the kernel")
    if not np.allclose(array.diagonal(), 1, atol=ROUNDING):
        raise BenchError("a kernel matrix for the Vendi score must have ones on its diagonal")
    blocks = [slice(start, start + ROWS) for start in range(0, len(array), ROWS)]
    if not all(np.allclose(array[block], array[:, block].T, atol=ROUNDING) for block in blocks):
        raise BenchError("a kernel matrix must be symmetric, k(x, y) = k(y, x), but it is not; look at the kernel")
    return array


def _order_of_kernel(matrix: np.ndarray) -> np.ndarray:
    """An order of samples by how similar they are to the others, which is all that a kernel matrix tells of them."""
    return order_of(np.stack([matrix.mean(1), (matrix**2).mean(1)], axis=1))


def _unit_rows(rows: np.ndarray, extra_column: bool) -> Tensor:
    """float64 rows of length 1; zero rows become the unit vector of one extra column, where there are any."""
    array = torch.from_numpy(np.ascontiguousarray(rows)).double()
    largest = array.abs().amax(1, keepdim=True)
    zero = largest == 0
    array = array / largest.masked_fill(zero, 1)  # first to a safe scale: squares must neither vanish nor overflow
    array = array / array.norm(dim=1, keepdim=True).masked_fill(zero, 1)
    return torch.cat([array, zero.double()], 1) if extra_column else array


def _gram(features: np.ndarray) -> np.ndarray:
    unit = _unit_rows(features, extra_column=True)
    return (unit @ unit.T).numpy()


def _spectrum(matrix: Tensor) -> Tensor:
    """Eigenvalues of a positive semi-definite matrix, given by its lower triangle, clamped at 0 and made to sum to 1."""
    values = torch.linalg.eigvalsh(matrix, UPLO="L")
    negative = -float(values.clamp_max(0).sum())
    if negative > NEGATIVE_SHARE * float(values.sum()):
        raise BenchError(
            f"a kernel matrix must be positive semi-definite, but eigenvalues down to {float(values[0]):.3g} are negative "
            f"(where all sum to {float(values.sum()):.3g}); look at the kernel"
        )
    values = values.clamp_min(0)
    return values / values.sum()


def _measure(
    problem: _KernelMatrix | _SecondMoment, orders: Sequence[float], weights: np.ndarray | None
) -> dict[float, Measurement]:
    spectrum = problem.eigenvalues(None if weights is None else _probabilities(weights, problem.n))
    values = {q: diversity_of_order(spectrum, q) for q in orders}
    reason = "weighted samples" if weights is not None else f"n = {problem.n} is below 50" if problem.n < 50 else None
    left_out = [] if reason else list(problem.without_each_block())
    top, second = _two_largest(spectrum)
    double = (
        f"the two largest eigenvalues, {top:.3g} and {second:.3g}, are too close"
        if top - second < CLEAR_GAP * top * math.sqrt(2 / problem.n)
        else None
    )
    return {
        q: _with_interval(q, values[q], problem.n, left_out, reason or (double if math.isinf(q) else None))
        for q in orders
    }


def _two_largest(spectrum: Tensor) -> tuple[float, float]:
    """Where they hardly differ, the larger is not smooth in the data: its bias falls as n^-1/2, which no jackknife removes."""
    values = torch.sort(spectrum, descending=True).values
    return float(values[0]), float(values[1]) if len(values) > 1 else 0.0


def _with_interval(q: float, value: float, n: int, left_out: list[Tensor], reason: str | None) -> Measurement:
    name = "vendi" if q == 1 else f"vendi_q{q:g}"
    plain = Measurement(value, name=name, n=n, unit="samples", direction="higher")
    if reason:
        return plain.replace(note=f"no interval: {reason}")
    jackknife = block_jackknife(math.log(value), [math.log(diversity_of_order(w, q)) for w in left_out])
    if jackknife.se < 1e-12:
        return plain.replace(note="no interval: leaving samples out changes nothing")
    if abs(jackknife.bias) > LARGEST_BIAS * jackknife.se:
        return plain.replace(note=f"no interval: n = {n} is too small to remove the bias")
    unsure = jackknife._replace(se=math.hypot(jackknife.se, UNSURE_BIAS * jackknife.bias))
    low, high = (math.exp(end) for end in unsure.interval)
    return plain.replace(low=low, high=high, interval="block jackknife of log, bias-corrected")


def _probabilities(weights: np.ndarray, n: int) -> np.ndarray:
    p = number_vector(weights, "weights")
    if len(p) != n or not np.isfinite(p).all() or (p < 0).any() or not 0 < p.sum() < np.inf:
        raise BenchError(f"Vendi weights must be {n} non-negative finite numbers with a positive sum")
    return p / p.sum()


class Vendi(Metric):
    """Effective number of different samples (Vendi score of orders 0.1, 1, 2, inf) on the widest feature layer."""

    paper = (
        "The Vendi Score: A Diversity Evaluation Metric for Machine Learning, Friedman, Dieng 2023 (arXiv 2210.02410)"
    )
    needs = frozenset({"features"})

    def __init__(self, layer: str | None = None, orders: Sequence[float | Literal["inf"]] = ORDERS) -> None:
        """layer: default the widest. orders: above 0, ``"inf"`` for infinity; each is a measurement (``vendi_q2_*``)."""
        self.layer, self.orders = layer, tuple(map(float, orders))
        if not self.orders or not all(order > 0 for order in self.orders):
            raise BenchError(f"the orders of Vendi scores must be positive numbers, not {list(orders)}")

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ())
        scores = vendi_scores(evidence.features("fake", layer), self.orders)
        return [m.replace(name=named_after(m.name, evidence, layer)) for m in scores.values()]
