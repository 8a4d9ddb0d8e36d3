import numpy as np
import pytest
import torch
from scipy import linalg

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.frechet import (
    UNSURE_BIAS,
    Frechet,
    frechet_distance,
    frechet_distance_corrected,
    frechet_distance_from_stats,
    frechet_distances,
)
from bench.metrics.frechet_infinity import fid_infinity, intercept_weights, subset_sizes
from bench.space import ImageSpace
from tests.metrics.golden import golden_sets

PARITY = 4.68898993845
FEW_ROWS = 36.9168846784
COMMUTING = 8.284336669369207


def moments(features):
    return features.mean(0), np.cov(features, rowvar=False)


@pytest.mark.parametrize(
    ("mu1", "sigma1", "mu2", "sigma2", "expected"),
    [
        (np.zeros(3), np.eye(3), np.ones(3), np.eye(3), 3),
        (np.zeros(2048), np.eye(2048), np.ones(2048), np.eye(2048), 2048),
        (np.zeros(4), np.eye(4), np.zeros(4), 4 * np.eye(4), 4),
        (np.zeros(3), np.diag([1, 4, 9]), [1, 2, 3], np.diag([4, 9, 16]), 17),
        ([0, 0], [[2, 1], [1, 2]], [0, 0], [[3, -1], [-1, 1]], None),
        (np.zeros(3), np.outer([1, 2, 3], [1, 2, 3]), np.zeros(3), 4 * np.outer([1, 2, 3], [1, 2, 3]), 14),
        ([0, 0], np.diag([1, 0]), [0, 0], np.diag([0, 1]), 2),
        ([0, 0], np.zeros((2, 2)), [3, 4], np.zeros((2, 2)), 25),
        ([0.0], [[4.0]], [1.0], [[9.0]], 2),
    ],
    ids=["mean", "mean-2048", "scale", "diagonal", "non-commuting", "rank1", "orthogonal", "points", "line"],
)
def test_closed_forms(mu1, sigma1, mu2, sigma2, expected):
    if expected is None:  # the non-commuting case: tr S1 + tr S2 - 2 sqrt(tr P + 2 sqrt(det P)), P = S1 S2
        product = np.array(sigma1) @ np.array(sigma2)
        expected = 8 - 2 * np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
        assert expected == pytest.approx(1.39727950446, rel=1e-11)
    distance = frechet_distance_from_stats(mu1, sigma1, mu2, sigma2)
    assert float(distance) == pytest.approx(expected, rel=1e-12)
    assert distance.low is None
    assert "features themselves" in distance.note


@pytest.mark.parametrize("condition", [1e2, 1e8, 1e10])
@pytest.mark.parametrize("zeros", [0, 20])
def test_commuting_covariances_of_any_condition(condition, zeros):
    rng = np.random.default_rng(int(np.log10(condition)))
    d = 120
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    first = np.geomspace(1, 1 / condition, d)
    second = first * np.exp(0.5 * rng.standard_normal(d))
    first[d - zeros :] = second[d - zeros :] = 0
    expected = ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    sigmas = [(basis * values) @ basis.T for values in (first, second)]
    distance = frechet_distance_from_stats(np.zeros(d), sigmas[0], np.zeros(d), sigmas[1])
    assert float(distance) == pytest.approx(expected, rel=1e-11, abs=1e-12)


def test_golden_values():
    real, fake = golden_sets()
    assert float(frechet_distance(real, fake, interval=False)) == pytest.approx(PARITY, rel=1e-11)
    assert float(frechet_distance(real[:40], fake[:40])) == pytest.approx(FEW_ROWS, rel=1e-11)


def test_fewer_samples_than_dimensions_give_the_nuclear_norm():
    rng = np.random.default_rng(3)
    for n, m, d in ((20, 30, 50), (20, 300, 50), (300, 20, 50), (2, 2, 7)):
        real, fake = rng.standard_normal((n, d)), rng.standard_normal((m, d)) + 0.3
        centred = [(z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (real, fake)]
        shift = real.mean(0) - fake.mean(0)
        cross = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
        expected = shift @ shift + (centred[0] ** 2).sum() + (centred[1] ** 2).sum() - 2 * cross
        distance = frechet_distance(real, fake)
        assert float(distance) == pytest.approx(expected, rel=1e-12)
        assert "too few" in distance.note


@pytest.mark.parametrize(("n", "d"), [(40, 64), (500, 64), (65, 64), (2, 3)])
def test_a_set_is_at_distance_zero_from_itself(n, d):
    features = np.random.default_rng(n).standard_normal((n, d)).astype(np.float32)
    assert 0 <= float(frechet_distance(features, features.copy(), interval=False)) < 1e-10


def test_constant_and_repeated_features_do_not_break_it():
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((200, 6)), rng.standard_normal((200, 6)) * 1.5
    expected = float(frechet_distance(real, fake))
    padded = [np.hstack([z, np.ones((200, 2))]) for z in (real, fake)]
    distance, corrected = frechet_distances(*padded)
    assert float(distance) == pytest.approx(expected, rel=1e-12)
    assert distance.low is None
    assert "singular" in distance.note
    assert np.isnan(corrected)


@pytest.mark.peer
def test_peers_agree_on_fresh_features():
    from cleanfid.fid import frechet_distance as clean_fid
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng()
    d = int(rng.integers(5, 60))
    real = rng.standard_normal((400, d)) @ rng.standard_normal((d, d))
    fake = rng.standard_gamma(2.0, (300, d)) @ rng.standard_normal((d, d))
    ours = float(frechet_distance(real, fake, interval=False))
    statistics = (*moments(real), *moments(fake))
    tensors = [torch.from_numpy(array) for array in statistics]
    fidelity = fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(z)) for z in (real, fake)), verbose=False
    )
    for peer in (
        calculate_frechet_distance(*statistics),
        clean_fid(*statistics),
        fidelity["frechet_inception_distance"],
        float(_compute_fid(tensors[0], tensors[1], tensors[2], tensors[3])),
        float(frechet_distance_from_stats(*statistics)),
        statistics_by_sqrtm(*statistics),
    ):
        assert ours == pytest.approx(peer, rel=1e-8)


def statistics_by_sqrtm(mu1, sigma1, mu2, sigma2):
    root = linalg.sqrtm(sigma1 @ sigma2)
    return float((mu1 - mu2) @ (mu1 - mu2) + np.trace(sigma1 + sigma2) - 2 * np.trace(root).real)


def test_invariance():
    rng = np.random.default_rng(1)
    real, fake = rng.standard_normal((150, 8)), rng.standard_gamma(1.0, (120, 8))
    expected = frechet_distances(real, fake)
    rotation = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    variants = {
        "rotated": (real @ rotation, fake @ rotation),
        "moved far away": (real + 1e4, fake + 1e4),
        "other order": (real[::-1], fake[rng.permutation(120)]),
        "tensors": (torch.from_numpy(real), torch.from_numpy(fake).requires_grad_()),
        "swapped": (fake, real),
    }
    for name, (x, y) in variants.items():
        for ours, same in zip(frechet_distances(x, y), expected, strict=True):
            tolerance = 1e-7 if "far" in name else 1e-10
            assert float(ours) == pytest.approx(float(same), rel=tolerance), name
            assert ours.high == pytest.approx(same.high, rel=tolerance), name


def test_scale_is_squared():
    rng = np.random.default_rng(2)
    real, fake = rng.standard_normal((100, 5)), rng.standard_normal((100, 5)) + 1
    small, large = frechet_distance_corrected(real, fake), frechet_distance_corrected(10 * real, 10 * fake)
    assert float(large) == pytest.approx(100 * float(small), rel=1e-9)
    assert large.low == pytest.approx(100 * small.low, rel=1e-7)


def test_thread_count_does_not_matter():
    real, fake = golden_sets()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert float(frechet_distance(real, fake)) == pytest.approx(PARITY, rel=1e-11)
    finally:
        torch.set_num_threads(threads)


def test_raw_and_corrected_have_intervals_of_one_make():
    real, fake = golden_sets()
    raw, corrected = frechet_distances(real, fake)
    assert float(frechet_distance_corrected(real, fake)) == float(corrected)
    bias = raw - corrected
    assert bias > 1, "at d/n = 1/7"
    assert corrected.high - corrected == pytest.approx(np.hypot(raw.high - raw, UNSURE_BIAS * bias)), (
        "it is not known exactly"
    )
    assert raw.n == corrected.n == 400
    assert (raw.direction, raw.name, corrected.name) == ("lower", "fd", "fd_corrected")
    assert "mean of the raw value" in raw.interval


@pytest.mark.parametrize(
    ("real", "fake", "says"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "2 dimensions and fake features 3"),
        (np.zeros(5), np.zeros((5, 3)), "real features must be a matrix"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "at least 2 samples"),
        (np.zeros((5, 3)), np.array([[0, 0, 0], [0, np.nan, 0]]), "row 1 holds NaN"),
        (np.array([["a", "b"], ["c", "d"]]), np.zeros((5, 2)), "real numbers"),
    ],
)
def test_wrong_features_are_one_sentence(real, fake, says):
    with pytest.raises(BenchError, match=says):
        frechet_distance(real, fake)


@pytest.mark.parametrize(
    ("statistics", "says"),
    [
        ((np.zeros(3), np.eye(2), np.zeros(2), np.eye(2)), "first statistics have a mean of shape"),
        ((np.zeros(2), np.eye(2), np.zeros(3), np.eye(3)), "2 and of 3 dimensions"),
        ((np.zeros(2), [[1, 2], [0, 1]], np.zeros(2), np.eye(2)), "not symmetric"),
        ((np.zeros(2), np.eye(2), np.zeros(2), -np.eye(2)), "non-negative diagonal"),
        ((np.zeros(2), np.full((2, 2), np.inf), np.zeros(2), np.eye(2)), "NaN or infinity"),
    ],
)
def test_wrong_statistics_are_one_sentence(statistics, says):
    with pytest.raises(BenchError, match=says):
        frechet_distance_from_stats(*statistics)


@pytest.mark.parametrize("wrong", [[], [[1.0, 0.0], [1.0]], np.zeros((0, 0)), torch.eye(2).to_sparse(), "text", None])
def test_what_is_no_covariance_is_one_sentence(wrong):
    for statistics in ((np.zeros(2), wrong, np.zeros(2), np.eye(2)), (np.zeros(0), np.eye(2), np.zeros(0), wrong)):
        with pytest.raises(BenchError):
            frechet_distance_from_stats(*statistics)
    with pytest.raises(BenchError):
        frechet_distance_from_stats(np.zeros(0), np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0)))


def test_statistics_may_be_tensors_within_training():
    mean, covariance = torch.ones(3, requires_grad=True), torch.eye(3, requires_grad=True)
    found = frechet_distance_from_stats(mean, 2 * covariance, np.zeros(3), np.eye(3))
    assert float(found) == pytest.approx(3 + 3 * (np.sqrt(2) - 1) ** 2)


def test_the_intercept_of_an_exact_line_is_found():
    sizes = subset_sizes(5000, 64, 15)
    assert sizes[0] == 500
    assert sizes[-1] == 5000
    assert len(np.unique(np.diff(sizes))) <= 2
    assert intercept_weights(1 / sizes) @ (3.25 + 170 / sizes) == pytest.approx(3.25, rel=1e-12)


def test_fid_infinity_removes_the_bias_of_few_fakes_only():
    rng = np.random.default_rng(5)
    real = rng.standard_normal((4000, 16))
    fake = rng.standard_normal((600, 16)) * 1.2
    plain, limit = frechet_distance(real, fake), fid_infinity(real, fake, seed=1)
    known = frechet_distance_from_stats(*moments(real), np.zeros(16), 1.44 * np.eye(16))
    assert limit.low < known < limit.high
    limits = [float(fid_infinity(real, fake, seed=seed)) for seed in range(20)]
    assert abs(np.mean(limits) - known) < abs(plain - known) / 2
    assert float(limit) == float(fid_infinity(real, fake, seed=1))
    assert float(limit) != float(fid_infinity(real, fake, seed=2))
    assert "too few" in fid_infinity(real[:15], fake).note
    with pytest.raises(BenchError, match="need at least"):
        fid_infinity(real, fake[:20])


def evidence(extractor, layers):
    rng = np.random.default_rng(0)
    sets = {split: rng.standard_normal((120, 5)).astype(np.float32) for split in ("real", "fake")}
    images = np.zeros((120, 4, 4, 1), np.uint8)
    data = Data("toy", ImageSpace(1, 4, 4), images, images)
    return Evidence(data, images, lambda split, layer: sets[split], extractor, layers)


@pytest.mark.parametrize(
    ("extractor", "layers", "asked", "names"),
    [
        (
            "effnetlite0",
            {"final": 5, "mid": 5, "logits": 9},
            None,
            ["fd_effnetlite0_mid", "fd_corrected_effnetlite0_mid"],
        ),
        ("effnetlite0", {"final": 5, "mid": 5}, "final", ["fd_effnetlite0_final", "fd_corrected_effnetlite0_final"]),
        ("inception", {"pool": 5, "logits": 9, "spatial": 5}, None, ["fid", "fid_corrected"]),
        ("inception", {"pool": 5, "spatial": 5}, "spatial", ["fd_inception_spatial", "fd_corrected_inception_spatial"]),
        ("inception_custom", {"pool": 5}, None, ["fd_inception_custom_pool", "fd_corrected_inception_custom_pool"]),
        ("raw", {"raw": 5}, None, ["fd_raw", "fd_corrected_raw"]),
        ("mine", {"logits": 9, "a": 3, "b": 5}, None, ["fd_mine_b", "fd_corrected_mine_b"]),
    ],
)
def test_measurements_say_what_they_are(extractor, layers, asked, names):
    found = Frechet(layer=asked).measure(evidence(extractor, layers))
    assert [measurement.name for measurement in found] == names
    assert all(measurement.low is not None and measurement.n == 120 for measurement in found)


def test_an_unknown_layer_is_named():
    with pytest.raises(BenchError, match="no layer 'finale'; did you mean 'final'"):
        Frechet(layer="finale").measure(evidence("effnetlite0", {"final": 5}))


@pytest.mark.parametrize(("d", "needed"), [(1, 500), (2, 500), (3, 100), (7, 100), (8, 30), (25, 30), (50, 60)])
def test_few_dimensions_need_more_samples(d, needed):
    """Of fewer, 95 % intervals covered 74 to 88 % of the time."""
    rng = np.random.default_rng(d)
    real = rng.normal(size=(600, d))
    few, enough = (frechet_distance_corrected(real, rng.normal(size=(n, d))) for n in (needed - 1, needed))
    assert f"{needed} are needed" in few.note
    assert enough.low < enough.high
