"""Budgets are kept, averages are right, divergence is caught."""

import itertools
import math
import threading

import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError, TrialFailure
from bench.model import GenerativeModel, VectorSpace
from bench.plan import plan
from bench.stages.state import State
from bench.suite import Config
from bench.training import precision
from bench.training.batches import Batches, OnePass
from bench.training.ema import WeightAverage
from bench.training.loop import train


class Line(GenerativeModel):
    """Learns the mean of the data."""

    spaces = (VectorSpace,)

    def __init__(self, space, explode_at=None):
        super().__init__(space)
        self.mean = torch.nn.Linear(1, space.size)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        self.explode_at, self.steps, self.seen = explode_at, 0, []

    def train_step(self, batch, progress):
        self.seen.append(progress)
        self.steps += 1
        loss = (self.mean(torch.ones(len(batch), 1)) - batch.x).square().mean()
        if self.steps == self.explode_at:
            loss = loss * math.nan
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def sample(self, n, generator, **options):
        return self.mean(torch.ones(n, 1)) + generator.randn(*self.space.shape)


@pytest.fixture
def data():
    x = np.random.default_rng(0).normal(3.0, 0.1, (100, 2)).astype(np.float32)
    return Data("line", VectorSpace(2), x, x[:20], np.arange(100) % 5)


@pytest.fixture
def batches(data):
    return Batches(data, 32, 0, torch.device("cpu"))


def test_steps_and_images_are_spent_exactly(data, batches):
    model = Line(data.space)
    result = train(model, batches, "steps", 7)
    assert (result.steps, result.images) == (7, 7 * 32)
    result = train(Line(data.space), batches, "images", 100)
    assert (result.steps, result.images) == (4, 128)
    assert model.seen == [i / 7 for i in range(7)]


def test_seconds_are_spent_to_within_a_step(data, batches):
    result = train(Line(data.space), batches, "seconds", 0.6)
    assert 0.6 <= result.seconds < 3  # other work may run here
    assert sum(result.block_steps) <= result.steps


def test_flops_are_counted_on_a_step(data, batches):
    # forward 2*32*1*2 FLOPs; backward only for the weight (the input needs no gradient), the same again
    per_step = 2 * 2 * 32 * 1 * 2
    result = train(Line(data.space), batches, "flops", 10 * per_step)
    assert result.flops_per_step == per_step
    assert result.steps == 10


class Lazy(Line):
    """Reports a penalty at its second step only."""

    def train_step(self, batch, progress):
        losses = super().train_step(batch, progress)
        return {**losses, "penalty": torch.tensor(2.0)} if self.steps == 2 else losses


def test_a_loss_may_be_reported_at_some_steps_only(data, batches):
    result = train(Lazy(data.space), batches, "steps", 6)
    assert result.losses["penalty"] == [2.0]


def test_a_step_without_losses_is_one_sentence(data, batches):
    model = Line(data.space)
    model.train_step = lambda batch, progress: None
    with pytest.raises(BenchError, match=r"Line\.train_step must return its losses, a dict .* not None"):
        train(model, batches, "steps", 2)


def test_divergence_is_a_status(data, batches):
    with pytest.raises(TrialFailure, match="loss 'loss' is nan at step") as caught:
        train(Line(data.space, explode_at=2), batches, "steps", 10)
    assert caught.value.status == "diverged"


def test_every_epoch_sees_every_example_once_in_its_own_order(data):
    batches = Batches(data, 25, 0, torch.device("cpu"))
    stream = iter(batches)
    epochs = [torch.cat([next(stream).x for _ in range(4)]) for _ in range(2)]
    for epoch in epochs:
        assert torch.equal(epoch.sort(0).values, torch.as_tensor(data.train).sort(0).values)
    assert not torch.equal(*epochs)
    loader = OnePass(batches)
    for _ in range(2):
        assert torch.equal(torch.cat([batch.x for batch in loader]), torch.as_tensor(data.train))


def test_average_is_the_closed_form():
    model = torch.nn.Linear(1, 1, bias=False)
    model.register_buffer("statistic", torch.zeros(()))
    weights = [0.0, 1.0, 4.0, -2.0]
    with torch.no_grad():
        model.weight.fill_(weights[0])
        average = WeightAverage(model, 0.3)
        expected = weights[0]
        for k, weight in enumerate(weights[1:]):
            model.weight.fill_(weight)
            model.statistic.fill_(weight)
            average.update()
            decay = min(0.3, (1 + k) / (10 + k))
            expected = decay * expected + (1 - decay) * weight
    average.apply()
    assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert model.statistic.item() == pytest.approx(expected, rel=1e-6)


def test_precision_is_chosen_with_a_reason(data, batches):
    model = Line(data.space)
    before = [p.clone() for p in model.parameters()]
    assert precision.choose(model, batches, "float32") == (None, "float32 asked for")
    assert precision.choose(model, batches, "bfloat16")[0] is torch.bfloat16
    dtype, why = precision.choose(model, batches, "auto")
    assert dtype in (None, torch.bfloat16)
    assert why.startswith("float32" if dtype is None else "bfloat16")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters())), "the trial must not train the model"


class TwoSteps(GenerativeModel):
    """Two optimizer steps in one training step, as critics and penalties take them."""

    spaces = (VectorSpace,)

    def __init__(self, space):
        super().__init__(space)
        self.layer = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.ones_(self.layer.weight)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)

    def train_step(self, batch, progress):
        losses = []
        for _ in range(3):
            losses.append(self.layer(batch.x).square().mean())
            self.optimizer.zero_grad()
            losses[-1].backward()
            self.optimizer.step()
        return {str(number): loss.detach() for number, loss in enumerate(losses)}

    def sample(self, n, generator, **options):
        return generator.randn(2)


def test_each_pass_of_a_step_in_mixed_precision_sees_the_weights_as_they_are():
    data = Data("two", VectorSpace(2), np.ones((8, 2), np.float32), np.ones((8, 2), np.float32))
    model = TwoSteps(VectorSpace(2))
    batches = Batches(data, 8, 0, torch.device("cpu"))
    first = train(model, batches, "steps", 1, autocast=torch.bfloat16).losses
    values = [first[name][0] for name in "012"]
    assert values[0] > values[1] > values[2]


def test_a_model_that_cannot_be_copied_trains_in_float32(batches, data, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    model = Line(data.space)
    model.held = threading.Lock()
    dtype, why = precision.choose(model, batches, "auto")
    assert dtype is None
    assert why == "float32: bfloat16 was not tried, since the model cannot be copied (TypeError)"


class NeedsFloat32(TwoSteps):
    """Draws from numpy, and multiplies matrices of two types where autocast has lowered one."""

    def train_step(self, batch, progress):
        np.random.rand()
        lowered = self.layer(batch.x)
        torch.zeros(len(batch.x)).index_add_(0, torch.arange(len(batch.x)), lowered[:, 0])
        return super().train_step(batch, progress)


def test_a_step_that_fails_in_bfloat16_leaves_float32_and_the_random_numbers(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    data = Data("two", VectorSpace(2), np.ones((64, 2), np.float32), np.ones((8, 2), np.float32))
    batches = Batches(data, 8, 0, torch.device("cpu"))
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    dtype, why = precision.choose(NeedsFloat32(VectorSpace(2)), batches, "auto")
    assert dtype is None
    assert why == "float32: the trial of bfloat16 failed (RuntimeError)"
    assert np.random.rand() == expected
    kept = tmp_path / "precision.txt"
    assert precision.choose_once(NeedsFloat32(VectorSpace(2)), batches, "auto", kept) == (None, why)
    assert not kept.exists(), "what failed once is tried again"


def test_a_model_that_only_counts_trains_in_float32(data, batches, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    model = Line(data.space).requires_grad_(False)
    dtype, why = precision.choose(model, batches, "auto")
    assert dtype is None
    assert why.startswith("float32: the model has no parameters to train")
    assert precision.choose(model, batches, "bfloat16")[0] is torch.bfloat16, "asked for is asked for"


def test_the_precision_is_decided_once_for_all_seeds(data, batches, tmp_path, monkeypatch):
    kept, model = tmp_path / "precision.txt", Line(data.space)
    dtype, why = precision.choose_once(model, batches, "auto", kept)
    assert kept.read_text() == why
    assert precision.dtype_of(why) is dtype
    kept.write_text("bfloat16: bfloat16 is 1.16x as fast in a trial of 9 steps")
    assert precision.choose_once(model, batches, "auto", kept) == (torch.bfloat16, kept.read_text())
    assert precision.choose_once(model, batches, "float32", kept)[0] is None, (
        "a suite that says which is not asked twice"
    )
    kept.write_text("")
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    assert precision.choose_once(model, batches, "auto", kept) == (None, kept.read_text())
    assert kept.read_text() == "float32: no bfloat16 matrix instructions here"


def test_seeds_share_a_decision_and_other_models_and_budgets_do_not(tmp_path):
    suite = {
        "datasets": ["digits"],
        "models": ["vae", "gan"],
        "baselines": [],
        "budget": {"steps": 2},
        "metrics": ["kernel"],
    }
    suites = {"a": suite, "b": {**suite, "budget": {"steps": 3}}}
    config = Config.model_validate({"suites": suites})
    trials = [trial for name in suites for trial in plan(config, name, device="cpu", seeds=[0, 1])]
    files = {}
    for trial in trials:
        path = State(trial, tmp_path / trial.id, lambda event: None).precision_file
        assert path.parent == tmp_path
        files.setdefault((trial.suite, trial.model), set()).add(path.name)
    assert all(len(found) == 1 for found in files.values())
    assert len(set.union(*files.values())) == len(files) == 6, "vae, gan and the floor, under two budgets"


def test_a_small_data_set_is_gone_through_again_in_the_trial_of_a_precision(data):
    few = Data("few", data.space, data.train[:8], data.test)
    laps = precision._seconds_per_step([Line(data.space)], [None], Batches(few, 8, 0, torch.device("cpu")))
    assert len(laps[0]) == precision.TRIAL_STEPS


def test_the_trial_of_a_precision_learns_as_training_does():
    data = Data("two", VectorSpace(2), np.ones((64, 2), np.float32), np.ones((8, 2), np.float32))
    seen = []

    class Watched(TwoSteps):
        def train_step(self, batch, progress):
            losses = super().train_step(batch, progress)
            seen.append(float(losses["0"]))
            return losses

    batches = Batches(data, 8, 0, torch.device("cpu"))
    ((*laps,),) = precision._seconds_per_step([Watched(VectorSpace(2))], [torch.bfloat16], batches)
    assert len(laps) == precision.TRIAL_STEPS
    assert len(seen) == precision.TRIAL_STEPS + precision.WARM_UP
    assert all(later < earlier for earlier, later in itertools.pairwise(seen))
