"""`bench statistics`, and what `bench score` and it show while they run and when they are stopped."""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench.data.digits import Digits
from bench.errors import BenchError
from bench.features.effnetlite0 import EfficientNetLite0Extractor
from bench.features.reference import Provenance, ReferenceStatistics
from bench.foreign import score_images
from bench.foreign_statistics import write_statistics
from bench.report.image_progress import ImageProgress
from bench.report.scores import scores_json, scores_renderable
from tests.foreign.places import as_folder, as_npy


def run(place, *words, **more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "bench.cli", *map(str, words)]
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def test_written_statistics_stand_for_their_images(digits, tmp_path):
    """The distance of 250 images to a file is that to its 250 images: 112 dimensions, so no covariance is singular."""
    reference = as_folder(digits.train[:250], tmp_path / "reference")
    samples = as_npy(digits.train[250:500], tmp_path)
    done = run(tmp_path, "statistics", "reference", "--output", "stats")
    said, complaints = done.communicate(timeout=90)
    assert done.returncode == 0, complaints
    assert said == "stats.npz: 250 images of reference, layer 'mid' of effnetlite0 (112 numbers)\n"
    assert complaints == ""
    due, found = (score_images(samples, each, ("frechet",)) for each in (reference, tmp_path / "stats.npz"))
    assert found.measurements[0].name == due.measurements[0].name
    assert float(found.measurements[0]) == pytest.approx(float(due.measurements[0]), rel=1e-10)
    extractor = EfficientNetLite0Extractor()
    about = ReferenceStatistics.load(tmp_path / "stats.npz").provenance
    assert about == Provenance(
        "effnetlite0",
        extractor.version,
        "mid",
        "reference",
        due.reference.sha256,
        weights_sha256=extractor.fingerprint,
        resize="clean",
    )
    text = io.StringIO()
    Console(file=text, width=120).print(scores_renderable(found))
    assert "against " + str(tmp_path / "stats.npz") + " (statistics of 250 images)" in " ".join(text.getvalue().split())
    assert "floor  " not in text.getvalue()
    content = json.loads(scores_json(found))
    assert content["reference"]["sha256"] == due.reference.sha256
    assert content["reference"]["statistics"]["weights_sha256"] == extractor.fingerprint

    refused = run(tmp_path, "statistics", "reference", "--output", "stats.npz")
    _, complaints = refused.communicate(timeout=90)
    assert refused.returncode == 2
    assert complaints == "bench: stats.npz is there already; give --force to write over it, or another name\n"


def test_statistics_of_splits_and_layers_and_what_cannot_be(digits, sets, tmp_path):
    train, made, _ = write_statistics("digits", tmp_path / "train", split="train", layer="final")
    assert (made.n, made.provenance.split, made.provenance.data) == (
        len(Digits().load().train),
        "train",
        "digits (train)",
    )
    assert len(made.mu) == 1280
    folder = as_folder(sets[0], tmp_path / "samples")
    whole = (folder / "000.png").read_bytes()
    (folder / "000.png").write_bytes(whole[: len(whole) // 2])
    _, made, warnings = write_statistics(folder, tmp_path / "few.npz")
    assert made.n == 59
    assert "1 corrupt, left out: 000.png" in warnings[0]
    assert "59 images are few for 112 dimensions" in warnings[1]
    for reference, more, said in (
        (folder, {"strict": True}, r"000\.png is not a readable image"),
        ("digits", {"split": "val"}, "known: test, train"),
        ("digits", {"layer": "middle"}, "has no layer 'middle'; it has final, mid, logits$"),
        (train, {}, "holds statistics already"),
        ("digts", {}, "did you mean 'digits'"),
    ):
        with pytest.raises(BenchError, match=said):
            write_statistics(reference, tmp_path / "new.npz", **more)
    assert not (tmp_path / "new.npz").exists()
    write_statistics(sets[0], tmp_path / "few.npz", force=True)
    assert ReferenceStatistics.load(tmp_path / "few.npz").n == 60


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"extractor_version": "effnetlite0 weights=0000000000000000 resize=clean"}, "were made with .*weights=0000"),
        ({"extractor_version": "effnetlite0 weights=x resize=legacy_pytorch"}, "resize=legacy_pytorch"),
        ({"layer": "final"}, "cannot be compared with layer 'final'"),
    ],
)
def test_statistics_of_other_weights_resizing_or_layers_are_refused(change, said, sets, tmp_path):
    path, made, _ = write_statistics(sets[1], tmp_path / "own.npz")
    other = dataclasses.replace(made, provenance=dataclasses.replace(made.provenance, **change))
    with pytest.raises(BenchError, match=said) as error:
        score_images(sets[0], other.save(path), ("frechet",))
    assert "\n" not in str(error.value)


def test_an_interrupted_command_says_one_sentence(tmp_path):
    """Stopped while the second piece of 512 images is computed; the first is in the cache."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "many.npy", rng.integers(0, 256, (3000, 32, 32, 3), dtype=np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        done = run(tmp_path, "score", "many.npy", "--reference", "many.npy", "--metrics", "kernel")
        until = time.monotonic() + 90
        while not list(tmp_path.glob("cache/gen-bench/features/*.npz")) and time.monotonic() < until:
            time.sleep(0.02)
        done.send_signal(signal.SIGINT)
        said, complaints = done.communicate(timeout=60)
    assert done.returncode == 130
    assert said == ""
    assert complaints.strip() == (
        "bench: interrupted; features that are in the cache by now are not computed again by the same command"
    )


def test_a_bar_on_a_terminal_and_nothing_in_a_pipe():
    for terminal in (True, False):
        text = io.StringIO()
        with ImageProgress(Console(file=text, force_terminal=terminal, width=100)) as progress:
            progress.phase("features of the [samples]")
            progress.images(150, 600)
        shown = text.getvalue()
        assert ("150/600 images" in shown and "features of the [samples]" in shown) if terminal else shown == ""
