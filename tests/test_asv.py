"""`make asv` on the smallest of its benchmarks, in quick mode: asv finds them all, runs, and publishes a site."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.models import NAMES, Sampling

ROOT = Path(__file__).parents[1]


def test_asv_runs_and_publishes(tmp_path):
    config = json.loads((ROOT / "asv.conf.json").read_text())
    for key in ("results_dir", "html_dir"):
        config[key] = str(tmp_path / key)
    config |= {"repo": str(ROOT), "benchmark_dir": str(ROOT / config["benchmark_dir"])}
    path = tmp_path / "asv.conf.json"
    path.write_text(json.dumps(config))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()

    def asv(*words):
        done = subprocess.run(
            [sys.executable, "-m", "asv", *words, "--config", str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env={**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    asv("machine", "--yes")
    asv(
        "run",
        "--environment",
        "existing:same",
        "--set-commit-hash",
        commit,
        "--quick",
        "--bench",
        "timeraw_bench",
    )
    known = json.loads((tmp_path / "results_dir" / "benchmarks.json").read_text())
    kinds = {"metric_kernels.Kernels.time_kernel", "models.TrainingStep.time_step", "models.TrainingStep.peakmem_step",
             "models.Sampling.time_four_samples", "imports.Import.timeraw_model", "imports.Import.peakmem_model"}  # fmt: skip
    assert kinds <= set(known)
    assert "'vae'" in known["models.TrainingStep.time_step"]["params"][0]
    [results] = (tmp_path / "results_dir").glob("*/????????-existing*.json")
    [seconds] = json.loads(results.read_text())["results"]["imports.Import.timeraw_bench"][0]
    assert 0 < seconds < 60
    asv("publish")
    assert (tmp_path / "html_dir" / "index.html").is_file()


@pytest.mark.parametrize("name", ["vae", "conditional-diffusion", "text-to-image"])
def test_models_that_need_classes_or_captions_are_timed_too(name):
    assert name in NAMES
    timed = Sampling()
    timed.setup(name)
    timed.time_four_samples(name)
    timed.step()
