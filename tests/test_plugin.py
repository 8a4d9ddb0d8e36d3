"""The worked plug-in: installed as a package of its own, found by its entry point, run beside the built-ins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import load_results

ROOT = Path(__file__).parents[1]

CONFIG = """
[suites.mine]
datasets = ["digits"]
models = ["tiny-autoencoder"]
baselines = ["noise"]
seeds = [0]
budget = { steps = 300 }
samples = 60
extractor = "none"
metrics = ["reconstruction"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The plug-in pip-installed into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    done = subprocess.run([*command, str(ROOT / "examples" / "plugin")], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return target


def bench(place, target, *words):
    environment = {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *words],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_plugin_is_listed_and_runs(installed, tmp_path):
    (tmp_path / "benchmarks.toml").write_text(CONFIG)
    assert "tiny-autoencoder" in bench(tmp_path, installed, "list", "models")
    table = bench(tmp_path, installed, "run", "mine")
    assert "tiny-autoencoder" in table
    frame = load_results(tmp_path / "results")
    losses = frame[(frame.model == "tiny-autoencoder") & (frame.metric == "final_loss_mse")]
    assert float(losses.value.iloc[0]) < 0.35, "it learns: 300 steps bring the error well below the data's variance"


def test_the_model_has_about_twenty_lines_of_code():
    lines = (ROOT / "examples" / "plugin" / "tiny_autoencoder.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith(('"""', "#"))]
    assert len(code) <= 28
