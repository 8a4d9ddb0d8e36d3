"""Two versions in blocks: real blocks on a small repository, decisions on synthetic blocks, resumption, what goes wrong."""

import dataclasses
import json
import math
import os
import sys

import numpy as np
import pytest

from bench import provenance
from bench.errors import BenchError
from bench.gate.ab import decide, failures, is_new, names_of, open_names, run_ab
from bench.gate.blocks import METRICS, Blocks, Work, work_of
from bench.gate.progress import BlockDisplay
from bench.gate.selftest import evaluate, self_test, sentences, this_version
from bench.gate.versions import prepared
from bench.stats.gate import FIRST_BLOCKS, SECOND_BLOCKS
from bench.suite import load_config

from .records import commit

CONFIG = """
[suites.ci]
datasets = ["digits"]
models = ["tiny", "broken"]
baselines = []
budget = { steps = 5 }
batch_size = 8
sample_batch = 8
metrics = ["kernel"]

[models.tiny]
class = "my_models:Tiny"
[models.broken]
class = "my_models:Broken"
"""
MODELS = """
import torch
from bench import GenerativeModel

class Tiny(GenerativeModel):
    def __init__(self, space, **config):
        super().__init__(space, **config)
        self.layer = torch.nn.Linear(64, 64)
    def work(self, repeat):
        x = torch.ones(256, 64)
        for _ in range(repeat):
            x = self.layer(x).tanh()
        return x
    def train_step(self, batch, progress):
        return {"loss": self.work(20).sum().detach()}
    def sample(self, n, generator, **options):
        self.work(REPEAT)
        return generator.randn(*self.space.shape)

class Broken(Tiny):
    def sample(self, n, generator, **options):
        FAIL
        return super().sample(n, generator)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Two commits: in the second, Tiny samples three times as slowly and Broken raises."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "benchmarks.toml").write_text(CONFIG)
    for repeat, fail in ((40, "pass"), (120, "raise ValueError('shape mismatch')")):
        (folder / "my_models.py").write_text(MODELS.replace("REPEAT", str(repeat)).replace("FAIL", fail))
        commit(folder, f"repeat {repeat}")
    return folder


def work(repository, metrics=tuple(METRICS)):
    return work_of(load_config(repository / "benchmarks.toml"), "ci", metrics, "cpu")


def test_a_real_block_sees_the_slowdown_the_failure_and_each_version_s_own_code(repository, monkeypatch, tmp_path):
    monkeypatch.chdir(repository)
    with prepared("HEAD~1", ".") as (base, head):
        checkout = base.root
        assert os.path.isfile(os.path.join(checkout, "my_models.py"))
        assert base.label.startswith("HEAD~1 (")
        seen = []
        blocks = Blocks(work(repository), {"base": base, "head": head, "control": base}, tmp_path, seen.append)
        [block] = blocks.take(1, 1, ["digits/tiny", "digits/broken"])
    assert not os.path.exists(checkout)
    assert seen == [block]
    ratios, control = block["ratios"]["head"]["digits/tiny"], block["ratios"]["control"]["digits/tiny"]
    assert ratios["sampling_throughput"] == pytest.approx(-math.log(3), abs=0.5)
    assert abs(ratios["training_throughput"]) < 0.4
    assert abs(control["sampling_throughput"]) < 0.4
    assert 100 < block["values"]["base"]["digits/tiny"]["peak_memory_sampling"] < 4000
    assert failures([block]) == {"digits/broken": ("head", "ValueError: shape mismatch")}
    assert ("digits/broken", "sampling_throughput") not in names_of([block])
    assert block["sources"]["base"] == block["sources"]["control"] != block["sources"]["head"]
    # stored: the same block is not measured again
    assert Blocks(work(repository), {"base": base, "head": head, "control": base}, tmp_path).take(
        1, 1, ["digits/tiny"]
    ) == [block]


def test_an_environment_brings_its_own_python_and_an_installed_copy_is_refused(repository, monkeypatch, tmp_path):
    """`environment` is a folder with another path to this interpreter, as a second virtual environment has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "environment" / "bin").mkdir(parents=True)
    script = tmp_path / "environment" / "bin" / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    config = tmp_path / "benchmarks.toml"
    config.write_text(CONFIG.replace('"tiny", "broken"', '"noise"').partition("[models.tiny]")[0])
    plain = work_of(load_config(config), "ci", ["sampling_throughput"], "cpu")
    with prepared(".", "environment") as (base, head):
        assert (base.python, head.python) == (sys.executable, str(script))
        with pytest.raises(BenchError, match="'\\.' holds none of the packages that are measured"):
            Blocks(plain, {"base": base, "head": head}, tmp_path).take(1, 1, ["digits/noise"])


def test_what_is_no_version_is_one_sentence(repository, monkeypatch):
    monkeypatch.chdir(repository)
    for text, says in (("no-such-branch", "neither a git revision"), ("benchmarks.toml", "no Python interpreter")):
        with pytest.raises(BenchError, match=says), prepared(text, "."):
            pass


def synthetic(rng, count, slower, stage=1, noise=0.02, control=0.0, cell="digits/tiny"):
    """Blocks as block.py would give them: sampling ``slower`` times as slow in head."""
    blocks = []
    for index in range(count):

        def ratio(shift):
            return {
                cell: {"sampling_throughput": rng.normal(shift, noise), "training_throughput": rng.normal(0, noise)}
            }

        value = {cell: {"sampling_throughput": 1000.0, "training_throughput": 500.0}}
        blocks.append({
            "stage": stage, "index": index, "cells": [cell], "metrics": ["sampling_throughput", "training_throughput"], "load": 0.5, "seconds": 1.0, "seed": 0, "sources": {},
            "values": dict.fromkeys(("base", "head", "control"), value), "failed": {"base": {}, "head": {}, "control": {}},
            "ratios": {"base": {}, "head": ratio(-math.log(slower)), "control": ratio(control)},
        })  # fmt: skip
    return blocks


FAMILY = [("digits/tiny", "sampling_throughput"), ("digits/tiny", "training_throughput")]
MARGINS = dict.fromkeys(FAMILY, 0.05)


def outcome(rng, **changes):
    first, second = synthetic(rng, FIRST_BLOCKS, **changes), synthetic(rng, SECOND_BLOCKS, **changes)
    again = open_names(first, FAMILY, MARGINS)
    return {line.metric: line for line in decide(first, second, again, FAMILY, MARGINS)}


def test_decisions_on_synthetic_blocks():
    rng = np.random.default_rng(0)
    slow = outcome(rng, slower=1.15)
    assert slow["sampling_throughput"].verdict == "worse"
    assert slow["sampling_throughput"].change.value == pytest.approx(1 / 1.15 - 1, abs=0.03)
    assert (
        slow["sampling_throughput"].change.low
        < slow["sampling_throughput"].change.value
        < slow["sampling_throughput"].change.high
    )
    assert slow["training_throughput"].verdict == "equivalent"
    assert outcome(rng, slower=1.0)["sampling_throughput"].verdict == "equivalent"
    assert outcome(rng, slower=0.8)["sampling_throughput"].verdict == "better"
    drifting = outcome(rng, slower=1.15, control=-0.06)["sampling_throughput"]
    assert drifting.verdict == "inconclusive"
    assert "too noisy" in drifting.reason


def test_the_self_test_counts_alarms_and_power():
    """Six unchanged metrics; the 1000 runs of 20 metrics are simulated in tests/stats and in the documents' script."""
    rng = np.random.default_rng(1)

    def ratios():
        return {
            f"digits/m{i}": {m: rng.normal(0, 0.03) for m in ("sampling_throughput", "training_throughput")}
            for i in range(3)
        }

    def run():
        return tuple(
            [
                {**block, "ratios": {"base": {}, "head": ratios(), "control": ratios()}}
                for block in synthetic(rng, count, 1.0)
            ]
            for count in (FIRST_BLOCKS, SECOND_BLOCKS)
        )

    found = evaluate([run() for _ in range(20)], dict.fromkeys(METRICS, 0.05))
    assert found.alarms.value == 0
    assert found.caught[0.05].value < 0.02
    assert found.caught[0.10].value > 0.6
    assert found.caught[0.20].value > 0.99
    assert "false alarms: 0 of 20 (0 per 100, 95 % interval 0 to 16)" in "\n".join(sentences(found))


def test_the_bar_of_the_self_test_counts_each_stage_over_all_runs(monkeypatch, tmp_path):
    """Real display, blocks from the store of an interrupted run: two runs of both stages end with both bars full."""
    work = Work(
        "ci", ({"name": "digits/vae", "model_target": "a:B", "dataset_target": "c:D"},), tuple(METRICS), "cpu", 1, 9.0
    )
    version, rng, runs = this_version(), np.random.default_rng(0), 2
    key = provenance.short_hash(["self-test", version.identity, dataclasses.asdict(work), provenance.cpu_model()])
    for run in range(runs):
        folder = tmp_path / "ab" / f"self-test-{key}" / f"run-{run}"
        folder.mkdir(parents=True)
        lines = []
        for stage, count in ((1, FIRST_BLOCKS), (2, SECOND_BLOCKS)):
            for index in range(count):
                ratios = {"digits/vae": {m: rng.normal(0, 0.01) for m in METRICS}}
                lines.append({"stage": stage, "index": index, "cells": ["digits/vae"], "metrics": list(METRICS),
                              "ratios": {"head": ratios, "control": ratios}})  # fmt: skip
        (folder / "blocks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with BlockDisplay("test") as display:
        self_test(version, work, dict.fromkeys(METRICS, 0.05), runs, tmp_path, display.on_block)
        found = [(task.completed, task.total) for task in display._progress.tasks]
    assert found == [(runs * FIRST_BLOCKS,) * 2, (runs * SECOND_BLOCKS,) * 2]


def test_an_interrupted_run_goes_on_from_its_blocks_and_a_finished_one_starts_anew(repository, monkeypatch, tmp_path):
    monkeypatch.chdir(repository)
    rng = np.random.default_rng(2)
    task = work(repository, ("sampling_throughput", "training_throughput"))
    with prepared("HEAD~1", ".") as (base, head):
        folder = next_folder(base, head, task, tmp_path)
        stored = synthetic(rng, FIRST_BLOCKS, 1.3) + synthetic(rng, SECOND_BLOCKS, 1.3, stage=2)
        for block in stored:
            block["cells"] = ["digits/tiny", "digits/broken"]
            block["failed"]["head"]["digits/broken"] = "ValueError: shape mismatch"
        folder.mkdir(parents=True)
        (folder / "blocks.jsonl").write_text("".join(json.dumps(b) + "\n" for b in stored) + '{"torn')
        verdicts = run_ab(base, head, task, dict.fromkeys(METRICS, 0.05), tmp_path)
    found = {line.name: line.verdict for line in verdicts.lines}
    assert found == {
        "digits/tiny sampling_throughput": "worse", "digits/tiny training_throughput": "equivalent",
        "digits/broken sampling_throughput": "failed", "digits/broken training_throughput": "failed",
    }  # fmt: skip
    assert verdicts.exit_code == 1
    assert any("A/A control" in note for note in verdicts.notes)
    assert not (folder / "blocks.jsonl").exists()
    assert len(list(folder.glob("finished-*.jsonl"))) == 1


NEW_MODELS = """

class Fixed(Tiny):
    trains = False

class Torn(Tiny):
    def train_step(self, batch, progress):
        raise ValueError("no gradient")
"""


def test_a_model_that_base_does_not_have_is_new_and_one_that_fails_in_head_is_failed(
    repository, tmp_path_factory, monkeypatch, tmp_path
):
    """Real blocks: `fixed` and `torn` are in head only, `fixed` does not train; in base, sampling of `broken` raises."""
    folder = tmp_path_factory.mktemp("with-new-models")
    models = MODELS.replace("REPEAT", "40")
    text = CONFIG.replace('"tiny", "broken"', '"tiny", "broken", "fixed", "torn"')
    text += '[models.fixed]\nclass = "my_models:Fixed"\n[models.torn]\nclass = "my_models:Torn"\n'
    (folder / "benchmarks.toml").write_text(text)
    (folder / "my_models.py").write_text(models.replace("FAIL", "raise ValueError('old bug')"))
    commit(folder, "before")
    (folder / "my_models.py").write_text(models.replace("FAIL", "pass") + NEW_MODELS)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("bench.gate.ab.FIRST_BLOCKS", 2)
    monkeypatch.setattr("bench.gate.ab.open_names", lambda *arguments: [])
    with prepared("HEAD", ".") as (base, head):
        verdicts = run_ab(base, head, work(folder), dict.fromkeys(METRICS, 0.05), tmp_path)
    found = {}
    for line in verdicts.lines:
        found.setdefault(line.subject, {}).setdefault(line.verdict, set()).add(line.metric)
    assert found["digits/fixed"] == {"new": {"sampling_throughput", "peak_memory_sampling"}}, "it does not train"
    assert found["digits/torn"] == {"failed": set(METRICS)}
    assert found["digits/broken"] == {"not comparable": set(METRICS)}
    assert found["digits/tiny"].keys().isdisjoint({"new", "failed", "not comparable"})
    [line] = [line for line in verdicts.lines if line.name == "digits/fixed sampling_throughput"]
    assert line.reason.startswith("base does not have it: AttributeError: module 'my_models' has no attribute 'Fixed'")
    assert (line.base, line.head.value > 0, line.margin) == (None, True, 0.05)


def test_a_cell_is_new_only_where_both_arms_of_base_never_built_it_and_head_never_failed():
    def block(**arms):
        """arm -> how it failed."""
        return {
            "cells": ["c"],
            "failed": {arm: {"c": "error"} if arm in arms else {} for arm in ("base", "head", "control")},
            "unbuilt": {arm: {"c": "error"} for arm, how in arms.items() if how == "build"},
        }

    absent = block(base="build", control="build")
    assert is_new("c", [absent, absent, {**block(), "cells": ["another"]}])
    for other in (
        block(base="build"),
        block(base="run", control="run"),
        block(),
        block(base="build", control="build", head="run"),
    ):
        assert not is_new("c", [absent, other])
    assert failures([absent, block(head="run")])["c"][0] == "head", "that head fails weighs more than that base does"


def next_folder(base, head, task, results):
    """Where run_ab() keeps the blocks of these two versions."""
    import dataclasses

    from bench import provenance

    return (
        results
        / "ab"
        / provenance.short_hash([base.identity, head.identity, dataclasses.asdict(task), provenance.cpu_model()])
    )
