import math

import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.latent import (
    LatentPaths,
    StylePaths,
    interpolation_smoothness,
    lerp,
    path_linearity,
    perceptual_path_length,
    slerp,
    slerp_unit,
    squared_l2,
    trimmed_mean,
)
from bench.metrics.model_input import to_model
from bench.space import ImageSpace

MATRIX = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]], dtype=torch.float64)


def linear(z):
    return z @ MATRIX.T.to(z.dtype)


def squared_sum(first, second):
    return (first - second).square().sum(1)


def normal(count, generator):
    return torch.randn(count, 2, generator=generator, dtype=torch.float64)


class LinearAutoencoder:
    """Exact on its own subspace."""

    def __init__(self, shape, components=4):
        size = int(np.prod(shape))
        basis = torch.linalg.qr(torch.randn(size, components, generator=torch.Generator().manual_seed(0)))[0]
        self.basis, self.shape = basis, shape

    def encode(self, x):
        return x.flatten(1) @ self.basis

    def decode(self, z):
        return (z @ self.basis.T).reshape(-1, *self.shape)


def test_interpolations():
    e1, e2 = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    half = torch.tensor([[0.5]])
    assert slerp_unit(3 * e1, 2 * e2, half)[0].tolist() == pytest.approx([0.70710678, 0.70710678])
    assert slerp(2 * e1, 2 * e2, half)[0].tolist() == pytest.approx([1.41421356, 1.41421356])
    assert slerp(3 * e1, 2 * e2, half)[0].tolist() == pytest.approx([3 * 0.70710678, 2 * 0.70710678])
    assert lerp(e1, e2, half)[0].tolist() == [0.5, 0.5]
    for path in (slerp, slerp_unit):
        assert path(e1, e1, half)[0].tolist() == pytest.approx([1, 0])
    assert slerp(2 * e1, 4 * e1, half)[0].tolist() == pytest.approx([3, 0])
    assert slerp(e1, -e1, half)[0].tolist() == pytest.approx([0, 0])
    c = torch.randn(1, 300)
    assert slerp(c, -2 * c, half)[0].tolist() == pytest.approx((-c / 2)[0].tolist(), rel=1e-5)
    assert slerp(0 * e1, e2, half)[0].tolist() == pytest.approx([0, 0.5])
    a, b, t = torch.randn(50, 7).double(), torch.randn(50, 7).double(), torch.rand(50, 1).double()
    assert slerp_unit(a, b, t).norm(dim=1).numpy() == pytest.approx(1)
    for path in (slerp, lerp):
        assert path(a, b, 0 * t).numpy() == pytest.approx(a.numpy())
        assert path(a, b, 0 * t + 1).numpy() == pytest.approx(b.numpy())


def test_slerp_keeps_the_norms_that_generators_expect():
    """Points between draws of N(0, I) are as long as such draws, by slerp alone: lines come nearer to the origin."""
    a, b = torch.randn(2, 2000, 400).double()
    middle = torch.full((2000, 1), 0.5, dtype=torch.float64)
    due = a.norm(dim=1).mean()
    assert float(slerp(a, b, middle).norm(dim=1).mean() / due) == pytest.approx(1, abs=0.01)
    assert float(lerp(a, b, middle).norm(dim=1).mean() / due) == pytest.approx(math.sqrt(0.5), abs=0.01)
    assert float(slerp_unit(a, b, middle).norm(dim=1).mean() / due) == pytest.approx(1 / 20, abs=0.001)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("ours", "theirs"), [("lerp", "lerp"), ("slerp", "slerp_any"), ("slerp_unit", "slerp_unit")])
def test_peers_agree_on_fresh_latents(ours, theirs):
    """Of torchmetrics' ``slerp_unit`` for latents of one length, as a mapping network has them: it scales after the arc only."""
    functional = pytest.importorskip("torchmetrics.functional.image")
    n, d = 150, int(np.random.randint(2, 9))
    a, b = torch.randn(2, n, d, dtype=torch.float64)
    if ours == "slerp_unit":
        a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    weight = torch.randn(d, 3 * 6 * 6, dtype=torch.float64)

    class Generator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.queue = [a, b]

        def sample(self, num_samples):
            return self.queue.pop(0)

        def forward(self, z):
            return 127.5 * (1 + torch.tanh(z @ weight).reshape(-1, 3, 6, 6))

    class Squared(torch.nn.Module):
        def forward(self, first, second):
            return squared_l2(first, second)

    parts = iter(zip(a.split(64), b.split(64)))
    found = perceptual_path_length(
        lambda z: torch.tanh(z @ weight).reshape(-1, 3, 6, 6),
        lambda count, generator: torch.cat(next(parts)),
        n=n, epsilon=1e-3, interpolation=ours, sampling="end", discard=0,
    )  # fmt: skip
    due = functional.perceptual_path_length(
        Generator(), n, epsilon=1e-3, interpolation_method=theirs, resize=None, lower_discard=None, upper_discard=None,
        sim_net=Squared(),
    )  # fmt: skip
    assert len(due[2]) == n
    assert float(found) == pytest.approx(float(due[0]), rel=1e-6)


def test_the_name_tells_the_settings():
    def name(distance=squared_l2, **options):
        return perceptual_path_length(linear, normal, distance, n=100, **options).name

    squared = lambda first, second: squared_sum(first, second)  # noqa: E731
    assert name(squared) == "ppl_z_full_distance"
    squared.name = "lpips_vgg_v0.1"
    assert name(squared) == "ppl_z_full_lpips_vgg_v0.1"
    assert name() == "ppl_z_full_l2"
    assert name(sampling="end", interpolation="slerp") == "ppl_z_end_slerp_l2"
    assert name(interpolation="slerp_unit", epsilon=1e-2, discard=0) == "ppl_z_full_slerp_unit_eps0.01_discard0_l2"
    assert name(mapping=torch.tanh, interpolation="slerp") == "ppl_w_full_l2"


@pytest.mark.parametrize("epsilon", [1e-4, 1e-2])
@pytest.mark.parametrize("sampling", ["full", "end"])
def test_a_linear_generator_has_its_closed_form(epsilon, sampling):
    measured = perceptual_path_length(
        linear, normal, squared_sum, n=4000, epsilon=epsilon, interpolation="lerp", sampling=sampling, discard=0
    )
    truth = 2 * float((MATRIX**2).sum())
    step = "" if epsilon == 1e-4 else "_eps0.01"
    assert measured.low <= truth <= measured.high
    assert measured.high - measured.low < 0.15 * truth
    assert (measured.name, measured.direction, measured.n) == (
        f"ppl_z_{sampling}{step}_discard0_distance",
        "lower",
        4000,
    )


def test_a_great_circle_is_as_long_as_its_angle():
    measured = perceptual_path_length(lambda z: z, normal, squared_sum, n=4000, discard=0, interpolation="slerp_unit")
    assert measured.low <= np.pi**2 / 3 <= measured.high  # the angle of two random directions in the plane is uniform


def test_paths_in_w_are_straight_there():
    squeeze = perceptual_path_length(
        linear, normal, squared_sum, n=2000, mapping=lambda z: 0.1 * z, discard=0, interpolation="slerp"
    )
    assert squeeze.name == "ppl_w_full_discard0_distance"
    assert squeeze.low <= 0.02 * float((MATRIX**2).sum()) <= squeeze.high


def test_seeds_repeat():
    def length(**options):
        return float(perceptual_path_length(linear, normal, squared_sum, n=200, **options))

    assert length(seed=1) == length(seed=1)
    assert length(seed=1) != length(seed=2)


@pytest.mark.parametrize("sampling", ["full", "end"])
@pytest.mark.parametrize("mapping", [None, torch.tanh])
def test_the_batch_size_does_not_matter(sampling, mapping):
    def length(batch_size):
        return perceptual_path_length(
            torch.sin, normal, squared_sum, n=150, sampling=sampling, mapping=mapping, batch_size=batch_size, seed=7
        )

    due = length(64)
    for batch_size in (1, 7, 1000):
        found = length(batch_size)
        assert [found.value, found.low, found.high] == pytest.approx([due.value, due.low, due.high], rel=1e-10)
    with pytest.raises(BenchError, match="batch_size must be at least 1"):
        length(0)


@pytest.mark.parametrize("steps", [0, -1, 2.5, "8"])
def test_paths_have_steps(steps):
    z = torch.randn(4, 3)
    with pytest.raises(BenchError, match="steps must be"):
        interpolation_smoothness(torch.sin, z, z + 1, steps=steps)
    with pytest.raises(BenchError, match="steps must be"):
        path_linearity(torch.sin, torch.sin, z, z + 1, steps=steps)


def test_the_ends_of_paths_are_tensors_that_can_be_divided():
    z = torch.arange(12).reshape(4, 3)
    for wrong in (z, z.numpy()):
        with pytest.raises(BenchError, match="tensors of floating-point numbers"):
            interpolation_smoothness(torch.sin, wrong, wrong + 1)


def test_the_face_crop_sees_only_the_face():
    def picture(z):
        image = torch.zeros(len(z), 1, 16, 16, dtype=z.dtype)
        image[:, 0, 0, 0] = 100 * z[:, 0]  # a corner, outside
        image[:, 0, 8, 8] = z[:, 0]
        return image

    def distance(first, second):
        return (first - second).square().sum((1, 2, 3))

    whole, face = (perceptual_path_length(picture, normal, distance, n=100, crop=crop) for crop in (False, True))
    assert float(whole) / float(face) == pytest.approx(10_001, rel=1e-4)
    with pytest.raises(BenchError, match="face crop"):
        perceptual_path_length(linear, normal, squared_sum, n=100, crop=True)


def test_float32_generators_keep_the_small_steps():
    exact = perceptual_path_length(linear, normal, squared_sum, n=500, interpolation="lerp")

    def coarse(count, generator):
        return normal(count, generator).float()

    rough = perceptual_path_length(linear, coarse, squared_sum, n=500, interpolation="lerp")
    assert float(rough) == pytest.approx(float(exact), rel=0.02)


def test_the_interval_of_a_trimmed_mean_covers():
    rng = np.random.default_rng(0)
    for draw in (lambda n: rng.normal(size=n), lambda n: rng.gamma(2, size=n), lambda n: rng.lognormal(0, 1, n)):
        truth = float(trimmed_mean(draw(400_000), 0.05, name="t"))
        held = [m.low <= truth <= m.high for m in (trimmed_mean(draw(200), 0.05, name="t") for _ in range(300))]
        assert 0.90 <= np.mean(held) <= 0.985
    dropped = trimmed_mean(np.r_[np.zeros(98), 1e9, -1e9], 0.01, name="t")
    assert (float(dropped), dropped.low, dropped.high) == (0, 0, 0)


def test_even_paths_score_one_and_jumps_less():
    generator = torch.Generator().manual_seed(1)
    starts, ends = torch.randn(2, 60, 2, generator=generator, dtype=torch.float64)
    even = interpolation_smoothness(linear, starts, ends)
    assert float(even) == pytest.approx(1, abs=1e-9)
    sharper = [
        float(interpolation_smoothness(lambda z, s=s: torch.tanh(s * linear(z)), starts, ends)) for s in (0.1, 1, 10)
    ]
    assert sharper == sorted(sharper, reverse=True)
    assert sharper[-1] < 0.5
    still = interpolation_smoothness(lambda z: torch.zeros(len(z), 3), starts, ends)
    assert float(still) == 1


def test_linearity_of_the_round_trip():
    model = LinearAutoencoder((1, 5, 5))
    generator = torch.Generator().manual_seed(2)
    starts, ends = torch.randn(2, 50, 4, generator=generator)
    assert float(path_linearity(model.encode, model.decode, starts, ends)) == pytest.approx(1, abs=1e-5)

    def forgetful(x):
        return torch.zeros(len(x), 4)

    assert path_linearity(forgetful, model.decode, starts, ends).high < 0
    noisier = [
        float(
            path_linearity(
                lambda x, s=s: model.encode(x) + s * torch.randn(len(x), 4, generator=generator),
                model.decode, starts, ends,
            )
        )
        for s in (0.1, 0.4, 1.0)
    ]  # fmt: skip
    assert noisier == sorted(noisier, reverse=True)


def test_the_metric_joins_test_examples():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (120, 6, 6, 1), dtype=np.uint8)
    space = ImageSpace(1, 6, 6)
    model = LinearAutoencoder(space.shape)
    evidence = Evidence(
        data=Data("n", space, images, images), samples=images, features=lambda s, l: np.zeros((0, 0)), model=model
    )
    found = {m.name: m for m in LatentPaths().measure(evidence)}
    assert set(found) == {"interpolation_smoothness", "path_linearity", "ppl_z_full_l2"}
    assert float(found["path_linearity"]) == pytest.approx(1, abs=1e-5)
    assert float(found["interpolation_smoothness"]) == pytest.approx(1, abs=1e-4)
    z = model.encode(to_model(images, space))
    between = 2 * z.var(0).sum() / 36  # mean squared distance of two latents, per pixel
    assert float(found["ppl_z_full_l2"]) == pytest.approx(float(between), rel=0.25)


class Model(LinearAutoencoder):
    """With a style space as well: images are linear in w = z / |z|."""

    latent = 4

    def style(self, z):
        return z / z.norm(dim=1, keepdim=True)

    def synthesise(self, w):
        return self.decode(w)


def seen_by(side=6):
    images = np.random.default_rng(3).integers(0, 256, (90, side, side, 1), dtype=np.uint8)
    space = ImageSpace(1, side, side)
    return Evidence(
        data=Data("n", space, images, images), samples=images, features=lambda s, l: np.zeros((0, 0)),
        model=Model(space.shape),
    )  # fmt: skip


def length(metric, evidence):
    return next(m for m in metric.measure(evidence) if m.name.startswith("ppl"))


def test_suites_choose_the_path_and_the_names_say_it():
    evidence = seen_by()
    options = {"sampling": "end", "epsilon": 1e-2, "discard": 0.0, "interpolation": "slerp"}
    assert length(LatentPaths(40, **options), evidence).name == "ppl_z_end_slerp_eps0.01_discard0_l2"
    assert length(LatentPaths(40, crop=True), seen_by(16)).name == "ppl_z_full_crop_l2"
    assert length(StylePaths(40), evidence).name == "ppl_w_full_eps0.001_l2"
    assert length(StylePaths(40, epsilon=1e-4), evidence).name == "ppl_w_full_l2"
    assert (
        length(StylePaths(40, space="z", interpolation="slerp", epsilon=1e-4), evidence).name == "ppl_z_full_slerp_l2"
    )


def test_style_paths_in_z_are_as_long_as_their_arcs():
    """By slerp, w moves on the unit circle of two random directions of the plane, whose angle is uniform."""

    class Plane(Model):
        latent = 2

    evidence = seen_by()
    evidence.model = Plane((1, 6, 6), components=2)
    options = {"space": "z", "interpolation": "slerp_unit", "epsilon": 1e-3, "discard": 0.0}
    found = length(StylePaths(4000, **options), evidence)
    assert found.low <= np.pi**2 / 3 / 36 <= found.high


def test_suites_choose_the_distance():
    found = length(LatentPaths(31, net="effnetlite0", epsilon=1e-2), seen_by(32))
    assert found.name == "ppl_z_full_eps0.01_pdist_effnetlite0"
    assert found > 0
    assert "not calibrated" in found.note
    larger = length(LatentPaths(31, net="effnetlite0", epsilon=2e-2), seen_by(32))
    assert float(larger) == pytest.approx(
        float(found), rel=0.05
    )  # a rate: the step hardly matters, since nothing is rounded


@pytest.mark.parametrize(
    ("metric", "options", "said"),
    [
        (LatentPaths, {"interpolation": "arc"}, "interpolation must be one of lerp, slerp, slerp_unit"),
        (LatentPaths, {"net": "vgg19"}, "no distance 'vgg19'"),
        (LatentPaths, {"paths": 1}, "paths must be at least 2"),
        (StylePaths, {"interpolation": "slerp"}, "paths in W are straight"),
        (StylePaths, {"space": "v"}, "space must be w or z"),
        (StylePaths, {"epsilon": 0.0}, "finite epsilon > 0"),
    ],
)
def test_impossible_paths_are_refused_before_anything_is_measured(metric, options, said):
    with pytest.raises(BenchError, match=said):
        metric(**options)
