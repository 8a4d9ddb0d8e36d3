"""Latent space: how evenly images change along paths (perceptual path length, smoothness), and whether paths are straight."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.inputs import real_number, seed_number, whole_number
from bench.metrics.intervals import SMALLEST_N, mean_of
from bench.metrics.model_input import to_model
from bench.metrics.order import sampled
from bench.record import Measurement
from bench.space import ImageSpace

Generate = Callable[[Tensor], Tensor]
"""Latents ``(B, d)`` -> samples ``(B, ...)`` float, not rounded: rounding to 8 bits would swallow small steps."""

DRAWN = 64  # paths drawn at a time
STYLE_STEP = 1e-3  # of paths in W: large enough for float32 images, small against the paths

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two float batches ``(B, ...)`` -> ``(B,)``; a *squared* distance, as LPIPS is."""


def squared_l2(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of each pair, ``(B,)`` float64: the distance to fall back on where no perceptual one is at hand."""
    return (first.double() - second.double()).square().flatten(1).mean(1)


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Straight line from a to b, each ``(B, d)``; t ``(B, 1)``."""
    return a + (b - a) * t


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Great circle on the unit sphere from a/|a| to b/|b|; each ``(B, d)``, t ``(B, 1)``. Opposite points have no one circle."""
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    cosine = (a * b).sum(-1, keepdim=True).clamp(-1, 1)
    aside = b - cosine * a
    length = aside.norm(dim=-1, keepdim=True)
    aside = torch.where(length > 1e-12, aside / length.clamp_min(1e-300), torch.zeros_like(aside))
    angle = torch.atan2(length, cosine) * t
    return a * angle.cos() + aside * angle.sin()


def perceptual_path_length(
    generate: Generate,
    latents: Callable[[int, torch.Generator], Tensor],
    distance: Distance = squared_l2,
    *,
    n: int = 10_000,
    epsilon: float = 1e-4,
    interpolation: Literal["lerp", "slerp"] = "slerp",
    sampling: Literal["full", "end"] = "full",
    mapping: Generate | None = None,
    discard: float = 0.01,
    crop: bool = False,
    batch_size: int = 64,
    seed: int = 0,
) -> Measurement:
    """Perceptual path length: mean of ``distance(G(path(t)), G(path(t + epsilon))) / epsilon^2`` over n random paths. Lower is smoother.

    latents: ``(count, generator) -> (count, d)`` independent draws of z, by a generator of the CPU; asked for the ends of 64 paths at a time, whatever
    ``batch_size``, which only says how many paths ``generate`` and ``distance`` see at once. mapping: z -> w; with it paths are straight lines in W
    and the name says ``w`` (interpolation is not used), else they run in Z by ``interpolation``.
    sampling: t uniform in [0, 1] (``full``) or t = 0 (``end``). discard: share dropped at *each* end, as in StyleGAN (0.01).
    crop: keep StyleGAN's face crop, rows 3/8 to 7/8 and columns 2/8 to 6/8 of ``(B, C, H, W)``.

    Interval: of a trimmed mean with winsorised variance (Yuen 1974). For G(z) = A z, lerp and the squared L2 *sum* the value is
    2 |A|_F^2, whatever epsilon. "A Style-Based Generator Architecture for GANs", Karras, Laine, Aila 2019 (arXiv 1812.04948).

    Raises BenchError for an unknown option, and for fewer than 2 paths.
    """
    whole_number(n, "n")
    if not 0 <= real_number(discard, "discard") < 0.5 or real_number(epsilon, "epsilon") <= 0 or n < 2:
        raise BenchError(f"path length needs 0 <= discard < 0.5, epsilon > 0 and n >= 2, not {discard}, {epsilon}, {n}")
    for name, given, known in (
        ("interpolation", interpolation, ("lerp", "slerp")),
        ("sampling", sampling, ("full", "end")),
    ):
        if given not in known:
            raise BenchError(f"path length: {name} must be one of {', '.join(known)}, not '{given}'")
    whole_number(batch_size, "batch_size", 1)
    seed_number(seed)
    starts, ends, at = _drawn_paths(latents, n, sampling, seed)
    path = lerp if mapping is not None or interpolation == "lerp" else slerp
    values = []
    for start in range(0, n, batch_size):
        a, b, t = (each[start : start + batch_size] for each in (starts, ends, at))
        with torch.inference_mode():
            if mapping is not None:
                a, b = mapping(torch.cat([a, b])).chunk(2)
            dtype, t = a.dtype, t.to(a.device)
            a, b = a.double(), b.double()
            images = generate(torch.cat([path(a, b, t), path(a, b, t + epsilon)]).to(dtype))
            images = _face(images) if crop else images
            values.append(distance(*images.chunk(2)).double().cpu() / epsilon**2)
    name = f"ppl_{'z' if mapping is None else 'w'}_{sampling}"
    return trimmed_mean(torch.cat(values).numpy(), discard, name=name)


def _drawn_paths(
    latents: Callable[[int, torch.Generator], Tensor], n: int, sampling: str, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Starts and ends ``(n, d)`` and places ``(n, 1)`` float64 of n paths."""
    draw = torch.Generator("cpu").manual_seed(seed)
    starts, ends, at = [], [], []
    for first in range(0, n, DRAWN):
        count = min(DRAWN, n - first)
        drawn = latents(2 * count, draw)
        starts.append(drawn[:count])
        ends.append(drawn[count:])
        at.append(
            torch.rand(count, 1, generator=draw, dtype=torch.float64, device="cpu")
            if sampling == "full"
            else torch.zeros(count, 1, dtype=torch.float64, device="cpu")
        )
    return torch.cat(starts), torch.cat(ends), torch.cat(at)


def trimmed_mean(values: np.ndarray, discard: float, *, name: str) -> Measurement:
    """Mean without the share ``discard`` of values ``(n,)`` at each end; interval by winsorised variance.
    None for n < 30, and where so few are there that nothing is left out."""
    if discard == 0:
        return mean_of(values, name=name)
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n, cut = len(ordered), int(discard * len(ordered))
    kept = ordered[cut : n - cut]
    plain = Measurement(kept.mean(), name=name, n=n, direction="lower")
    if discard > 0 and cut == 0:
        return plain.replace(note=f"no interval: of {n} paths a share of {discard:g} at each end is none")
    if n < SMALLEST_N or not np.isfinite(kept).all():
        return plain.replace(note=f"no interval: fewer than {SMALLEST_N} paths, or one of infinite length")
    winsorised = np.clip(ordered, kept[0], kept[-1])
    error = winsorised.std(ddof=1) * np.sqrt((n - 1) / (len(kept) * (len(kept) - 1)))
    half = float(stats.t.ppf(0.975, len(kept) - 1)) * error
    return plain.replace(low=plain - half, high=plain + half, interval="t, winsorised")


def interpolation_smoothness(
    generate: Generate, starts: Tensor, ends: Tensor, distance: Distance = squared_l2, steps: int = 16
) -> Measurement:
    """Mean over straight latent paths of (mean step / largest step), in (0, 1]; 1 changes evenly, near 0 it jumps.

    starts, ends: ``(n, d)``; each path is cut into ``steps`` equal steps, whose lengths are the roots of ``distance``. A path on
    which nothing changes counts as even. The interval is over paths.

    Higher is smoother. Raises BenchError for starts and ends that are not ``(n, d)`` of one shape, and for no steps.
    """
    lengths = []
    for frames in _along_paths(generate, starts, ends, steps):
        between = [distance(x, y).double().clamp_min(0).sqrt().cpu() for x, y in pairwise(frames)]
        lengths.append(torch.stack(between, 1))
    steps_of = torch.cat(lengths)
    largest = steps_of.amax(1)
    evenness = torch.where(largest > 0, steps_of.mean(1) / largest.clamp_min(1e-300), torch.ones_like(largest))
    return mean_of(evenness.numpy(), name="interpolation_smoothness", direction="higher")


def path_linearity(encode: Generate, decode: Generate, starts: Tensor, ends: Tensor, steps: int = 8) -> Measurement:
    """Do decoded points of a straight latent path encode back to that path? 1 is exactly, 0 no better than its middle.

    starts, ends: latents ``(n, d)``. For each path ``1 - sum |encode(decode(z_t)) - z_t|^2 / sum |z_t - middle|^2`` over its points,
    the share of the path's variance that survives the round trip; the median path would hide none of the bad ones, so it is
    the mean, each path's value cut at -1. Paths of length 0 are left out.

    Raises BenchError for starts and ends that are not ``(n, d)`` of one shape, and for no steps.
    """
    values = []
    for z in _paths(starts, ends, steps):
        with torch.inference_mode():
            flat = z.reshape(-1, z.shape[-1])
            back = encode(decode(flat)).reshape(z.shape)
        error = (back.double() - z.double()).square().sum((1, 2))
        spread = (z.double() - z.double().mean(1, keepdim=True)).square().sum((1, 2))
        values.append((1 - error / spread)[spread > 0].clamp_min(-1).cpu())
    return mean_of(torch.cat(values).numpy(), name="path_linearity", direction="higher")


def _paths(starts: Tensor, ends: Tensor, steps: int, batch_size: int = 32) -> list[Tensor]:
    """Points of straight paths, ``(B, steps + 1, d)`` each."""
    whole_number(steps, "steps", 1)
    for each in (starts, ends):
        if not isinstance(each, Tensor) or not each.is_floating_point():
            kind = each.dtype if isinstance(each, Tensor) else type(each).__name__
            raise BenchError(f"paths need starts and ends that are tensors of floating-point numbers, not {kind}")
    if starts.shape != ends.shape or starts.ndim != 2 or len(starts) == 0:
        raise BenchError(
            f"paths need starts and ends (n, d) of one shape, not {tuple(starts.shape)}, {tuple(ends.shape)}"
        )
    t = torch.linspace(0, 1, steps + 1, device=starts.device, dtype=starts.dtype)[None, :, None]
    batches = zip(starts.split(batch_size), ends.split(batch_size))
    return [a[:, None] + (b - a)[:, None] * t for a, b in batches]


def _along_paths(generate: Generate, starts: Tensor, ends: Tensor, steps: int) -> list[list[Tensor]]:
    """The samples along each batch of paths: ``steps + 1`` frames ``(B, ...)``."""
    found = []
    for z in _paths(starts, ends, steps):
        with torch.inference_mode():
            samples = generate(z.transpose(0, 1).reshape(-1, z.shape[-1]))
        found.append(list(samples.reshape(steps + 1, len(z), *samples.shape[1:])))
    return found


def _face(images: Tensor) -> Tensor:
    if images.ndim != 4:
        raise BenchError(f"the face crop needs images (B, C, H, W), not {tuple(images.shape)}")
    height, width = images.shape[2] // 8, images.shape[3] // 8
    return images[:, :, 3 * height : 7 * height, 2 * width : 6 * width]


class LatentPaths(Metric):
    """Paths between the latents of test examples: path length in pixels, interpolation smoothness, linearity of the round trip."""

    paper = "A Style-Based Generator Architecture for Generative Adversarial Networks, Karras et al. 2019 (arXiv 1812.04948)"
    needs = frozenset({"latent"})

    def __init__(self, paths: int = 200) -> None:
        """paths: number of pairs of test examples whose latents are joined."""
        self.paths = paths

    def measure(self, evidence: Evidence) -> list[Measurement]:
        model, data = evidence.model, evidence.data
        count = min(self.paths, len(data.test) // 2)
        chosen = sampled(data.test, 2 * count, evidence.seed)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(evidence.seed)
            z = model.encode(to_model(chosen, data.space, evidence.device))
            if z.ndim != 2:
                raise BenchError(f"{type(model).__name__}.encode must give latents (B, d), not {tuple(z.shape)}")
            starts, ends = z[:count].clone(), z[count:].clone()
            found = [
                interpolation_smoothness(model.decode, starts, ends),
                path_linearity(model.encode, model.decode, starts, ends),
            ]
            if isinstance(data.space, ImageSpace):
                found.append(self._path_length(model, starts, ends, evidence.seed))
        return found

    def _path_length(self, model: object, starts: Tensor, ends: Tensor, seed: int) -> Measurement:
        queue = iter(zip(starts.split(DRAWN), ends.split(DRAWN)))

        def in_turn(count: int, generator: torch.Generator) -> Tensor:
            return torch.cat(next(queue))

        decode: Generate = model.decode  # type: ignore[attr-defined]
        measured = perceptual_path_length(decode, in_turn, n=len(starts), interpolation="lerp", seed=seed)
        return measured.replace(name=f"{measured.name}_l2", note="pixel L2, between latents of test examples")


class StylePaths(Metric):
    """Path length in the style space W of a generator that has one, in pixels: how evenly images change along straight lines."""

    paper = "A Style-Based Generator Architecture for Generative Adversarial Networks, Karras et al. 2019 (arXiv 1812.04948)"
    needs = frozenset({"style"})

    def __init__(self, paths: int = 500) -> None:
        """paths: number of random pairs of styles that are joined."""
        self.paths = paths

    def measure(self, evidence: Evidence) -> list[Measurement]:
        model, device = evidence.model, torch.device(evidence.device)

        def noise(count: int, generator: torch.Generator) -> Tensor:
            return torch.randn(count, model.latent, generator=generator, device="cpu").to(device)

        measured = perceptual_path_length(
            model.synthesise, noise, n=self.paths, epsilon=STYLE_STEP, mapping=model.style, seed=evidence.seed
        )
        return [measured.replace(name=f"{measured.name}_l2", note="pixel L2, noise inputs at their mean")]
