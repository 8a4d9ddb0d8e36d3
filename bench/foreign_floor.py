"""The floor of `bench score`: real images scored as if they were samples, and the numbers that may be held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bench.foreign_features import Choice
from bench.foreign_images import ImageSet
from bench.record import Measurement

ALIKE = 1.1
"""Numbers of images that differ by a tenth at most are near enough for a floor of what depends on them."""

STEADY = (
    "kid",
    "fd_corrected",
    "fid_corrected",
    "cmmd_unbiased",
    "lpips",
    "pdist",
    "ms_ssim",
    "high_quality",
    "sprite_error",
)
"""Beginnings of measurements whose expectation does not depend on the number of images."""


def floor_sets(whole: Mapping[str, Choice], train: ImageSet | None, seed: int) -> tuple[dict[str, Choice], str]:
    """What is scored for the floor, and in words: training images if known, else some of the reference against the others of it.

    As many images as there are samples, without training images at most half of the reference.
    """
    rng = np.random.default_rng(seed)
    n, real = len(whole["fake"]), whole["real"].images
    if train is not None:
        order = rng.permutation(len(train))[:n]
        means = f"{len(order)} training images against the reference"
        return {"fake": Choice(train, "train", order), "real": whole["real"]}, means
    order = rng.permutation(len(real))
    n = min(n, len(real) // 2)
    fake, rest = order[:n], order[n:]
    means = f"{len(fake)} images of the reference against {len(rest)} others of it"
    return {"fake": Choice(real, "real", fake), "real": Choice(real, "real", rest)}, means


def held_against(
    floor: Sequence[Measurement], taken: Mapping[str, Choice], whole: Mapping[str, Choice]
) -> tuple[dict[str, Measurement], list[str]]:
    """The floor by name, without what cannot be compared, and warnings.

    What depends on the number of images has no floor where the floor's number of samples or of reference images differs by more
    than a tenth from that of the scored sets.
    """
    counts = [(len(taken[side]), len(whole[side])) for side in ("fake", "real")]
    if all(here == there for here, there in counts):
        return {m.name: m for m in floor}, []
    moved = [m.name for m in floor if not m.name.startswith(STEADY)]
    alike = all(max(pair) <= ALIKE * min(pair) for pair in counts)
    (fake, all_fake), (real, all_real) = counts
    said = f"floor: taken with {fake} images against {real}, not {all_fake} against {all_real}"
    if moved:
        means = "so it is a little off for" if alike else "so these, which depend on the number of images, have none:"
        said += f"; {means} {', '.join(moved)}"
    return {m.name: m for m in floor if alike or m.name not in moved}, [said]
