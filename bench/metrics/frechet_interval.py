"""Bias and interval of the Fréchet distance by an exact delete-one jackknife, without a single refit.

Leaving out one fake example y shrinks S_f by a multiple of (y - mu)(y - mu)'. In the basis in which S_r is the identity and
S_f the diagonal matrix of eigenvalues lambda, the trace of the square root then changes by

    tr A^1/2 - tr (A - c w w')^1/2 = - 1/(2 pi) * integral over t > 0 of t^-1/2 log(1 - c w' (A + t)^-1 w) dt,

where A = diag(lambda) and w is the example in that basis: an integral over some hundred nodes, the same for all examples, so
all n distances without one example cost one matrix product. The same holds for real examples with the roles exchanged.
The jackknife bias needs their mean, the standard error their spread ("Notes on Bias in Estimation", Quenouille 1956; "The
Jackknife Estimate of Variance", Efron and Stein 1981).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import blas, solve_triangular

from bench.metrics.jackknife import half_width
from bench.metrics.moments import Moments

ROWS = 1024
FEW = 16
"""In fewer dimensions the distance of like sets is far from normal, and the variance counted twice is what it needs."""

SQUARES = {1: 2, 2: 5}
"""Of how many parameters (mean and covariance) the distance of like sets is a sum of squares, where they are very few."""

SHARE = 0.35
"""Of the standard deviation of that sum: an interval in one or two dimensions is never narrower, though by chance a jackknife is."""

SINGULAR = 1e-12  # ratio of singular values under which a direction is rounding
STEP, BELOW, ABOVE = 0.9, 42.0, 42.0  # trapezoid rule in log t: relative error below 1e-9


class Basis(NamedTuple):
    """Where both covariances are diagonal: S_r = B B', S_f = A diag(s^2) A', with A' B the identity.

    s: ``(d,)`` singular values, whose sum is tr (S_r^1/2 S_f S_r^1/2)^1/2. for_real, for_fake ``(d, d)``: examples of either
    set times these have the diagonal covariance s^2.
    """

    s: np.ndarray
    for_real: np.ndarray
    for_fake: np.ndarray


class Deletions(NamedTuple):
    """influence: ``(n,)`` (n - 1)(FD - FD without example i). fourth: ``(d, d)`` mean of v_i^2 v_j^2, v whitened examples."""

    influence: np.ndarray
    fourth: np.ndarray


def leave_one_out(real: np.ndarray, fake: np.ndarray, on_real: Moments, on_fake: Moments) -> tuple[float, float]:
    """(bias, half width of the 95 % interval) of the raw Fréchet distance. LinAlgError where a covariance is singular."""
    sigma_r, sigma_f = on_real.covariance(), on_fake.covariance()
    shift = on_fake.mean - on_real.mean
    basis = common_basis(sigma_r, sigma_f)
    of_real = deletions(real, on_real.mean, -shift, float(np.trace(sigma_r)), basis.for_real, basis.s)
    of_fake = deletions(fake, on_fake.mean, shift, float(np.trace(sigma_f)), basis.for_fake, basis.s)
    bias = -float(of_real.influence.mean() + of_fake.influence.mean())
    d = len(basis.s)
    pairs = 0.0 if d < FEW else pair_variance(of_real, of_fake, sigma_r, sigma_f, basis.s)
    half = half_width([of_real.influence, of_fake.influence], pairs)
    if d in SQUARES:  # of like sets the bias is the mean of the sum
        half = math.hypot(half, 1.96 * SHARE * math.sqrt(2 / SQUARES[d]) * bias)
    return bias, half


def common_basis(sigma_r: np.ndarray, sigma_f: np.ndarray) -> Basis:
    factor = np.linalg.cholesky(sigma_r)
    eigenvalues, vectors = np.linalg.eigh(factor.T @ sigma_f @ factor)
    if eigenvalues[0] <= SINGULAR**2 * eigenvalues[-1]:
        raise np.linalg.LinAlgError("singular covariance")
    s = np.sqrt(eigenvalues)
    for_real = solve_triangular(factor, vectors, trans="T", lower=True, check_finite=False) * s
    return Basis(s, for_real, factor @ vectors)


def deletions(
    features: np.ndarray, mean: np.ndarray, shift: np.ndarray, trace: float, to_basis: np.ndarray, s: np.ndarray
) -> Deletions:
    """What leaving out each example does. shift: mean of this set minus that of the other; trace: of its covariance."""
    n, d = features.shape
    grow, shrink = (n - 1) / (n - 2), n / (n - 1) ** 2  # covariance without y: grow (S - shrink (y - mu)(y - mu)')
    log_t = np.arange(2 * np.log(s[0]) - BELOW, 2 * np.log(s[-1]) + ABOVE, STEP)
    resolvents = shrink / (s[:, None] ** 2 + np.exp(log_t))
    weights = -STEP * np.exp(log_t / 2) / (2 * np.pi)
    influence = np.empty(n)
    fourth = np.zeros((d, d), order="F")
    for start in range(0, n, ROWS):
        centred = features[start : start + ROWS] - mean
        squares = (centred @ to_basis) ** 2
        drop = np.log1p(-np.minimum(squares @ resolvents, 1 - 1e-12)) @ weights
        lengths = (centred**2).sum(1)
        from_mean = 2 * (centred @ shift) / (n - 1) - lengths / (n - 1) ** 2
        from_trace = trace - grow * (trace - shrink * lengths)
        from_cross = s.sum() - np.sqrt(grow) * (s.sum() - drop)
        influence[start : start + ROWS] = (n - 1) * (from_mean + from_trace - 2 * from_cross)
        whitened = squares / s**2
        fourth = blas.dsyrk(1 / n, whitened.T, beta=1.0, c=fourth, overwrite_c=1)
    return Deletions(influence, np.triu(fourth) + np.triu(fourth, 1).T)


def pair_variance(real: Deletions, fake: Deletions, sigma_r: np.ndarray, sigma_f: np.ndarray, s: np.ndarray) -> float:
    """Variance of the distance that comes from pairs of examples (second order of its Hoeffding decomposition).

    From the second derivative of the distance, sum_ij g_ij D_ij D'_ij with g = s_i s_j / (s_i + s_j) for whitened changes D
    of the covariances, and fourth moments of the whitened coordinates, taken as uncorrelated beyond the second.
    """
    n, m = len(real.influence), len(fake.influence)
    same_real = pair_mean_square(real.fourth, real.fourth, sigma_r, sigma_r, s)
    same_fake = pair_mean_square(fake.fourth, fake.fourth, sigma_f, sigma_f, s)
    mixed = pair_mean_square(real.fourth, fake.fourth, sigma_r, sigma_f, s)
    return same_real / (2 * n**2) + same_fake / (2 * m**2) + mixed / (n * m)


def pair_mean_square(
    fourth1: np.ndarray, fourth2: np.ndarray, sigma1: np.ndarray, sigma2: np.ndarray, s: np.ndarray
) -> float:
    """Mean square of the second derivative of the distance in the directions of two independent examples."""
    g = np.outer(s, s) / (s[:, None] + s)
    return _mean_square(g, fourth1, fourth2) + 4 * float((sigma1 * sigma2).sum())


def _mean_square(g: np.ndarray, fourth1: np.ndarray, fourth2: np.ndarray) -> float:
    """Mean of (sum_ij g_ij (u_i u_j - 1[i=j]) (v_i v_j - 1[i=j]))^2 over independent whitened examples u and v."""
    diagonal = np.diag(g)
    excess = (fourth1 - 1) * (fourth2 - 1)  # of squares with squares: on and off the diagonal
    across = 2 * g**2 * fourth1 * fourth2  # of products of two different coordinates
    np.fill_diagonal(across, 0)
    return float(across.sum() + diagonal @ excess @ diagonal)
