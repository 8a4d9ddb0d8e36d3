import numpy as np
import pytest

from bench.metrics.frechet import frechet_distance
from bench.metrics.frechet_interval import common_basis, deletions, leave_one_out, pair_mean_square
from bench.metrics.moments import Moments


def pair(seed, n=40, m=30, d=6):
    rng = np.random.default_rng(seed)
    scale = np.geomspace(1, 0.01, d)
    return rng.standard_normal((n, d)) * scale, rng.standard_gamma(1.0, (m, d)) * scale


def influences(real, fake):
    on_real, on_fake = Moments.of(real), Moments.of(fake)
    shift = on_fake.mean - on_real.mean
    basis = common_basis(on_real.covariance(), on_fake.covariance())
    return [
        deletions(z, on.mean, sign * shift, np.trace(on.covariance()), to_basis, basis.s).influence
        for z, on, sign, to_basis in ((real, on_real, -1, basis.for_real), (fake, on_fake, 1, basis.for_fake))
    ]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_deletion_is_exact(seed):
    real, fake = pair(seed)

    def distance(x, y):
        return float(frechet_distance(x, y, interval=False))

    whole = distance(real, fake)
    of_real, of_fake = influences(real, fake)
    without_real = [distance(np.delete(real, i, 0), fake) for i in range(len(real))]
    without_fake = [distance(real, np.delete(fake, i, 0)) for i in range(len(fake))]
    np.testing.assert_allclose(of_real, (len(real) - 1) * (whole - np.array(without_real)), atol=1e-6)
    np.testing.assert_allclose(of_fake, (len(fake) - 1) * (whole - np.array(without_fake)), atol=1e-6)
    bias, half = leave_one_out(real, fake, Moments.of(real), Moments.of(fake))
    jackknife = sum((len(v) - 1) * (np.mean(v) - whole) for v in (without_real, without_fake))
    assert bias == pytest.approx(jackknife, rel=1e-6)
    assert half > 0


def test_the_basis_makes_both_covariances_diagonal():
    real, fake = pair(2)
    sigma_r, sigma_f = Moments.of(real).covariance(), Moments.of(fake).covariance()
    basis = common_basis(sigma_r, sigma_f)
    for matrix, sigma in ((basis.for_real, sigma_r), (basis.for_fake, sigma_f)):
        np.testing.assert_allclose(matrix.T @ sigma @ matrix, np.diag(basis.s**2), atol=1e-12)


def test_bias_of_gaussians_in_one_dimension():
    """E (s_r - s_f)^2 + (mu_r - mu_f)^2 exceeds its limit by (1 + 1/2) sigma^2 (1/n + 1/m) to first order."""
    rng = np.random.default_rng(0)
    biases = []
    for _ in range(50):
        real, fake = rng.standard_normal((400, 1)), rng.standard_normal((200, 1))
        biases.append(leave_one_out(real, fake, Moments.of(real), Moments.of(fake))[0])
    assert np.mean(biases) == pytest.approx(1.5 * (1 / 400 + 1 / 200), rel=0.1)


def test_pair_part_against_independent_pairs():
    """The mean square of the mixed second derivative, from numerical differences of the distance itself."""
    rng = np.random.default_rng(1)
    d, n = 3, 4000
    real = rng.standard_normal((n, d)) * [1, 0.7, 0.5]
    fake = rng.standard_normal((n, d)) * [0.8, 0.9, 0.4]
    on_real, on_fake = Moments.of(real), Moments.of(fake)
    sigma_r, sigma_f = on_real.covariance(), on_fake.covariance()
    basis = common_basis(sigma_r, sigma_f)
    fourths = [
        deletions(z, on.mean, np.zeros(d), np.trace(on.covariance()), to_basis, basis.s).fourth
        for z, on, to_basis in ((real, on_real, basis.for_real), (fake, on_fake, basis.for_fake))
    ]
    from bench.metrics.frechet import FrechetTo

    step = 1e-3
    squares = []
    for x, y in zip(real[:1500] - on_real.mean, fake[:1500] - on_fake.mean, strict=True):
        towards_x, towards_y = np.outer(x, x) - sigma_r, np.outer(y, y) - sigma_f

        def at(a, b, x=x, y=y, to_x=towards_x, to_y=towards_y):
            mean_r, mean_f = on_real.mean + a * x, on_fake.mean + b * y
            return FrechetTo(mean_r, sigma_r + a * to_x)(mean_f, sigma_f + b * to_y)

        mixed = at(step, step) - at(step, -step) - at(-step, step) + at(-step, -step)
        squares.append((mixed / (4 * step**2)) ** 2)
    predicted = pair_mean_square(*fourths, sigma_r, sigma_f, basis.s)
    assert np.mean(squares) == pytest.approx(predicted, rel=0.2)


def test_an_outlier_widens_the_interval():
    real, fake = pair(3, 300, 300)
    quiet = frechet_distance(real, fake)
    fake[7] += 30
    loud = frechet_distance(real, fake)
    assert loud.high - loud.low > 3 * (quiet.high - quiet.low)
