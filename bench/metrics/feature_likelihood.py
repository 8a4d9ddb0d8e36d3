"""Feature Likelihood Divergence: how likely held-out data are under Gaussians placed on the samples."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.layers import first_layer, named_after
from bench.metrics.manifold import squared_distances
from bench.metrics.neighbours import feature_sets
from bench.metrics.order import sampled, shuffled
from bench.record import Measurement

MOST_ROWS = 10_000
STEPS = 15
LOG_VARIANCE = (-40.0, 20.0)
BACKGROUND_SHRINKAGE = 0.81
BLOCKS = 10
SMALLEST_N = 50
TOO_FEW = f"no interval: fewer than {SMALLEST_N} samples or examples"
LARGEST = 100.0
"""Above this the mean is decided by the few test examples that no Gaussian is near, and has no interval."""
DECIDED_BY_FEW = "no interval: few examples decide the value; the samples may be copies, or far from the data"
ROWS = 512
NEAR = 1e-6  # of |x|^2 + |y|^2, below which its rounding would show in a distance


def fld(train: np.ndarray, test: np.ndarray, fake: np.ndarray) -> Measurement:
    """Feature Likelihood Divergence, 100 x nats per dimension; lower is better, 0 is as good as training data, copies are huge.

    One isotropic Gaussian sits on each sample; their variances are fitted to maximise the likelihood of the *training* set;
    FLD is the negative log-likelihood per dimension of the *test* set, less that under Gaussians on half of the
    training set fitted to the other half, times 100. A sample that copies a training example gets a tiny variance and so
    explains no test example: copying, low quality and low diversity all raise it. Features are standardised by the test set.

    train ``(N, d)``, test ``(n, d)``, fake ``(M, d)``; at most 10 000 random rows of train and fake are used.
    Variances are fitted by EM (15 steps, deterministic) with the background Gaussian that the authors' implementation adds while
    fitting (around the mean, distances shrunk by 0.9, weight 1): the paper's objective, not its optimiser.
    The interval covers the draw of test examples and of samples (fitted variances held fixed), for this training set. None
    is offered above 100, where a few test examples decide the value, as with copies.
    "Feature Likelihood Divergence", Jiralerspong et al. 2023 (arXiv 2302.04440).

    Raises BenchError for features that are not finite matrices of one width.
    """
    own, baseline = _mixtures(train, test, fake)
    differences = 100 * (own.nll(own.test) - baseline.nll(own.test))
    plain = Measurement(float(differences.mean()), name="fld", n=len(fake), unit="1e-2 nats/dim", direction="lower")
    return _with_interval(plain, own, differences)


def fld_gap(train: np.ndarray, test: np.ndarray, fake: np.ndarray) -> Measurement:
    """Generalisation gap: 100 x (NLL per dimension of train less that of test) under ``fld``'s Gaussians on the samples.

    Near 0 the samples are as close to new data as to training data; far below 0 they memorise. Train and test examples are
    the sampling units of its interval (normal); fitted Gaussians are held fixed.

    train ``(N, d)``, test ``(n, d)``, fake ``(M, d)``; negative is worse. Raises BenchError for features that are not
    finite matrices of one width.
    """
    own, _ = _mixtures(train, test, fake)
    on_train, on_test = 100 * own.nll(own.train), 100 * own.nll(own.test)
    value = float(on_train.mean() - on_test.mean())
    plain = Measurement(value, name="fld_gap", n=len(fake), unit="1e-2 nats/dim", direction="higher")
    if min(len(on_train), len(on_test), len(own.centres)) < SMALLEST_N:
        return plain.replace(note=TOO_FEW)
    if abs(value) > LARGEST:
        return plain.replace(note=DECIDED_BY_FEW)
    error = math.sqrt(on_train.var(ddof=1) / len(on_train) + on_test.var(ddof=1) / len(on_test))
    half = float(stats.norm.ppf(0.975)) * error
    return plain.replace(low=value - half, high=value + half, interval="normal, samples fixed")


@dataclasses.dataclass(frozen=True)
class _Mixture:
    """Equally weighted isotropic Gaussians on ``centres`` with log variances fitted to ``train``."""

    centres: Tensor
    log_variance: Tensor
    train: Tensor
    test: Tensor

    def nll(self, x: Tensor, left_out: int | None = None) -> np.ndarray:
        """Negative log-likelihood per dimension of each row, float64; without every tenth centre from ``left_out`` on."""
        kept = torch.ones(len(self.centres), dtype=torch.bool, device="cpu")
        if left_out is not None:
            kept[left_out::BLOCKS] = False
        centres, log_variance = self.centres[kept], self.log_variance[kept]
        d = x.shape[1]
        parts = [_log_terms(_squared(x[i : i + ROWS], centres), log_variance, d) for i in range(0, len(x), ROWS)]
        nats = torch.cat([torch.logsumexp(part, 1) for part in parts]) - math.log(len(centres))
        return (-nats / d).numpy()


def _mixtures(train: np.ndarray, test: np.ndarray, fake: np.ndarray) -> tuple[_Mixture, _Mixture]:
    train, test, fake = feature_sets(train, test, fake)
    reference = torch.from_numpy(shuffled(test).astype(np.float64))
    mean, scale = reference.mean(0), reference.std(0, correction=1 if len(test) > 1 else 0)
    varies = scale > 0
    if len(train) < 2 or not varies.any():
        raise BenchError(
            "the feature likelihood divergence needs two training and two test examples that differ, not "
            f"{len(train)} and {len(test)}"
        )

    def standardised(features: np.ndarray) -> Tensor:
        rows = ((torch.from_numpy(features.astype(np.float64)) - mean) / scale)[:, varies]
        return torch.from_numpy(sampled(rows.numpy(), MOST_ROWS))  # so that the choice hangs on no unit either

    x, y = standardised(train), ((reference - mean) / scale)[:, varies].contiguous()
    samples = standardised(fake)
    half = min(len(samples), len(x) // 2)
    centres, rest = x[::2][:half], torch.cat([x[1::2], x[::2][half:]])
    return _fitted(samples, x, y), _fitted(centres, rest, y)


def _fitted(centres: Tensor, train: Tensor, test: Tensor) -> _Mixture:
    """EM for the variances: each becomes the responsibility-weighted mean squared distance per dimension."""
    d = train.shape[1]
    distances = torch.cat([_squared(train[i : i + ROWS], centres) for i in range(0, len(train), ROWS)])
    background = BACKGROUND_SHRINKAGE * ((train - train.mean(0)) ** 2).sum(1)
    log_variance = ((distances.amin(0) + 1e-3) / d).log()
    background_log_variance = torch.zeros(1, dtype=torch.float64, device="cpu")
    for _ in range(STEPS):
        weight = torch.zeros(len(centres) + 1, dtype=torch.float64, device="cpu")
        moment = torch.zeros_like(weight)
        for start in range(0, len(train), ROWS):
            block = distances[start : start + ROWS]
            far = background[start : start + ROWS, None]
            terms = torch.cat(
                [
                    _log_terms(block, log_variance, d) - math.log(len(centres)),
                    _log_terms(far, background_log_variance, d),
                ],
                1,
            )
            share = torch.softmax(terms, 1)
            weight += share.sum(0)
            moment += (share * torch.cat([block, far], 1)).sum(0)
        found = (moment / (d * weight.clamp_min(1e-300))).clamp_min(1e-300).log().clamp(*LOG_VARIANCE)
        found = torch.where(weight > 1e-12, found, torch.cat([log_variance, background_log_variance]))
        log_variance, background_log_variance = found[:-1], found[-1:]
    return _Mixture(centres, log_variance, train, test)


def _log_terms(squared: Tensor, log_variance: Tensor, d: int) -> Tensor:
    """log N(x; centre, variance I) in d dimensions for each squared distance ``(n, M)``."""
    return -0.5 * (squared / log_variance.exp() + d * (log_variance + math.log(2 * math.pi)))


def _squared(x: Tensor, centres: Tensor) -> Tensor:
    """Squared distances ``(n, M)``. Small ones come from differences: a copy's is 0, and variances go down to e^-40."""
    lengths = (x * x).sum(1, keepdim=True) + (centres * centres).sum(1)
    squared = (lengths - 2 * x @ centres.T).clamp_min_(0)
    rows, columns = (index.numpy() for index in (squared <= NEAR * lengths).nonzero(as_tuple=True))
    squared[rows, columns] = torch.from_numpy(squared_distances(x.numpy(), rows, centres.numpy(), columns))
    return squared


def _with_interval(plain: Measurement, own: _Mixture, differences: np.ndarray) -> Measurement:
    if min(len(differences), len(own.centres)) < SMALLEST_N:
        return plain.replace(note=TOO_FEW)
    if plain > LARGEST:
        return plain.replace(note=DECIDED_BY_FEW)
    without = np.array([100 * own.nll(own.test, left_out=block).mean() for block in range(BLOCKS)])
    of_samples = (BLOCKS - 1) ** 2 * without.var(ddof=1) / BLOCKS
    error = math.sqrt(differences.var(ddof=1) / len(differences) + of_samples)
    half = float(stats.norm.ppf(0.975)) * error
    return plain.replace(low=plain - half, high=plain + half, interval="jackknife, variances fixed")


class FeatureLikelihood(Metric):
    """Feature Likelihood Divergence and its generalisation gap on the widest layer."""

    paper = "Feature Likelihood Divergence, Jiralerspong et al. 2023 (arXiv 2302.04440)"
    needs = frozenset({"features", "train"})

    def __init__(self, layer: str | None = None) -> None:
        """layer: default the widest."""
        self.layer = layer

    def measure(self, evidence: Evidence) -> list[Measurement]:
        layer = first_layer(evidence, self.layer, ())
        train, test, fake = (evidence.features(split, layer) for split in ("train", "real", "fake"))
        found = [fld(train, test, fake), fld_gap(train, test, fake)]
        return [m.replace(name=named_after(m.name, evidence, layer)) for m in found]
