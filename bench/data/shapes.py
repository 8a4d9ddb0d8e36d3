"""``shapes``: procedural sprites in the manner of dSprites, drawn from known factors that can be read off an image again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import pi, prod
from typing import NamedTuple

import numpy as np

from bench.data.base import Data, Dataset
from bench.data.held_out import without_classes
from bench.data.options import class_numbers, one_of, whole_number, yes_or_no
from bench.space import ImageSpace

SHAPES = ("square", "ellipse", "triangle", "heart")
SCALES = (0.25, 0.35, 0.45)
ROTATIONS = tuple(pi / 12 * step for step in range(6))
POSITIONS = tuple(-0.5 + step / 15 for step in range(16))
COLOURS = {
    "red": (230, 50, 45),
    "yellow": (240, 205, 40),
    "green": (60, 170, 70),
    "cyan": (40, 185, 200),
    "blue": (65, 90, 230),
    "magenta": (205, 60, 190),
}
SIZES, ROWS, COLUMNS = ("small", "medium", "large"), ("top", "middle", "bottom"), ("left", "centre", "right")
"""Words of captions, for the levels of the scale and for thirds of the positions."""

LEVELS = {"shape": 4, "scale": 3, "rotation": 6, "x": 16, "y": 16, "colour": 6}
"""Number of levels of each factor. Rotations stay below 90 degrees, so that no two levels of a square look alike."""

FORM = ("shape", "scale", "rotation", "x", "y")
BANK_RESOLUTION = 32
CHUNK = 64


class Shapes(Dataset):
    """Procedural colour sprites with known factors (shape, scale, rotation, x, y, colour), told in captions."""

    licence = "CC0-1.0 (generated)"
    attribution = ""
    paper = (
        "Higgins et al., beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework, ICLR 2017"
    )

    @dataclass(frozen=True)
    class Options:
        """resolution: 32 or 64. size, test_size: number of different images. colour: RGB, or white on black in one channel.
        seed: which of the 110592 (grey: 18432) combinations of factors are taken. held_out: shapes that training leaves out and the test side keeps."""

        resolution: int = 32
        size: int = 10_000
        test_size: int = 2_000
        colour: bool = True
        seed: int = 0
        held_out: Sequence[int] = ()

        def __post_init__(self) -> None:
            class_numbers("held_out", self.held_out)
            one_of("resolution", self.resolution, (32, 64))
            yes_or_no("colour", self.colour)
            whole_number("test_size", self.test_size, 1, _combinations(self.colour) // 2)
            whole_number("size", self.size, 1, _combinations(self.colour) - self.test_size)
            whole_number("seed", self.seed, 0, 2**32 - 1)

    def load(self) -> Data:
        """No combination of factors occurs twice, so no test image is a training image. Labels are the shapes."""
        options = self.options
        chosen = _choose(options)
        factors = _factors_of(chosen, options.colour)
        images = render(factors, options.resolution)
        captions = describe(factors)
        test = slice(0, options.test_size)
        train = slice(options.test_size, None)
        data = Data(
            name="shapes",
            space=ImageSpace(3 if options.colour else 1, options.resolution, options.resolution),
            train=images[train],
            test=images[test],
            train_labels=factors["shape"][train],
            test_labels=factors["shape"][test],
            classes=SHAPES,
            train_captions=captions[train],
            test_captions=captions[test],
            train_factors={name: levels[train] for name, levels in factors.items()},
            test_factors={name: levels[test] for name, levels in factors.items()},
            truth=SpriteTruth(options.colour),
        )
        return without_classes(data, self.options.held_out)


def describe(factors: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Factor levels, each ``(N,)`` int64 -> captions like "a small red heart at the top left". Rotation is not told."""
    size, shape = np.array(SIZES)[factors["scale"]], np.array(SHAPES)[factors["shape"]]
    colour = np.array([f"{name} " for name in COLOURS])[factors["colour"]] if "colour" in factors else [""] * len(size)
    row, column = (np.array(names)[_third(factors[axis])] for axis, names in (("y", ROWS), ("x", COLUMNS)))
    return tuple(f"a {a} {b}{c} at the {d} {e}" for a, b, c, d, e in zip(size, colour, shape, row, column, strict=True))


def _third(position: np.ndarray) -> np.ndarray:
    """Which third of the 16 positions: 0 to 4, 5 to 10, 11 to 15."""
    return np.digitize(position, (5, 11))


def render(factors: dict[str, np.ndarray], resolution: int) -> np.ndarray:
    """Factor levels, each ``(N,)`` int64 -> uint8 ``(N, resolution, resolution, 3)``, or 1 channel without ``colour``.

    Edges are antialiased by the signed distance to the outline: coverage falls from 1 to 0 across one pixel.
    """
    count = len(factors["shape"])
    palette = np.array(list(COLOURS.values()), dtype=np.float32)
    ink = palette[factors["colour"]] if "colour" in factors else np.full((count, 1), 255, dtype=np.float32)
    images = np.empty((count, resolution, resolution, ink.shape[1]), dtype=np.uint8)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        cover = _coverage({name: factors[name][part] for name in FORM}, resolution)
        images[part] = np.rint(cover[..., None] * ink[part, None, None, :])
    return images


class Recognised(NamedTuple):
    """factors: level of each factor, ``(N,)`` int64 each. error: root mean square difference to the sprite so described, in grey
    levels (0 to 255), ``(N,)`` float64: small where the image is a sprite at all."""

    factors: dict[str, np.ndarray]
    error: np.ndarray


class SpriteTruth:
    """Reads the factors off images of sprites. ``levels``: number of levels of each factor; ``colour``: RGB or grey."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour
        self.levels = {name: n for name, n in LEVELS.items() if colour or name != "colour"}

    def recognise(self, images: np.ndarray) -> Recognised:
        """uint8 ``(N, H, H, C)``, H a multiple of 32 -> the factors of the nearest sprite.

        First the colour whose direction carries the most of the image's energy, then the nearest of all 18432 outlines at
        32x32 by least squares.
        """
        small = _reduce(images.astype(np.float32) / 255)
        palette = (
            np.array(list(COLOURS.values()), dtype=np.float32) / 255 if self.colour else np.ones((1, 1), np.float32)
        )
        flat = small.reshape(len(small), -1, small.shape[-1])
        unit = palette / np.linalg.norm(palette, axis=1, keepdims=True)
        colour = np.square(np.einsum("npc,kc->nkp", flat, unit)).sum(-1).argmax(1)
        ink = palette[colour]
        best, gap = self._nearest(flat, ink)
        factors = dict(zip(FORM, np.unravel_index(best, [LEVELS[name] for name in FORM]), strict=True))
        if self.colour:
            factors["colour"] = colour
        return Recognised(factors, 255 * np.sqrt(gap / flat[0].size))

    def describe(self, images: np.ndarray) -> tuple[str, ...]:
        """The captions of the nearest sprites."""
        return describe(self.recognise(images).factors)

    def _nearest(self, flat: np.ndarray, ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outline that minimises ``|image - ink * outline|^2``, and that minimum; ``flat`` is ``(N, pixels, C)``."""
        strength = np.square(ink).sum(1, dtype=np.float64)
        best = np.empty(len(flat), dtype=np.int64)
        gap = np.empty(len(flat))
        outlines, energy = self._bank
        for start in range(0, len(flat), 1024):
            part = slice(start, start + 1024)
            match = np.einsum("npc,nc->np", flat[part], ink[part]) @ outlines.T
            cost = strength[part, None] * energy - 2 * match
            best[part] = cost.argmin(1)
            rendered = ink[part, None, :] * outlines[best[part], :, None]
            gap[part] = np.square(flat[part] - rendered).sum((1, 2), dtype=np.float64)
        return best, gap

    @cached_property
    def _bank(self) -> tuple[np.ndarray, np.ndarray]:
        """All outlines, ``(18432, 1024)`` float32, and the sum of squares of each."""
        forms = np.arange(_combinations(colour=False))
        levels = _factors_of(forms, colour=False)
        parts = [
            _coverage({name: levels[name][start : start + CHUNK] for name in FORM}, BANK_RESOLUTION)
            for start in range(0, len(forms), CHUNK)
        ]
        outlines = np.concatenate(parts).reshape(len(forms), -1)
        return outlines, np.square(outlines).sum(1)


def _combinations(colour: bool) -> int:
    return prod(n for name, n in LEVELS.items() if colour or name != "colour")


def _choose(options: Shapes.Options) -> np.ndarray:
    """Numbers of the combinations taken, test side first: the order of SHA-256 of (seed, number), which no size changes."""
    order = sorted(
        range(_combinations(options.colour)),
        key=lambda number: hashlib.sha256(f"{options.seed}:{number}".encode()).digest(),
    )
    return np.array(order[: options.test_size + options.size])


def _factors_of(numbers: np.ndarray, colour: bool) -> dict[str, np.ndarray]:
    names = [name for name in LEVELS if colour or name != "colour"]
    levels = np.unravel_index(numbers, [LEVELS[name] for name in names])
    return {name: level.astype(np.int64) for name, level in zip(names, levels, strict=True)}


def _coverage(factors: dict[str, np.ndarray], resolution: int) -> np.ndarray:
    """How much of each pixel the sprite covers, ``(N, resolution, resolution)`` float32 in [0, 1]."""

    def per_sprite(values: tuple[float, ...], name: str) -> np.ndarray:
        return np.array(values, dtype=np.float32)[factors[name]][:, None, None]

    axis = ((np.arange(resolution, dtype=np.float32) + 0.5) / resolution * 2 - 1).astype(np.float32)
    scale, angle = per_sprite(SCALES, "scale"), per_sprite(ROTATIONS, "rotation")
    x = (axis[None, None, :] - per_sprite(POSITIONS, "x")) / scale
    y = (axis[None, :, None] - per_sprite(POSITIONS, "y")) / scale
    u = np.cos(angle) * x + np.sin(angle) * y
    v = np.cos(angle) * y - np.sin(angle) * x
    cover = np.empty((len(u), resolution, resolution), dtype=np.float32)
    for index, distance in enumerate((_square, _ellipse, _triangle, _heart)):
        mine = factors["shape"] == index
        pixels = distance(u[mine], v[mine]) * scale[mine] * (resolution / 2)
        cover[mine] = np.clip(0.5 - pixels, 0, 1)
    return cover


# Signed distances to outlines within the unit circle, negative inside. v points down, as rows do.


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b = np.abs(u) - 0.7071, np.abs(v) - 0.7071
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0)


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Half axes 1 and 0.5; the distance to first order, ``k (k - 1) / |gradient|``, exact enough within a pixel."""
    k, gradient = np.hypot(u, v / 0.5), np.hypot(u, v / 0.25)
    return k * (k - 1) / np.maximum(gradient, 1e-6)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Equilateral, pointing up: the farthest of its three edges (each 1/2 from the centre)."""
    return np.maximum(v, np.abs(u) * 0.8660254 - v * 0.5) - 0.5


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square standing on its corner with half discs on its two upper edges, shrunk to fit the unit circle."""
    size, drop = 0.8, 0.15
    u, v = u / size, (v - drop) / size
    a, b = np.abs(u + v) / 1.4142136 - 0.6, np.abs(v - u) / 1.4142136 - 0.6
    body = np.maximum(a, b)
    lobes = np.hypot(np.abs(u) - 0.4242641, v + 0.4242641) - 0.6
    return np.minimum(body, lobes) * size


def _reduce(images: np.ndarray) -> np.ndarray:
    """``(N, H, H, C)`` -> ``(N, 32, 32, C)`` by averaging blocks of pixels."""
    count, side, _, channels = images.shape
    block = side // BANK_RESOLUTION
    shape = (count, BANK_RESOLUTION, block, BANK_RESOLUTION, block, channels)
    return images.reshape(shape).mean((2, 4))
