"""Pictures of samples: the first k of a sample set, never picked, enlarged without smoothing."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.errors import BenchError

PAPER = (255, 255, 255)
LINE = 3
"""Pixels of paper between two samples."""

INK = (30, 30, 30)


def sample_grid(images: np.ndarray, rows: int = 8, columns: int = 8, side: int = 48) -> np.ndarray:
    """The first ``rows * columns`` images in reading order, as one picture.

    images: uint8 ``(N, H, W, C)`` with C 1 or 3. Each is enlarged by the whole number that brings its longer edge to about
    ``side`` pixels (nearest neighbour: what the model made, not what a filter made of it); large images are shrunk by area.
    Returns uint8 ``(height, width, 3)``. With fewer images the last places stay empty.
    """
    tiles = _tiles(images, rows * columns, side)
    n, height, width, _ = tiles.shape
    rows = min(rows, -(-n // columns))
    picture = np.full((rows * (height + LINE) + LINE, columns * (width + LINE) + LINE, 3), PAPER, dtype=np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + LINE) + LINE, (i % columns) * (width + LINE) + LINE
        picture[top : top + height, left : left + width] = tile
    return picture


def contact_sheet(
    samples: Mapping[str, np.ndarray], rows: int = 5, columns: int = 5, width: int = 1600, side: int = 48
) -> np.ndarray:
    """One grid a model, side by side under its name, wrapped so that the picture is at most ``width`` pixels wide.

    samples: name -> uint8 ``(N, H, W, C)``, shown in this order. Returns uint8 ``(height, width, 3)``.
    """
    if not samples:
        raise BenchError("a contact sheet needs the samples of at least one model")
    grids = {name: sample_grid(images, rows, columns, side) for name, images in samples.items()}
    font = ImageFont.load_default(size=26)
    margin, title = 12, 40
    panel_height = max(grid.shape[0] for grid in grids.values()) + title
    panel_width = max(*(grid.shape[1] for grid in grids.values()), *(int(font.getlength(name)) for name in grids), 0)
    across = max(1, min(len(grids), (width - margin) // (panel_width + margin)))
    lines = -(-len(grids) // across)
    across = -(-len(grids) // lines)  # lines of about equal length
    size = (across * (panel_width + margin) + margin, lines * (panel_height + margin) + margin)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (name, grid) in enumerate(grids.items()):
        left, top = margin + (i % across) * (panel_width + margin), margin + (i // across) * (panel_height + margin)
        draw.text((left + grid.shape[1] / 2, top + title / 2), name, fill=INK, font=font, anchor="mm")
        sheet.paste(Image.fromarray(grid), (left, top + title))
    return np.asarray(sheet)


def to_png(picture: np.ndarray, text: Mapping[str, str] | None = None) -> bytes:
    """A picture uint8 ``(height, width, 3)`` as the bytes of a PNG file. text: key -> value stored inside it."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True, pnginfo=info)
    return buffer.getvalue()


def _tiles(images: np.ndarray, count: int, side: int) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8 or not len(images):
        raise BenchError(f"a grid shows uint8 images (N, H, W, 1 or 3), got {images.dtype} {images.shape}")
    first = images[:count]
    if first.shape[-1] == 1:
        first = np.repeat(first, 3, axis=-1)
    longer = max(first.shape[1:3])
    if longer <= side:
        times = max(1, round(side / longer))
        return first.repeat(times, axis=1).repeat(times, axis=2)
    size = (max(1, first.shape[2] * side // longer), max(1, first.shape[1] * side // longer))
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in first])
