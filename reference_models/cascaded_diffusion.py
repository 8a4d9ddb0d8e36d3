"""Cascaded diffusion: a small image first, then diffusions that double its sides. The Imagen recipe.

Each super-resolution diffusion sees the image below, enlarged and with some noise on it (conditioning augmentation), and is told how
much: so it learns to mend what the diffusion below gets wrong. All stages train side by side, on every batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, BenchError, GenerativeModel, ImageSpace, SampleGenerator, Space
from reference_models.forward_process import STEPS, ForwardProcess, ProcessConfig
from reference_models.networks.build import DenoiserConfig, unet
from reference_models.networks.unet import UNet
from reference_models.options import at_least_one, between, one_of, positive
from reference_models.samplers import DIFFUSION_SAMPLERS, Denoised, network_evaluations, sample_diffusion
from reference_models.schedules import set_learning_rate


class CascadedDiffusion(GenerativeModel):
    """Cascaded diffusion: 16 pixels, then noise-conditioned super-resolution by factors of two."""

    family = "diffusion"
    paper = "Cascaded Diffusion Models for High Fidelity Image Generation, 2021, arXiv 2106.15282; Imagen, 2022, arXiv 2205.11487"
    known_failures = (
        "The layout is fixed by the smallest diffusion; what it gets wrong, super-resolution only sharpens. Several networks share "
        "one budget, so each has trained less than a single diffusion would have."
    )
    spaces = (ImageSpace,)

    @dataclasses.dataclass(frozen=True)
    class Config(ProcessConfig, DenoiserConfig):
        """schedule ... times: see ``ProcessConfig``. width, blocks: of every network, see ``DenoiserConfig``.

        smallest: sides are halved at least once, and on while they are above this. steps: of the first sampler.
        enlarging_steps: of each super-resolution sampler. augmentation: time (0 none, 1 all) of the noise put on the enlarged image
        in sampling; in training it is uniform below ``largest_augmentation``.
        """

        learning_rate: float = 5e-3
        smallest: int = 16
        sampler: str = "ddim"
        steps: int = 25
        enlarging_steps: int = 10
        augmentation: float = 0.1
        largest_augmentation: float = 0.5

        def __post_init__(self) -> None:
            ProcessConfig.__post_init__(self)
            DenoiserConfig.__post_init__(self)
            if self.multipliers or self.patch or self.attention:
                raise ValueError(
                    "multipliers, patch and attention follow from the sides of each stage here; leave them out"
                )
            positive(self, "learning_rate")
            at_least_one(self, "smallest")
            one_of(self, "sampler", DIFFUSION_SAMPLERS)
            between(self, 1, STEPS, "steps", "enlarging_steps")
            if not 0 <= self.augmentation <= self.largest_augmentation < 1:
                raise ValueError(
                    "0 <= augmentation <= largest_augmentation < 1 must hold, "
                    f"got {self.augmentation} and {self.largest_augmentation}"
                )

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        assert isinstance(space, ImageSpace)
        self.sides = stage_sides(space, self.config.smallest)
        self.process = ForwardProcess(self.config, pixels=True)
        self.networks = nn.ModuleList(
            unet(
                ImageSpace(space.channels, height, width),
                self.config,
                extra_channels=0 if stage == 0 else space.channels,
            )
            for stage, (height, width) in enumerate(self.sides)
        )
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)

    @property
    def nfe(self) -> int:
        """Evaluations of all networks together, small and large ones alike."""
        config, alpha_bar = self.config, self.process.alpha_bar
        first = network_evaluations(config.sampler, config.steps, alpha_bar)
        return first + (len(self.sides) - 1) * network_evaluations(config.sampler, config.enlarging_steps, alpha_bar)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        losses = {}
        for stage, (height, width) in enumerate(self.sides):
            x0, image, level = shrink(batch.x, (height, width)), None, None
            index = self.process.draw_index(len(batch), x0.device)
            if stage > 0:
                level = torch.rand(len(batch), device=x0.device) * self.config.largest_augmentation
                image = self.augmented(shrink(batch.x, self.sides[stage - 1]), level, torch.randn_like(x0))
            epsilon = torch.randn_like(x0)
            output = self.networks[stage](
                self.process.diffuse(x0, epsilon, index), index / STEPS, image=image, level=level
            )
            losses[f"loss_{height}"] = self.process.loss(output, x0, epsilon, index)
        self.descend(torch.stack(list(losses.values())).sum(), self.optimizer)
        return {name: loss.detach() for name, loss in losses.items()}

    def augmented(self, small: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """``small`` enlarged to the shape of ``noise`` and diffused to time ``level`` ``(B,)``."""
        large = F.interpolate(small, size=noise.shape[2:], mode="bilinear", align_corners=False)
        return self.process.diffuse(large, noise, (level * STEPS).long())

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """``steps`` (the configured number) are those at the smallest side; each enlargement takes ``enlarging_steps`` more."""
        assert isinstance(self.space, ImageSpace)
        first = int(options.get("steps", self.config.steps))
        x = torch.empty(0)
        for stage, side in enumerate(self.sides):
            image = level = None
            if stage > 0:
                level = torch.full((n,), self.config.augmentation, device=self.device)
                image = self.augmented(x, level, generator.randn(self.space.channels, *side))
            steps = first if stage == 0 else self.config.enlarging_steps
            x = self._sample_stage(self.networks[stage], side, image, level, generator, steps)
        return x

    def _sample_stage(
        self,
        network: nn.Module,
        side: tuple[int, int],
        image: Tensor | None,
        level: Tensor | None,
        generator: SampleGenerator,
        steps: int,
    ) -> Tensor:
        assert isinstance(network, UNet)
        assert isinstance(self.space, ImageSpace)

        def denoise(x: Tensor, t: float) -> Denoised:
            output = network(x, torch.full((len(x),), t, device=x.device), image=image, level=level).float()
            return Denoised(*self.process.clean(output, x, t, 1.0))

        return sample_diffusion(
            denoise,
            generator.randn(self.space.channels, *side),
            self.process.alpha_bar,
            lambda x: generator.randn(*x.shape[1:]),
            sampler=self.config.sampler,
            steps=steps,
        )


def stage_sides(space: ImageSpace, smallest: int) -> list[tuple[int, int]]:
    """(height, width) of every stage, rising to the images' own. Raises BenchError where sides cannot be halved once."""
    sides = [(space.height, space.width)]
    while len(sides) == 1 or max(sides[0]) > smallest:
        height, width = sides[0]
        if height % 2 or width % 2:
            if len(sides) > 1:
                break
            raise BenchError(f"a cascade needs even sides, but the images are {height}x{width}; resize them")
        sides.insert(0, (height // 2, width // 2))
    return sides


def shrink(x: Tensor, side: tuple[int, int]) -> Tensor:
    """The mean over squares of pixels, ``(B, C, *side)``."""
    return x if tuple(x.shape[2:]) == side else F.adaptive_avg_pool2d(x, side)
