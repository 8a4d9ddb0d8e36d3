"""Diagnostics: indices on curves whose answer is known, verdicts on models that do and do not collapse, and no effect on training."""

import copy
import json
import math

import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.model import GenerativeModel, VectorSpace
from bench.training.batches import Batches
from bench.training.diagnostics import (
    Diagnostics,
    Snapshot,
    balance,
    collapse,
    gradient_norm,
    oscillation_index,
    snapshot,
    worst_oscillation,
    worst_spike,
)
from bench.training.ema import WeightAverage
from bench.training.loop import train


class Shrinking(GenerativeModel):
    """Two weights that decay by the budget used; its samples are noise times the second one: it collapses while it trains."""

    spaces = (VectorSpace,)

    def __init__(self, space, collapses=True, slow=False):
        super().__init__(space)
        self.offset = torch.nn.Parameter(torch.zeros(2))
        self.spread = torch.nn.Parameter(torch.ones(2))
        self.optimizer = torch.optim.SGD([self.offset], lr=0.1)
        self.collapses, self.slow = collapses, slow
        self.dropout = torch.nn.Dropout(0.5)
        self.modes = []

    def train_step(self, batch, progress):
        self.modes.append(self.training)
        loss = (self.offset + self.dropout(torch.ones(2)) - batch.x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.collapses and progress > 0.5:
            with torch.no_grad():
                self.spread.fill_(1e-6)
        return {"loss": loss.detach(), "advantage": torch.tensor(1.0)}

    def sample(self, n, generator, **options):
        if self.slow:
            import time

            time.sleep(0.3)
        return generator.randn(2) * self.spread


@pytest.fixture
def batches():
    x = np.random.default_rng(0).normal(0.0, 1.0, (600, 2)).astype(np.float32)
    data = Data("cloud", VectorSpace(2), x, x[:100], np.zeros(600, dtype=np.int64))
    return Batches(data, 32, 0, torch.device("cpu"))


def watched(model, batches, amount=0.6, average=None):
    diagnostics = Diagnostics(model, batches, average)
    return diagnostics, train(model, batches, "seconds", amount, average=average, watch=diagnostics.block)


def test_oscillation_of_known_courses():
    times = np.arange(400)
    noise = np.random.default_rng(0).normal(size=400)
    assert oscillation_index(3 - 0.01 * times) < 1e-6, "a straight descent"
    assert oscillation_index(np.full(50, 7.0)) == 0
    assert oscillation_index(np.exp(-times / 40) + 1e-3 * noise) < 0.03, "it settles"
    assert oscillation_index(np.sin(times / 5)) == pytest.approx(1, abs=0.05), "it swings throughout"
    assert oscillation_index(noise) == pytest.approx(1, abs=0.15)
    swinging = np.exp(-times / 40) + 0.3 * np.sin(times / 5)
    assert oscillation_index(5 * swinging - 9) == pytest.approx(oscillation_index(swinging)), "no shift, no scale"
    assert math.isnan(oscillation_index(np.arange(5)))


def test_the_loss_that_swings_most_is_named():
    times = np.arange(100)
    found = worst_oscillation({"a": list(-0.1 * times), "b": list(np.sin(times)), "advantage": list(np.cos(7 * times))})
    assert found.name == "oscillation"
    assert "'b'" in found.note
    assert worst_oscillation({"a": [1.0, 2.0]}) is None


def test_gradient_norms_and_spikes():
    p, q = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1, 1))
    optimizer = torch.optim.SGD([p, q], lr=0.1)
    assert gradient_norm(optimizer) is None
    (p @ torch.tensor([3.0, 0.0]) + 4 * q.sum()).backward()
    assert gradient_norm(optimizer) == pytest.approx(5)
    steady, spiky = np.ones(40), np.ones(40)
    spiky[30] = 12.0
    steady[0] = 99.0  # the first steps do not count
    found = worst_spike({"steady": steady, "spiky": spiky})
    assert found == 12
    assert "spiky" in found.note
    spiky[31] = math.nan
    found = worst_spike({"steady": steady, "spiky": spiky})
    assert math.isinf(found)
    assert "1 of 30 gradients not finite" in found.note


def test_balance_looks_at_the_second_half():
    mean, saturated = balance([0.5] * 10 + [1.0] * 5 + [0.8] * 5)
    assert mean == pytest.approx(0.9)
    assert saturated == 0.5


def test_snapshots_tell_collapse_from_variety():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(10, 6)) * 4
    real = centres[rng.integers(10, size=800)] + 0.3 * rng.normal(size=(800, 6))
    good = centres[rng.integers(10, size=200)] + 0.3 * rng.normal(size=(200, 6))
    few = centres[rng.integers(3, size=200)] + 0.3 * rng.normal(size=(200, 6))
    same = np.repeat(good[:5], 40, axis=0) + 1e-4 * rng.normal(size=(200, 6))
    verdicts = [snapshot(real, fake, 7) for fake in (good, few, same)]
    assert [each.collapsed for each in verdicts] == [False, True, True]
    assert verdicts[0].diversity == pytest.approx(1, abs=0.2)
    assert verdicts[1].missing_mass > 0.5
    assert verdicts[2].repetitions > 0.9


def test_a_collapse_that_was_overcome_does_not_count():
    def at(step, collapsed):
        return Snapshot(step, 0.0, 0.0, 1.0, collapsed)

    (verdict,) = collapse([at(10, True), at(20, False)])
    assert verdict == 0
    assert "1 of 2 snapshots" in verdict.note
    verdict, step = collapse([at(10, True), at(20, False), at(30, True), at(40, True)])
    assert (verdict, step) == (1, 30)


def test_a_watched_run_says_when_it_collapsed(batches, monkeypatch):
    monkeypatch.setattr("bench.training.diagnostics.SNAPSHOT_SHARE", 2.0)  # no look is given up, even on a busy machine
    model = Shrinking(batches.space)
    diagnostics, result = watched(model, batches, 2.5, WeightAverage(model, 0.9))
    found = {m.name: m for m in diagnostics.measurements(result)}
    assert found["training_collapsed"] == 1
    assert 0.3 * result.steps < found["collapse_step"] <= result.steps
    assert found["discriminator_saturated"] == 1
    assert 0 < found["ema_lag"] < 10
    course = diagnostics.course()
    assert course["collapse"][0]["collapsed"] is False
    assert set(course["gradient_norms"]) == {"optimizer"}
    json.dumps(course, allow_nan=False)
    assert all(model.modes), "back in training mode after every look"

    healthy, result = watched(Shrinking(batches.space, collapses=False), batches)
    assert next(m for m in healthy.measurements(result) if m.name == "training_collapsed") == 0


def test_watching_changes_nothing_in_training(batches):
    weights = []
    for watching in (True, False):
        torch.manual_seed(0)
        same = copy.deepcopy(batches)
        model = Shrinking(batches.space)
        diagnostics = Diagnostics(model, same)
        train(model, same, "steps", 60, watch=diagnostics.block if watching else None)
        weights.append(model.offset.detach().clone())
    assert torch.equal(*weights)
    assert diagnostics.snapshots == []


def test_slow_samplers_are_not_watched_and_their_time_is_off_the_clock(batches):
    model = Shrinking(batches.space, slow=True)
    diagnostics, result = watched(model, batches)
    assert diagnostics.snapshots == []
    assert "more than 4% of training" in diagnostics.course()["collapse_not_watched"]
    assert "training_collapsed" not in {m.name for m in diagnostics.measurements(result)}
    assert result.seconds < 0.9 + 0.3, "the 0.3 s of the probe were not charged"


def test_a_model_that_becomes_slow_has_no_verdict_of_its_end(batches, monkeypatch):
    monkeypatch.setattr("bench.training.diagnostics.SNAPSHOT_SHARE", 1.5)  # 0.17 s a look: a slow one takes 0.3 s
    model = Shrinking(batches.space)
    diagnostics = Diagnostics(model, batches)

    def watch(result, share):
        model.slow = share > 0.5
        return diagnostics.block(result, share)

    result = train(model, batches, "seconds", 0.9, watch=watch)
    assert diagnostics.snapshots, "it was looked at before"
    assert "more than 150% of training" in diagnostics.course()["collapse_not_watched"]
    assert "training_collapsed" not in {m.name for m in diagnostics.measurements(result)}


def test_lag_of_the_average():
    model = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    average = WeightAverage(model, 0.5)
    assert average.lag() == 0
    torch.nn.init.constant_(model.weight, 2.0)
    assert average.lag() == pytest.approx(0.5)
