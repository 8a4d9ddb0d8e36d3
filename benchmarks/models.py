"""One training step and one sampling call of every registered model that generates 16x16 digits, and the memory they take."""

from __future__ import annotations

import torch

from bench import registry
from bench.data.digits import Digits
from bench.errors import BenchError
from bench.model import Batch, FitsPrior
from bench.sampling import draw_batch
from bench.training.batches import Batches, OnePass

NAMES = [
    name for name, entry in registry.entries("model").items() if registry.describe(entry).get("family") != "baseline"
]


class Models:
    """Set up one model on batches of 16 digits; a model that takes no images is skipped.

    The set-up warms up, and one round of at most five calls in a second is enough for step detection over commits.
    """

    params = NAMES
    param_names = ("model",)
    timeout = 120
    rounds, number, warmup_time = 1, 1, 0.0
    repeat = (1, 5, 1.0)

    def setup(self, name: str) -> None:
        torch.manual_seed(0)
        data = Digits(resolution=16).load()
        kind = registry.load(registry.find("model", name).target)
        classes = {"classes": 10} if hasattr(kind.make_config(), "classes") else {}
        try:
            self.model = kind(data.space, **classes)
        except (BenchError, ValueError) as error:
            raise NotImplementedError(str(error)) from None
        batches = Batches(data, 16, 0, torch.device("cpu"))
        self.stream = iter(batches)
        self.model.train()
        self.step()
        self.model.eval()
        if isinstance(self.model, FitsPrior):
            with torch.no_grad():
                self.model.fit_prior(OnePass(batches))

    def step(self) -> None:
        self.model.train()
        batch = next(self.stream)
        self.model.train_step(Batch(batch.x, batch.labels, len(batch) * ("a digit",)), 0.5)

    def sample(self) -> None:
        self.model.eval()
        with torch.inference_mode():
            draw_batch(self.model, 4, 0)


class TrainingStep(Models):
    def time_step(self, name: str) -> None:
        self.step()

    def peakmem_step(self, name: str) -> None:
        self.step()


class Sampling(Models):
    def setup(self, name: str) -> None:
        super().setup(name)
        self.sample()

    def time_four_samples(self, name: str) -> None:
        self.sample()
