import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.inception import InceptionScore, inception_score, inception_scores
from bench.metrics.streaming import InceptionScoreAccumulator
from bench.space import ImageSpace
from tests.metrics.golden import golden_logits


def test_golden_values():
    logits = golden_logits()
    assert float(inception_score(logits, splits=1, seed=None)) == pytest.approx(4.28568291076, rel=1e-11)
    in_order = inception_scores(logits, splits=10, seed=None)
    assert in_order.mean() == pytest.approx(4.12729027506, rel=1e-11)
    assert in_order.std() == pytest.approx(0.19964667376, rel=1e-9)
    assert in_order.std(ddof=1) == pytest.approx(0.21044607212, rel=1e-9)
    shuffled = inception_scores(logits, splits=10, seed=2020)
    assert shuffled.mean() == pytest.approx(4.13613438198, rel=1e-11)
    assert shuffled.std() == pytest.approx(0.204123044005, rel=1e-9)
    assert float(inception_score(logits, splits=10, seed=2020)) == shuffled.mean()


def test_extremes():
    assert float(inception_score(np.zeros((200, 10)), splits=2)) == pytest.approx(1, rel=1e-12)
    certain = 1000.0 * np.eye(10)[np.arange(400) % 10]
    assert float(inception_score(certain, splits=1)) == pytest.approx(10, rel=1e-12)
    one_class = 1000.0 * np.eye(10)[np.zeros(400, int)]
    score = inception_score(one_class, splits=1)
    assert float(score) == pytest.approx(1, abs=1e-12)
    assert score.low == 1


@pytest.mark.peer
def test_peers_agree_on_fresh_logits():
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torchmetrics.image.inception import InceptionScore as Torchmetrics

    rng = np.random.default_rng()
    logits = rng.standard_normal((600, 12)) * rng.uniform(1, 5)
    fidelity = isc_features_to_metric(torch.from_numpy(logits), splits=4, shuffle=True, rng_seed=7)
    ours = inception_scores(logits, splits=4, seed=7)
    assert ours.mean() == pytest.approx(fidelity["inception_score_mean"], rel=1e-10)
    assert ours.std() == pytest.approx(fidelity["inception_score_std"], rel=1e-7)
    whole = Torchmetrics(feature=torch.nn.Identity(), splits=1, normalize=False)
    whole.inception = torch.nn.Identity()
    whole.update(torch.from_numpy(logits))
    assert float(inception_score(logits, splits=1)) == pytest.approx(float(whole.compute()[0]), rel=1e-6)


def test_seed_shuffles_and_rows_do_not_matter_without_splits():
    logits = golden_logits()
    rng = np.random.default_rng(0)
    assert float(inception_score(logits, seed=1)) == float(inception_score(logits, seed=1))
    assert float(inception_score(logits, seed=1)) != float(inception_score(logits, seed=2))
    whole = inception_score(logits, splits=1)
    other = inception_score(logits[rng.permutation(1000)][:, rng.permutation(50)] + 3, splits=1)
    assert float(other) == pytest.approx(float(whole), rel=1e-12)
    assert other.low == pytest.approx(whole.low, rel=1e-10)


def test_interval_narrows_as_one_over_root_n_and_needs_100_a_split():
    logits = 3 * np.random.default_rng(1).standard_normal((16000, 10))
    small, large = inception_score(logits[:1000]), inception_score(logits)
    assert (small.high - small.low) / (large.high - large.low) == pytest.approx(4, rel=0.15)
    assert "mean at this n" in large.interval
    few = inception_score(logits[:990])
    assert few.low is None
    assert "99 samples a split" in few.note


def test_wrong_input_is_one_sentence():
    with pytest.raises(BenchError, match="10 splits of 12 samples"):
        inception_score(np.zeros((12, 4)))
    with pytest.raises(BenchError, match="logits must be a matrix"):
        inception_score(np.zeros(12))


def test_measurement_says_what_it_is():
    images = np.zeros((300, 4, 4, 1), np.uint8)
    logits = np.random.default_rng(0).standard_normal((300, 7))
    data = Data("toy", ImageSpace(1, 4, 4), images, images)
    evidence = Evidence(
        data, images, lambda split, layer: {"fakelogits": logits}[split + layer], "net", {"logits": 7}, seed=3
    )
    (found,) = InceptionScore(splits=2).measure(evidence)
    assert (found.name, found.n, found.direction) == ("is_splits2_net", 300, "higher")
    assert float(found) == float(inception_score(logits, 2))


def test_logits_of_the_caller_stay_as_they_are():
    logits = np.random.default_rng(0).normal(size=(20, 10))
    before = logits.copy()
    accumulator = InceptionScoreAccumulator(10).update(logits).update(logits[::-1])
    np.testing.assert_array_equal(logits, before)
    assert accumulator.n == 40
