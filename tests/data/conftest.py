"""Real picture files of many kinds, written with Pillow from random pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def rng():
    return np.random.default_rng(1234)


@pytest.fixture
def write_pictures(tmp_path, rng):
    """write_pictures({"a.png": (height, width, channels)}) -> (folder, {"a.png": pixels})."""

    def write(shapes: dict[str, tuple[int, int, int]], folder: str = "pictures") -> tuple[Path, dict[str, np.ndarray]]:
        written = {}
        for name, shape in shapes.items():
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels).save(path)
            written[name] = pixels
        return tmp_path / folder, written

    return write
