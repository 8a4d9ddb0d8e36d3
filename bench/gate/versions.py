"""The two versions of the code that `bench ab` measures: git revisions, source folders or installed environments."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError
from bench.gate.sides import commit_of, git

_FREEZE = (
    "import importlib.metadata as m, platform; "
    "print(platform.python_version(), *sorted({f'{d.name}=={d.version}' for d in m.distributions()}))"
)


@dataclasses.dataclass(frozen=True)
class Version:
    """label: as the user wrote it, with the commit of a revision. identity: changes when the version's content does.

    python: the interpreter. paths: folders that come first on its path. root: where the version's code must come from; None
    for an environment, which brings its own.
    """

    label: str
    identity: str
    python: str
    paths: tuple[str, ...]
    root: str | None


@contextlib.contextmanager
def prepared(base: str, head: str) -> Iterator[tuple[Version, Version]]:
    """Both versions, ready to run: revisions are checked out into worktrees, which are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-ab-") as folder, contextlib.ExitStack() as stack:
        yield tuple(  # type: ignore[misc]
            _version(text, Path(folder, name), stack) for text, name in ((base, "base"), (head, "head"))
        )


def _version(text: str, checkout: Path, stack: contextlib.ExitStack) -> Version:
    """An existing path wins over a revision of the same name."""
    path = Path(text)
    if path.is_dir():
        python = next((p for p in (path / "bin/python", path / "Scripts/python.exe") if p.exists()), None)
        return _environment(text, python) if python else _folder(text, path)
    if path.is_file():
        if not os.access(path, os.X_OK):
            raise BenchError(f"'{text}' is no Python interpreter; give a revision, a source folder or an environment")
        return _environment(text, path)
    commit = commit_of(text)
    if commit is None:
        raise BenchError(
            f"'{text}' is neither a git revision nor a source folder nor an environment; give one of these"
        )
    _check_out(commit, checkout, stack)
    here = checkout / git("rev-parse", "--show-prefix").strip()
    label = text if commit.startswith(text) else f"{text} ({commit[:10]})"
    return Version(label, commit, sys.executable, _paths(here, checkout), str(checkout.resolve()))


def _check_out(commit: str, folder: Path, stack: contextlib.ExitStack) -> None:
    top = Path(git("rev-parse", "--show-toplevel").strip())
    try:
        git("worktree", "add", "--quiet", "--detach", str(folder), commit)
    except subprocess.CalledProcessError as error:
        raise BenchError(f"cannot check out {commit[:10]}: {error.stderr.strip().splitlines()[-1]}") from None

    def remove() -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            git("worktree", "remove", "--force", str(folder), cwd=top)
        shutil.rmtree(folder, ignore_errors=True)

    stack.callback(remove)


def _folder(text: str, path: Path) -> Version:
    root = path.resolve()
    return Version(text, _digest(root), sys.executable, _paths(root), str(root))


def _environment(text: str, python: Path) -> Version:
    # Not resolved: the interpreter of a virtual environment is a link, and where it is called from decides what it finds.
    python = Path(os.path.abspath(python))
    try:
        done = subprocess.run([python, "-P", "-c", _FREEZE], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        raise BenchError(f"'{text}': its Python does not run; give an environment with gen-bench installed") from None
    return Version(text, hashlib.sha256(f"{python} {done.stdout}".encode()).hexdigest(), str(python), (), None)


def _paths(*folders: Path) -> tuple[str, ...]:
    """Each folder and its ``src``, where there is one."""
    found = [str(p.resolve()) for folder in folders for p in (folder, folder / "src") if p.is_dir()]
    return tuple(dict.fromkeys(found))


def _digest(root: Path) -> str:
    """SHA-256 over names and contents of the Python files in a source folder; hidden folders and environments left out."""
    sha = hashlib.sha256(str(root).encode())
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(n for n in inner if not n.startswith(".") and not Path(folder, n, "pyvenv.cfg").exists())
        for name in sorted(files):
            if name.endswith(".py"):
                path = Path(folder, name)
                sha.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()
