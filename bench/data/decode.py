"""One encoded image -> uint8 pixels, and the one way in which images are cropped and resized for training.

Modes are decided once, here:

- 1-bit, grey and 16-bit grey images give one channel, everything else (palette, CMYK, YCbCr ...) gives RGB;
- transparency is composited on ``white`` for data that models learn from, and ``dropped`` where images are scored, as clean-fid,
  pytorch-fid and Pillow's ``convert("RGB")`` drop it: the colours behind transparent pixels then count;
- 16-bit grey is scaled to 8 bit; 32-bit pixels (mode I, F) are refused;
- of an animation or a multi-page file the first frame counts;
- EXIF rotation is not applied and embedded colour profiles are ignored: the stored pixels count, as in the field's tools.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")


Transparency = Literal["white", "dropped"]


class Picture(NamedTuple):
    """pixels: uint8 ``(H, W, 1 or 3)``. format: such as ``PNG``. transparent: whether a pixel was not wholly opaque."""

    pixels: np.ndarray
    format: str
    transparent: bool


def decode(
    raw: bytes, transparency: Transparency = "white", before: Callable[[int], None] = lambda nbytes: None
) -> Picture:
    """Encoded bytes -> the picture, by the rules of this module.

    before: called with the bytes that its pixels will take, once the header has been read. The checksums of PNG chunks are
    verified, which Pillow by itself leaves out. Raises whatever Pillow raises on a damaged file, DecompressionBombError beyond Pillow's limit on pixels, ValueError on 32-bit pixels.
    """
    with Image.open(io.BytesIO(raw)) as image:
        _refuse_bombs(image)
        if image.format == "PNG":
            _verify_checksums(raw)
        before(image.width * image.height * (1 if image.mode in GREY_MODES else 3))
        transparent = _is_transparent(image)
        if transparency == "dropped":
            image.info.pop("transparency", None)  # Pillow would warn that a palette loses it
        return Picture(to_array(image, transparency), image.format or "unknown", transparent)


def to_array(image: Image.Image, transparency: Transparency = "white") -> np.ndarray:
    """A Pillow image -> uint8 ``(H, W, 1 or 3)`` by the rules of this module."""
    grey = image.mode in GREY_MODES
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        pixels = np.asarray(image).astype(np.float64)
        return np.rint(np.clip(pixels, 0, 65535) / 257).astype(np.uint8)[..., None]
    if image.mode in ("I", "F"):
        raise ValueError(f"has 32-bit pixels (mode {image.mode}), not 8-bit ones")
    if transparency == "white" and image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    mode = "L" if grey else "RGB"
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if grey else pixels


def fit(image: np.ndarray, resolution: int) -> np.ndarray:
    """Centre-crop ``(H, W, C)`` uint8 to a square, then resize it to ``(resolution, resolution, C)`` with Lanczos
    (Pillow, antialiased). An image that already has this size is returned as it is."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == resolution:
        return np.ascontiguousarray(square)
    picture = Image.fromarray(np.ascontiguousarray(square[..., 0] if square.shape[2] == 1 else square))
    resized = np.asarray(picture.resize((resolution, resolution), Image.Resampling.LANCZOS))
    return resized[..., None] if resized.ndim == 2 else resized


def resize_all(images: np.ndarray, resolution: int) -> np.ndarray:
    """``fit`` for each image of ``(N, H, W, C)``."""
    if images.shape[1] == images.shape[2] == resolution:
        return images
    return np.stack([fit(image, resolution) for image in images])


def pack(images: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """Images ``(H, W, C)`` -> one array ``(N, H, W, C)`` where all have one size, else the list.

    If any of them is RGB, grey ones become RGB. ``images`` is overwritten on the way, so that memory holds the pixels once.
    """
    channels = max(image.shape[2] for image in images)
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        return [image if image.shape[2] == channels else np.repeat(image, channels, axis=2) for image in images]
    packed = np.empty((len(images), *sizes.pop(), channels), dtype=np.uint8)
    for index in range(len(images)):
        packed[index] = images[index]
        images[index] = packed[index]
    return packed


def _is_transparent(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    return bool(lowest < 255)  # type: ignore[operator]  # one channel of 8 bits: two whole numbers


def _refuse_bombs(image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"has {image.width} x {image.height} pixels, more than {limit}")


def _verify_checksums(png: bytes) -> None:
    """Raises ValueError unless every chunk of a PNG is whole and agrees with its CRC-32 (PNG specification, section 5.3)."""
    position = 8
    while png[position + 4 : position + 8] != b"IEND":
        end = position + 8 + int.from_bytes(png[position : position + 4], "big")
        stored = png[end : end + 4]
        if len(stored) < 4:
            raise ValueError("the PNG file is truncated")
        if zlib.crc32(memoryview(png)[position + 4 : end]) != int.from_bytes(stored, "big"):
            raise ValueError("the PNG file is damaged: a checksum is wrong")
        position = end + 4
