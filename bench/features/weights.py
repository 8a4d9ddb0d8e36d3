"""Weight files: found, checked by SHA-256, and loaded without running any code that they may contain."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from bench.errors import BenchError

Network = TypeVar("Network", bound=torch.nn.Module)


def find_weights(
    network: str,
    given: str | os.PathLike[str] | None,
    names: Iterable[str],
    url: str = "",
    folders: Iterable[Path] = (),
) -> Path:
    """The file ``given``, else the first of ``names`` in torch hub's cache or in ``folders``.

    Nothing is downloaded and nothing is substituted: a missing file raises BenchError, which says where to put it.
    """
    names = list(names)
    if given is not None:
        path = Path(given).expanduser()
        if path.is_dir():
            path = next((path / name for name in names if (path / name).is_file()), path / names[0])
        if not path.is_file():
            raise BenchError(
                f"the weights of {network} are not at {path}; give the path of the file {' or '.join(names)}"
            )
        return path
    for folder in (hub_folder(), *folders):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    source = f" from {url}" if url else ""
    raise BenchError(
        f"{network} needs its weights: put {' or '.join(names)}{source} into {hub_folder()}, or name the file with the option weights"
    )


def hub_folder() -> Path:
    """Where torch hub keeps weight files: ``$TORCH_HOME/hub/checkpoints``."""
    return Path(torch.hub.get_dir()).expanduser() / "checkpoints"


def download_weights(url: str, name: str, sha256: str) -> Path:
    """Fetch a weight file into torch hub's cache, checked before it gets its name. Only called with explicit permission."""
    target = hub_folder() / name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(target), hash_prefix=sha256, progress=False)
        except (OSError, RuntimeError) as error:
            raise BenchError(f"cannot download {url} ({error}); put the file into {target.parent} by hand") from None
    return target


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; remembered while the file keeps its size and time."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> str:
    """The file's SHA-256 where it is the expected one, or begins with it where only that much is published; else BenchError."""
    found = sha256_of(path)
    if not found.startswith(expected):
        raise BenchError(
            f"{path} has SHA-256 {found}, not {expected}: it is damaged or another file; delete it and fetch it again"
        )
    return found


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Names -> tensors from a safetensors file or a torch file, without unpickling anything but tensors."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BenchError(
            f"cannot read weights from {path}: {str(error).splitlines()[0]}; it must hold a plain state dict"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BenchError(
            f"{path} holds no plain state dict (names -> tensors); save it with torch.save(model.state_dict(), path)"
        )
    return state


def without_weights(build: Callable[[], Network]) -> Network:
    """A network whose parameters have shapes but no memory, to be filled by ``load_strictly``.

    Nothing is drawn at random, so building an extractor never moves the random state of a training run around it.
    """
    with torch.device("meta"):
        return build()


def load_strictly(network: torch.nn.Module, state: dict[str, Tensor], source: object) -> None:
    """Load weights of which every name and shape must fit; BenchError names the first that does not.

    ``num_batches_tracked`` counters of batch norms, which no prediction reads, may be absent or too many.
    """
    own = network.state_dict()
    ignored = {name for name in {*own, *state} if name.endswith("num_batches_tracked")}
    missing, unknown = own.keys() - state.keys() - ignored, state.keys() - own.keys() - ignored
    if missing or unknown:
        wrong = f"lacks '{min(missing)}'" if missing else f"has an unknown '{min(unknown)}'"
        raise BenchError(
            f"{source} does not hold the weights of {type(network).__name__}: it {wrong}; give the published file"
        )
    for name in sorted(own.keys() - ignored):
        if own[name].shape != state[name].shape:
            raise BenchError(
                f"{source} does not hold the weights of {type(network).__name__}: '{name}' is {tuple(state[name].shape)}, "
                f"expected {tuple(own[name].shape)}; give the published file"
            )
    counter = torch.zeros((), dtype=torch.int64, device="cpu")
    values = {name: state[name].to(own[name].dtype) if name in state else counter.clone() for name in own}
    network.load_state_dict(values, assign=True)
