import contextlib
import io

import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics import manifold
from bench.metrics.base import Evidence
from bench.metrics.manifold import squared_radii
from bench.metrics.precision_recall import PrecisionRecall, prdc, realism_score
from bench.space import VectorSpace
from tests.metrics.golden import golden_sets


def by_definition(real, fake, k, closed=False):
    """All four from whole distance matrices of differences."""
    inside = np.less_equal if closed else np.less

    def distances(x, y):
        return ((x[:, None].astype(float) - y) ** 2).sum(-1)

    def radii(x):
        own = distances(x, x)
        np.fill_diagonal(own, np.inf)
        return np.sort(own, axis=1)[:, k - 1]

    across = distances(real, fake)
    in_real, in_fake = inside(across, radii(real)[:, None]), inside(across, radii(fake))
    return in_real.any(0).mean(), in_fake.any(1).mean(), in_real.sum() / (k * len(fake)), in_real.any(1).mean()


def values(found):
    return [float(value) for value in found]


def test_golden_values():
    found = prdc(*golden_sets(), k=5)
    assert values(found) == [0.5625, 0.936, 0.427, 0.736]
    assert [m.name for m in found] == ["precision", "recall", "density", "coverage"]
    assert all(m.n == 400 and m.direction == "higher" and m.low < m < m.high for m in found)


def test_a_set_against_itself_has_one_in_all():
    real, _ = golden_sets()
    assert values(prdc(real, real.copy())) == [1, 1, 1, 1]


def test_points_that_all_coincide_depend_on_the_boundary():
    points = np.ones((40, 3), np.float32)
    assert values(prdc(points, points)) == [0, 0, 0, 0]
    assert values(prdc(points, points, closed=True)) == [1, 1, 8, 1]


@pytest.mark.parametrize("kind", ["normal", "grid", "copies", "collapsed", "far", "tiny"])
@pytest.mark.parametrize("closed", [False, True])
def test_counts_are_those_of_the_definition(kind, closed):
    rng = np.random.default_rng(["normal", "grid", "copies", "collapsed", "far", "tiny"].index(kind))
    real, fake = rng.standard_normal((130, 4)), rng.standard_normal((110, 4)) * 0.8 + 0.2
    if kind == "grid":  # ties everywhere
        real, fake = rng.integers(0, 4, (130, 2)).astype(float), rng.integers(0, 5, (110, 2)).astype(float)
    if kind == "copies":
        fake[:60] = real[:60]
        fake[60:80] = real[3]
    if kind == "collapsed":
        fake = real[rng.integers(0, 3, 110)] + 1e-7 * rng.standard_normal((110, 4))
    if kind == "far":
        real, fake = real * 1e-3 + 100, fake * 1e-3 + 100
    if kind == "tiny":
        real, fake = real[:6, :1], fake[:7, :1]
    real, fake = real.astype(np.float32), fake.astype(np.float32)
    for k in (1, 3, 5):
        assert values(prdc(real, fake, k, closed=closed)) == pytest.approx(
            by_definition(real, fake, k, closed), abs=1e-12
        )


@pytest.mark.peer
def test_peers_agree_on_fresh_features():
    from prdc import compute_prdc
    from torch_fidelity.metric_prc import prc_features_to_metric

    rng = np.random.default_rng()
    for _ in range(3):
        d, k = int(rng.integers(2, 50)), int(rng.integers(1, 8))
        real = rng.standard_normal((int(rng.integers(100, 300)), d))
        fake = rng.standard_normal((int(rng.integers(100, 300)), d)) * rng.uniform(0.6, 1.3)
        ours = prdc(real, fake, k)
        with contextlib.redirect_stdout(io.StringIO()):
            package = compute_prdc(real, fake, k)
        assert values(ours) == pytest.approx([package[name] for name in ours._fields], abs=1e-12)
        x, y = torch.from_numpy(fake), torch.from_numpy(real)
        fidelity = prc_features_to_metric(x, y, prc_neighborhood=k, prc_batch_size=64, verbose=False)
        closed = prdc(real, fake, k, closed=True)
        assert float(closed.precision) == pytest.approx(fidelity["precision"])
        assert float(closed.recall) == pytest.approx(fidelity["recall"])


def test_which_is_which():
    """Tight fakes inside wide reals: all are plausible, few of the reals are reached."""
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((500, 2)), 0.1 * rng.standard_normal((500, 2))
    found = prdc(real, fake, 3)
    assert found.precision > 0.8
    assert found.recall < 0.3
    assert found.coverage < 0.3
    assert found.density > 0.7
    swapped = prdc(fake, real, 3)
    assert float(swapped.precision) == float(found.recall)
    assert float(swapped.recall) == float(found.precision)


@pytest.mark.parametrize("block", [1, 2**14, 2**30])
def test_block_size_does_not_change_counts(monkeypatch, block):
    real, fake = golden_sets()
    monkeypatch.setattr(manifold, "BLOCK_BYTES", block)
    assert values(prdc(real.astype(np.float32), fake.astype(np.float32))) == [0.5625, 0.936, 0.427, 0.736]


def test_invariance():
    rng = np.random.default_rng(1)
    real, fake = golden_sets()
    rotation = np.linalg.qr(rng.standard_normal((64, 64)))[0]
    for x, y in (
        (real @ rotation * 30 + 5, fake @ rotation * 30 + 5),
        (real[::-1], fake[rng.permutation(400)]),
        (torch.from_numpy(real), torch.from_numpy(fake)),
    ):
        assert values(prdc(x, y)) == [0.5625, 0.936, 0.427, 0.736]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert values(prdc(real, fake)) == [0.5625, 0.936, 0.427, 0.736]
    finally:
        torch.set_num_threads(threads)


def test_radii_of_points_closer_than_float32_can_tell():
    rng = np.random.default_rng(2)
    clusters = rng.standard_normal((3, 10)) * 100
    points = clusters[rng.integers(0, 3, 300)] + 1e-6 * rng.standard_normal((300, 10))
    own = ((points[:, None] - points) ** 2).sum(-1)
    np.fill_diagonal(own, np.inf)
    np.testing.assert_allclose(squared_radii(points, 4), np.sort(own, axis=1)[:, 3], rtol=1e-12)


def test_no_interval_where_blocks_would_be_too_small():
    rng = np.random.default_rng(3)
    few = prdc(rng.standard_normal((199, 3)), rng.standard_normal((400, 3)))
    assert all(m.low is None and "blocks of 19" in m.note for m in few)
    many_neighbours = prdc(rng.standard_normal((400, 3)), rng.standard_normal((400, 3)), k=20)
    assert all(m.low is None and "k = 20" in m.note for m in many_neighbours)


def test_intervals_at_the_ends():
    rng = np.random.default_rng(4)
    apart = prdc(rng.standard_normal((300, 3)), rng.standard_normal((300, 3)) + 50)
    assert apart.coverage.low == 0 < apart.coverage.high < 0.03
    for found in (apart.precision, apart.recall, apart.density):
        assert (float(found), found.low) == (0, None)
        assert "decide it" in found.note


def test_intervals_widen_where_few_balls_decide():
    """Sets that hardly overlap in two dimensions: blocks alone cover 71 %; equal sets lose nothing."""
    rng = np.random.default_rng()

    def width(shift):
        real, fake = rng.standard_normal((2, 400, 2))
        found = prdc(real, fake + np.array([shift, 0])).precision
        return (found.high - found.low) / 2 / np.sqrt(found * (1 - found) / 400)  # beside that of independent samples

    assert np.mean([width(3) for _ in range(5)]) > 3 * np.mean([width(1) for _ in range(5)]) / 2


def test_realism():
    rng = np.random.default_rng(5)
    real = rng.standard_normal((200, 3))
    fake = np.vstack([real[:3], np.zeros((1, 3)), np.full((1, 3), 40.0)])
    scores = realism_score(real, fake, k=3)
    radii = np.sqrt(squared_radii(real, 3))
    kept = radii <= np.median(radii)
    expected = (radii[kept] / np.linalg.norm(real[kept][None] - fake[3:, None], axis=2)).max(1)
    np.testing.assert_allclose(scores[3:], expected, rtol=1e-12)
    assert np.isinf(scores[:3][kept[:3]]).all()
    assert scores[4] < 0.1


def test_realism_beside_all_pairs_far_from_the_origin():
    rng = np.random.default_rng()
    real, fake = rng.standard_normal((300, 20)) + 1e4, rng.standard_normal((700, 20)) + 1e4
    radii = np.sqrt(squared_radii(real, 3))
    kept = radii <= np.median(radii)
    expected = (radii[kept] / np.linalg.norm(real[kept][None] - fake[:, None], axis=2)).max(1)
    np.testing.assert_allclose(realism_score(real, fake), expected, rtol=1e-9)


def test_wrong_input_is_one_sentence():
    with pytest.raises(BenchError, match="k = 5 nearest neighbours need at least k \\+ 1 points"):
        prdc(np.zeros((5, 2)), np.zeros((50, 2)))
    with pytest.raises(BenchError, match="k = 0"):
        prdc(np.zeros((50, 2)), np.zeros((50, 2)), k=0)


def test_measurements_say_what_they_are():
    sets = {split: np.random.default_rng(i).standard_normal((60, 4)) for i, split in enumerate(("real", "fake"))}
    data = Data("toy", VectorSpace(4), sets["real"], sets["real"])

    def names(extractor, layers, **options):
        evidence = Evidence(data, sets["fake"], lambda split, layer: sets[split], extractor, layers)
        return [m.name for m in PrecisionRecall(**options).measure(evidence)]

    four = ["precision", "recall", "density", "coverage"]
    assert names("raw", {"raw": 4}) == [f"{name}_raw" for name in four]
    assert names("net", {"final": 4, "mid": 4, "logits": 4}) == [f"{name}_net_mid" for name in four]
    assert names("net", {"final": 4, "mid": 4}, layer="final", k=3) == [f"{name}_k3_net" for name in four]
