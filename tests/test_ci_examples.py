"""The workflow files of examples/ci, run step by step as plain shell in a repository with committed records."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench import provenance
from bench.gate.blocks import METRICS, work_of
from bench.gate.versions import prepared
from bench.stats.gate import FIRST_BLOCKS
from bench.suite import load_config

from .gate.records import commit
from .gate.test_ab import MODELS, synthetic

EXAMPLES = Path(__file__).parents[1] / "examples" / "ci"
CONFIG = """
[suites.ci]
datasets = ["digits"]
models = ["tiny"]
baselines = ["noise"]
seeds = [0, 1]
budget = { steps = 8 }
batch_size = 8
samples = 30
sample_batch = 8
metrics = ["kernel"]
[models.tiny]
class = "my_models:Tiny"
[gate]
suite = "ci"
[[gate.metrics]]
metric = "kid_effnetlite0"
margin = "10%"
direction = "lower"
[[gate.metrics]]
metric = "sampling_throughput"
direction = "higher"
"""
NEEDS_A_SERVICE = ("pip install", "gh pr comment")


def steps(name):
    """The shell steps of a workflow file, without those that need a package index or the service itself."""
    fields = yaml.safe_load((EXAMPLES / name).read_text())
    if name == "github.yml":
        found = [step["run"] for step in fields["jobs"]["gate"]["steps"] if "run" in step]
    else:
        job = fields["benchmark"]
        found = [*job["before_script"], *job["script"]]
    return [step for step in found if not step.startswith(NEEDS_A_SERVICE)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A repository with the records of `bench run ci` committed, then a commit that changes nothing; `bench` on the path.

    The blocks of `bench ab` are taken before, as an interrupted run leaves them: real ones are the matter of tests/gate.
    """
    folder = tmp_path_factory.mktemp("repository")
    (folder / "benchmarks.toml").write_text(CONFIG)
    (folder / "my_models.py").write_text(MODELS.replace("REPEAT", "2").replace("FAIL", "pass"))
    (folder / ".gitignore").write_text("results/**/artifacts/\nresults/ab/\n.lock\n__pycache__\n")
    tools = tmp_path_factory.mktemp("bin")
    (tools / "bench").write_text(f'#!/bin/sh\nexec {sys.executable} -m bench.cli "$@"\n')
    (tools / "bench").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    shell(folder, "bench run ci", path)
    base = commit(folder, "base")
    (folder / "README.md").write_text("changed")
    commit(folder, "head")
    here = Path.cwd()
    try:
        os.chdir(folder)
        work = work_of(load_config(Path("benchmarks.toml")), "ci", list(METRICS), "cpu")
        with prepared(base, "HEAD") as (one, two):
            key = provenance.short_hash([one.identity, two.identity, dataclasses.asdict(work), provenance.cpu_model()])
    finally:
        os.chdir(here)
    return folder, path, base, key


def shell(folder, step, path, expect=0, **environment):
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step], cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **environment},
    )  # fmt: skip
    assert done.returncode == expect, f"{step}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_step_runs_and_leaves_what_the_workflow_uploads(place):
    folder, path, base, key = place
    blocks = folder / "results" / "ab" / key / "blocks.jsonl"
    blocks.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    blocks.write_text("".join(json.dumps(block) + "\n" for block in synthetic(rng, FIRST_BLOCKS, 1.0, noise=0.002)))
    said = [shell(folder, step, path, BASE=base) for step in steps("github.yml")]
    assert len(said) == 3
    assert "passed" in said[-1]
    for made in ("ab.json", "gate.md", "gate.xml", "badge.json", "results/ci/records.jsonl"):
        assert (folder / made).stat().st_size > 0


def test_a_trial_that_fails_is_named_by_the_gate(place):
    folder, path, base, _ = place
    module = folder / "my_models.py"
    sound = module.read_text()
    module.write_text(sound.replace("self.work(2)", "raise MemoryError('no room')"))
    try:
        shell(folder, next(step for step in steps("github.yml") if "bench run" in step), path)
        gate = next(step for step in steps("github.yml") if "bench gate" in step).replace("--ab ab.json", "")
        failed = shell(folder, gate, path, expect=3, BASE=base)
    finally:
        module.write_text(sound)
    assert "tiny" in failed
    assert "no room" in (folder / "gate.md").read_text()


def test_both_services_run_the_same_steps():
    github, gitlab = (
        " ; ".join(" ".join(step.split()) for step in steps(name)) for name in ("github.yml", "gitlab.yml")
    )
    assert github.replace(" --github", "") == gitlab
