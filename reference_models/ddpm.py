"""Denoising diffusion: learn to undo Gaussian noise of every strength, then undo it step by step.

The forward process q, the meaning of x0, epsilon and v prediction and the weights of the loss are in ``forward_process``;
the samplers, as functions of a denoiser, in ``samplers``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from bench.model import Batch, GenerativeModel, ImageSpace, SampleGenerator, Space, VectorSpace
from reference_models.forward_process import STEPS, ForwardProcess, ProcessConfig
from reference_models.networks.build import DenoiserConfig, denoiser
from reference_models.options import between, one_of, positive
from reference_models.samplers import DIFFUSION_SAMPLERS, Denoised, network_evaluations, sample_diffusion
from reference_models.schedules import set_learning_rate

VARIANCES = {"posterior": 0.0, "beta": 1.0}  # fixed: the share of log beta in the logarithm, see ``sample_ddpm``
VLB_WEIGHT = 0.001  # of the variational bound beside the loss of the mean (Improved DDPM, 2021, arXiv 2102.09672)


class DDPM(GenerativeModel):
    """Denoising diffusion: x0, epsilon or v prediction, min-SNR, learned variance; DDPM, DDIM, Heun or DPM-Solver++ sampling."""

    family = "diffusion"
    paper = (
        "Denoising Diffusion Probabilistic Models, 2020, arXiv 2006.11239; DDIM, 2020, arXiv 2010.02502; cosine schedule and "
        "learned variance: 2021, arXiv 2102.09672; v prediction: Progressive Distillation, 2022, arXiv 2202.00512; "
        "DPM-Solver++, 2022, arXiv 2211.01095; min-SNR weighting, 2023, arXiv 2303.09556"
    )
    known_failures = (
        "Epsilon prediction with the cosine schedule leaves some samples as pixel noise after short training: near t = 1 the "
        "clean image is a small difference of large numbers. Ancestral sampling needs hundreds of steps."
    )
    spaces = (ImageSpace, VectorSpace)

    @dataclasses.dataclass(frozen=True)
    class Config(ProcessConfig, DenoiserConfig):
        """schedule, prediction, weighting, times: see ``ProcessConfig``. width ... patch: see ``DenoiserConfig``.

        sampler: "ddim", "ddpm" (ancestral), "heun" or "dpm-solver++" (2M). steps: of sampling, at most 1000.
        eta: noise of DDIM steps, 0 (none) to 1 (as much as DDPM).
        variance: of ancestral steps, "posterior" (the smaller bound), "beta" (the larger) or "learned" between the two.
        """

        learning_rate: float = 5e-3
        variance: str = "posterior"
        sampler: str = "ddim"
        steps: int = 25
        eta: float = 0.0

        def __post_init__(self) -> None:
            ProcessConfig.__post_init__(self)
            DenoiserConfig.__post_init__(self)
            positive(self, "learning_rate")
            one_of(self, "sampler", DIFFUSION_SAMPLERS)
            one_of(self, "variance", (*VARIANCES, "learned"))
            between(self, 1, STEPS, "steps")
            between(self, 0, 1, "eta")

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__(space, **config)
        self.process = ForwardProcess(self.config, pixels=isinstance(space, ImageSpace))
        self.learned_variance = self.config.variance == "learned"
        self.network = denoiser(space, self.config, outputs=2 if self.learned_variance else 1)
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)
        self.limit = 1.0 if isinstance(space, ImageSpace) else None  # images are clipped to their range

    @property
    def nfe(self) -> int:
        return network_evaluations(self.config.sampler, self.config.steps, self.process.alpha_bar)

    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        set_learning_rate(self.optimizer, self.config.learning_rate, progress)
        x0 = batch.x
        index = self.process.draw_index(len(batch), x0.device)
        epsilon = torch.randn_like(x0)
        x = self.process.diffuse(x0, epsilon, index)
        output, mix = self.evaluate(x, index / STEPS)
        loss = simple = self.process.loss(output, x0, epsilon, index)
        losses: dict[str, float | Tensor] = {"loss": simple.detach()}
        if mix is not None:
            bound = self.variance_bound(output.detach(), mix, x0, x, index)
            loss = simple + VLB_WEIGHT * bound
            losses["vlb"] = bound.detach()
        self.descend(loss, self.optimizer)
        return losses

    def evaluate(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """x_t and times ``(B,)`` -> the prediction, and where the variance is learned its mix in [0, 1]; both of x's shape."""
        output = self.network(x, t)
        if not self.learned_variance:
            return output, None
        output, mix = output.float().chunk(2, dim=1)
        return output, torch.sigmoid(mix)

    def variance_bound(self, output: Tensor, mix: Tensor, x0: Tensor, x: Tensor, index: Tensor) -> Tensor:
        """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) of all steps, in nats per dimension: only the variance learns from it.

        The first step (to the data) has no posterior variance; it is taken as one of the second step's size.
        """
        table = self.process.alphas_cumprod.to(device=x.device, dtype=torch.float32)
        a, b = (table[i].view(-1, *[1] * (x.ndim - 1)) for i in (index, (index - 1).clamp_min(1)))
        a = torch.where(a == b, table[2], a)
        log_beta, log_posterior = torch.log(1 - a / b), torch.log((1 - a / b) * (1 - b) / (1 - a))
        log_variance = mix * log_beta + (1 - mix) * log_posterior
        guess = self.guess(output, x, index)
        gap = b.sqrt() * (1 - a / b) / (1 - a) * (guess - x0)  # between the two means
        ratio = (log_posterior.exp() + gap.square()) / log_variance.exp()
        return STEPS * 0.5 * (log_variance - log_posterior + ratio - 1).mean()

    def guess(self, output: Tensor, x: Tensor, index: Tensor) -> Tensor:
        """x_0 that the ``output`` stands for, at one time for each example."""
        shape = (-1, *[1] * (x.ndim - 1))
        signal, noise = self.process.signal[index].view(shape), self.process.noise[index].view(shape)
        if self.process.prediction == "x0":
            x0 = output
        elif self.process.prediction == "epsilon":
            x0 = (x - noise * output) / signal
        else:
            x0 = signal * x - noise * output
        return x0 if self.limit is None else x0.clamp(-self.limit, self.limit)

    def denoise(self, x: Tensor, t: float) -> Denoised:
        """x_t ``(B, *shape)`` and t in (0, 1] -> the expected x_0 (images: clipped to their range) and the epsilon of it."""
        output, mix = self.evaluate(x, torch.full((len(x),), t, device=x.device))
        x0, epsilon = self.process.clean(output.float(), x, t, self.limit)
        return Denoised(x0, epsilon, VARIANCES[self.config.variance] if mix is None else mix)

    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        return sample_diffusion(
            self.denoise,
            generator.randn(*self.space.shape),
            self.process.alpha_bar,
            lambda x: generator.randn(*x.shape[1:]),
            sampler=options.get("sampler", self.config.sampler),
            steps=options.get("steps", self.config.steps),
            eta=options.get("eta", self.config.eta),
        )
