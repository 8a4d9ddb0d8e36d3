"""Images in hand, and what `bench score` says to wrong inputs: one sentence that names the remedy."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bench
from bench.commands import scores as command
from bench.errors import BenchError
from tests.foreign.places import as_npy


def run(place, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-m", "bench.cli", *map(str, words)]
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, timeout=90)
    assert done.stdout == ""
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_grey_arrays_and_tensors_are_images(sets):
    due = bench.score(*sets, metrics="kernel").value[0]
    for samples in (sets[0][..., 0], torch.from_numpy(sets[0]), torch.from_numpy(sets[0][..., 0])):
        assert bench.score(samples, sets[1], metrics="kernel").value[0] == pytest.approx(due)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x / 255, r"from 0 to 1: convert it with \(255 \* x\)\.round\(\)\.astype\(np\.uint8\)"),
        (lambda x: x / 127.5 - 1, r"from -1 to 1: convert it with \(127\.5 \* \(x \+ 1\)\)\.round\(\)\.astype"),
        (lambda x: x.astype(np.float32), r"from 0 to 255: convert it with x\.astype\(np\.uint8\)"),
        (lambda x: x.astype(np.int64), r"from 0 to 255: convert it with x\.astype\(np\.uint8\)"),
        (lambda x: x * 0.99, r"convert it with x\.round\(\)\.astype\(np\.uint8\)"),
        (lambda x: x * 2.0, r"from 0 to 510: scale it to 0 \.\.\. 255"),
        (lambda x: np.where(x > 9, np.nan, x), "NaN or infinity"),
        (lambda x: x > 9, r"x\.astype\(np\.uint8\) \* 255"),
        (
            lambda x: torch.from_numpy(x / 255).bfloat16(),
            r"got torch\.bfloat16 .* with \(255 \* x\)\.round\(\)\.to\(torch\.uint8\)",
        ),
        (lambda x: torch.from_numpy(np.moveaxis(x, -1, 1).copy()), r"transpose it with x\.permute\(0, 2, 3, 1\)"),
        (lambda x: np.moveaxis(x, -1, 1), r"transpose it with np\.moveaxis\(x, 1, -1\)"),
        (lambda x: x[0, ..., 0], r"has the shape \(16, 16\)"),
        (lambda x: x[:0], "is empty"),
        (lambda x: [x], "must be a uint8 array or tensor .* not list"),
    ],
)
def test_arrays_that_are_no_images_are_told_what_would_be(change, said, sets):
    with pytest.raises(BenchError, match=said) as error:
        bench.score(change(sets[0]), sets[1], metrics="kernel")
    assert "\n" not in str(error.value)


def test_a_file_of_floats_is_told_the_same(sets, tmp_path):
    with pytest.raises(BenchError, match=r"from 0 to 1: convert it with .*, and save it again"):
        bench.score(as_npy(sets[0] / 255, tmp_path), sets[1], metrics="kernel")


def test_a_target_that_cannot_be_written_is_found_before_the_work(sets, tmp_path, monkeypatch):
    as_npy(sets[0], tmp_path)
    words = ("score", "images.npy", "--reference", "images.npy", "--json")
    assert run(tmp_path, *words, ".") == "bench: --json: '.' is a folder; name a file\n"
    assert "as '" + str(tmp_path / "images.npy") + "' is a file" in run(tmp_path, *words, "images.npy/x.json")
    assert "--output: '.' is a folder" in run(tmp_path, "statistics", "images.npy", "--output", ".")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BenchError, match="read-only"):
        command._check_target("--json", tmp_path / "x.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("score images.npy", "Missing option '--reference' (see `bench score --help`)"),
        ("nope", "(see `bench --help`)"),
        (
            "score images.npy --reference images.npy --speed fast",
            "choose exact, bfloat16, compiled or bfloat16+compiled",
        ),
        ("statistics images.npy --output s --layer nolayer", "no layer 'nolayer'; it has final, mid, logits"),
    ],
)
def test_wrong_calls_name_what_there_is(words, said, sets, tmp_path):
    as_npy(sets[0], tmp_path)
    assert said in run(tmp_path, *words.split())


def test_keys_of_the_wrong_weights_are_counted(sets, tmp_path):
    timm = pytest.importorskip("timm")
    state = timm.create_model("resnet10t").state_dict()
    torch.save({f"x.{name}": value for name, value in state.items()}, tmp_path / "w.pt")
    with pytest.raises(BenchError, match=r'"x\.conv1\.1\.bias" and \d+ more\); give its own file'):
        bench.score(
            *sets, metrics="kernel", extractor="timm:resnet10t", extractor_options={"weights": str(tmp_path / "w.pt")}
        )


def test_statistics_of_samples_are_not_called_the_reference(sets, tmp_path):
    np.savez(tmp_path / "samples.npz", mu=np.zeros(112), sigma=np.eye(112))
    frame = bench.score(tmp_path / "samples.npz", sets[1], metrics="frechet")
    said = f"{tmp_path}/samples.npz does not say with which weights and resizing it was made"
    assert said in frame.attrs["warnings"]
