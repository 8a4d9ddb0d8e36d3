import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.memorisation import (
    Memorisation,
    authpct,
    data_copying,
    memorisation_verdict,
    mifid,
    mifid_distance,
    near_copies,
    nearest_train_ratio,
)
from bench.metrics.neighbours import nearest
from bench.metrics.order import shuffled
from bench.record import Measurement
from bench.space import ImageSpace


@pytest.fixture(scope="module")
def digits():
    """Real digits: 900 to train on, 400 held out, 497 that stand in for a perfect generator."""
    x = load_digits().data[np.random.default_rng(0).permutation(1797)]
    return x[:900], x[900:1300], x[1300:]


def golden_sets():
    state = np.random.RandomState(0)
    x, y = state.randn(500, 64), state.randn(400, 64) * 1.1 + 0.1
    mixing = state.randn(64, 64) / 8
    return x @ mixing, y @ mixing


def noisy_copies(train, share, seed=0):
    rng = np.random.default_rng(seed)
    own = PCA(0.95).fit(train)
    honest = own.inverse_transform(rng.normal(size=(500, own.n_components_)) * np.sqrt(own.explained_variance_))
    copied = train[rng.integers(0, len(train), 500)] + 0.05 * rng.normal(size=(500, train.shape[1]))
    return np.where(rng.random((500, 1)) < share, copied, honest)


@pytest.mark.parametrize("k", [1, 4])
def test_nearest_equals_scikit_learn(k, monkeypatch):
    rng = np.random.default_rng(1)
    queries, points = rng.normal(size=(70, 9)) + 1e4, rng.normal(size=(50, 9)) + 1e4
    reference = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points - 1e4).kneighbors(queries - 1e4)
    for block in (2**26, 8 * 50 * 3):
        monkeypatch.setattr("bench.metrics.manifold.BLOCK_BYTES", block)
        distances, indices = nearest(queries, points, k)
        assert distances == pytest.approx(reference[0], abs=1e-9)
        assert np.array_equal(indices, reference[1])


def test_copies_are_at_distance_zero_and_oneself_is_no_neighbour():
    x = np.random.default_rng(2).normal(size=(40, 300)).astype(np.float32) * 1000
    assert (nearest(x, x)[0] == 0).all()
    assert (nearest(x, x, skip_self=True)[0] > 0).all()
    twice = np.vstack([x, x])
    assert (nearest(twice, twice, skip_self=True)[0] == 0).all()


def test_authpct_golden_value_and_definition():
    x, y = golden_sets()
    assert float(authpct(x, y)) == pytest.approx(86.75, abs=1e-12)
    assert float(authpct(x, x)) == 0
    assert float(authpct(x, x + 100)) == 100
    assert authpct(x, y).low < 86.75 < authpct(x, y).high


def test_mifid_distance_golden_value_and_torchmetrics():
    mifid_module = pytest.importorskip("torchmetrics.image.mifid")
    x, y = golden_sets()
    assert float(mifid_distance(y, x)) == pytest.approx(0.487796701647, abs=1e-11)
    theirs = mifid_module._compute_cosine_distance(torch.from_numpy(y), torch.from_numpy(x), 10.0)
    assert float(mifid_distance(x, y)) == pytest.approx(float(theirs), rel=1e-12)
    assert float(mifid_distance(x, -x)) == pytest.approx(0, abs=1e-15)


def test_mifid_distance_of_zero_vectors():
    x = np.eye(4)
    zeros = np.zeros((2, 4))
    assert float(mifid_distance(x, zeros)) == 1
    assert float(mifid_distance(np.vstack([x, zeros]), zeros)) == 0
    assert float(mifid_distance(zeros, x)) == 1


def test_mifid_divides_only_below_the_threshold():
    frechet = Measurement(8, name="fd", low=6, high=10, n=50, direction="lower")
    penalised = mifid(frechet, Measurement(0.05))
    assert (float(penalised), penalised.low, penalised.high) == pytest.approx((160, 120, 200))
    assert float(mifid(frechet, Measurement(0.3))) == 8


def test_data_copying_equals_the_definition_with_scipy(digits):
    train, test, fake = digits
    clusters = KMeans(3, n_init=3, random_state=5).fit(shuffled(train).astype(np.float64))
    total = weights = 0.0
    for cell in range(3):
        t, p, q = (each[clusters.predict(each) == cell] for each in (train, test, fake))
        tree = NearestNeighbors(n_neighbors=1).fit(t)
        u = mannwhitneyu(tree.kneighbors(q)[0][:, 0], tree.kneighbors(p)[0][:, 0]).statistic
        m, n = len(q), len(p)
        total += n * (u - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12)
        weights += n
    assert float(data_copying(train, test, fake, cells=3, seed=5)) == pytest.approx(total / weights, abs=1e-9)


def test_copying_is_negative_and_underfitting_positive(digits):
    train, test, fake = digits
    rng = np.random.default_rng(3)
    noise = [data_copying(train, test, fake + s * rng.normal(size=fake.shape)) for s in (0, 1, 3)]
    assert abs(noise[0]) < 3
    assert float(noise[0]) < float(noise[1]) < float(noise[2])
    assert noise[2].low > 3
    copied = data_copying(train, test, noisy_copies(train, 1.0))
    assert copied < -10


def test_half_a_copier_hides_from_the_statistic_but_not_from_the_verdict(digits):
    train, test, _ = digits
    fake = noisy_copies(train, 0.5)  # the other half underfits, and the average of the two is near 0
    assert abs(data_copying(train, test, fake)) < 3
    assert memorisation_verdict(train, test, fake) == 1


def test_near_copies_and_ratio_count_what_was_copied(digits):
    train, test, fake = digits
    shares = [near_copies(train, test, noisy_copies(train, share)) for share in (0, 0.1, 0.5, 1)]
    assert [float(s) for s in shares] == sorted(float(s) for s in shares)
    for share, measured in zip((0.1, 0.5, 1), shares[1:]):
        assert measured.low - 0.02 <= share <= measured.high + 0.02
    assert near_copies(train, test, fake).low < 0 < near_copies(train, test, fake).high
    ratio = nearest_train_ratio(train, test, fake)
    assert ratio.low < 1 < ratio.high
    assert nearest_train_ratio(train, test, noisy_copies(train, 1.0)).high < 0.1
    assert nearest_train_ratio(train, test, train).low is None


@pytest.mark.parametrize("share", [0.05, 0.2, 1.0])
def test_the_verdict_flags_copies(digits, share):
    train, test, _ = digits
    verdict = memorisation_verdict(train, test, noisy_copies(train, share))
    assert verdict == 1
    assert "near-copies" in verdict.note
    if share == 1:
        assert memorisation_verdict(train, test, train[:300]) == 1


def test_the_verdict_spares_honest_samples():
    x = load_digits().data
    rng = np.random.default_rng(4)
    verdicts = []
    for _ in range(25):
        shuffled = x[rng.permutation(1797)]
        verdicts.append(memorisation_verdict(shuffled[:900], shuffled[900:1300], shuffled[1300:]))
    assert sum(verdicts) == 0
    honest = noisy_copies(x[:900], 0.0)
    assert memorisation_verdict(x[:900], x[900:1300], honest) == 0


def test_duplicates_in_the_data_are_no_memorisation():
    rng = np.random.default_rng(5)
    kinds = rng.normal(size=(30, 8))  # a set of thirty pictures, each many times: the honest generator repeats them
    train, test, fake = (kinds[rng.integers(0, 30, n)] for n in (600, 300, 400))
    assert memorisation_verdict(train, test, fake) == 0


def test_row_order_changes_nothing(digits):
    train, test, fake = digits
    rng = np.random.default_rng(6)
    shuffled = [each[rng.permutation(len(each))] for each in (train, test, fake)]
    for measure in (near_copies, nearest_train_ratio):
        assert float(measure(*shuffled)) == pytest.approx(float(measure(train, test, fake)), abs=1e-12)
    assert float(authpct(shuffled[0], shuffled[2])) == pytest.approx(float(authpct(train, fake)), abs=1e-12)


def test_wrong_input_is_said():
    x = np.zeros((5, 2))
    with pytest.raises(BenchError, match="one d"):
        authpct(x, np.zeros((5, 3)))
    with pytest.raises(BenchError, match="NaN"):
        authpct(x, x * np.nan)
    with pytest.raises(BenchError, match="need at least 2 examples"):
        authpct(x[:1], x)


def test_the_metric_names_its_layer(digits):
    pytest.importorskip("bench.metrics.frechet")
    train, test, fake = digits
    images = np.zeros((5, 8, 8, 1), np.uint8)
    sets = {"train": train, "real": test, "fake": fake}
    evidence = Evidence(
        data=Data("d", ImageSpace(1, 8, 8), images, images),
        samples=images,
        features=lambda split, layer: sets[split] if layer == "final" else sets[split][:, 20:28],
        extractor="net",
        layers={"mid": 8, "final": 64},
    )
    names = [m.name for m in Memorisation().measure(evidence)]
    assert names == [
        "authpct_net", "data_copying_ct_net", "nearest_train_ratio_net", "near_copies_net", "memorised_net", "mifd_net_mid",
    ]  # fmt: skip
