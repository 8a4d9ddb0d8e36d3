"""Class-conditional diffusion with classifier-free guidance: one network with and without the label, sampled beyond their difference.

guided = without + guidance_scale (with - without)
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from bench.model import Batch, BenchError, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.forward_process import STEPS, ForwardProcess
from reference_models.guidance import GuidedConfig, guided, spread
from reference_models.networks.build import denoiser
from reference_models.options import at_least_one, given
from reference_models.samplers import Denoised, sample_diffusion
from reference_models.schedules import set_learning_rate


class ConditionalDiffusion(GenerativeModel):
    """Class-conditional diffusion with classifier-free guidance; samples follow the classes of the training set."""

    family = "diffusion"
    paper = "Classifier-Free Diffusion Guidance, 2022, arXiv 2207.12598"
    known_failures = (
        "A large guidance_scale trades variety for typical pictures and oversaturates; at 1 rare classes look like frequent ones. "
        "It needs a data set with labels."
    )
    spaces = (ImageSpace, VectorSpace)
    conditions: Literal["class"] = "class"
    class_counts: Tensor

    @dataclasses.dataclass(frozen=True)
    class Config(GuidedConfig):
        """schedule, prediction, weighting, times: see ``ProcessConfig``. width ... patch: see ``DenoiserConfig``. drop,
        guidance_scale, sampler, steps: see ``GuidedConfig``.

        classes: number of classes; the harness fills it in from the data set.
        """

        classes: int | None = None

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least_one(self, *given(self, "classes"))

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        if self.config.classes is None:
            raise BenchError(
                "ConditionalDiffusion needs the number of classes, but the data set has no labels; set classes"
            )
        self.classes: int = self.config.classes
        self.process = ForwardProcess(self.config, pixels=isinstance(space, ImageSpace))
        self.network = denoiser(space, self.config, classes=self.classes)
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)
        self.limit = 1.0 if isinstance(space, ImageSpace) else None
        self.register_buffer("class_counts", torch.zeros(self.classes, dtype=torch.int64))  # seen in training

    @property
    def nfe(self) -> int:
        count: int = self.config.evaluations(self.process.alpha_bar)
        return count

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        if batch.labels is None:
            raise BenchError(
                "ConditionalDiffusion learns from labels, but the batch has none; use a data set with labels"
            )
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        x0 = batch.x
        self.class_counts.index_add_(0, batch.labels, torch.ones_like(batch.labels))
        dropped = torch.rand(len(batch), device=x0.device) < self.config.drop
        labels = torch.where(dropped, self.classes, batch.labels)  # the label ``classes`` stands for "none given"
        index = self.process.draw_index(len(batch), x0.device)
        epsilon = torch.randn_like(x0)
        output = self.network(self.process.diffuse(x0, epsilon, index), index / STEPS, labels)
        loss = self.process.loss(output, x0, epsilon, index)
        self.descend(loss, self.optimizer)
        return {"loss": loss.detach()}

    def labels_of(self, indices: Tensor) -> Tensor:
        """The classes of samples number ``indices`` where none are asked for, ``(n,)``: in the shares they have in training.

        An even spread through the inverse distribution function, so that every run of samples has those shares.
        """
        counts = self.class_counts.double() if bool(self.class_counts.any()) else self.class_counts.double() + 1
        shares = counts.cumsum(0) / counts.sum()
        return torch.searchsorted(shares, spread(indices.to(counts.device)), right=True).clamp_(max=self.classes - 1)

    def predict(self, x: Tensor, t: float, labels: Tensor, guidance_scale: float) -> Tensor:
        """The network's prediction at x_t, guided towards ``labels`` ``(B,)``; both passes in one batch."""
        none, pixels = torch.full_like(labels, self.classes), self.process.predicts_pixels
        return guided(self.network, x, t, [labels], [none], guidance_scale, pixels=pixels)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """options: labels ``(n,)`` int64, guidance_scale, sampler, steps."""
        labels = options.get("labels")
        labels = self.labels_of(generator.indices) if labels is None else torch.as_tensor(labels, device=self.device)
        scale = float(options.get("guidance_scale", self.config.guidance_scale))

        def denoise(x: Tensor, t: float) -> Denoised:
            return Denoised(*self.process.clean(self.predict(x, t, labels, scale), x, t, self.limit))

        return sample_diffusion(
            denoise,
            generator.randn(*self.space.shape),
            self.process.alpha_bar,
            lambda x: generator.randn(*x.shape[1:]),
            sampler=options.get("sampler", self.config.sampler),
            steps=options.get("steps", self.config.steps),
        )
