"""A training that is interrupted and goes on ends with the same bits as one that never was."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.base import Data
from bench.errors import BenchError
from bench.model import Batch, GenerativeModel, ImageSpace
from bench.plan import plan
from bench.suite import load_config
from bench.training.batches import Batches
from bench.training.ema import WeightAverage
from bench.training.loop import train
from bench.training.result import TrainingResult
from bench.training.resume import Checkpoints, load_model_state, model_state, random_state, set_random_state
from bench.trial import run_trial

SPACE = ImageSpace(1, 8, 8)
STEPS, STOP = 7, 4


class Interrupted(Exception):
    pass


class Wanderer(GenerativeModel):
    """Everything that a model may carry from step to step: buffers, counters, lists, generators, two optimizers, all randomness."""

    def __init__(self, space: ImageSpace) -> None:
        super().__init__(space)
        self.network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 1, 1)
        )
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.register_buffer("late", None)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-2)
        self.others = {"slow": torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9)}
        self.count, self._history = 0, []
        self.own = torch.Generator().manual_seed(3)

    def train_step(self, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        self.count += 1
        noise = torch.rand(()) + np.random.rand() + torch.rand((), generator=self.own) + 0.1 * len(self._history)
        loss = (self.network(batch.x) - noise * batch.x - progress - self.count).square().mean()
        self.seen += loss.detach()
        self.late = self.seen.clone() if self.late is None else self.late + 1
        self._history.append(self.count)
        for optimizer in (self.optimizer, *self.others.values()):
            optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.others["slow"].step()
        return {"loss": loss.detach() + self.seen + self.late}

    def sample(self, n, generator, **options):
        raise NotImplementedError


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    captions = tuple(f"picture {i % 4}" for i in range(40))
    return Data("noise", SPACE, images, images[:8], np.arange(40) % 4, train_captions=captions)


def run(make, data: Data, unit: str, amount: float, path: Path | None = None, stop: int | None = None):
    """The end state of a training; with ``stop``, of one that is killed after that step."""
    torch.manual_seed(5)
    np.random.seed(5)
    model = make()
    average = WeightAverage(model, 0.9)

    def progress(state) -> None:
        if stop is not None and state["step"] > stop:
            raise Interrupted

    keep = None if path is None else Checkpoints(path, 1e-9, "trial")
    result = train(
        model,
        Batches(data, 12, 0, torch.device("cpu")),
        unit,
        amount,
        average=average,
        resume=keep,
        on_progress=progress,
    )
    return model, average, result


def assert_same(one, other) -> None:
    (model_a, average_a, result_a), (model_b, average_b, result_b) = one, other
    a, b = model_a.state_dict(), model_b.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert all(
        torch.equal(x, y) for x, y in zip(average_a.state()["average"], average_b.state()["average"], strict=True)
    )
    assert (result_a.steps, result_a.images) == (result_b.steps, result_b.images)


@pytest.mark.parametrize(("unit", "amount"), [("steps", STEPS), ("images", 80)])
def test_interrupted_and_resumed_equals_uninterrupted(unit: str, amount: float, data: Data, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = run(lambda: Wanderer(SPACE), data, unit, amount)
    after = torch.rand(3)
    with pytest.raises(Interrupted):
        run(lambda: Wanderer(SPACE), data, unit, amount, path, STOP)
    torch.rand(11)
    resumed = run(lambda: Wanderer(SPACE), data, unit, amount, path)
    assert torch.equal(torch.rand(3), after), "and so does whatever is drawn afterwards"
    assert_same(whole, resumed)
    assert resumed[0].count == whole[0].count
    assert resumed[0]._history == whole[0]._history
    assert torch.equal(resumed[0].late, whole[0].late)


TRAINED = {
    point.name: point.load()
    for point in entry_points(group="bench.models")
    if "reference_models" in point.value and point.load().trains and ImageSpace in point.load().spaces
}


@pytest.mark.parametrize("name", TRAINED)
def test_every_model_resumes(name: str, data: Data, tmp_path: Path) -> None:
    kind = TRAINED[name]

    def make() -> GenerativeModel:
        return kind(SPACE, width=8, **({"classes": 4} if "classes" in kind.make_config().__dataclass_fields__ else {}))

    path = tmp_path / "checkpoint.pt"
    whole = run(make, data, "steps", 4)
    with pytest.raises(Interrupted):
        run(make, data, "steps", 4, path, 2)
    assert_same(whole, run(make, data, "steps", 4, path))


def test_seconds_go_on_where_they_were(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    model = Wanderer(SPACE)
    batches = Batches(data, 12, 0, torch.device("cpu"))
    Checkpoints(path, 1.0, "trial").save(model, None, batches, TrainingResult(steps=9, images=108), 1e6)
    result = train(model, batches, "seconds", 1e6 + 0.05, resume=Checkpoints(path, 60, "trial"))
    assert result.steps > 9
    assert 1e6 + 0.05 <= result.seconds < 1e6 + 5


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", b"\x80\x04cos\nsystem\n."])
def test_a_missing_or_foreign_file_means_from_the_start(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    if content is not None:
        path.write_bytes(content)
    assert Checkpoints(path, 1, "trial").saved is None


def test_a_checkpoint_of_another_trial_is_not_taken(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    batches = Batches(data, 12, 0, torch.device("cpu"))
    Checkpoints(path, 1, "one").save(Wanderer(SPACE), None, batches, TrainingResult(), 1.0)
    assert Checkpoints(path, 1, "other").saved is None
    found = Checkpoints(path, 1, "one")
    assert found.saved is not None
    found.remove()
    assert not path.exists()


def test_a_killed_trial_goes_on(tmp_path: Path) -> None:
    """The whole trial: killed in the middle of training, started again, the same weights and samples as one that was not."""
    config = tmp_path / "benchmarks.toml"
    config.write_text(
        """
        [suites.tiny]
        datasets = ["digits8"]
        models = ["vae"]
        baselines = []
        seeds = [0]
        budget = { steps = 8 }
        batch_size = 32
        samples = 20
        extractor = "none"
        metrics = ["reconstruction"]
        checkpoint_every = 1e-9
        [datasets.digits8]
        dataset = "digits"
        options = { resolution = 8 }
        """
    )
    (trial,) = plan(load_config(config), "tiny", device="cpu", models=["vae"])

    def kill(event: dict) -> None:
        if event.get("step") == 5:
            raise KeyboardInterrupt

    whole = run_trial(trial, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_trial(trial, tmp_path / "killed", kill)
    assert (tmp_path / "killed" / "checkpoint.pt").is_file()
    resumed = run_trial(trial, tmp_path / "killed")
    assert resumed.status == "complete"
    assert resumed.training["resumed_at_step"] == 4
    assert "resumed_at_step" not in whole.training
    assert resumed.artifacts["weights_file"] == whole.artifacts["weights_file"]
    assert resumed.artifacts["samples"] == whole.artifacts["samples"]
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


def test_numbers_of_numpy_come_back_and_what_cannot_is_said_at_once(data: Data, tmp_path: Path) -> None:
    model, batches = Wanderer(SPACE), Batches(data, 4, 0, torch.device("cpu"))
    model.optimizer.param_groups[0]["lr"] = np.float64(0.25)
    model.count = np.int64(3)
    Checkpoints(tmp_path / "c.pt", 0, "me").save(model, None, batches, TrainingResult(), 1.0)
    other = Wanderer(SPACE)
    found = Checkpoints(tmp_path / "c.pt", 0, "me")
    found.restore(other, None, batches, TrainingResult())
    assert other.optimizer.param_groups[0]["lr"] == 0.25
    assert other.count == 3
    model.optimizer.param_groups[0]["schedule"] = Path("a.py")
    with pytest.raises(BenchError, match="Wanderer: its training state holds 'pathlib"):
        Checkpoints(tmp_path / "d.pt", 0, "me").save(model, None, batches, TrainingResult(), 1.0)


def test_weights_are_restored_in_place(data: Data) -> None:
    """Optimizers and averages hold the tensors themselves."""
    one, other = Wanderer(SPACE), Wanderer(SPACE)
    held = next(other.parameters())
    load_model_state(other, model_state(one))
    assert next(other.parameters()) is held
    assert torch.equal(held, next(one.parameters()))


def test_random_states_come_back() -> None:
    state = random_state()
    first = (torch.rand(2).tolist(), np.random.rand(2).tolist())
    set_random_state(state)
    assert first == (torch.rand(2).tolist(), np.random.rand(2).tolist())
