"""Where the config is, and its text as TOML; what it means is ``bench.suite``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bench.errors import BenchError


def find_config(path: Path | None) -> Path:
    """The given file, else ./benchmarks.toml, else the one that ships with the package."""
    if path is not None:
        if not path.is_file():
            raise BenchError(f"no config file at '{path}'; give an existing TOML file to --config")
        return path
    here = Path("benchmarks.toml")
    packaged = Path(__file__).parent / "benchmarks.toml"
    beside = Path(__file__).parent.parent / "benchmarks.toml"
    return next((candidate for candidate in (here, packaged, beside) if candidate.is_file()), here)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. BenchError with one sentence where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"cannot read config '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise BenchError(f"{path}: not a UTF-8 text file; write the config as UTF-8 TOML") from None
    except tomllib.TOMLDecodeError as error:
        raise BenchError(f"{path}: not valid TOML: {error}") from None
