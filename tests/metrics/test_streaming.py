import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.metrics.frechet import frechet_distance
from bench.metrics.inception import inception_score
from bench.metrics.moments import Moments
from bench.metrics.streaming import FrechetAccumulator, InceptionScoreAccumulator


def features(n=5000, d=20, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, d)) * np.geomspace(1, 1e-3, d) + 50).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 7, 64, 1024, 3000, 5000])
def test_batches_equal_the_whole(batch):
    x = features(2500 if batch == 1 else 5000)
    moments = Moments(20)
    for start in range(0, len(x), batch):
        moments.update(torch.from_numpy(x[start : start + batch]))
    assert moments.n == len(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance(), np.cov(exact, rowvar=False), atol=1e-12)
    np.testing.assert_allclose(moments.covariance(), Moments.of(x).covariance(), atol=1e-12)
    assert (moments.covariance() == moments.covariance().T).all()


def test_shards_merge_in_any_order():
    x = features()
    parts = [Moments(20).update(part) for part in np.array_split(x, [10, 11, 2000, 4990])]
    merged = Moments(20)
    for part in parts[::-1]:
        merged.merge(pickle.loads(pickle.dumps(part)))
    merged.merge(Moments(20))
    np.testing.assert_allclose(merged.covariance(), Moments.of(x).covariance(), rtol=0, atol=1e-12)
    again = Moments.from_state(merged.state())
    assert again.n == 5000
    assert (again.covariance() == merged.covariance()).all()
    again.update(x)
    np.testing.assert_allclose(again.covariance(), np.cov(np.vstack([x, x]).astype(float), rowvar=False), atol=1e-12)


WORKER = """
import sys
import numpy as np
from bench.metrics.moments import Moments
features = np.load(sys.argv[1])
moments = Moments(features.shape[1])
for batch in np.array_split(features, 9):
    moments.update(batch)
np.savez(sys.argv[2], **moments.state())
assert "torch" not in sys.modules
"""


def test_other_processes_give_the_batch_distance(tmp_path):
    real, fake = features(1400, seed=1), features(1300, seed=2)
    np.save(tmp_path / "part.npy", real[500:])
    command = [sys.executable, "-c", WORKER, str(tmp_path / "part.npy"), str(tmp_path / "state.npz")]
    with subprocess.Popen(command) as elsewhere:
        accumulator = FrechetAccumulator(20).update(real[:500], real=True)
        for batch in np.array_split(fake, 13):
            accumulator.update(batch, real=False)
    assert elsewhere.returncode == 0
    accumulator.real.merge(Moments.from_state(dict(np.load(tmp_path / "state.npz"))))
    streamed = accumulator.compute()
    assert float(streamed) == pytest.approx(float(frechet_distance(real, fake, interval=False)), rel=1e-10)
    assert streamed.n == 1300
    assert streamed.low is None
    halves = [
        FrechetAccumulator(20).update(r, real=True).update(f, real=False)
        for r, f in ((real[:9], fake[9:]), (real[9:], fake[:9]))
    ]
    assert float(halves[0].merge(halves[1]).compute()) == pytest.approx(float(streamed), rel=1e-10)


def test_inception_score_of_batches():
    logits = 3 * np.random.default_rng(0).standard_normal((900, 30))
    whole = float(inception_score(logits, splits=1, seed=None))
    parts = [InceptionScoreAccumulator(30) for _ in range(3)]
    for i, part in enumerate(parts):
        for batch in np.array_split(logits[300 * i : 300 * (i + 1)], 4):
            part.update(batch)
    total = parts[2].merge(parts[0]).merge(parts[1])
    assert total.n == 900
    assert total.compute() == pytest.approx(whole, rel=1e-12)


def test_wrong_batches_are_named():
    with pytest.raises(BenchError, match="does not fit moments of 20"):
        Moments(20).update(np.zeros((3, 4)))
    with pytest.raises(BenchError, match="NaN or infinity"):
        Moments(2).update(np.array([[1.0, np.inf]]))
    with pytest.raises(BenchError, match="at least 2 samples, but 1"):
        Moments(2).update(np.zeros((1, 2))).covariance()
    with pytest.raises(BenchError, match="cannot be merged"):
        Moments(2).merge(Moments(3))
    with pytest.raises(BenchError, match="30 classes came after ones of 20"):
        InceptionScoreAccumulator(20).update(np.zeros((4, 30)))
    with pytest.raises(BenchError, match="at least one batch"):
        InceptionScoreAccumulator(20).compute()
