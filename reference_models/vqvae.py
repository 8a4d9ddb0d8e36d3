"""VQ-VAE: an autoencoder whose code is a small grid of entries of a codebook, and a transformer that learns to write such grids.

x -> encoder -> grid of vectors -> nearest codebook entries -> decoder -> x;   p(grid) by a causal transformer, token by token
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import Batch, BenchError, GenerativeModel, ImageSpace, SampleGenerator, Space
from reference_models.likelihood import discretised
from reference_models.networks.codebook import Codebook, CodeCounter, usage_of
from reference_models.networks.transformer import Transformer, sample_tokens
from reference_models.options import at_least_one, positive
from reference_models.pixels import squared_error
from reference_models.schedules import set_learning_rate


class VQVAE(GenerativeModel):
    """Codebook learned by moving averages, dead codes restarted, and a transformer prior over the grid of codes."""

    family = "vae"
    paper = (
        "Neural Discrete Representation Learning, 2017, arXiv 1711.00937; moving averages: its appendix A.1; restarts: Jukebox, "
        "2020, arXiv 2005.00341"
    )
    known_failures = (
        "Codebook collapse: few codes are used (see codes_used over training). After a minute on MNIST at 32 pixels digits are blurred. "
        "With 4 x 4 codes fine detail is lost (grid = 8 keeps it, "
        "for a prior that learns four times slower); too short a training of the prior arranges strokes into no digit."
    )
    samples_need_prior = False  # fit_prior only counts codes and errors
    nll_kind: ClassVar[Literal["exact", "upper_bound", "estimate"]] = "upper_bound"

    @dataclasses.dataclass(frozen=True)
    class Config:
        """grid: the image is halved until its shorter side is at most this. codes: entries of the codebook, each of size
        ``code_size``. width: channels of encoder and decoder, the first halving has half of them. commitment: weight that keeps
        encodings near their entries. decay: of the moving averages. restart: an entry used less often than this per batch is dead
        and restarts at a random encoding. autoencoder_share: of the budget; the rest trains the prior. prior_width,
        prior_depth: of the transformer. temperature: of sampling."""

        grid: int = 4
        codes: int = 128
        code_size: int = 16
        width: int = 32
        commitment: float = 0.25
        decay: float = 0.9
        restart: float = 0.1
        autoencoder_share: float = 0.6
        learning_rate: float = 5e-3
        prior_width: int = 128
        prior_depth: int = 3
        prior_learning_rate: float = 2e-3
        temperature: float = 1.0

        def __post_init__(self) -> None:
            at_least_one(self, "grid", "codes", "code_size", "width", "prior_width", "prior_depth")
            positive(self, "learning_rate", "prior_learning_rate")
            for name in ("decay", "autoencoder_share"):
                if not 0 < getattr(self, name) < 1:
                    raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
            if min(self.commitment, self.restart, self.temperature) < 0:
                raise ValueError(
                    "commitment, restart and temperature must not be negative, got "
                    f"{self.commitment}, {self.restart} and {self.temperature}"
                )
            if self.width % 2 or self.prior_width % 4:
                raise ValueError(
                    f"width must be even and prior_width a multiple of 4, got {self.width} and {self.prior_width}"
                )

    log_scale: Tensor
    usage: Tensor

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        c = self.config
        assert isinstance(space, ImageSpace)
        count = grid_halvings(space, c.grid)
        self.grid = (space.height >> count, space.width >> count)
        self.encoder = grid_encoder(space.channels, c.code_size, c.width, count)
        self.codebook = Codebook(c.codes, c.code_size, c.decay, c.restart)
        self.decoder = grid_decoder(space.channels, c.code_size, c.width, count)
        self.prior = Transformer(c.codes, math.prod(self.grid), width=c.prior_width, depth=c.prior_depth, heads=4)
        self.to(memory_format=torch.channels_last)
        coders = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(coders, fused=True)
        self.prior_optimizer = torch.optim.AdamW(
            self.prior.parameters(), betas=(0.9, 0.95), weight_decay=0.01, fused=True
        )
        self.register_buffer("log_scale", torch.zeros(()))  # of the pixels about the decoder's means; fitted at the end
        self.register_buffer(
            "usage", torch.zeros(c.codes, dtype=torch.int64)
        )  # in the last pass over the training data
        self.counter = CodeCounter(c.codes)
        self.last: dict[str, Tensor] = {
            "mse": torch.zeros(()), "prior": torch.tensor(math.log(c.codes)), "codes_used": torch.zeros(()),
            "perplexity": torch.ones(()),
        }  # fmt: skip

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        """One step of the autoencoder, or later of the prior; the losses of the other part are those of its last step.

        "codes_used" and "perplexity" are those of the last epoch, see ``CodeCounter``. The prior's loss, in nats a token, begins at log(codes), that of a prior that knows nothing.
        """
        share = self.config.autoencoder_share
        if progress < share:
            self._train_autoencoder(batch.x, progress / share)
        else:
            self.encoder.eval()  # its codes are settled now
            self.optimizer.zero_grad(set_to_none=True)  # what trains no more has no gradient to be watched
            self._train_prior(batch.x, (progress - share) / (1 - share))
        return {name: value.to(batch.x.device) for name, value in self.last.items()}

    def _train_autoencoder(self, x: Tensor, progress: float) -> None:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        self.encoder.train(self.training)
        encoded = self.encoder(x).float()
        quantised, index = self.codebook.quantise(encoded)
        self.codebook.learn(encoded.detach(), index)
        straight = encoded + (quantised - encoded).detach()  # gradients pass as if nothing had been rounded
        mse = squared_error(self.decoder(straight), x, pixels=True)
        loss = mse + self.config.commitment * F.mse_loss(encoded, quantised)
        self.descend(loss, self.optimizer)
        self.last["mse"] = mse.detach()
        self._count(index)

    def _train_prior(self, x: Tensor, progress: float) -> None:
        set_learning_rate(self.prior_optimizer, self.config.prior_learning_rate, progress)
        tokens = self.tokens(x)
        self._count(tokens)
        loss = self.prior_nll(tokens).mean() / math.prod(self.grid)
        self.descend(loss, self.prior_optimizer, longest=1.0)
        self.last["prior"] = loss.detach()

    def _count(self, index: Tensor) -> None:
        self.counter.count(index)
        used, perplexity = usage_of(self.counter.counts)
        self.last |= {"codes_used": used, "perplexity": perplexity}

    @torch.no_grad()
    def tokens(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the indices of its codes, row by row, ``(B, h w)`` int64."""
        return self.codebook.quantise(self.encoder(x).float())[1].flatten(1)

    def prior_nll(self, tokens: Tensor) -> Tensor:
        """-log p(tokens) in nats, ``(B, L) -> (B,)``."""
        logits = self.prior(tokens).float()
        return F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none").sum(1)

    @torch.no_grad()
    def fit_prior(self, loader: Iterable[Batch]) -> None:
        """One pass over the training data: how often each code is used, and the scale of the decoder's errors."""
        self.usage.zero_()
        error, count = torch.zeros((), dtype=torch.float64), 0
        for batch in loader:
            tokens = self.tokens(batch.x)
            self.usage += torch.bincount(tokens.flatten(), minlength=self.config.codes)
            error += (self.decode_tokens(tokens) - batch.x).square().sum().double().cpu()
            count += batch.x.numel()
        self.log_scale.fill_(0.5 * math.log(max(float(error) / max(count, 1), 1e-6)))

    def code_usage(self) -> dict[str, float]:
        """Of the last pass over the training data: share of codes used at all, and perplexity (codes, were all used equally)."""
        if int(self.usage.sum()) == 0:
            raise BenchError("code usage is counted by fit_prior(loader); call it first")
        used, perplexity = usage_of(self.usage)
        return {"codes_used": float(used), "perplexity": float(perplexity)}

    @torch.no_grad()
    def nll(self, x: Tensor) -> Tensor:
        """-log p(x | codes) - log p(codes) at the encoder's codes, in nats, ``(B,)``: one term of the sum over all grids of codes
        that p(x) is, so an upper bound. p(x | codes): discretised Gaussian about the decoder's output."""
        tokens = self.tokens(x)
        pixels = discretised(x, self.decode_tokens(tokens), self.log_scale, "gaussian").flatten(1).sum(1)
        return self.prior_nll(tokens) - pixels

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        temperature = options.get("temperature", self.config.temperature)
        length = math.prod(self.grid)
        return self.decode_tokens(sample_tokens(self.prior, generator, length, temperature=temperature))

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """``(B, h w) -> (B, C, H, W)``."""
        entries = self.codebook.entries[tokens.view(-1, *self.grid)]
        return self.decoder(entries.permute(0, 3, 1, 2)).float().clamp(-1, 1)

    def encode(self, x: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, code_size h w)``: the encoder's vectors before they are rounded to codes."""
        return self.encoder(x).float().flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """The inverse direction; the vectors are rounded to codes first."""
        encoded = z.view(-1, self.config.code_size, *self.grid)
        return self.decode_tokens(self.codebook.quantise(encoded)[1].flatten(1))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def grid_halvings(space: ImageSpace, largest: int) -> int:
    """How often the image is halved: until its shorter side is at most ``largest``, at least once; never where a side is odd."""
    count, height, width = 0, space.height, space.width
    while height % 2 == 0 and width % 2 == 0 and (count == 0 or min(height, width) > largest):
        count, height, width = count + 1, height // 2, width // 2
    return count


class Residual(nn.Module):
    """x + 1 x 1 convolution of ReLU of 3 x 3 convolution of ReLU of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def grid_encoder(channels: int, code_size: int, width: int, count: int) -> nn.Sequential:
    """``(B, C, H, W) -> (B, code_size, H / 2^count, W / 2^count)``, of unit variance: encodings that lie close together at first
    would all be given the same few codes, and nothing would be learned ("Robust Training of Vector Quantized Bottleneck Models",
    2020, arXiv 2005.08520)."""
    layers: list[nn.Module] = []
    for index in range(count):
        after = width // 2 if index == 0 and count > 1 else width
        layers += [nn.Conv2d(channels, after, 4, stride=2, padding=1), nn.ReLU()]
        channels = after
    layers += [nn.Conv2d(channels, width, 3, padding=1), Residual(width), Residual(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, code_size, 1), nn.BatchNorm2d(code_size, affine=False))


def grid_decoder(channels: int, code_size: int, width: int, count: int) -> nn.Sequential:
    """The way back, linear at the end: a tanh would saturate on black images before the first code says anything."""
    layers: list[nn.Module] = [nn.Conv2d(code_size, width, 3, padding=1), Residual(width), Residual(width), nn.ReLU()]
    before = width
    for index in range(count):
        last = index == count - 1
        after = channels if last else width // 2 if index == count - 2 else width
        layers.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
        if not last:
            layers.append(nn.ReLU())
        before = after
    if count == 0:
        layers.append(nn.Conv2d(width, channels, 3, padding=1))
    return nn.Sequential(*layers)
