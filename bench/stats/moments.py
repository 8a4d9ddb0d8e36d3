"""What can be a mean and a covariance, asked of every pair that comes from outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bench.errors import BenchError

RELATIVE, OF_LARGEST = 1e-4, 1e-6
"""How far rounding may take an entry: files hold float32, too, and covariances that were summed in it."""

TILE = 64
"""Rows and columns looked at in one go: a matrix and its transpose are read together, and both stay in a processor's cache."""


def checked_moments(mean: ArrayLike, covariance: ArrayLike, what: str) -> tuple[np.ndarray, np.ndarray]:
    """float64 ``(d,)`` and ``(d, d)``, exactly symmetric; the arrays given where nothing had to change. what: whose they are, for the
    error ("the first statistics").

    Raises BenchError unless they are numbers of these shapes, finite, and the covariance is symmetric, has no negative variance
    and no correlation beyond 1, each up to ``1e-4`` of the entry and ``1e-6`` of the largest one. (That it has no negative
    eigenvalue is not checked: it would cost as much as a distance.)
    """
    mu, sigma = np.atleast_1d(np.asarray(mean)), np.atleast_2d(np.asarray(covariance))
    shaped = mu.ndim == 1 and len(mu) > 0 and sigma.shape == (len(mu), len(mu))
    if not shaped or not {mu.dtype.kind, sigma.dtype.kind} <= set("fiu"):
        raise BenchError(
            f"{what} have a mean of shape {mu.shape} ({mu.dtype}) and a covariance of shape {sigma.shape} ({sigma.dtype}), which are "
            "no mean and covariance: they must be numbers, (d,) and (d, d) with d > 0"
        )
    mu, sigma = mu.astype(np.float64, copy=False), sigma.astype(np.float64, copy=False)
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise BenchError(f"{what} are not finite: they hold NaN or infinity; compute them again from finite features")
    rounding = OF_LARGEST * max(sigma.max(initial=0.0), -sigma.min(initial=0.0))
    variances = np.diag(sigma)
    deviations = np.sqrt(variances.clip(0))
    tiles = [slice(start, start + TILE) for start in range(0, len(sigma), TILE)]
    exact = symmetric = correlated = True
    for i, here in enumerate(tiles):
        largest = (1 + RELATIVE) * deviations[here, None] * deviations + rounding
        correlated &= bool((np.abs(sigma[here]) <= largest).all())
        for there in tiles[i:]:
            tile, mirrored = sigma[here, there], sigma[there, here].T
            if not np.array_equal(tile, mirrored):
                exact = False
                symmetric &= bool((np.abs(tile - mirrored) <= rounding + RELATIVE * np.abs(tile)).all())
    if not symmetric:
        raise BenchError(f"{what}: the covariance is not symmetric, so it is no covariance; compute it again")
    if (variances < -rounding).any():
        raise BenchError(
            f"{what}: the covariance has a negative variance, so it is no covariance (a non-negative diagonal is needed)"
        )
    if not correlated:
        raise BenchError(f"{what}: the covariance holds a correlation beyond 1; it is no covariance")
    return mu, sigma if exact else (sigma + sigma.T) / 2
