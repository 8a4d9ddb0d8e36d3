"""The metric kernels on features of a fixed size."""

from __future__ import annotations

import numpy as np

from bench.metrics.frechet import frechet_distance
from bench.metrics.kernel import kernel_distance
from bench.metrics.precision_recall import prdc
from bench.metrics.sliced import sliced_wasserstein
from bench.metrics.vendi import vendi_score


class Kernels:
    """Two sets of standard normal features, ``(n, 64)``."""

    params = (500, 2000)
    param_names = ("n",)
    rounds, repeat = 1, (1, 5, 2.0)

    def setup(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.real = rng.standard_normal((n, 64), dtype=np.float32)
        self.fake = rng.standard_normal((n, 64), dtype=np.float32)

    def time_frechet(self, n: int) -> None:
        frechet_distance(self.real, self.fake, interval=False)

    def time_frechet_with_interval(self, n: int) -> None:
        frechet_distance(self.real, self.fake)

    def time_kernel(self, n: int) -> None:
        kernel_distance(self.real, self.fake)

    def time_prdc(self, n: int) -> None:
        prdc(self.real, self.fake)

    def time_sliced_wasserstein(self, n: int) -> None:
        sliced_wasserstein(self.real, self.fake)

    def time_vendi(self, n: int) -> None:
        vendi_score(self.fake)
