"""Fréchet distances of pairs, at infinity and on spatial features; CMMD and realism: as functions and under their names."""

import numpy as np
import pytest
from scipy import linalg

from bench.errors import BenchError
from bench.metrics import cmmd, fid_infinity, frechet_distance, frechet_distance_of_pairs, median_realism, realism_score
from bench.metrics.base import Evidence
from bench.metrics.clip_distance import CLIPDistance, unit_rows
from bench.metrics.frechet_variants import FrechetInfinity, SpatialFrechet
from bench.metrics.order import order_of
from bench.metrics.realism import Realism


@pytest.fixture
def sets():
    rng = np.random.default_rng(3)
    return rng.normal(size=(300, 6)), 1.2 * rng.normal(size=(260, 6)) + 0.2


def evidence_of(sets, extractor, layers):
    real, fake = sets
    return Evidence(
        data=None,
        samples=fake,
        features=lambda split, layer: {"real": real, "fake": fake}[split],
        extractor=extractor,
        layers=layers,
        seed=5,
    )


def test_pairs_have_the_plain_value_and_a_jackknife_by_definition():
    rng = np.random.default_rng(0)
    x = rng.gamma(2, 1, (200, 5))
    y = 0.8 * x + 0.2 * rng.normal(size=x.shape)
    measured = frechet_distance_of_pairs(x, y)
    assert float(measured) == pytest.approx(float(frechet_distance(x, y, interval=False)), rel=1e-12)

    def by_scipy(a, b):
        s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)

    order = order_of(x, y)  # in which blocks are taken
    x, y = x[order], y[order]
    without = [by_scipy(np.delete(x, np.s_[k::20], 0), np.delete(y, np.s_[k::20], 0)) for k in range(20)]
    half = 2.093024 * np.sqrt(19**2 / 20 * np.var(without, ddof=1))  # Student's t, 19 degrees of freedom
    assert measured.high - float(measured) == pytest.approx(half, rel=1e-5)


def test_pairs_are_narrower_than_independent_sets_and_say_when_they_are_few():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 4))
    y = x + 0.3 + 0.01 * rng.normal(size=x.shape)
    paired, independent = frechet_distance_of_pairs(x, y), frechet_distance(x, y)
    assert paired.high - paired.low < (independent.high - independent.low) / 3
    assert frechet_distance_of_pairs(x[:50], y[:50]).low is None
    assert "100 are needed" in frechet_distance_of_pairs(x[:50], y[:50]).note
    with pytest.raises(BenchError, match="two sets of one size"):
        frechet_distance_of_pairs(x, y[:-1])


@pytest.mark.parametrize(
    ("extractor", "layer", "name"),
    [("inception", "pool", "fid_infinity"), ("effnetlite0", "mid", "fd_infinity_effnetlite0_mid")],
)
def test_infinity(sets, extractor, layer, name):
    (measured,) = FrechetInfinity().measure(evidence_of(sets, extractor, {layer: 6}))
    assert measured.name == name
    assert float(measured) == float(fid_infinity(*sets, seed=5))


def test_spatial_features_have_names_of_their_own(sets):
    raw, corrected = SpatialFrechet().measure(evidence_of(sets, "inception", {"pool": 9, "spatial": 6}))
    assert (raw.name, corrected.name) == ("sfid", "sfid_corrected")
    assert float(raw) == pytest.approx(float(frechet_distance(*sets)))
    other, _ = SpatialFrechet().measure(evidence_of(sets, "mine", {"spatial": 6}))
    assert other.name == "sfd_mine"
    with pytest.raises(BenchError, match="effnetlite0 has none; use inception"):
        SpatialFrechet().measure(evidence_of(sets, "effnetlite0", {"mid": 6}))


def test_only_clip_gives_cmmd_its_plain_name(sets):
    published, unbiased = CLIPDistance().measure(evidence_of(sets, "clip_vitl14_336", {"embedding": 6}))
    assert (published.name, unbiased.name) == ("cmmd", "cmmd_unbiased")
    assert float(published) == pytest.approx(float(cmmd(unit_rows(sets[0]), unit_rows(sets[1]))))
    assert CLIPDistance().measure(evidence_of(sets, "effnetlite0", {"final": 6}))[0].name == "cmmd_effnetlite0"
    assert (
        CLIPDistance().measure(evidence_of(sets, "clip_vitb32", {"embedding": 6}))[0].name
        == "cmmd_clip_vitb32_embedding"
    )
    np.testing.assert_allclose(np.linalg.norm(unit_rows(sets[0]), axis=1), 1)


def test_the_median_realism_is_that_of_the_scores(sets):
    measured = median_realism(*sets)
    assert float(measured) == np.median(realism_score(*sets, 3))
    assert measured.low < float(measured) < measured.high
    assert Realism().measure(evidence_of(sets, "effnetlite0", {"mid": 6}))[0].name == "realism_effnetlite0_mid"
    assert median_realism(sets[0], sets[0]).low is None, "copies have no finite realism"
    assert median_realism(sets[0], sets[1][:20]).low is None
