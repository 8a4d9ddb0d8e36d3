"""A noisy machine: log times with white noise, slow drift and spikes, measured in blocks of both versions in random order.

White noise of 2 %, an AR(1) drift of 5 % with correlation .97 from one sample to the next, 5 % of samples 10 to 60 % too slow;
5 samples for each half of a block, of which the median counts.
"""

import numpy as np
from scipy import signal

SAMPLES = 5


def log_times(rng, metrics, halves):
    """``(metrics, halves, SAMPLES)`` log times in the order measured."""
    n = halves * SAMPLES
    white = rng.normal(0, 0.02, (metrics, n))
    start = rng.normal(0, 0.05, (metrics, 1))
    steps = rng.normal(0, 0.05 * (1 - 0.97**2) ** 0.5, (metrics, n))
    steps[:, :1] = start
    drift = signal.lfilter([1], [1, -0.97], steps, axis=1)
    spikes = np.where(rng.random((metrics, n)) < 0.05, np.log(rng.uniform(1.1, 1.6, (metrics, n))), 0)
    return (white + drift + spikes).reshape(metrics, halves, SAMPLES)


def differences(rng, blocks, slower):
    """``(metrics, blocks)``: log(head) - log(base) of each block; head is ``slower[metric]`` times as slow."""
    halves = np.median(log_times(rng, len(slower), 2 * blocks), axis=-1).reshape(len(slower), blocks, 2)
    head_first = rng.random(blocks) < 0.5
    d = np.where(head_first, halves[..., 0] - halves[..., 1], halves[..., 1] - halves[..., 0])
    return d + np.log(slower)[:, None]


def one_after_the_other(rng, samples, slower=1.0):
    """(base, head) log times of one metric, first all of one version, then all of the other."""
    times = log_times(rng, 1, 2 * samples // SAMPLES).reshape(-1)
    return times[:samples], times[samples:] + np.log(slower)
