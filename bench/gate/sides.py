"""What a user names as one side of a comparison: a results folder, a records file, or a git revision with committed records."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

from bench.errors import BenchError, did_you_mean
from bench.record import Record
from bench.store import RECORDS, find_stores, latest_of_each_cell, parse_records


@dataclasses.dataclass(frozen=True)
class Side:
    """label: as the user wrote it. records: the current record of every (suite, data set, model, seed).

    model: the one model that was asked for with ``@MODEL``, else None. commit: of a git revision, else "".
    """

    label: str
    records: tuple[Record, ...]
    model: str | None = None
    commit: str = ""


def load_side(text: str, results: Path = Path("results")) -> Side:
    """Read one side: ``PATH`` (results folder, suite folder or records file) or ``REV`` or ``REV:PATH``, each with ``@MODEL``
    behind it where only one model is meant. A path that exists wins over a revision of the same name.

    results: folder of the committed records, relative to the working directory, for a bare ``REV``.
    """
    place, model = _split_model(text)
    if Path(place).exists():
        records, commit = _records_at(Path(place)), ""
    else:
        records, commit = _records_in_git(place, results)
    if model is not None:
        known = {record.model for record in records}
        if model not in known:
            raise BenchError(f"'{place}' has no records of model '{model}'; {did_you_mean(model, known)}")
        records = [record for record in records if record.model == model]
    return Side(text, tuple(records), model, commit)


def git(*words: str, cwd: Path | None = None) -> str:
    """The output of a git command; CalledProcessError where it fails, BenchError where there is no git."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, cwd=cwd)
    except FileNotFoundError:
        raise BenchError("git is not installed; give results folders instead of revisions") from None
    return done.stdout


def commit_of(revision: str) -> str | None:
    """The commit that a revision names, None where it names none or this is no repository."""
    if revision.startswith("-"):
        return None
    try:
        return git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except subprocess.CalledProcessError:
        return None


def records_files(commit: str, folder: str) -> list[str]:
    """Paths of the records files under ``folder`` (relative to the repository's root) in a commit."""
    listed = git("ls-tree", "-r", "--name-only", "--full-tree", "-z", commit, "--", folder or ".").split("\0")
    return [name for name in listed if name == folder or Path(name).name == RECORDS]


def records_of_commit(commit: str, folder: str) -> list[Record]:
    """The current records that a commit holds under ``folder``."""
    records: list[Record] = []
    for name in records_files(commit, folder):
        content = git("show", f"{commit}:{name}").encode()
        records += latest_of_each_cell(parse_records(content, f"{commit[:10]}:{name}"))
    return records


def repository_path(path: Path) -> str:
    """``path``, given from the working directory, as git writes it: from the root of the repository."""
    if path.is_absolute():
        try:
            path = path.relative_to(Path.cwd())
        except ValueError:
            raise BenchError(
                f"'{path}' lies outside the working directory; give the path inside the repository"
            ) from None
    try:
        prefix = git("rev-parse", "--show-prefix").strip()
    except subprocess.CalledProcessError:
        raise BenchError(f"'{Path.cwd()}' is in no git repository; go into the one that holds '{path}'") from None
    return Path(prefix, path).as_posix()


def _split_model(text: str) -> tuple[str, str | None]:
    """``results/quick@vae`` -> (``results/quick``, ``vae``). ``HEAD@{1}`` and a path that exists are left as they are."""
    place, at, model = text.rpartition("@")
    if not at or model.startswith("{") or Path(text).exists():
        return text, None
    if not place or not model:
        raise BenchError(f"'{text}' names no model; write RESULTS@MODEL")
    return place, model


def _records_at(path: Path) -> list[Record]:
    if path.is_file():
        return latest_of_each_cell(parse_records(path.read_bytes(), str(path)))
    return [record for store in find_stores(path) for record in store.current()]


def _records_in_git(text: str, results: Path) -> tuple[list[Record], str]:
    revision, _, inner = text.partition(":")
    commit = commit_of(revision)
    if commit is None:
        raise BenchError(f"'{text}' is neither a results folder, a records file nor a git revision; give one of these")
    folder = inner or repository_path(results)
    records = records_of_commit(commit, folder)
    if not records:
        raise BenchError(
            f"revision '{revision}' ({commit[:10]}) holds no {RECORDS} under '{folder}'; commit the records or give --results"
        )
    return records, commit
