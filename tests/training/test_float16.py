"""Training in float16: small gradients survive, overflows cost one step, and nothing changes where it is not asked for."""

import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError
from bench.model import Batch, GenerativeModel, ImageSpace
from bench.training.batches import Batches
from bench.training.loop import mixed_precision, train
from bench.training.precision import choose
from bench.training.resume import Checkpoints
from reference_models.ddpm import DDPM
from reference_models.gan import GAN
from reference_models.realnvp import RealNVP
from reference_models.stylegan2 import StyleGAN2
from reference_models.vae import VAE

SPACE, CPU = ImageSpace(1, 8, 8), torch.device("cpu")


class Regression(GenerativeModel):
    """|W x - 1|^2 times ``factor``, by plain gradient descent."""

    def __init__(self, space: ImageSpace, factor: float = 1.0, longest: float | None = None, own: bool = False) -> None:
        super().__init__(space)
        self.layer = torch.nn.Linear(64, 4, bias=False)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        self.factor, self.longest, self.own = factor, longest, own

    def loss(self, batch: Batch) -> torch.Tensor:
        return (self.layer(batch.x.flatten(1)) - 1).float().square().mean() * self.factor

    def train_step(self, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        loss = self.loss(batch)
        if self.own:
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        else:
            self.descend(loss, self.optimizer, longest=self.longest)
        return {"loss": loss.detach()}

    def sample(self, n, generator, **options):
        raise NotImplementedError


@pytest.fixture
def batch() -> Batch:
    return Batch(torch.rand(16, *SPACE.shape) * 2 - 1)


@pytest.fixture
def data() -> Data:
    images = torch.randint(0, 256, (64, 8, 8, 1), dtype=torch.uint8).numpy()
    return Data("noise", SPACE, images, images[:8])


@pytest.mark.parametrize("longest", [None, 1e-3, 1e3])
def test_without_autocast_a_step_is_what_pytorch_makes_it(batch, longest):
    model = Regression(SPACE, longest=longest)
    weight = model.layer.weight.detach().clone().requires_grad_(True)
    ((batch.x.flatten(1) @ weight.T - 1).square().mean()).backward()
    if longest is not None:
        torch.nn.utils.clip_grad_norm_([weight], longest)
    model.train_step(batch, 0.0)
    torch.testing.assert_close(model.layer.weight, weight - weight.grad)
    assert model.float16_scaler is None


def test_gradients_too_small_for_float16_arrive(batch):
    """d loss / d output is about 1e-9: zero in float16, whose smallest number is 6e-8."""
    factor = 1e-7
    exact, scaled, plain = (Regression(SPACE, factor, own=own) for own in (False, False, True))
    for model in (exact, scaled, plain):
        model.layer.weight.data.copy_(exact.layer.weight)
        model.optimizer.param_groups[0]["lr"] = 1 / factor
    before = exact.layer.weight.detach().clone()
    exact.train_step(batch, 0.0)
    for model in (scaled, plain):
        with mixed_precision(CPU, torch.float16):
            model.train_step(batch, 0.0)
    step = exact.layer.weight - before
    assert torch.equal(plain.layer.weight, before), "without scaling nothing arrives"
    assert (scaled.layer.weight - exact.layer.weight).norm() < 0.01 * step.norm()


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved(batch):
    model = Regression(SPACE, factor=1e4)
    before = model.layer.weight.detach().clone()
    with mixed_precision(CPU, torch.float16):
        model.train_step(batch, 0.0)
    assert torch.equal(model.layer.weight, before)
    assert model.float16_scaler.get_scale() == 2.0**15


@pytest.mark.parametrize("model", [StyleGAN2, RealNVP])
def test_hard_cases_learn_in_float16(model, data):
    """Second derivatives, and logarithms of determinants: losses and weights stay finite, weights float32."""
    torch.manual_seed(0)
    trained = model(SPACE)
    train(trained, Batches(data, 16, 0, CPU), "steps", 20, autocast=torch.float16)
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in trained.parameters())
    assert trained.float16_scaler.get_scale() > 2.0**8, "20 steps that all overflow would leave less than one"
    fresh = model(SPACE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = model(SPACE)
    assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), fresh.parameters(), strict=True))


def curve(model, config, data, dtype, seed) -> torch.Tensor:
    """Every loss at every step, averaged over blocks of ten steps: ``(blocks, losses)``."""
    torch.manual_seed(seed)
    trained = model(SPACE, **config).train()
    found = []
    for step, batch in zip(range(60), Batches(data, 16, seed, CPU)):
        with mixed_precision(CPU, dtype):
            found.append(torch.stack([torch.as_tensor(loss) for loss in trained.train_step(batch, step / 60).values()]))
    return torch.stack(found).unflatten(0, (6, 10)).mean(1)


@pytest.mark.parametrize(
    ("model", "config"),
    [(VAE, {}), (GAN, {"r1": 1.0}), (DDPM, {"width": 16})],
    ids=["vae", "gan", "ddpm"],
)
def test_lower_precision_changes_loss_curves_less_than_another_seed(model, config, data):
    """Mean over steps and seeds of the distance to float32 with the same seed, beside that between seeds in float32."""
    seeds = range(3)
    exact = torch.stack([curve(model, config, data, None, seed) for seed in seeds])
    between = (exact[:, None] - exact).abs().sum((0, 1)) / (len(exact) * (len(exact) - 1))
    for dtype in (torch.bfloat16, torch.float16):
        lower = torch.stack([curve(model, config, data, dtype, seed) for seed in seeds])
        assert ((lower - exact).abs().mean(0).mean(0) < between.mean(0)).all()


def test_a_model_that_steps_by_itself_is_refused_in_float16_only(data):
    for dtype in (None, torch.bfloat16):
        train(Regression(SPACE, own=True), Batches(data, 16, 0, CPU), "steps", 2, autocast=dtype)

    class Quickstart(Regression):
        """Gradients are cleared after the step, and plain gradient descent keeps no state: only the weights have changed."""

        def train_step(self, batch, progress):
            loss = self.loss(batch)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            return {"loss": loss.detach()}

    for model in (Regression(SPACE, own=True), Quickstart(SPACE)):
        with pytest.raises(BenchError, match=r"cannot train in float16.*self\.descend\(loss, optimizer\)"):
            train(model, Batches(data, 16, 0, CPU), "steps", 2, autocast=torch.float16)


def test_gradients_may_be_gathered_over_steps_in_float16(data):
    class EveryOther(Regression):
        """Descends on the sum of two batches' losses."""

        def train_step(self, batch, progress):
            loss = (self.layer(batch.x.flatten(1)) - 1).square().mean()
            self.gathered = [*getattr(self, "gathered", []), loss]
            if len(self.gathered) == 2:
                self.descend(sum(self.gathered), self.optimizer)
                self.gathered = []
            return {"loss": loss.detach()}

    model = EveryOther(SPACE)
    before = model.layer.weight.detach().clone()
    train(model, Batches(data, 16, 0, CPU), "steps", 4, autocast=torch.float16)
    assert not torch.equal(model.layer.weight, before)


def test_a_model_may_hold_a_scaler_of_its_own():
    class Scaled(Regression):
        def __init__(self, space):
            super().__init__(space)
            self.scaler = torch.nn.Linear(2, 2)

    assert isinstance(Scaled(SPACE).scaler, torch.nn.Linear)


def test_float16_is_asked_for_by_name(data):
    dtype, why = choose(Regression(SPACE), Batches(data, 16, 0, CPU), "float16")
    assert (dtype, why) == (torch.float16, "float16 asked for")


def test_a_training_that_goes_on_keeps_its_scale(data, tmp_path):
    model = Regression(SPACE, factor=1e4)
    result = train(model, Batches(data, 16, 0, CPU), "steps", 3, autocast=torch.float16)
    keep = Checkpoints(tmp_path / "c.pt", 1e-9, "trial")
    keep.save(model, None, Batches(data, 16, 0, CPU), result, 1.0)
    again = Regression(SPACE, factor=1e4)
    found = Checkpoints(tmp_path / "c.pt", 1e9, "trial")
    train(again, Batches(data, 16, 0, CPU), "steps", 3, autocast=torch.float16, resume=found)
    assert again.float16_scaler.get_scale() == model.float16_scaler.get_scale() < 2.0**16
