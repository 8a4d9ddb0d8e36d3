"""A worse model, really trained and scored: one that learned from fewer images is caught by the quality gate with five seeds."""

import math

import torch

from bench import GenerativeModel, ImageSpace
from bench.gate.judge import gate_sides
from bench.gate.sides import Side
from bench.plan import plan
from bench.suite import Config, Gate
from bench.trial import run_trial

NOISE = 0.1


class Moments(GenerativeModel):
    """One Gaussian, by the mean and covariance of the images that it was given, plus noise of standard deviation 0.1."""

    family = "baseline"
    spaces = (ImageSpace,)
    nll_kind = "exact"
    keep = 10**9

    def __init__(self, space, **config):
        super().__init__(space, **config)
        size = math.prod(space.shape)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("total", torch.zeros(size))
        self.register_buffer("squares", torch.zeros(size, size))

    def train_step(self, batch, progress):
        if self.count < self.keep:
            x = batch.x.flatten(1)
            self.count += len(x)
            self.total += x.sum(0)
            self.squares += x.T @ x
        return {"seen": self.count.clone()}

    def distribution(self):
        mean = self.total / self.count
        covariance = self.squares / self.count - torch.outer(mean, mean)
        return torch.distributions.MultivariateNormal(mean, covariance + NOISE**2 * torch.eye(len(mean)))

    def nll(self, x):
        """Of 8-bit levels: the density times the width of a level."""
        return -self.distribution().log_prob(x.flatten(1)) + x[0].numel() * math.log(127.5)

    def sample(self, n, generator, **options):
        found = self.distribution()
        x = found.loc + generator.randn(len(found.loc)) @ found.scale_tril.T
        return x.reshape(n, *self.space.shape).clamp(-1, 1)


class FewerImages(Moments):
    """The same from the first 64 images alone."""

    keep = 64


def trained(version, folder):
    suite = {
        "datasets": ["digits"], "models": ["moments"], "baselines": [], "seeds": [0, 1, 2, 3, 4], "budget": {"steps": 60},
        "batch_size": 16, "samples": 50, "sample_batch": 50, "extractor": "none", "metrics": ["likelihood"], "ema": 0,
    }  # fmt: skip
    models = {"moments": {"class": f"{version.__module__}:{version.__name__}"}}
    trials = plan(
        Config.model_validate({"suites": {"ci": suite}, "models": models}), "ci", device="cpu", models=["moments"]
    )
    return Side(version.__name__, tuple(run_trial(trial, folder / trial.id) for trial in trials))


def test_fewer_training_images_are_caught_with_five_seeds_and_no_change_is_not(tmp_path):
    base, worse = trained(Moments, tmp_path), trained(FewerImages, tmp_path)
    member = {"metric": "bits_per_dim_exact", "margin": "1%", "direction": "lower"}
    family = Gate.model_validate({"suite": "ci", "metrics": [member]})
    [line] = gate_sides(base, worse, family).lines
    assert line.verdict == "worse", line.reason
    assert line.n == 5
    [line] = gate_sides(base, base, family).lines
    assert line.verdict == "equivalent"
