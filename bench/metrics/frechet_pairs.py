"""Fréchet distance between examples and what became of each of them: reconstructions, other resizings."""

from __future__ import annotations

import numpy as np
from scipy import stats

from bench.errors import BenchError
from bench.metrics.frechet import RAW_INTERVAL, SMALLEST_RATIO, FrechetTo, frechet_distance
from bench.metrics.inputs import Features, feature_pair
from bench.metrics.moments import Moments
from bench.metrics.order import order_of
from bench.record import Measurement

PAIR_BLOCKS = 20


def frechet_distance_of_pairs(first: Features, second: Features) -> Measurement:
    """``frechet_distance`` where row i of both ``(N, d)`` belongs together, as an image and its reconstruction do.

    The value is the same; the interval knows that pairs, not single rows, were drawn: a jackknife that leaves out each of 20
    blocks of pairs (near-equal sets depend on pairs beyond the first order, so their influences do not do). None below 1.2 d
    pairs, nor below 100.

    Lower is better. Raises BenchError for unusable features or sets of two sizes.
    """
    x, y = feature_pair(first, second)
    if len(x) != len(y):
        raise BenchError(f"pairs need two sets of one size, not {len(x)} and {len(y)} rows")
    raw = frechet_distance(x, y, interval=False)
    n, d = x.shape
    if n < max(SMALLEST_RATIO * d, 5 * PAIR_BLOCKS):
        needed = max(int(np.ceil(SMALLEST_RATIO * d)), 5 * PAIR_BLOCKS)
        return raw.replace(note=f"no interval: {n} pairs are too few for {d} dimensions ({needed} are needed)")
    order = order_of(x, y)
    x, y = x[order], y[order]
    of_x, of_y = ([Moments.of(z[block::PAIR_BLOCKS]) for block in range(PAIR_BLOCKS)] for z in (x, y))
    without = [_without(of_x, of_y, left_out) for left_out in range(PAIR_BLOCKS)]
    spread = (PAIR_BLOCKS - 1) / np.sqrt(PAIR_BLOCKS) * np.std(without, ddof=1)
    half = float(stats.t.ppf(0.975, PAIR_BLOCKS - 1)) * float(spread)
    interval = f"of pairs, block {RAW_INTERVAL}"
    return raw.replace(note=None, low=max(0.0, raw - half), high=raw + half, interval=interval)


def _without(first: list[Moments], second: list[Moments], left_out: int) -> float:
    """The distance from all blocks' moments but those of one."""
    merged = []
    for blocks in (first, second):
        total = Moments(blocks[0].width)
        for i, block in enumerate(blocks):
            if i != left_out:
                total.merge(block)
        merged.append(total)
    real, fake = merged
    return FrechetTo(real.mean, real.covariance())(fake.mean, fake.covariance())
