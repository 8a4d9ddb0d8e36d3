"""`bench score`: anybody's images, from every kind of place, with the warnings that belong to them."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import bench
from bench.data.digits import Digits
from bench.data.sources import EncodedImages
from bench.errors import BenchError
from bench.features.classifier import DatasetClassifier
from bench.features.effnetlite0 import EfficientNetLite0Extractor
from bench.features.extract import extract
from bench.features.files import extract_files
from bench.foreign import score_images
from bench.foreign_images import colour_key
from bench.metrics import frechet_distance, kernel_distance
from bench.report.numbers import format_number
from bench.report.scores import scores_json, scores_renderable
from tests.foreign.places import as_folder, as_npy, as_npz, as_zip

METRICS = ("frechet", "kernel")


@pytest.fixture(scope="module")
def expected(sets):
    return score_images(*sets, METRICS).measurements


@pytest.mark.parametrize("form", [as_folder, as_zip, as_npz, as_npy])
def test_every_kind_of_place_gives_the_same_numbers(form, sets, expected, tmp_path):
    place = tmp_path / "samples"
    place.mkdir()
    scores = score_images(form(sets[0], place), sets[1], METRICS)
    assert [m.name for m in scores.measurements] == [m.name for m in expected]
    for found, due in zip(scores.measurements, expected):
        assert float(found) == pytest.approx(float(due), rel=1e-4, nan_ok=True)
        assert found.n == 60


def test_the_frame_has_intervals_floor_and_warnings(sets):
    frame = bench.score(sets[0], sets[1], metrics=("kernel",))
    assert list(frame.metric) == ["kid_effnetlite0"]
    row = frame.iloc[0]
    assert row.low <= row.value <= row.high
    assert row.n == 60
    assert row.direction == "lower"
    assert np.isfinite(row.floor)
    assert isinstance(frame.attrs["warnings"], list)


def test_a_data_set_is_a_reference_and_copies_of_its_training_half_are_said(digits):
    scores = score_images(digits.train[:60], "digits", ("kernel",))
    assert scores.reference.name == "digits (test)"
    assert "60 of 60 samples equal a training image pixel by pixel" in scores.warnings
    assert "training images against the reference" in scores.floor_means


def test_a_classifier_of_the_reference_reads_the_samples_as_in_a_suite(digits, tmp_path):
    scores = score_images(digits.test[:60], "digits", ("kernel",), "dataset-classifier")
    data = Digits().load()
    classifier = DatasetClassifier(data)
    fake, real = (extract(images, classifier)["features"] for images in (digits.test[:60], data.test))
    (found,) = scores.measurements
    assert found.name == "kid_dataset_classifier"
    assert float(found) == pytest.approx(float(kernel_distance(real, fake)), rel=1e-5)
    with pytest.raises(
        BenchError, match="'dataset-classifier' is trained on the labelled data of the reference; give the name"
    ):
        score_images(digits.test[:60], as_npy(digits.test[60:], tmp_path), ("kernel",), "dataset-classifier")


def test_options_that_an_extractor_does_not_have_are_named(sets):
    with pytest.raises(BenchError, match="extractor 'effnetlite0' has no option 'weights'"):
        score_images(*sets, ("kernel",), extractor_options={"weights": "w.pt"})


def test_a_narrow_terminal_shows_every_figure_whole(digits):
    scores = score_images(digits.test[:60], "digits", ("kernel", "prdc"))
    text = io.StringIO()
    Console(file=text, width=60).print(scores_renderable(scores))
    table = text.getvalue().split("floor:")[0]
    assert "…" not in table
    whole = {part for measurement in scores.measurements for part in measurement.name.split("_")}
    rows = re.split(r"─\s*\n", table)[1].splitlines()
    begun = {part for row in rows if row.strip() for part in row.split()[0].split("_") if part.isalnum()}
    assert begun <= whole  # names break behind underscores
    assert {"coverage", "kid", "effnetlite0"} <= begun
    for measurement in scores.measurements:
        figures = (measurement.value, measurement.low, measurement.high)
        assert all(format_number(figure, 4) in table for figure in figures if figure is not None)
        assert format_number(scores.floor[measurement.name].value, 3) in table


def test_the_verdict_on_memorisation_becomes_a_warning(digits):
    rng = np.random.default_rng(0)
    train = digits.train[:150]
    near = np.clip(train[:60].astype(int) + rng.integers(0, 2, train[:60].shape), 0, 255).astype(np.uint8)
    scores = score_images(near, digits.test[:60], ("memorisation",), train=train)
    assert any("closer to training images" in warning for warning in scores.warnings)
    honest = score_images(digits.test[60:120], digits.test[:60], ("memorisation",), train=train)
    assert not any("training" in warning for warning in honest.warnings)


def test_a_folder_named_like_a_data_set_is_no_training_set(sets, tmp_path, monkeypatch):
    as_folder(sets[1], tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    scores = score_images(sets[1][:40], "digits", ("kernel",))
    assert scores.train is None
    assert not any("training image" in warning for warning in scores.warnings)
    assert "images of the reference" in scores.floor_means


def test_training_images_of_other_sizes_leave_out_what_compares_pixels(sets, tmp_path):
    for i, image in enumerate(sets[1]):
        Image.fromarray(image[..., 0]).resize((16 + i % 3, 16)).save(tmp_path / f"{i:03}.png")
    scores = score_images(*sets, ("collapse", "ms-ssim-diversity"), train=tmp_path)
    assert any(m.name.startswith("collapsed") for m in scores.measurements), "from features alone"
    assert not any("left out" in warning for warning in scores.warnings)
    large = np.repeat(np.repeat(sets[1], 2, axis=1), 2, axis=2)
    scores = score_images(sets[0], large, ("ms-ssim-diversity", "kernel"))
    said = "ms-ssim-diversity left out: it needs images of one size and as many channels in all sets"
    assert said in scores.warnings


def test_mixed_sizes_and_modes_are_scored(sets, tmp_path):
    rng = np.random.default_rng(1)
    for i, image in enumerate(sets[0]):
        picture = Image.fromarray(image[..., 0])
        if i % 3 == 1:
            picture = picture.convert("RGB").resize((24, 20))
        elif i % 3 == 2:
            picture = picture.convert("RGBA")
            picture.putalpha(int(rng.integers(0, 255)))
        picture.save(tmp_path / f"{i:03}.png")
    scores = score_images(tmp_path, sets[1], METRICS)
    assert len(scores.measurements) == 3
    assert scores.measurements[-1].n == 60
    said = f"20 of 60 images from {tmp_path} had transparency, which was dropped, as clean-fid and pytorch-fid do"
    assert said in scores.warnings
    assert json.loads(scores_json(scores))["samples"]["transparency_dropped"] == 20

    extractor = EfficientNetLite0Extractor()
    streamed = extract_files(EncodedImages(tmp_path), extractor, batch_size=16).features
    as_rgb = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(tmp_path.iterdir())]
    alone = np.concatenate([extract(image[None], extractor)["mid"] for image in as_rgb])
    assert np.linalg.norm(streamed["mid"] - alone) < 1e-5 * np.linalg.norm(alone)
    due = frechet_distance(extract(sets[1], extractor, batch_size=16)["mid"], streamed["mid"])
    assert float(scores.measurements[0]) == pytest.approx(float(due), rel=1e-6)
    assert float(scores.measurements[0]) == pytest.approx(
        float(frechet_distance(extract(sets[1], extractor)["mid"], alone)), rel=1e-3
    )


def test_a_folder_is_held_in_memory_only_where_a_metric_looks_at_pixels(sets, tmp_path, monkeypatch):
    from bench import foreign_images

    asked = []
    load = foreign_images.load_images
    monkeypatch.setattr(
        foreign_images, "load_images", lambda *words, **more: asked.append(words) or load(*words, **more)
    )
    samples, reference = (as_folder(images, tmp_path / name) for name, images in zip("ab", sets, strict=True))
    score_images(samples, reference, ("kernel", "vendi"))
    assert asked == []
    scores = score_images(samples, reference, ("kernel", "ms-ssim-diversity"))
    assert len(asked) == 2  # the samples, and the reference for the floor
    direct = score_images(load(samples)[0], load(reference)[0], ("kernel", "ms-ssim-diversity"))
    assert [m.name for m in scores.measurements] == [m.name for m in direct.measurements]
    assert [float(m) for m in scores.measurements] == pytest.approx([float(m) for m in direct.measurements], rel=1e-4)


def test_every_set_is_counted_to_its_end(digits, tmp_path):
    seen = {}
    phases = []

    def on_images(done, total):
        seen.setdefault(phases[-1], []).append((done, total))

    score_images(
        as_folder(digits.test[:60], tmp_path / "x"),
        digits.test[60:110],
        ("kernel",),
        train=digits.train[:30],
        on_phase=phases.append,
        on_images=on_images,
    )
    assert {phase: counts[-1] for phase, counts in seen.items()} == {
        "features of the samples": (60, 60),
        "features of the reference": (50, 50),
        "reading the training images": (30, 30),
        "features of the training images": (30, 30),
    }


def test_a_corrupt_image_is_named_counted_and_with_strict_stops(sets, tmp_path):
    folder = as_folder(sets[0], tmp_path / "samples")
    whole = (folder / "000.png").read_bytes()
    (folder / "000.png").write_bytes(whole[: len(whole) // 2])
    scores = score_images(folder, sets[1], ("kernel",))
    assert scores.measurements[0].n == 59
    (said,) = [warning for warning in scores.warnings if "corrupt" in warning]
    assert "1 corrupt, left out: 000.png" in said
    assert any("59 samples against 60 reference images" in warning for warning in scores.warnings)
    with pytest.raises(BenchError, match=r"000\.png"):
        score_images(folder, sets[1], ("kernel",), strict=True)


def test_jpeg_against_png_and_few_samples_are_said(sets, tmp_path):
    scores = score_images(
        as_folder(sets[0], tmp_path / "jpeg", "jpg"), as_folder(sets[1], tmp_path / "png"), ("frechet",)
    )
    said = f"{tmp_path}/jpeg holds 100% JPEG and {tmp_path}/png 0%: the distance also measures JPEG artefacts"
    assert said in scores.warnings
    assert any("too few for 112 dimensions" in warning for warning in scores.warnings)


def test_the_command_writes_a_table_and_json(sets, tmp_path):
    np.save(tmp_path / "samples.npy", sets[0])
    np.save(tmp_path / "reference.npy", sets[1])
    words = ["score", "samples.npy", "--reference", "reference.npy", "--metrics", "kernel", "--json", "scores.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert "kid_effnetlite0" in done.stdout
    assert "floor:" in done.stdout
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["format"] == "gen-bench scores 1"
    assert content["bench"] == version("gen-bench")
    assert content["samples"] == {
        "name": "samples.npy",
        "n": 60,
        "sha256": hashlib.sha256(b"".join(colour_key(image) for image in sets[0])).hexdigest(),
        "formats": {"array": 60},
        "corrupt": [],
        "transparency_dropped": 0,
    }
    assert content["reference"]["sha256"] != content["samples"]["sha256"]
    assert content["train"] is None
    made = EfficientNetLite0Extractor()
    assert content["extractor"] == {
        "name": "effnetlite0",
        "version": made.version,
        "weights_sha256": made.fingerprint,
        "resize": "clean",
        "precision": "float32",
    }
    assert made.fingerprint in made.version
    assert (content["seed"], content["device"]) == (0, "cpu")
    (measured,) = content["measurements"]
    assert measured["low"] <= measured["value"] <= measured["high"]
    assert content["floor"]["measurements"][0]["name"] == "kid_effnetlite0"


def test_names_with_brackets_are_shown_as_they_are(digits, tmp_path):
    folder = tmp_path / "run [1] x[" / "b]"
    folder.mkdir(parents=True)
    scores = score_images(as_npy(digits.test[:60], folder), "digits", ("kernel",))
    text = io.StringIO()
    Console(file=text, width=400).print(scores_renderable(scores))
    assert "".join(f"{folder}/images.npy (60 images) against".split()) in "".join(
        text.getvalue().split()
    )  # lines break at blanks


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm", "timm:resnet18"),
        ("timm:no_such_net", "no_such_net"),
        ("dinov2-vits14", "vits14"),
        ("clip-vitb32", "vitb32"),
        ("inception-legacy_tensorflow", "inception"),
        ("inception-sharp", "sharp"),
    ],
)
def test_extractors_that_come_in_kinds_have_one_name(name, said, sets, monkeypatch, tmp_path):
    """Without their weights on this machine, the sentence names what was asked for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BenchError, match=said):
        score_images(sets[0], sets[1], ("kernel",), name)


def test_a_faster_extractor_is_used_only_after_a_printed_check(sets):
    scores = score_images(sets[0], sets[1], ("kernel",), speed="bfloat16")
    assert re.match(r"extractor in bfloat16: Frechet distance changes by .*(allowed|refused)", scores.warnings[0])
    exact = score_images(sets[0], sets[1], ("kernel",))
    assert float(scores.measurements[0]) == pytest.approx(float(exact.measurements[0]), rel=0.05, abs=0.01)
    assert not any("extractor in" in warning for warning in exact.warnings)


def test_speeds_that_do_not_exist_or_cannot_be_checked_are_refused(sets, tmp_path):
    with pytest.raises(BenchError, match="unknown speed 'bf16'"):
        score_images(sets[0], sets[1], ("kernel",), speed="bf16")
    np.savez(tmp_path / "s.npz", mu=np.zeros(1280), sigma=np.eye(1280))
    with pytest.raises(BenchError, match="leave it out"):
        score_images(sets[0], tmp_path / "s.npz", ("frechet",), speed="bfloat16")


def test_damaged_npz_files_are_one_sentence(sets, tmp_path):
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + b"x" * 100)
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    for name in ("cut", "array"):
        with pytest.raises(BenchError, match=f"{name}.npz"):
            score_images(tmp_path / f"{name}.npz", sets[1], ("kernel",))


def test_copies_saved_in_colour_are_copies(digits):
    copies = np.repeat(digits.train[:40], 3, axis=3)
    scores = score_images(copies, digits.test[:60], ("kernel",), train=digits.train[:30])
    assert any("30 of 40 samples equal a training image" in warning for warning in scores.warnings)
