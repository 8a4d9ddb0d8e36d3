"""The result store: append-only ``records.jsonl``, crash-safe, one writer at a time; load_results() -> tidy pandas frame."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from bench.errors import BenchError
from bench.provenance import file_sha256
from bench.record import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    import pandas as pd

RECORDS = "records.jsonl"
SAMPLES = "samples.npz"
CONFLICT_MARKERS = (b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>")


def write_atomically(path: Path, content: bytes) -> None:
    """Write aside, fsync, rename: a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _named(path), open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk says so when bytes are written, without a name: give it ``path``."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def has_samples(folder: Path, record: Record) -> bool:
    """Whether the sample set that ``record`` was made of lies, intact, in the ``folder`` of its trial."""
    samples = folder / SAMPLES
    return samples.is_file() and file_sha256(samples) == record.artifacts.get("samples_file")


class ResultStore:
    """Records of one suite in ``folder/records.jsonl``; the last line of a trial wins, older ones are history."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / RECORDS

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for writing. BenchError where another run holds it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self.folder / ".lock", "w")  # noqa: SIM115 - held until the block ends
        except OSError as error:
            raise BenchError(f"cannot write results to '{self.folder}': {error.strerror}; choose --results") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BenchError(
                    f"another run is writing to '{self.folder}'; wait for it, or give --results another folder"
                ) from None
            yield

    def append(self, record: Record) -> None:
        """Add one line and fsync it. A torn last line, left by a crash, is closed off first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _named(self.path), open(self.path, "ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(record.to_line().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[Record]:
        """Every readable record in the order written. A torn line is skipped; any other bad line is a BenchError."""
        return parse_records(self.path.read_bytes(), str(self.path)) if self.path.is_file() else []

    def latest(self) -> dict[str, Record]:
        """Trial id -> its last record."""
        return {record.trial: record for record in self.records()}

    def current(self) -> list[Record]:
        """The last record of every (data set, model, seed): what tables show."""
        return latest_of_each_cell(self.records())


def parse_records(content: bytes, where: str) -> list[Record]:
    """The records in the lines of ``content``. A torn line is skipped; any other bad line is a BenchError that names ``where``."""
    found = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError:
            if line.startswith(CONFLICT_MARKERS):
                raise BenchError(
                    f"{where}, line {number}: a conflict of a git merge is not resolved; keep the lines of both sides and remove "
                    "the markers (<<<<<<<, =======, >>>>>>>)"
                ) from None
            continue  # torn by a crash: that trial runs again
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if version != SCHEMA_VERSION:
            raise BenchError(
                f"{where}, line {number}: schema version {version!r} is not {SCHEMA_VERSION}; "
                "read it with the version of gen-bench that wrote it"
            )
        try:
            found.append(Record.model_validate(fields))
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise BenchError(
                f"{where}, line {number}: not a record of schema {SCHEMA_VERSION} (key '{place}'); "
                "restore the file or remove that line"
            ) from None
    return found


def latest_of_each_cell(records: list[Record]) -> list[Record]:
    """The last record of every (suite, data set, model, seed)."""
    return list({(r.suite, r.dataset, r.model, r.seed): r for r in records}.values())


def find_stores(path: Path) -> list[ResultStore]:
    """The stores under ``path``: a records file, a suite's folder or a results folder with one folder a suite."""
    path = Path(path)
    if path.is_file():
        if path.name != RECORDS:
            raise BenchError(f"'{path}' is no results; give a {RECORDS} or a folder that holds one")
        return [ResultStore(path.parent)]
    folders = [path] if (path / RECORDS).is_file() else sorted(p.parent for p in path.glob(f"*/{RECORDS}"))
    if not folders:
        raise BenchError(
            f"no {RECORDS} under '{path}'; run `bench run` first or give the folder that holds the results"
        )
    return [ResultStore(folder) for folder in folders]


COLUMNS = [
    "suite", "dataset", "model", "family", "role", "seed", "metric", "value", "low", "high", "unit", "n", "direction",
    "interval", "note", "status", "reason", "trial", "protocol", "environment", "budget", "started",
]  # fmt: skip


def load_results(path: str | Path = "results") -> pd.DataFrame:
    """The current records under ``path`` as a tidy frame: one row a measurement (a failed trial: one row without metric).

    Columns: suite, dataset, model, family, role, seed, metric, value, low, high, unit, n, direction, interval, note, status,
    reason, trial, protocol, environment, budget, started. Rows with different ``protocol`` must not be averaged.
    """
    records = [record for store in find_stores(Path(path)) for record in store.current()]
    return to_frame(records)


def to_frame(records: list[Record]) -> pd.DataFrame:
    """Records -> the tidy frame of load_results()."""
    import pandas as pd

    rows = []
    for record in records:
        head = {
            "suite": record.suite, "dataset": record.dataset, "model": record.model, "family": record.family,
            "role": record.role, "seed": record.seed, "status": record.status, "reason": record.reason,
            "budget": ", ".join(f"{amount:g} {unit}" for unit, amount in record.budget.items()),
            "trial": record.trial, "environment": record.environment, "started": record.started,
        }  # fmt: skip
        for measurement in record.measurements:
            fields = measurement.model_dump()
            rows.append({**head, "metric": fields.pop("name"), **fields})
        if not record.measurements:
            rows.append({**head, "metric": None})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    numbers = ["value", "low", "high"]
    frame[numbers] = frame[numbers].astype(float)
    frame["n"] = frame["n"].astype("Int64")
    return frame
