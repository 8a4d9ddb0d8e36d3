"""Records made from plain numbers, written as `bench run` writes them, for the tests of comparisons and gates."""

import datetime
import subprocess
import zlib

from bench.record import MeasurementFields, Record

UNITS = {"kid_effnetlite0": ("1", "lower", "kernel"), "coverage_effnetlite0": ("1", "higher", "prdc"),
         "sampling_throughput": ("images/s", "higher", "cost"), "parameters": ("1", "none", "cost"),
         "sampling_flops_per_image": ("FLOP/image", "lower", "cost"), "training_collapsed": ("1", "lower", "cost")}  # fmt: skip


def record(model, seed, values, *, suite="ci", dataset="digits16", role="trained", status="complete", reason=None,
           samples=None, n=300, environment="eeeeeeeeeeee", budget=None, protocol="aaaaaaaaaaaa", error=None, data="d" * 64,
           started=None):  # fmt: skip
    """values: metric -> value. error: half-width of the sampling interval. started: by default another second for other values."""
    measurements = []
    for name, value in values.items():
        unit, direction, source = UNITS[name]
        ends = {} if error is None else {"low": value - error, "high": value + error, "interval": "U-statistic"}
        measurements.append(
            MeasurementFields(
                name=name, value=value, n=n, unit=unit, direction=direction, source=source, protocol=protocol, **ends
            )
        )
    second = datetime.timedelta(seconds=zlib.crc32(str(values).encode()) % 86400)
    return Record(
        trial=f"{model}-{seed}", suite=suite, dataset=dataset, model=model, role=role, seed=seed, status=status, reason=reason,
        started=started or (datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC) + second).isoformat(), budget=budget or {"steps": 300.0},
        config={"data_digest": data, "samples": n, "batch_size": 16, "sample_batch": 10,
                "extractor": {"name": "effnetlite0"}},
        measurements=measurements if status == "complete" else [], scoring={}, training={"extractor_version": "v1"},
        artifacts={"samples": samples or f"{model}-{seed}-{values}"}, environment=environment, provenance={},
    )  # fmt: skip


def trained(model, metric, values, **changes):
    """One record a seed."""
    return [record(model, seed, {metric: value}, **changes) for seed, value in enumerate(values)]


def write(folder, records):
    """Records of one suite into ``folder/SUITE/records.jsonl``; returns the folder."""
    for one in records:
        path = folder / one.suite / "records.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            file.write(one.to_line() + "\n")
    return folder


def commit(repository, message):
    """Commit everything in ``repository`` (made at the first call); returns the commit."""

    def git(*words):
        names = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *names, *words], cwd=repository, check=True, capture_output=True, text=True
        ).stdout.strip()

    if not (repository / ".git").exists():
        git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", message)
    return git("rev-parse", "HEAD")
