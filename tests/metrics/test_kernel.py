import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics import kernel as kernel_module
from bench.metrics.base import Evidence
from bench.metrics.kernel import Kernel, cmmd, cubic, influence, kernel_distance, kernel_distance_subsets, pair_sums
from bench.space import VectorSpace
from tests.metrics.golden import golden_sets


def direct(real, fake, kernel):
    """The unbiased estimate by its definition, from the three whole kernel matrices."""
    xx, yy, xy = kernel(real, real), kernel(fake, fake), kernel(real, fake)
    n, m = len(real), len(fake)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return within - 2 * xy.mean()


def cubic_matrix(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def test_golden_values():
    real, fake = golden_sets()
    assert float(kernel_distance(real[:400], fake)) == pytest.approx(0.0432975037758, rel=1e-11)
    subsets = kernel_distance_subsets(real, fake, subsets=10, subset_size=100)
    assert float(subsets.mean) == pytest.approx(0.0314800315327, rel=1e-11)
    assert subsets.std == pytest.approx(0.0154890105325, rel=1e-11)
    assert subsets.mean.name == "kid_10x100"
    assert "subsets overlap" in subsets.mean.note
    assert float(cmmd(real, fake)) == pytest.approx(8.28083412486, rel=1e-11)


@pytest.mark.parametrize(("n", "m", "d"), [(2500, 1100, 3), (60, 70, 500), (2, 3, 1), (1024, 1025, 8)])
def test_blocks_equal_the_whole_matrices(n, m, d):
    rng = np.random.default_rng(n)
    real, fake = rng.standard_normal((n, d)), rng.standard_gamma(1.0, (m, d))
    expected = direct(real, fake, cubic_matrix)
    assert float(kernel_distance(real, fake)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    single = kernel_distance(real.astype(np.float32), fake.astype(np.float32))
    assert float(single) == pytest.approx(expected, rel=2e-5, abs=1e-5)


def test_float32_of_many_samples_is_exact_to_six_digits():
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, 257) ** -0.6
    real = (rng.standard_normal((3000, 256)) * spectrum).astype(np.float32)
    fake = (rng.standard_normal((3000, 256)) * spectrum * 1.1 + 0.05).astype(np.float32)
    exact = float(kernel_distance(real.astype(np.float64), fake.astype(np.float64)))
    assert float(kernel_distance(real, fake)) == pytest.approx(exact, rel=1e-6)


def test_every_deletion_is_exact():
    rng = np.random.default_rng(1)
    real, fake = rng.standard_normal((25, 4)), rng.standard_normal((20, 4)) + 0.3
    x, y = torch.from_numpy(real), torch.from_numpy(fake)
    xx, yy, xy = pair_sums(x, None, cubic(4)), pair_sums(y, None, cubic(4)), pair_sums(x, y, cubic(4))
    whole = direct(real, fake, cubic_matrix)
    without = [24 * (whole - direct(np.delete(real, i, 0), fake, cubic_matrix)) for i in range(25)]
    np.testing.assert_allclose(influence(xx.rows, xy.rows, 20), without, atol=1e-10)
    without = [19 * (whole - direct(real, np.delete(fake, i, 0), cubic_matrix)) for i in range(20)]
    np.testing.assert_allclose(influence(yy.rows, xy.columns, 25), without, atol=1e-10)


def test_gaussian_kernel_against_its_definition():
    rng = np.random.default_rng(2)
    real, fake = rng.standard_normal((90, 5)) * 4, rng.standard_normal((80, 5)) * 4 + 1

    def gaussian_matrix(x, y):
        return np.exp(-((x[:, None] - y) ** 2).sum(-1) / 200)

    expected = direct(real, fake, gaussian_matrix)
    unbiased = cmmd(real, fake, unbiased=True)
    assert float(unbiased) == pytest.approx(1000 * expected, rel=1e-10)
    assert unbiased.low < unbiased < unbiased.high
    means = [gaussian_matrix(x, y).mean() for x, y in ((real, real), (fake, fake), (real, fake))]
    biased = cmmd(real, fake)
    assert float(biased) == pytest.approx(1000 * (means[0] + means[1] - 2 * means[2]), rel=1e-10)
    assert biased.low is None
    assert (unbiased.name, biased.name) == ("cmmd_unbiased", "cmmd")


@pytest.mark.peer
def test_peers_agree_on_fresh_features():
    import piq
    from cleanfid.fid import kernel_distance as clean_fid
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torchmetrics.image.kid import poly_mmd

    rng = np.random.default_rng()
    d = int(rng.integers(3, 40))
    real, fake = rng.standard_normal((300, d)), rng.standard_gamma(2.0, (300, d)) - 2
    ours = float(kernel_distance(real, fake))
    x, y = torch.from_numpy(real), torch.from_numpy(fake)
    fidelity = kid_features_to_metric(x, y, kid_subsets=4, kid_subset_size=120, rng_seed=2020, verbose=False)
    by_subsets = kernel_distance_subsets(real, fake, 4, 120)
    assert float(by_subsets.mean) == pytest.approx(fidelity["kernel_inception_distance_mean"], rel=1e-9)
    assert by_subsets.std == pytest.approx(fidelity["kernel_inception_distance_std"], rel=1e-7)
    assert float(poly_mmd(x, y)) == pytest.approx(ours, rel=1e-9)
    assert clean_fid(real, fake, num_subsets=1, max_subset_size=300) == pytest.approx(ours, rel=1e-9)
    kid = piq.KID(degree=3, average=True, n_subsets=1, subset_size=300)
    assert float(kid.compute_metric(x, y)) == pytest.approx(ours, rel=1e-6)


def test_invariance(monkeypatch):
    rng = np.random.default_rng(3)
    real, fake = rng.standard_normal((150, 6)), rng.standard_gamma(1.0, (120, 6))
    expected = kernel_distance(real, fake)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for x, y in ((real @ rotation, fake @ rotation), (real[::-1], fake[rng.permutation(120)]), (fake, real)):
        same = kernel_distance(x, y)
        assert float(same) == pytest.approx(float(expected), rel=1e-10)
        assert same.high == pytest.approx(expected.high, rel=1e-10)
    monkeypatch.setattr(kernel_module, "ROWS", 17)
    assert float(kernel_distance(real, fake)) == pytest.approx(float(expected), rel=1e-10)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert float(kernel_distance(real, fake)) == pytest.approx(float(expected), rel=1e-10)
    finally:
        torch.set_num_threads(threads)


def test_equal_distributions_give_about_zero_and_other_ones_do_not():
    rng = np.random.default_rng(4)
    same = kernel_distance(rng.standard_normal((800, 10)), rng.standard_normal((700, 10)))
    assert same.low < 0 < same.high
    other = kernel_distance(rng.standard_normal((800, 10)), rng.standard_normal((700, 10)) + 0.5)
    assert other.low > same.high
    assert (other.name, other.n, other.direction) == ("kid", 700, "lower")


def test_no_interval_of_few_samples():
    rng = np.random.default_rng(5)
    for d, needed in ((1, 2000), (3, 500), (4, 50)):
        real = rng.standard_normal((2100, d))
        few, enough = (kernel_distance(real, rng.standard_normal((n, d))) for n in (needed - 1, needed))
        assert few.low is None
        assert f"{needed - 1} samples of {d} dimensions are fewer than {needed}" in few.note
        assert enough.low < enough.high
    for d in (3, 4):
        found = cmmd(rng.standard_normal((60, d)), rng.standard_normal((60, d)), unbiased=True)
        assert (found.low is None) == (d < 4)
        assert found.low is not None or "3 dimensions" in found.note


def test_wrong_input_is_one_sentence():
    with pytest.raises(BenchError, match="10 subsets of 1000 cannot be drawn from 30 samples"):
        kernel_distance_subsets(np.zeros((30, 2)), np.zeros((40, 2)), subsets=10)
    with pytest.raises(BenchError, match="must be finite"):
        kernel_distance(np.full((3, 2), np.inf), np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("extractor", "layers", "asked", "name"),
    [
        ("effnetlite0", {"final": 4, "mid": 4, "logits": 4}, None, "kid_effnetlite0"),
        ("effnetlite0", {"final": 4, "mid": 4}, "mid", "kid_effnetlite0_mid"),
        ("inception", {"pool": 4, "spatial": 9}, None, "kid_inception"),
        ("raw", {"raw": 4}, None, "kid_raw"),
    ],
)
def test_measurements_say_what_they_are(extractor, layers, asked, name):
    sets = {split: np.random.default_rng(i).standard_normal((60, 4)) for i, split in enumerate(("real", "fake"))}
    data = Data("toy", VectorSpace(4), sets["real"], sets["real"])
    found = Kernel(layer=asked).measure(
        Evidence(data, sets["fake"], lambda split, layer: sets[split], extractor, layers)
    )
    assert [m.name for m in found] == [name]
