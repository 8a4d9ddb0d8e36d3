"""A mixture of discretised logistics for the pixels of an image: an exact probability of every 8-bit level.

"PixelCNN++", 2017, arXiv 1701.05517, 2.1 and 2.2. A component is chosen for the whole pixel; within it the mean of each channel
shifts linearly with the channels before it, so that one evaluation of a network gives a joint distribution of red, green and blue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.model import SampleGenerator
from reference_models.likelihood import discretised

FASTER = 5.0  # log scales and weights travel far from where they begin, so they learn so much faster than a plain layer would
SMALLEST_LOG_SCALE = -7.0  # a logistic of this scale puts all but 1e-3 of its mass on one level


def outputs(channels: int, components: int) -> int:
    """Numbers that a network gives for each pixel: weights, and means, scales and slopes of each channel and component."""
    return components * (1 + 2 * channels + channels * (channels - 1) // 2)


def log_probability(x: Tensor, raw: Tensor) -> Tensor:
    """log P of the pixels in nats. x: ``(..., C)`` levels ``k / 127.5 - 1``; raw: ``(..., outputs)`` -> ``(...)`` float32."""
    raw = raw.float()
    weights, means, log_scales, slopes = _parts(raw, x.shape[-1])
    each = F.log_softmax(weights, -1)
    for channel, mean in enumerate(means):
        mean = _shifted(mean, slopes, channel, x)
        each = each + discretised(x[..., channel, None], mean, log_scales[channel], "logistic")
    return each.logsumexp(-1)


def draw(raw: Tensor, channels: int, generator: SampleGenerator, temperature: float = 1.0) -> Tensor:
    """One pixel of each of ``n`` images. raw: ``(n, outputs)`` -> ``(n, C)``, levels ``k / 127.5 - 1``.

    temperature: divides the weights' logits and multiplies the scales.
    """
    raw = raw.float()
    weights, means, log_scales, slopes = _parts(raw, channels)
    component = generator.categorical(weights / max(temperature, 1e-6))[:, None]
    noise = torch.logit(generator.rand(channels), eps=1e-6) * temperature

    def of(table: Tensor) -> Tensor:
        return table.gather(1, component)

    x = raw.new_zeros(len(raw), channels)
    for channel, mean in enumerate(means):
        centre = of(_shifted(mean, slopes, channel, x))[:, 0]
        value = centre + of(log_scales[channel])[:, 0].exp() * noise[:, channel]
        x[:, channel] = ((value.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    return x


def _parts(raw: Tensor, channels: int) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """Weights; for each channel means and log scales; for each pair of channels slopes: each ``(..., components)``."""
    blocks = raw.chunk(1 + 2 * channels + channels * (channels - 1) // 2, -1)
    components = blocks[0].shape[-1]
    spread = torch.linspace(-1, 1, components, device=raw.device)  # a network that says nothing covers all levels
    means = [block + spread for block in blocks[1 : 1 + channels]]
    log_scales = [
        (FASTER * block - 1.5).clamp_min(SMALLEST_LOG_SCALE) for block in blocks[1 + channels : 1 + 2 * channels]
    ]
    slopes = [block.tanh() for block in blocks[1 + 2 * channels :]]
    return FASTER * blocks[0], means, log_scales, slopes


def _shifted(mean: Tensor, slopes: list[Tensor], channel: int, x: Tensor) -> Tensor:
    """The mean of a channel, given the channels before it."""
    first = channel * (channel - 1) // 2
    for before in range(channel):
        mean = mean + slopes[first + before] * x[..., before, None]
    return mean
