"""Latent space: how evenly images change along paths (perceptual path length, smoothness), and whether paths are straight."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

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
from bench.metrics.perceptual import UNCALIBRATED, distance_named, known_net
from bench.record import Measurement
from bench.space import ImageSpace

if TYPE_CHECKING:
    from bench.features.pdist import PerceptualDistance

Generate = Callable[[Tensor], Tensor]
"""Latents ``(B, d)`` -> samples ``(B, ...)`` float, not rounded: rounding to 8 bits would swallow small steps."""

DRAWN = 64  # paths drawn at a time
PIXELS = "l2"
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
    """Along the arc between a and b, each ``(B, d)``, t ``(B, 1)``: ``(sin((1 - t) w) a + sin(t w) b) / sin w`` with w their angle.

    Vectors of one length keep it, so that draws of N(0, I) in many dimensions stay as long as such draws are; where lengths differ, it
    goes from one to the other. Straight where there is no one arc: opposite vectors, and one of length 0.
    """
    sine, angle = _angle(a, b)
    arc = (sine > 1e3 * torch.finfo(sine.dtype).eps) & (a != 0).any(-1, keepdim=True)
    sine = torch.where(arc, sine, torch.ones_like(sine))
    return torch.where(arc, ((1 - t) * angle).sin() / sine * a + (t * angle).sin() / sine * b, lerp(a, b, t))


def slerp_unit(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Great circle on the *unit sphere* from a/|a| to b/|b|; each ``(B, d)``, t ``(B, 1)``. StyleGAN's, whose mapping network scales z
    to one length itself: to a generator that expects N(0, I) such points are far too short."""
    a, b = _unit(a), _unit(b)
    return _unit(slerp(a, b, t))


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


def _angle(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and size ``(B, 1)`` of the angle between two vectors; small ones are exact, too."""
    a, b = _unit(a), _unit(b)
    cosine = (a * b).sum(-1, keepdim=True)
    sine = (b - cosine * a).norm(dim=-1, keepdim=True)
    return sine, torch.atan2(sine, cosine)


Interpolation = Literal["lerp", "slerp", "slerp_unit"]
PATHS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"lerp": lerp, "slerp": slerp, "slerp_unit": slerp_unit}
EPSILON, DISCARD = 1e-4, 0.01


def perceptual_path_length(
    generate: Generate,
    latents: Callable[[int, torch.Generator], Tensor],
    distance: Distance = squared_l2,
    *,
    n: int = 10_000,
    epsilon: float = EPSILON,
    interpolation: Interpolation = "lerp",
    sampling: Literal["full", "end"] = "full",
    mapping: Generate | None = None,
    discard: float = DISCARD,
    crop: bool = False,
    batch_size: int = 64,
    seed: int = 0,
) -> Measurement:
    """Perceptual path length: mean of ``distance(G(path(t)), G(path(t + epsilon))) / epsilon^2`` over n random paths. Lower is smoother.

    latents: ``(count, generator) -> (count, d)`` independent draws of z, by a generator of the CPU; asked for the ends of 64 paths at a time, whatever
    ``batch_size``, which only says how many paths ``generate`` and ``distance`` see at once. mapping: z -> w; with it paths are straight lines in W
    (interpolation is not used), else they run in Z by ``interpolation``: ``lerp`` (the default, as in torch-fidelity and torchmetrics), ``slerp``,
    which keeps norms, or ``slerp_unit``, StyleGAN's on the unit sphere, for generators that scale z themselves.
    sampling: t uniform in [0, 1] (``full``) or t = 0 (``end``). discard: share dropped at *each* end, as in StyleGAN (0.01).
    crop: keep StyleGAN's face crop, rows 3/8 to 7/8 and columns 2/8 to 6/8 of ``(B, C, H, W)``.

    Named by its settings, ``ppl_z_full_l2``: the space, the sampling, all that differs from the defaults (``_slerp``, ``_eps0.01``,
    ``_discard0``, ``_crop``), and the distance by its attribute ``name``.
    Interval: of a trimmed mean with winsorised variance (Yuen 1974). For G(z) = A z, lerp and the squared L2 *sum* the value is
    2 |A|_F^2, whatever epsilon. "A Style-Based Generator Architecture for GANs", Karras, Laine, Aila 2019 (arXiv 1812.04948).

    Raises BenchError for an unknown option, and for fewer than 2 paths.
    """
    check_path_options(epsilon, interpolation, sampling, discard)
    whole_number(n, "n", 2)
    whole_number(batch_size, "batch_size", 1)
    seed_number(seed)
    starts, ends, at = _drawn_paths(latents, n, sampling, seed)
    path = lerp if mapping is not None else PATHS[interpolation]
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
    settings = [
        interpolation if mapping is None and interpolation != "lerp" else "",
        f"eps{epsilon:g}" if epsilon != EPSILON else "",
        f"discard{discard:g}" if discard != DISCARD else "",
        "crop" if crop else "",
        "l2" if distance is squared_l2 else getattr(distance, "name", "distance"),
    ]
    name = "_".join(filter(None, ["ppl", "z" if mapping is None else "w", sampling, *settings]))
    return trimmed_mean(torch.cat(values).numpy(), discard, name=name)


def check_path_options(epsilon: float, interpolation: str, sampling: str, discard: float) -> None:
    """Raises BenchError for what ``perceptual_path_length`` does not know."""
    if not (0 <= real_number(discard, "discard") < 0.5 and 0 < real_number(epsilon, "epsilon") < math.inf):
        raise BenchError(f"path length needs 0 <= discard < 0.5 and a finite epsilon > 0, not {discard} and {epsilon}")
    for name, given, known in (
        ("interpolation", interpolation, tuple(PATHS)),
        ("sampling", sampling, ("full", "end")),
    ):
        if given not in known:
            raise BenchError(f"path length: {name} must be one of {', '.join(known)}, not '{given}'")


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


class PixelsOf:
    """A perceptual distance of uint8 images as one of what models give, float ``(B, C, H, W)`` in [-1, 1], without rounding."""

    def __init__(self, distance: PerceptualDistance) -> None:
        self.name, self.calibrated, self._distance = distance.name, distance.calibrated, distance

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        return self._distance.of_pixels(*((x.permute(0, 2, 3, 1) + 1) * 127.5 for x in (first, second)))


class _Paths(Metric):
    """What the two metrics of path length share: their options, and the distance by name."""

    def __init__(
        self,
        paths: int,
        interpolation: Interpolation,
        epsilon: float,
        sampling: Literal["full", "end"],
        discard: float,
        crop: bool,
        net: str,
        weights: str | None,
    ) -> None:
        check_path_options(epsilon, interpolation, sampling, discard)
        known_net(net, (PIXELS,))
        self.paths, self.net, self.weights = whole_number(paths, "paths", 2), net, weights
        self.interpolation, self.epsilon, self.sampling = interpolation, epsilon, sampling
        self.discard, self.crop = discard, crop

    def length(
        self,
        evidence: Evidence,
        generate: Generate,
        latents: Callable[[int, torch.Generator], Tensor],
        n: int,
        note: str,
        mapping: Generate | None = None,
    ) -> Measurement:
        """The path length of a model on a data set; note: what else is to be known."""
        distance: Distance = squared_l2
        notes = ["pixel L2", note]
        if self.net != PIXELS:
            if not isinstance(evidence.data.space, ImageSpace):
                raise BenchError(
                    f"net = '{self.net}' compares images, and {evidence.data.space} has none; use '{PIXELS}'"
                )
            distance = seen = PixelsOf(distance_named(self.net, self.weights, evidence.device))
            notes[:1] = [] if seen.calibrated else [UNCALIBRATED]
        measured = perceptual_path_length(
            generate,
            latents,
            distance,
            n=n,
            epsilon=self.epsilon,
            interpolation=self.interpolation,
            sampling=self.sampling,
            mapping=mapping,
            discard=self.discard,
            crop=self.crop,
            seed=evidence.seed,
        )
        return measured.replace(note="; ".join(filter(None, [", ".join(notes), measured.note])))


class LatentPaths(_Paths):
    """Paths between the latents of test examples: path length in pixels, interpolation smoothness, linearity of the round trip."""

    paper = "A Style-Based Generator Architecture for Generative Adversarial Networks, Karras et al. 2019 (arXiv 1812.04948)"
    needs = frozenset({"latent"})

    def __init__(
        self,
        paths: int = 200,
        interpolation: Interpolation = "lerp",
        epsilon: float = EPSILON,
        sampling: Literal["full", "end"] = "full",
        discard: float = DISCARD,
        crop: bool = False,
        net: str = PIXELS,
        weights: str | None = None,
    ) -> None:
        """paths: number of pairs of test examples whose latents are joined. interpolation, epsilon, sampling, discard, crop: of the path
        length, as of ``perceptual_path_length``. net: its distance, ``l2`` of pixels, or as of ``lpips-diversity``, with ``weights``."""
        super().__init__(paths, interpolation, epsilon, sampling, discard, crop, net, weights)

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
                queue = iter(zip(starts.split(DRAWN), ends.split(DRAWN)))

                def in_turn(count: int, generator: torch.Generator) -> Tensor:
                    return torch.cat(next(queue))

                found.append(self.length(evidence, model.decode, in_turn, count, "between latents of test examples"))
        return found


class StylePaths(_Paths):
    """Path length of a generator that has a style space W, in pixels: how evenly images change along straight lines there, or along paths in Z."""

    paper = "A Style-Based Generator Architecture for Generative Adversarial Networks, Karras et al. 2019 (arXiv 1812.04948)"
    needs = frozenset({"style"})

    def __init__(
        self,
        paths: int = 500,
        space: Literal["w", "z"] = "w",
        interpolation: Interpolation = "lerp",
        epsilon: float = STYLE_STEP,
        sampling: Literal["full", "end"] = "full",
        discard: float = DISCARD,
        crop: bool = False,
        net: str = PIXELS,
        weights: str | None = None,
    ) -> None:
        """paths: number of random pairs that are joined, in W on straight lines or in Z by ``interpolation``; all else as of
        ``latent-paths``."""
        super().__init__(paths, interpolation, epsilon, sampling, discard, crop, net, weights)
        if space not in ("w", "z"):
            raise BenchError(f"space must be w or z, not '{space}'")
        if space == "w" and interpolation != "lerp":
            raise BenchError(f"paths in W are straight; with interpolation = '{interpolation}' give space = 'z'")
        self.space = space

    def measure(self, evidence: Evidence) -> list[Measurement]:
        model, device = evidence.model, torch.device(evidence.device)

        def noise(count: int, generator: torch.Generator) -> Tensor:
            return torch.randn(count, model.latent, generator=generator, device="cpu").to(device)

        def of_noise(z: Tensor) -> Tensor:
            return model.synthesise(model.style(z))

        in_w = self.space == "w"
        generate, mapping = (model.synthesise, model.style) if in_w else (of_noise, None)
        return [self.length(evidence, generate, noise, self.paths, "noise inputs at their mean", mapping)]
