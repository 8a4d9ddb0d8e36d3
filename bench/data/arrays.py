"""Arrays of images in ``.npy`` and ``.npz`` files, read without pickle and checked before memory is taken."""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import psutil

from bench.errors import BenchError


class Header(NamedTuple):
    """What an array file says of an array before its data."""

    shape: tuple[int, ...]
    dtype: np.dtype
    data_bytes: int

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def array_headers(path: Path) -> dict[str, Header]:
    """Name -> header of each array of a ``.npz`` (or of the one array of a ``.npy``, under the name ``""``).

    Raises BenchError where the file is damaged or holds pickled objects.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return {"": _header(file, path.stat().st_size)}
        headers = {}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as member:
                        headers[info.filename.removesuffix(".npy")] = _header(member, info.file_size)
        return headers
    except BenchError as error:
        raise BenchError(f"{path}: {error}") from None
    except Exception as error:  # a damaged archive can fail in any way
        raise BenchError(f"{path} is not a readable {path.suffix} file ({_reason(error)}); write it again") from None


def image_name(path: Path, headers: dict[str, Header]) -> str:
    """Which array holds the images: ``arr_0`` (the convention of numpy and ADM), or the only one that can be images."""
    able = [name for name, header in headers.items() if header.dtype == np.uint8 and len(header.shape) in (3, 4)]
    for names in (["arr_0"] if "arr_0" in headers else [], able, list(headers)):
        if len(names) == 1:
            return names[0]
    held = ", ".join(f"{name}: {header}" for name, header in headers.items()) or "nothing"
    raise BenchError(f"{path} must hold its images as the array 'arr_0' or as its only uint8 images; it holds {held}")


def load_array(path: Path, name: str, header: Header) -> np.ndarray:
    """The array ``name`` that ``array_headers`` found in ``path``."""
    require_memory(header.data_bytes, f"{path}{f':{name}' if name else ''}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return loaded[name]
    except Exception as error:  # truncated data, a wrong checksum ...
        raise BenchError(f"{path} is not a readable {path.suffix} file ({_reason(error)}); write it again") from None


def image_array(path: Path, name: str, header: Header) -> np.ndarray:
    """The array as images: uint8 ``(N, H, W, 1 or 3)``; ``(N, H, W)`` counts as grey. Raises BenchError on anything else."""
    where = f"{path}{f':{name}' if name else ''}"
    if header.dtype != np.uint8:
        how = conversion(load_array(path, name, header))
        raise BenchError(f"{where} holds {header}; images must be uint8 from 0 to 255: {how}, and save it again")
    return load_array(path, name, header).reshape(image_shape(header.shape, where))


def image_shape(shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    """``(N, H, W, C)`` of images of this shape; BenchError where they cannot be images."""
    if 0 in shape:
        raise BenchError(f"{where} is empty: its shape is {shape}")
    whole = (*shape, 1) if len(shape) == 3 else shape
    if len(whole) != 4 or whole[3] not in (1, 3):
        hint = "; transpose it with np.moveaxis(x, 1, -1)" if len(whole) == 4 and whole[1] in (1, 3) else ""
        raise BenchError(f"{where} has the shape {shape}; images must be (N, H, W) or (N, H, W, 1 or 3){hint}")
    return whole


def conversion(values: np.ndarray) -> str:
    """What makes uint8 pixels of these numbers ``x``, as their range tells."""
    if values.dtype == bool:
        return "convert it with x.astype(np.uint8) * 255"
    if values.dtype.kind not in "fiu" or values.size == 0:
        return "convert it"
    least, most = float(values.min()), float(values.max())
    if not np.isfinite([least, most]).all():
        return "it holds NaN or infinity, which is no picture"
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    if least >= 0 and most <= 1:
        return f"its values are from {least:g} to {most:g}: convert it with (255 * x).round().astype(np.uint8)"
    if least >= -1 and most <= 1:
        return f"its values are from {least:g} to {most:g}: convert it with (127.5 * (x + 1)).round().astype(np.uint8)"
    if least >= 0 and most <= 255:
        way = "x.astype(np.uint8)" if whole else "x.round().astype(np.uint8)"
        return f"its values are from {least:g} to {most:g}: convert it with {way}"
    return f"its values are from {least:g} to {most:g}: scale it to 0 ... 255 and round it"


def require_memory(needed: int, what: str) -> None:
    """Raises BenchError where ``needed`` bytes exceed what the machine has available."""
    available = psutil.virtual_memory().available
    if needed > available:
        raise BenchError(
            f"{what} needs {needed / 2**30:.1f} GiB of memory decoded, but {available / 2**30:.1f} GiB are available; "
            "use fewer or smaller images (a data set of a suite has the option resolution)"
        )


def _header(file: IO[bytes], size: int) -> Header:
    """Read the header, and compare the size that it announces with the size of the file."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise BenchError(f"npy format {version[0]}.{version[1]} is not supported; save plain arrays with numpy.save")
    if dtype.hasobject:
        raise BenchError("holds pickled Python objects, which are never loaded; save plain arrays")
    data_bytes = prod(shape) * dtype.itemsize
    if size - file.tell() != data_bytes:
        raise ValueError(f"{data_bytes} bytes of data announced, {size - file.tell()} there")
    return Header(shape, dtype, data_bytes)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
