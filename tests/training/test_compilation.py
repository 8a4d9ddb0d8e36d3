"""``compile = true``: the same numbers, the same state dict, the compiler's seconds apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench import registry
from bench.errors import BenchError
from bench.model import Batch, ImageSpace
from bench.plan import plan
from bench.suite import load_config
from bench.training.compilation import compile_networks, compile_seconds, eager
from bench.training.result import TrainingResult
from bench.trial import run_trial
from reference_models.vae import VAE

CONFIG = """
[suites.tiny]
datasets = ["ring8"]
models = ["line"]
baselines = []
seeds = [0]
budget = { steps = 12 }
batch_size = 32
samples = 20
extractor = "none"
metrics = ["modes"]
compile = %s

[models.line]
class = "line_model:Line"
"""

MODEL = '''
import torch
from bench import GenerativeModel, VectorSpace

class Line(GenerativeModel):
    """One linear layer."""
    spaces = (VectorSpace,)
    def __init__(self, space, **config):
        super().__init__(space, **config)
        self.network = torch.nn.Linear(1, 2)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
    def train_step(self, batch, progress):
        loss = (self.network(torch.ones(len(batch), 1)) - batch.x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"mse": loss.detach()}
    def sample(self, n, generator, **options):
        return self.network(torch.ones(n, 1)) + generator.randn(2)
'''


def test_compiled_networks_compute_the_same_and_keep_their_names() -> None:
    torch.manual_seed(0)
    model = VAE(ImageSpace(1, 8, 8), width=8)
    names, z = list(model.state_dict()), torch.randn(4, 16)
    with torch.no_grad():
        expected = model.decoder(z)
        compile_networks(model, backend="eager")
        torch.testing.assert_close(model.decoder(z), expected, atol=1e-5, rtol=1e-4)
        with eager():
            torch.testing.assert_close(model.decoder(z), expected, atol=0, rtol=0)
    assert list(model.state_dict()) == names


def test_lists_of_layers_are_compiled_one_by_one() -> None:
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.ModuleList([torch.nn.Linear(2, 2)])])
    compile_networks(model, backend="eager")
    assert model.layers._compiled_call_impl is None
    assert model.layers[0]._compiled_call_impl is not None
    assert model.layers[1][0]._compiled_call_impl is not None


def test_compile_seconds_is_what_the_first_step_took_beyond_the_usual() -> None:
    assert compile_seconds(TrainingResult(first_step_seconds=9.0, lap_seconds=[0.5, 1.0, 30.0])) == 8.0
    assert compile_seconds(TrainingResult(first_step_seconds=0.5, lap_seconds=[1.0])) == 0.0


def test_a_compiled_trial_reports_its_compiler(tmp_path: Path) -> None:
    (tmp_path / "line_model.py").write_text(MODEL)
    trials = {}
    for switch in ("true", "false"):
        path = tmp_path / f"{switch}.toml"
        path.write_text(CONFIG % switch)
        (trials[switch],) = plan(load_config(path), "tiny", device="cpu", models=["line"], search_path=tmp_path)
    assert trials["true"].id != trials["false"].id
    records = {switch: run_trial(trial, tmp_path / switch) for switch, trial in trials.items()}
    values = {switch: {m.name: m.value for m in record.measurements} for switch, record in records.items()}
    assert records["true"].status == "complete", records["true"].reason
    assert values["true"]["compile_seconds"] > 0.5
    assert "compile_seconds" not in values["false"]
    losses = [record.training["losses"]["mse"][-1] for record in records.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_checkpoint_every_must_be_positive(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text((CONFIG % "false").replace("compile = false", "checkpoint_every = 0"))
    with pytest.raises(BenchError, match="checkpoint_every"):
        load_config(path)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("gan", {"r1": 0.1}),
        ("gan", {"loss": "wgan-gp"}),
        ("progressive-gan", {}),
        ("stylegan2", {"path_length": 2.0}),
    ],
)
def test_penalties_that_differentiate_twice_train_compiled(name: str, config: dict[str, Any]) -> None:
    """Compiled graphs have no second derivative, which R1, WGAN-GP and path lengths take."""
    torch.manual_seed(0)
    model = registry.load(registry.find("model", name).target)(ImageSpace(1, 8, 8), width=4, **config).train()
    compile_networks(model, "aot_eager")
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(3):
        losses = model.train_step(Batch(torch.rand(4, 1, 8, 8) * 2 - 1), step / 3)
    assert all(torch.isfinite(torch.as_tensor(loss)).all() for loss in losses.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
