"""Feature sets with values known from other libraries (legacy generator: the same numbers under every numpy)."""

import numpy as np


def golden_sets():
    """``(500, 64)`` real and ``(400, 64)`` fake features."""
    rng = np.random.RandomState(0)
    real = rng.randn(500, 64)
    fake = rng.randn(400, 64) * 1.1 + 0.1
    mixing = rng.randn(64, 64) / 8
    return real @ mixing, fake @ mixing


def golden_logits():
    return 2 * np.random.RandomState(1).randn(1000, 50)
