"""Text to image: diffusion that reads a caption, with classifier-free guidance; the recipe of Imagen and Stable Diffusion, small.

caption -> words -> text encoder -> vectors;   their mean joins the time, and the U-Net attends to all of them at its low resolutions
guided = without the caption + guidance_scale (with - without)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from bench.model import Batch, BenchError, GenerativeModel, ImageSpace, SampleGenerator, Space
from reference_models.forward_process import STEPS, ForwardProcess
from reference_models.guidance import GuidedConfig, guided, spread
from reference_models.networks.build import unet
from reference_models.networks.text import TextEncoder, tokens_of
from reference_models.options import at_least_one
from reference_models.samplers import Denoised, sample_diffusion
from reference_models.schedules import set_learning_rate

REMEMBERED, BYTES = 2048, 96  # captions of the training set that are kept to sample by, and how much of each


class TextToImage(GenerativeModel):
    """Text-to-image diffusion: a small text encoder trained along, cross-attention, classifier-free guidance."""

    family = "diffusion"
    paper = (
        "Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, 2022, arXiv 2205.11487; cross-attention: "
        "High-Resolution Image Synthesis with Latent Diffusion Models, 2021, arXiv 2112.10752; guidance: 2022, arXiv 2207.12598"
    )
    known_failures = (
        "Words that training did not have mean nothing to it, and on a thousand pictures with a name each it learns kinds of "
        "pictures rather than words. The first minutes on a CPU give soft blobs, colours and shapes come later. A large guidance_scale oversaturates. It needs a data set with captions."
    )
    conditions: Literal["text"] = "text"
    remembered: Tensor

    @dataclasses.dataclass(frozen=True)
    class Config(GuidedConfig):
        """schedule, prediction, weighting, times: see ``ProcessConfig``. width ... patch: see ``DenoiserConfig``; where a level of
        the U-Net has one of the heights in ``attention``, it also attends to the words; where none has, the two coarsest do.

        words: of a caption that are read. text_width, text_depth: of the text encoder. drop: share of training captions left out.
        guidance_scale: 0 ignores the caption, 1 is no guidance; any other scale takes two evaluations per step.
        """

        width: int | None = 32
        attention: tuple[int, ...] = (4, 8)
        learning_rate: float = 4e-3
        words: int = 15
        text_width: int = 64
        text_depth: int = 2
        guidance_scale: float = 2.0

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least_one(self, "words", "text_width", "text_depth")
            if self.text_width % 4:
                raise ValueError(f"text_width must be a multiple of 4, got {self.text_width}")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        assert isinstance(space, ImageSpace)
        self.process = ForwardProcess(c, pixels=True)
        self.text = TextEncoder(c.words + 1, width=c.text_width, depth=c.text_depth)
        self.network = unet(space, c, context=c.text_width)
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)
        self.register_buffer("remembered", torch.zeros(REMEMBERED, BYTES, dtype=torch.uint8))  # UTF-8, zeros behind it
        self._known: set[str] | None = None

    @property
    def nfe(self) -> int:
        count: int = self.config.evaluations(self.process.alpha_bar)
        return count

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        if batch.captions is None:
            raise BenchError("TextToImage learns from captions, but the batch has none; use a data set with captions")
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        self._remember(batch.captions)
        x0 = batch.x
        dropped = torch.rand(len(batch), device=x0.device) < self.config.drop
        tokens = torch.where(dropped[:, None], self.tokens([""]), self.tokens(batch.captions))
        index = self.process.draw_index(len(batch), x0.device)
        epsilon = torch.randn_like(x0)
        output = self.evaluate(self.process.diffuse(x0, epsilon, index), index / STEPS, *self.text(tokens))
        loss = self.process.loss(output, x0, epsilon, index)
        self.descend(loss, self.optimizer)
        return {"loss": loss.detach()}

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Captions as the text encoder reads them, ``(B, words + 1)`` int64; "" stands for "no caption given"."""
        return tokens_of(captions, self.config.words + 1).to(self.device, non_blocking=True)

    def evaluate(self, x: Tensor, t: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """The network's prediction at x_t ``(B, *shape)``, times ``(B,)``, given the encoded captions."""
        output: Tensor = self.network(x, t, context=context, mask=mask)
        return output

    def captions_of(self, indices: Tensor) -> list[str]:
        """The captions of samples number ``indices`` where none are asked for: those of the training set that are remembered (the
        first 2048 different ones), in the order of the golden-ratio sequence, so that every run of samples spreads over them."""
        known = self.captions_seen()
        if not known:
            return [""] * len(indices)
        return [known[int(share * len(known))] for share in spread(indices).tolist()]

    def captions_seen(self) -> list[str]:
        """The remembered captions of the training set, in the order in which they were seen first."""
        rows = self.remembered.cpu()
        count = int((rows[:, 0] != 0).sum())
        return [bytes(row.tolist()).rstrip(b"\0").decode(errors="ignore") for row in rows[:count]]

    def _remember(self, captions: Sequence[str]) -> None:
        if self._known is None:
            self._known = set(self.captions_seen())
        if len(self._known) >= REMEMBERED:
            return
        for caption in captions:
            raw = caption.encode()[:BYTES]
            kept = raw.decode(errors="ignore")
            if kept and kept not in self._known and len(self._known) < REMEMBERED:
                row = torch.tensor(list(kept.encode()), dtype=torch.uint8)
                self.remembered[len(self._known), : len(row)] = row.to(self.device)
                self._known.add(kept)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """options: captions (sample number i shows caption i, in turn where there are fewer), guidance_scale, sampler, steps."""
        given = options.get("captions")
        if given is None:
            captions = self.captions_of(generator.indices)
        elif isinstance(given, str) or not given:
            raise BenchError(f"captions must be a list of one or more texts, got {given!r}")
        else:
            captions = [given[i % len(given)] for i in generator.indices.tolist()]
        scale = float(options.get("guidance_scale", self.config.guidance_scale))
        context, mask = self.text(self.tokens(captions))
        empty, only_start = (part.expand(n, *part.shape[1:]) for part in self.text(self.tokens([""])))

        def denoise(x: Tensor, t: float) -> Denoised:
            pixels = self.process.predicts_pixels
            output = guided(self.evaluate, x, t, (context, mask), (empty, only_start), scale, pixels=pixels)
            return Denoised(*self.process.clean(output, x, t, 1.0))

        return sample_diffusion(
            denoise,
            generator.randn(*self.space.shape),
            self.process.alpha_bar,
            lambda x: generator.randn(*x.shape[1:]),
            sampler=options.get("sampler", self.config.sampler),
            steps=options.get("steps", self.config.steps),
        )
