"""Variational autoencoder: an encoder proposes codes, a decoder restores, and the codes are kept close to N(0, I).

loss = -log p(x | z) + beta KL(q(z | x) || N(0, I)),   z ~ q(z | x) = N(mean(x), diag variance(x))
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.gaussian_mixture import GaussianMixture
from reference_models.likelihood import continuous, discretised, gaussian_kl
from reference_models.networks.build import decoder, encoder
from reference_models.options import at_least_one, between, positive
from reference_models.schedules import set_learning_rate

NLL_DRAWS = 16


class VAE(GenerativeModel):
    """Variational autoencoder (beta-VAE) with a learned noise scale: logistic or Gaussian, in bins of 8-bit levels."""

    family = "vae"
    paper = (
        "Auto-Encoding Variational Bayes, 2013, arXiv 1312.6114; beta-VAE, ICLR 2017; learned scale: Simple and Effective VAE "
        "Training with Calibrated Decoders, 2020, arXiv 2006.13202"
    )
    known_failures = (
        "Samples are the decoder's means: blurred, and blends of classes where the prior covers regions between encodings; codes drawn "
        "from a mixture that is fitted on the encodings (components = 10, the variant vae-mixture) are far nearer to the data. In "
        "seconds of training samples are blobs. On separate modes in two dimensions (ring8, grid25) its bound stays 4 to 5 nats above "
        "the entropy: the likelihood has one scale, and codes say where a point lies, not of which mode it is."
    )
    spaces = (ImageSpace, VectorSpace)
    nll_kind: ClassVar[Literal["exact", "upper_bound", "estimate"]] = "upper_bound"

    @dataclasses.dataclass(frozen=True)
    class Config:
        """latent: size of the code. width: channels after the first halving. beta: weight of the KL term in training.
        warm_up: share of the budget over which beta rises from 0. likelihood: "logistic" or "gaussian".
        components: 0 samples codes from N(0, I); more, from a mixture of so many Gaussians that is fitted on the codes of the training
        data after training ("From Variational to Deterministic Autoencoders", 2019, arXiv 1903.12436), and the bound is the mixture's."""

        latent: int = 16
        width: int = 32
        beta: float = 1.0
        warm_up: float = 0.1
        likelihood: str = "logistic"
        components: int = 0
        learning_rate: float = 4e-3

        def __post_init__(self) -> None:
            at_least_one(self, "latent", "width")
            for name in ("beta", "components"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
            positive(self, "learning_rate")
            between(self, 0, 1, "warm_up")
            if self.likelihood not in ("logistic", "gaussian"):
                raise ValueError(f"likelihood must be 'logistic' or 'gaussian', got '{self.likelihood}'")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        latent, width = self.config.latent, self.config.width
        self.encoder = encoder(space, 2 * latent, width)
        self.decoder = decoder(space, latent, width, batch_norm=True)  # without it digits take twice as long to appear
        self.prior = GaussianMixture(self.config.components, latent) if self.config.components else None
        self.samples_need_prior = self.prior is not None
        self.log_scale = nn.Parameter(torch.tensor(math.log(0.3)))  # of the noise, one for all pixels
        self.to(memory_format=torch.channels_last)  # what convolutions are fastest in
        networks = [*self.encoder.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(networks, fused=True)
        # the first gradients are huge: a long memory of them would freeze the scale
        self.scale_optimizer = torch.optim.Adam([self.log_scale], betas=(0.9, 0.9), fused=True)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        set_learning_rate(self.scale_optimizer, 10 * self.config.learning_rate, progress)
        mean, log_variance = self.posterior(batch.x)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        reconstruction = -self.log_likelihood(batch.x, z).mean()
        kl = gaussian_kl(mean, log_variance).mean()
        beta = self.config.beta * (min(1.0, progress / self.config.warm_up) if self.config.warm_up > 0 else 1.0)
        loss = (reconstruction + beta * kl) / self.space.dimensions
        self.descend(loss, self.optimizer, self.scale_optimizer)
        return {"reconstruction": reconstruction.detach(), "kl": kl.detach()}

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and log variance of q(z | x), each ``(B, latent)``."""
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) in nats, ``(B,)``: of 8-bit levels for images, a density for vectors."""
        log_p = discretised if isinstance(self.space, ImageSpace) else continuous
        return log_p(x, self.decoder(z).float(), self.log_scale, self.config.likelihood).flatten(1).sum(1)

    @torch.no_grad()
    def nll(self, x: Tensor) -> Tensor:
        """The negative ELBO (beta = 1) in nats, ``(B,)``: in expectation an upper bound of -log p(x), of the prior that samples
        are drawn from.

        The expectation over q(z | x) is a mean over 16 points of a scrambled Sobol sequence with a fixed seed, so the same x
        always gets the same number.
        """
        mean, log_variance = self.posterior(x)
        uniform = torch.quasirandom.SobolEngine(self.config.latent, scramble=True, seed=0).draw(NLL_DRAWS)
        normal = torch.special.ndtri(uniform.double().clamp(1e-6, 1 - 1e-6))
        normal = (
            ((normal - normal.mean(0)) / normal.std(0, correction=0)).float().to(x.device)
        )  # exact first two moments
        codes = [mean + (0.5 * log_variance).exp() * point for point in normal]
        log_likelihood = torch.stack([self.log_likelihood(x, z) for z in codes]).mean(0)
        if self.prior is None:
            return gaussian_kl(mean, log_variance) - log_likelihood
        entropy = 0.5 * (log_variance + math.log(2 * math.pi * math.e)).sum(1)
        return -entropy - torch.stack([self.prior.log_density(z).float() for z in codes]).mean(0) - log_likelihood

    @torch.no_grad()
    def fit_prior(self, loader: Iterable[Batch]) -> None:
        """Fit the mixture, where there is one, on a draw of q(z | x) for every training example; the same codes for the same weights."""
        if self.prior is None:
            return
        generator, codes = torch.Generator().manual_seed(0), []
        for batch in loader:
            mean, log_variance = self.posterior(batch.x)
            noise = torch.randn(mean.shape, generator=generator).to(mean.device)
            codes.append(mean + (0.5 * log_variance).exp() * noise)
        self.prior.fit(torch.cat(codes))

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """Decoded means of codes from the prior, without pixel noise for images; vectors get the noise of the likelihood."""
        z = generator.randn(self.config.latent) if self.prior is None else self.prior.sample(generator)
        if isinstance(self.space, ImageSpace):
            return self.decode(z)
        if self.config.likelihood == "gaussian":
            noise = generator.randn(*self.space.shape)
        else:
            noise = torch.logit(generator.rand(*self.space.shape), eps=1e-6)
        return self.decode(z) + self.log_scale.exp() * noise

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        x = self.decoder(z).float()
        return x.clamp(-1, 1) if isinstance(self.space, ImageSpace) else x

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def interpolate(self, first: Tensor, last: Tensor, steps: int) -> Tensor:
        """Decoded points of the straight lines between the codes of two batches ``(B, *shape)``, both ends among them:
        ``(steps, B, *shape)``. Raises ValueError for fewer than 2 steps."""
        if steps < 2:
            raise ValueError(f"an interpolation needs at least 2 steps, got {steps}")
        a, b = self.encode(first), self.encode(last)
        return torch.stack([self.decode(torch.lerp(a, b, share / (steps - 1))) for share in range(steps)])
