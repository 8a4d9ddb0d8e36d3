"""What a trial reports of its costs, and that looking at a model does not change its training."""

import datetime
import math
import os
import re

import numpy as np
import pytest
import torch

from bench import costs, registry
from bench.curves import CurveScorer, best_batch, checkpoint_shares, configured_for
from bench.data.base import Data
from bench.model import Batch, GenerativeModel, ImageSpace, VectorSpace
from bench.plan import plan
from bench.prices import Price
from bench.record import CurvePoint, Measurement, Record, fields_of
from bench.sampling import draw_batch
from bench.suite import load_config
from bench.training.batches import Batches
from bench.training.ema import WeightAverage
from bench.training.loop import train
from bench.training.result import TrainingResult
from bench.trial import run_trial

CONFIG = """
[suites.curves]
datasets = ["ring"]
models = ["flow"]
baselines = []
seeds = [0]
budget = { steps = 16 }
batch_size = 8
samples = 24
sample_batch = 12
extractor = "none"
metrics = ["kernel", "sliced-wasserstein"]
CURVES

[models.flow]
model = "flow-matching"
config = { width = 8, steps = 3, sampler = "heun" }

[datasets.ring]
dataset = "ring8"

[[prices]]
device = 'PROCESSOR'
per_hour = 0.36
date = 2026-11-01
source = "the bill"
"""


def trials(folder, curves, config=CONFIG):
    from bench.provenance import cpu_model

    path = folder / "benchmarks.toml"
    path.write_text(config.replace("CURVES", curves).replace("PROCESSOR", re.escape(cpu_model())))
    return {trial.model: trial for trial in plan(load_config(path), "curves", device="cpu")}


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Record:
    """A trial with every curve that a suite may ask for."""
    folder = tmp_path_factory.mktemp("curves")
    trial = trials(folder, "checkpoints = 2\nbatch_sweep = [4, 1]\nnfe_sweep = [2, 1]")["flow"]
    found = run_trial(trial, folder / "out")
    assert found.status == "complete", found.reason
    return found


def test_curves_are_in_the_record(record):
    training = record.curves["training"]
    assert [point.at["share"] for point in training] == [0.25, 0.5]
    assert [point.at["steps"] for point in training] == [4, 8]
    assert [point.at["images"] for point in training] == [32, 64]
    assert all(point.failure is None for point in training)
    names = {m.name for point in training for m in point.measurements}
    assert any(name.startswith("kid") for name in names)
    assert all(m.source == "kernel" for point in training for m in point.measurements)
    assert [point.at for point in record.curves["batch"]] == [{"batch": 1}, {"batch": 4}]
    assert Record.model_validate_json(record.to_line()) == record


def test_steps_are_counted_as_network_evaluations(record):
    heun = {point.at["steps"]: point.at["nfe"] for point in record.curves["nfe"]}
    assert heun == {1: 2, 2: 4}
    assert record.get("nfe") == 6
    flops = [
        next(m.value for m in point.measurements if m.name == "sampling_flops_per_image")
        for point in record.curves["nfe"]
    ]
    assert flops[1] == pytest.approx(2 * flops[0], rel=0.01)
    assert record.get("sampling_flops_per_image") == pytest.approx(3 * flops[0], rel=0.01)


def test_costs_are_in_the_record(record):
    for name in (
        "training_throughput", "training_step_rate", "training_step_latency_p50", "training_step_latency_p95",
        "data_loading_share", "first_step_seconds", "warmup_seconds", "training_flops_per_image", "training_flops_coverage",
        "sampling_flops_per_image", "sampling_latency_p50", "peak_memory_training", "peak_memory_sampling", "best_sample_batch",
    ):  # fmt: skip
        assert record.get(name) >= 0, name
    assert 0 < record.get("data_loading_share") < 1
    assert record.get("peak_memory_training").note == "until the first checkpoint"
    assert record.get("peak_memory_sampling").note == "of a process that scored checkpoints before"
    assert record.training["energy"].startswith("not measured")
    with pytest.raises(KeyError):
        record.get("training_mfu")  # no peak is known of this processor
    machine = record.provenance["machine"]
    assert machine["threads"]["intra_op"] >= 1
    assert set(machine) == {"threads", "training", "sampling"}
    assert machine["threads"]["pinned"] == hasattr(os, "sched_setaffinity")
    assert record.training["host_clock_ratio"] == pytest.approx(1, abs=0.05), "one clock on a CPU"


def test_money_follows_from_time(record):
    seconds = record.get("training_seconds") + 24 / record.get("sampling_throughput")
    assert record.get("cost_per_run") == pytest.approx(0.36 / 3600 * seconds)
    thousand = record.get("cost_per_1000_images")
    assert thousand == pytest.approx(0.36 / 3600 * 1000 / record.get("sampling_throughput"))
    assert (thousand.unit, thousand.note) == ("USD", "price of 2026-11-01 (the bill)")
    assert record.config["price"]["per_hour"] == 0.36


def test_curves_are_scored_again_when_a_metric_changes(tmp_path):
    """The code of the kernel distance 'changes': its numbers along the curves are made anew, all else stays as it was."""
    trial = trials(tmp_path, "checkpoints = 2\nnfe_sweep = [2, 1]")["flow"]
    before = run_trial(trial, tmp_path / "out")
    parts = tuple(p.model_copy(update={"digest": "new"}) if p.name == "kernel" else p for p in trial.metrics)
    line = before.to_line()
    (tmp_path / "out" / "record.json").write_text(line.replace('"source":"kernel"', '"source":"kernel","note":"old"'))
    again = run_trial(trial.model_copy(update={"metrics": parts}), tmp_path / "out")
    assert again.started == before.started
    assert again.scoring["kernel"] == "new"
    for name in ("training", "nfe"):
        assert len(again.curves[name]) == 2
        for old, new in zip(before.curves[name], again.curves[name]):
            assert new.at == old.at
            assert [m.note for m in new.measurements if m.source == "kernel"] == [
                m.note for m in old.measurements if m.source == "kernel"
            ], "made anew, without the mark"
            assert sorted(m.name for m in new.measurements) == sorted(m.name for m in old.measurements)
            for m in old.measurements:
                assert next(n.value for n in new.measurements if n.name == m.name) == pytest.approx(m.value, rel=1e-4)
    (tmp_path / "out" / "curves" / "training-0.5.npz").unlink()
    parts = tuple(p.model_copy(update={"digest": "newer"}) if p.name == "kernel" else p for p in trial.metrics)
    last = run_trial(trial.model_copy(update={"metrics": parts}), tmp_path / "out").curves["training"]
    assert last[0].measurements
    assert last[1].measurements == []
    assert "train again" in last[1].failure


def test_curves_do_not_change_what_is_trained(record, tmp_path):
    """The same trial without curves ends with the same samples, to the bit."""
    plain = run_trial(trials(tmp_path, "")["flow"], tmp_path / "out")
    assert plain.curves == {}
    assert plain.artifacts["samples"] == record.artifacts["samples"]
    assert plain.get("peak_memory_training").note is None


class Point(GenerativeModel):
    """Moves to the mean of the data, with noise from torch's generator in every step."""

    spaces = (VectorSpace,)

    def __init__(self, space):
        super().__init__(space)
        self.mean = torch.nn.Parameter(torch.zeros(space.size))

    def train_step(self, batch, progress):
        with torch.no_grad():
            self.mean += 0.1 * (batch.x.mean(0) - self.mean) + 0.01 * torch.randn(2)
        return {"loss": torch.zeros(())}

    def sample(self, n, generator, **options):
        return self.mean + generator.randn(2)


@pytest.fixture
def data():
    x = np.random.default_rng(0).normal(3.0, 0.1, (64, 2)).astype(np.float32)
    return Data("line", VectorSpace(2), x, x)


def test_checkpoints_stop_the_clock(data):
    import time

    batches = Batches(data, 8, 0, torch.device("cpu"))
    seen = []

    def checkpoint(result, share, seconds):
        seen.append((share, result.steps, seconds))
        time.sleep(0.4)

    result = train(Point(data.space), batches, "seconds", 0.5, checkpoints=[0.25, 0.5], on_checkpoint=checkpoint)
    assert [share for share, _, _ in seen] == [0.25, 0.5]
    assert 0.125 <= seen[0][2] < 0.25
    assert 0.5 <= result.seconds < 0.7
    assert sum(result.block_seconds) < 0.7
    assert max(result.lap_seconds) < 0.4, "the pause is in no step"


def test_the_finished_models_point_is_not_doubled():
    assert checkpoint_shares(3) == [0.125, 0.25, 0.5]
    assert checkpoint_shares(0) == []


def test_a_checkpoint_that_generates_nothing_is_a_point_with_a_reason(data, record, tmp_path):
    trial = trials(tmp_path, "checkpoints = 1")["flow"]
    scorer = CurveScorer(trial, data, 0, "p", lambda phase: None, tmp_path)
    model = Point(data.space)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.mean += torch.nan
        average.update()
    before = torch.get_rng_state()
    point = scorer.checkpoint(model, average, Batches(data, 8, 0, torch.device("cpu")), {"share": 0.5, "seconds": 1.0})
    assert point.measurements == []
    assert "not finite" in point.failure
    assert torch.equal(before, torch.get_rng_state())


def test_the_best_batch_names_its_ties():
    def at(batch, value, spread):
        m = Measurement(value, name="sampling_throughput", low=value - spread, high=value + spread, direction="higher")
        return CurvePoint(at={"batch": batch}, measurements=[fields_of(m, "cost", "")])

    clear = best_batch([at(1, 10, 1), at(8, 50, 2), CurvePoint(at={"batch": 64}, measurements=[], failure="memory")])
    assert (clear, clear.note) == (8, None)
    tied = best_batch([at(8, 50, 2), at(16, 51, 2)])
    assert (tied, tied.note) == (16, "within noise of batch 8")
    assert best_batch([]) is None


@pytest.mark.parametrize(
    ("name", "two", "four"),
    [("cascaded-diffusion", 2 + 10, 4 + 10), ("latent-diffusion", 2, 4), ("conditional-diffusion", 4, 8)],
)
def test_evaluations_at_other_steps_are_counted_as_the_model_counts_them(name, two, four):
    """The enlargements of a cascade, a network inside a larger one, and both passes of guidance."""
    space, config = ImageSpace(1, 16, 16), {"width": 8}
    model = registry.load(registry.find("model", name).target)
    model = model(space, **config, **({"classes": 3} if name.startswith("conditional") else {})).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # last layers start at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    steps = model.config.steps
    found = []
    for n in (2, 4):
        with configured_for(model, n):
            found.append(model.nfe)
    assert found == [two, four]
    assert model.config.steps == steps
    with torch.inference_mode():
        few, many = (draw_batch(model, 1, 0, steps=n) for n in (2, 4))
    assert not torch.equal(few, many), "the steps change nothing"


def test_counting_flops_leaves_the_model_and_the_randomness_alone(data):
    class Trained(Point):
        def __init__(self, space):
            super().__init__(space)
            self.layer = torch.nn.Linear(2, 2)
            self.optimizer = torch.optim.Adam(self.layer.parameters())

        def train_step(self, batch: Batch, progress):
            loss = self.layer(batch.x + torch.randn(2)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return {"loss": loss.detach()}

    model = Trained(data.space)
    weights, state = model.layer.weight.clone(), torch.get_rng_state()
    found, per_image = costs.training_flops(model, Batches(data, 8, 0, torch.device("cpu")), None)
    assert per_image == 2 * 2 * 2 * 2, "forward and the gradient of the weight"
    assert found.flops == 8 * per_image
    assert torch.equal(model.layer.weight, weights)
    assert torch.equal(torch.get_rng_state(), state)


STUCK = '''
import threading
from reference_models.flow_matching import FlowMatching
class Stuck(FlowMatching):
    """A model that holds something that cannot be copied."""
    def __init__(self, space, **config):
        super().__init__(space, **config)
        self.lock = threading.Lock()
'''


def test_a_model_that_cannot_be_copied_is_trained_all_the_same(tmp_path):
    (tmp_path / "stuck.py").write_text(STUCK)
    path = tmp_path / "benchmarks.toml"
    path.write_text(
        CONFIG.replace('model = "flow-matching"', 'class = "stuck:Stuck"').replace("CURVES", "checkpoints = 1")
    )
    planned = plan(load_config(path), "curves", device="cpu", search_path=tmp_path)
    found = run_trial(next(trial for trial in planned if trial.model == "flow"), tmp_path / "out")
    assert found.status == "complete", found.reason
    assert found.training["flops"]["training"].startswith("not counted: TypeError")
    assert found.training["flops"]["sampling"]["coverage"] > 0
    assert "pickle" in found.curves["training"][0].failure


@pytest.mark.parametrize("steps", [1, 3])
def test_a_training_of_the_warm_up_alone_has_a_speed_that_says_so(tmp_path, steps):
    path = tmp_path / "benchmarks.toml"
    path.write_text(CONFIG.replace("CURVES", "").replace("steps = 16", f"steps = {steps}"))
    found = run_trial(
        {trial.model: trial for trial in plan(load_config(path), "curves", device="cpu")}["flow"], tmp_path
    )
    assert found.status == "complete", found.reason
    speed = found.get("training_throughput")
    assert speed == pytest.approx(8 * steps / found.get("training_seconds"))
    assert speed.low is None
    assert speed.note.endswith(costs.ALL_WARM_UP)


def test_the_cores_are_free_again_after_a_trial(record):
    if hasattr(os, "sched_getaffinity"):
        assert len(os.sched_getaffinity(0)) >= len(record.provenance["machine"]["threads"]["cores"])
        assert len(os.sched_getaffinity(0)) == record.provenance["hardware"]["cores"]


def test_a_host_clock_that_disagrees_with_the_device_is_said():
    """Ten steps of 0.1 s by the device's clock, of which the host saw 0.12 s each."""
    result = TrainingResult(
        steps=13, images=104, seconds=1.5, block_seconds=[0.6, 0.6], block_steps=[5, 5], lap_seconds=[0.1] * 10,
        data_seconds=[0.0] * 10,
    )  # fmt: skip
    assert costs.host_clock_ratio(result) == pytest.approx(1.2)
    said = "device and host clock differ; too few laps for an interval"
    assert costs.training_costs(result, 8)[0].note == said
    assert costs.training_costs(result, 8, warning="busy")[0].note == f"busy; {said}", (
        "what the machine did comes first"
    )


def test_a_training_whose_speed_never_stood_still_says_so():
    blocks = [0.1, 0.2, 0.1, 0.3, 0.1, 0.2, 0.4]
    result = TrainingResult(
        steps=10,
        images=80,
        seconds=2.0,
        block_seconds=blocks,
        block_steps=[1] * 7,
        lap_seconds=blocks,
        data_seconds=[0.0] * 7,
    )
    assert costs.training_costs(result, 8)[0].note == "never settled; noisy"
    assert result.step_seconds() == blocks[1:], "a quarter is taken for the warm-up"


def test_no_price_no_money():
    speed = Measurement(100.0, name="sampling_throughput", low=90.0, high=110.0, interval="order statistic")
    assert costs.money_costs([speed], None, 10.0) == []
    price = Price(device="x", per_hour=36.0, currency="EUR", date=datetime.date(2026, 1, 2), source="the bill")
    run, thousand = costs.money_costs([speed], price, 100.0)
    assert (run, run.unit) == (1.0, "EUR")
    assert (thousand.low, thousand, thousand.high) == pytest.approx((1 / 11, 0.1, 1 / 9))


@pytest.mark.parametrize(("sampler", "varies"), [("adaptive", True), ("euler", False)])
def test_a_solver_that_chooses_its_steps_reports_those_of_the_sample_set(tmp_path, sampler, varies):
    trial = trials(tmp_path, "", CONFIG.replace('"heun"', f'"{sampler}", learning_rate = 0.05'))["flow"]
    record = run_trial(trial, tmp_path / "out")
    assert record.status == "complete", record.reason
    nfe = record.get("nfe")
    if varies:
        note = re.fullmatch(
            r"the solver chooses its steps: (\d+) evaluations for a batch of 12, (\d+) for .*", nfe.note
        )
        assert int(note[1]) == nfe > int(note[2]), "until the slowest of the batch has arrived"
    else:
        assert (nfe, nfe.note) == (3, None)


PICKY = '''
from reference_models.flow_matching import FlowMatching
class Picky(FlowMatching):
    """A model that refuses batches of four."""
    def sample(self, n, generator, **options):
        if n == 4:
            raise TypeError("four is too much")
        return super().sample(n, generator, **options)
'''


def test_a_size_of_the_sweep_that_the_model_refuses_costs_no_training(tmp_path):
    (tmp_path / "picky.py").write_text(PICKY)
    path = tmp_path / "benchmarks.toml"
    config = CONFIG.replace('model = "flow-matching"', 'class = "picky:Picky"')
    path.write_text(config.replace("CURVES", "batch_sweep = [1, 4]"))
    trial = {t.model: t for t in plan(load_config(path), "curves", device="cpu", search_path=tmp_path)}["flow"]
    found = run_trial(trial, tmp_path / "out")
    assert found.status == "complete", found.reason
    assert [point.failure for point in found.curves["batch"]] == [None, "four is too much"]
    assert found.get("best_sample_batch") == 1


def test_a_budget_in_flops_is_made_of_what_all_steps_cost(tmp_path):
    """R1 at every 16th step makes the first one dearer than the rest."""
    path = tmp_path / "benchmarks.toml"
    config = CONFIG.replace('"flow-matching"', '"gan"').replace(
        'config = { width = 8, steps = 3, sampler = "heun" }', "config = { width = 8, r1 = 1.0 }"
    )
    path.write_text(config.replace("CURVES", "").replace("{ steps = 16 }", "{ flops = 20_000_000 }"))
    trial = {t.model: t for t in plan(load_config(path), "curves", device="cpu")}["flow"]
    found = run_trial(trial, tmp_path / "out")
    assert found.status == "complete", found.reason
    per_step = found.get("training_flops_per_image") * 8
    assert found.training["steps"] == math.ceil(20_000_000 / per_step)
    assert found.training["steps"] > 32
