"""Known corruptions of real data, each with rising strengths."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
from PIL import Image
from scipy import ndimage


@dataclasses.dataclass(frozen=True)
class Corruption:
    """name; what: one sentence for the page; strengths: rising, in the unit that ``what`` names."""

    name: str
    what: str
    strengths: tuple[float, ...]


NOISE = Corruption("noise", "Gaussian pixel noise; strength: its standard deviation over 255", (0.05, 0.1, 0.2, 0.4))
BLUR = Corruption(
    "blur", "Gaussian blur; strength: its standard deviation over the image's side", (0.0125, 0.025, 0.05, 0.1)
)
JPEG = Corruption("jpeg", "JPEG compression; strength: 100 less the quality", (25, 60, 85, 95))
MODE_DROPPING = Corruption(
    "mode-dropping",
    "no samples of some classes, more of the others; strength: share of classes left out",
    (0.1, 0.3, 0.5, 0.7),
)
DUPLICATION = Corruption(
    "duplication",
    "samples repeat one another; strength: share of samples that are copies of other samples",
    (0.2, 0.4, 0.6, 0.9),
)
MEMORISED = Corruption(
    "memorised", "training examples handed out as samples; strength: share of samples that are", (0.1, 0.25, 0.5, 1.0)
)
LABEL_NOISE = Corruption(
    "label-noise", "samples with a wrong class; strength: share of samples so labelled", (0.1, 0.25, 0.5, 0.9)
)
REBUILT_NOISE = Corruption(
    "rebuilt-noise", "reconstructions of a PCA autoencoder with noise added; strength: as noise", NOISE.strengths
)
REBUILT_BLUR = Corruption("rebuilt-blur", "its reconstructions blurred; strength: as blur", BLUR.strengths)
JUMPS = Corruption(
    "jumps",
    "a PCA decoder that rounds its latents; strength: the grid's step in standard deviations",
    (0.25, 0.5, 1.0, 2.0),
)
WINDING = Corruption(
    "winding",
    "a PCA decoder whose latents go to and fro on their way; strength: slope of that detour, where the way's is 1",
    (0.5, 1.0, 2.0, 4.0),
)
CONTAMINATED = Corruption(
    "contaminated",
    "a PCA autoencoder that has learned from the class it is to tell as anomalous; strength: share of its training images",
    (0.1, 0.25, 0.5, 1.0),
)
FLATTENING = Corruption(
    "flattening",
    "a pixel-histogram likelihood mixed with a uniform one; strength: the uniform share",
    (0.05, 0.2, 0.5, 0.9),
)
SPREAD = Corruption(
    "spread",
    "points moved off their mode; strength: standard deviation of the move in those of a mode",
    (1.0, 2.0, 4.0, 8.0),
)

ALL = (
    NOISE, BLUR, JPEG, MODE_DROPPING, DUPLICATION, MEMORISED, LABEL_NOISE, REBUILT_NOISE, REBUILT_BLUR, CONTAMINATED, JUMPS,
    WINDING, FLATTENING, SPREAD,
)  # fmt: skip


def noisy(images: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """uint8 ``(N, H, W, C)`` with noise of standard deviation ``255 strength``, clipped and rounded."""
    noise = rng.standard_normal(images.shape, dtype=np.float32) * np.float32(255 * strength)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def blurred(images: np.ndarray, strength: float) -> np.ndarray:
    """uint8 ``(N, H, W, C)`` blurred with standard deviation ``strength`` times the side."""
    sigma = strength * max(images.shape[1:3])
    soft = ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0))
    return np.rint(soft).clip(0, 255).astype(np.uint8)


def compressed(images: np.ndarray, strength: float) -> np.ndarray:
    """uint8 ``(N, H, W, 1 or 3)`` through JPEG of quality ``100 - strength``."""
    found = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=int(100 - strength))
        found.append(np.asarray(Image.open(file)).reshape(image.shape))
    return np.stack(found)


def of_pixels(corruption: Corruption, images: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """A pixel corruption by name (noise, blur, jpeg)."""
    if corruption is NOISE:
        return noisy(images, strength, np.random.default_rng(seed))
    return blurred(images, strength) if corruption is BLUR else compressed(images, strength)


def without_modes(modes: np.ndarray, n: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``n`` different examples of the modes that are left when a share ``strength`` of them is dropped.

    modes: ``(N,)``, the mode of each example. Fewer than ``n`` where so few are left.
    """
    kinds = rng.permutation(np.unique(modes))
    dropped = kinds[: max(1, round(strength * len(kinds)))] if strength > 0 else kinds[:0]
    return rng.permutation(np.flatnonzero(~np.isin(modes, dropped)))[:n]


def with_copies(n: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Indices ``(n,)`` in which a share ``strength`` of places repeats one of the other places."""
    order = rng.permutation(n)
    copies = round(strength * n)
    kept = order[copies:]
    return np.concatenate([kept, rng.choice(kept, copies)])


def wrong_labels(labels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Labels of which a share ``strength`` is another class than it was."""
    classes = np.unique(labels)
    changed = labels.copy()
    chosen = rng.permutation(len(labels))[: round(strength * len(labels))]
    place = np.searchsorted(classes, labels[chosen])
    changed[chosen] = classes[(place + rng.integers(1, len(classes), len(chosen))) % len(classes)]
    return changed
