"""Mean and covariance of features, of a whole matrix or of batches, shards and processes; float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import blas

from bench.errors import BenchError
from bench.metrics.inputs import Features, feature_matrix, real_numbers, to_numpy, usable

BUFFER_ROWS = 1024  # a rank-k update with fewer rows wastes most of the machine


class Moments:
    """Mean and covariance of feature vectors that arrive in batches; no feature is kept beyond a buffer of 1024 rows.

    Partial results are pairwise combined ("Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    Chan, Golub and LeVeque 1979), so nothing cancels however far from the origin the features lie. Pickles, and
    ``state()`` / ``from_state()`` carry it between processes.

    n: rows seen. mean: ``(d,)``. covariance(): ``(d, d)`` with n - 1 in the denominator.
    Raises BenchError for batches that are not finite or of another width.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._n = 0
        self._mean = np.zeros(width)
        self._scatter = np.zeros((width, width), order="F")  # upper triangle of sum (x - mean)(x - mean)'
        self._buffer: list[np.ndarray] = []
        self._buffered = 0

    @classmethod
    def of(cls, features: Features) -> Moments:
        """The moments of a whole matrix ``(N, d)``."""
        array = feature_matrix(features)
        moments = cls(array.shape[1])
        for start in range(0, len(array), BUFFER_ROWS):
            moments._absorb(array[start : start + BUFFER_ROWS])
        return moments

    @property
    def n(self) -> int:
        return self._n + self._buffered

    @property
    def mean(self) -> np.ndarray:
        self._flush()
        return self._mean.copy()

    def update(self, features: Features) -> Moments:
        """Take in a batch ``(B, d)``, B >= 0. Raises BenchError for another width or values that are no finite real numbers."""
        batch = to_numpy(features)
        if batch.ndim != 2 or batch.shape[1] != self.width:
            raise BenchError(f"a batch of shape {batch.shape} does not fit moments of {self.width} dimensions")
        batch = usable(real_numbers(batch, "a batch of features"), "a batch of features")
        if len(batch):
            self._buffer.append(batch.astype(np.float64))
            self._buffered += len(batch)
        if self._buffered >= BUFFER_ROWS:
            self._flush()
        return self

    def merge(self, other: Moments) -> Moments:
        """Take in what another accumulator has seen (another shard or process)."""
        if other.width != self.width:
            raise BenchError(f"moments of {self.width} and of {other.width} dimensions cannot be merged")
        self._flush()
        other._flush()
        self._combine(other._n, other._mean)
        self._scatter += other._scatter
        return self

    def covariance(self) -> np.ndarray:
        """Unbiased covariance ``(d, d)``, symmetric to the last bit."""
        lower = self.lower_covariance()
        return np.tril(lower) + np.tril(lower, -1).T

    def lower_covariance(self) -> np.ndarray:
        """The covariance's diagonal and lower triangle; what stands above them means nothing."""
        self._flush()
        if self._n < 2:
            raise BenchError(f"a covariance needs at least 2 samples, but {self._n} came in")
        return self._scatter.T / (self._n - 1)

    def state(self) -> dict[str, Any]:
        """``n``, ``mean``, ``scatter`` (upper triangle) as plain arrays, for npz files or messages."""
        self._flush()
        return {"n": self._n, "mean": self._mean.copy(), "scatter": np.triu(self._scatter)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Moments:
        moments = cls(len(state["mean"]))
        moments._n = int(state["n"])
        moments._mean = np.array(state["mean"], dtype=np.float64)
        moments._scatter = np.asfortranarray(state["scatter"], dtype=np.float64)
        return moments

    def _flush(self) -> None:
        if self._buffered:
            rows = np.concatenate(self._buffer)
            self._buffer, self._buffered = [], 0
            self._absorb(rows)

    def _absorb(self, rows: np.ndarray) -> None:
        """Take in a block: its own scatter, and that between its mean and the mean so far as one row more."""
        n, total = len(rows), self._n + len(rows)
        centred = np.empty((n + 1, self.width))
        centred[:n] = rows
        mean = centred[:n].mean(0)
        centred[:n] -= mean
        shift = mean - self._mean
        centred[n] = shift * np.sqrt(self._n * n / total)
        self._mean = self._mean + shift * (n / total)
        self._n = total
        self._scatter = blas.dsyrk(1.0, centred.T, beta=1.0, c=self._scatter, overwrite_c=1)

    def _combine(self, n: int, mean: np.ndarray) -> None:
        """Move the mean, and add the scatter between the two means; the other scatter is the caller's to add."""
        if n == 0:
            return
        total = self._n + n
        shift = mean - self._mean
        self._scatter += np.outer(shift, shift) * (self._n * n / total)
        self._mean = self._mean + shift * (n / total)
        self._n = total
