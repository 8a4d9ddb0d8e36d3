"""The forward process of a diffusion and what its network predicts: shared by every model that adds Gaussian noise in steps.

q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, 1 - alpha_bar_t),   t = 0, 1/1000 ... 1;   SNR_t = alpha_bar_t / (1 - alpha_bar_t)
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from reference_models.options import given, one_of
from reference_models.pixels import censored
from reference_models.schedules import TIMES, draw_times

STEPS = 1000
LARGEST_WEIGHT = 400.0  # no time may count more than this often
MIN_SNR = 5.0  # gamma of min-SNR weighting


@dataclasses.dataclass(frozen=True)
class ProcessConfig:
    """``None`` means: chosen by ``resolved``.

    schedule: of alpha_bar, "cosine" or "linear". prediction: what the network returns: the clean sample "x0", the noise
    "epsilon", or "v" = sqrt(alpha_bar) epsilon - sqrt(1 - alpha_bar) x0.
    weighting: of the squared error over t. "simple": of the prediction itself, unweighted (as in DDPM); "velocity": as an error
    in v, whatever is predicted; "min-snr": as an error in x0 times min(SNR, 5).
    times: how training times are drawn, see ``draw_times``; DDPM itself is "uniform".
    noise_shift: how far the mean of logit-normal times lies towards noise; what is large in an image is decided there.
    """

    schedule: str = "cosine"
    prediction: str | None = None
    weighting: str | None = None
    times: str = "logit-normal"
    noise_shift: float | None = None

    def __post_init__(self) -> None:
        choices = {
            "schedule": tuple(SCHEDULES),
            "prediction": ("v", "epsilon", "x0"),
            "weighting": ("simple", "velocity", "min-snr"),
            "times": TIMES,
        }
        for name in ("schedule", "times", *given(self, "prediction", "weighting")):
            one_of(self, name, choices[name])


class ForwardProcess(nn.Module):
    """Tables of one schedule, on the model's device. ``index`` counts the steps of noise, 0 (clean) to 1000; times are index / 1000.

    pixels: are the samples images, or something as smooth? See ``resolved``.
    """

    signal: Tensor
    noise: Tensor
    weight: Tensor

    def __init__(self, config: ProcessConfig, *, pixels: bool) -> None:
        super().__init__()
        self.prediction, weighting, self.noise_shift = resolved(config, pixels)
        self.times = config.times
        self.predicts_pixels = pixels and self.prediction == "x0"
        self.alphas_cumprod = SCHEDULES[config.schedule]()  # of index 0 ... 1000, float64, on the host
        for name, table in (
            ("signal", self.alphas_cumprod.sqrt()),
            ("noise", (1 - self.alphas_cumprod).sqrt()),
            ("weight", loss_weight(self.alphas_cumprod, self.prediction, weighting)),
        ):
            self.register_buffer(name, table.float(), persistent=False)

    def draw_index(self, n: int, device: torch.device) -> Tensor:
        """``(n,)`` int64 step numbers in 1 ... 1000 to train at."""
        return (draw_times(n, self.times, device, self.noise_shift) * STEPS).long().clamp_(max=STEPS - 1) + 1

    def diffuse(self, x0: Tensor, epsilon: Tensor, index: Tensor) -> Tensor:
        """A draw of q(x_t | x_0), made from standard normal ``epsilon``. index: ``(B,)``."""
        return self._at(self.signal, index, x0) * x0 + self._at(self.noise, index, x0) * epsilon

    def loss(self, output: Tensor, x0: Tensor, epsilon: Tensor, index: Tensor) -> Tensor:
        """Weighted mean squared error of the network's ``output`` at times ``index``, a scalar; of predicted pixels as they are once
        clipped (see ``censored``), since samplers clip them."""
        target, output = self.target(x0, epsilon, index), output.float()
        if self.predicts_pixels:
            output = censored(output, target)
        error = (output - target).square().flatten(1).mean(1)
        return (self.weight[index] * error).mean()

    def target(self, x0: Tensor, epsilon: Tensor, index: Tensor) -> Tensor:
        """What a perfect network returns."""
        if self.prediction == "x0":
            return x0
        if self.prediction == "epsilon":
            return epsilon
        return self._at(self.signal, index, x0) * epsilon - self._at(self.noise, index, x0) * x0

    def alpha_bar(self, t: float) -> float:
        """alpha_bar of a time in [0, 1]."""
        return float(self.alphas_cumprod[round(t * STEPS)])

    def clean(self, output: Tensor, x: Tensor, t: float, limit: float | None = None) -> tuple[Tensor, Tensor]:
        """The network's ``output`` at x_t -> the x_0 it stands for, clipped to [-limit, limit], and the epsilon that goes with it."""
        alpha_bar = self.alpha_bar(t)
        signal, noise = math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)
        if self.prediction == "x0":
            x0 = output
        elif self.prediction == "epsilon":
            x0 = (x - noise * output) / signal
        else:
            x0 = signal * x - noise * output
        if limit is not None:
            x0 = x0.clamp(-limit, limit)
        return x0, (x - signal * x0) / noise

    @staticmethod
    def _at(table: Tensor, index: Tensor, x: Tensor) -> Tensor:
        return table[index].view(-1, *[1] * (x.ndim - 1))


def resolved(config: ProcessConfig, pixels: bool) -> tuple[str, str, float]:
    """(prediction, weighting, noise_shift), chosen where ``config`` leaves them open.

    A network that folds pixels into channels can hardly return noise, which has no structure to fold, and what it misses of it stays
    in the samples as grain. So for images it returns x0, weighted as an error in v, as in "Back to Basics: Let Denoising Generative
    Models Denoise" (2025, arXiv 2511.13720), and sees more noise, since the shape of an image is decided there; else v.
    """
    prediction = config.prediction or ("x0" if pixels else "v")
    weighting = config.weighting or ("velocity" if prediction == "x0" else "simple")
    shift = config.noise_shift if config.noise_shift is not None else 0.5 if pixels else 0.0
    return prediction, weighting, shift


def loss_weight(alphas_cumprod: Tensor, prediction: str, weighting: str) -> Tensor:
    """What the squared error of a prediction is multiplied by, ``(1001,)``, at most 400.

    An error in x0 counts SNR times as much when seen as one in epsilon, and SNR + 1 times as one in v. min-SNR: "Efficient
    Diffusion Training via Min-SNR Weighting Strategy", 2023, arXiv 2303.09556.
    """
    snr = alphas_cumprod / (1 - alphas_cumprod).clamp_min(1e-20)
    as_predicted = {"x0": torch.ones_like(snr), "epsilon": snr, "v": snr + 1}[prediction]
    wanted = {"simple": as_predicted, "velocity": snr + 1, "min-snr": snr.clamp(max=MIN_SNR)}[weighting]
    return (wanted / as_predicted).clamp(max=LARGEST_WEIGHT)


def linear_schedule() -> Tensor:
    """beta rises linearly from 1e-4 to 0.02 (DDPM) -> alpha_bar at 0 ... 1000 steps, ``(1001,)`` float64, 1 at first."""
    betas = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])


def cosine_schedule() -> Tensor:
    """alpha_bar = cos^2 with offset 0.008, each beta at most 0.999 (Improved DDPM) -> as ``linear_schedule``."""
    t = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    cosine = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    betas = (1 - cosine[1:] / cosine[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])


SCHEDULES = {"cosine": cosine_schedule, "linear": linear_schedule}
