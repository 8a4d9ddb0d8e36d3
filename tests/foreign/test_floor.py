"""The floor of `bench score`: what it is taken from, what may be held against it, and what makes sets dependent."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import bench
from bench.data.mnist import StackedMnist
from bench.data.shapes import Shapes
from bench.errors import BenchError
from bench.foreign import score_images
from bench.foreign_features import Choice
from bench.foreign_floor import floor_sets, held_against
from bench.foreign_images import load_set
from bench.record import Measurement
from bench.report.scores import scores_renderable
from bench.suite import Config
from tests.foreign.places import as_folder

NAMES = ("fd_x", "fd_corrected_x", "kid_x", "vendi_x", "precision_x")


def held(fake, real, all_fake=100, all_real=200):
    sets = [
        {side: Choice(None, side, np.arange(n)) for side, n in (("fake", a), ("real", b))}
        for a, b in ((fake, real), (all_fake, all_real))
    ]
    found, said = held_against([Measurement(1.0, name=name) for name in NAMES], *sets)
    return list(found), said


def test_what_depends_on_the_number_of_images_has_no_floor_of_other_numbers():
    assert held(100, 200) == (list(NAMES), [])
    kept, (said,) = held(100, 185)
    assert kept == list(NAMES)
    assert said == (
        "floor: taken with 100 images against 185, not 100 against 200; so it is a little off for fd_x, vendi_x, precision_x"
    )
    for sizes in ((100, 100), (80, 200)):
        kept, (said,) = held(*sizes)
        assert kept == ["fd_corrected_x", "kid_x"]
        assert said.endswith("so these, which depend on the number of images, have none: fd_x, vendi_x, precision_x")


def test_the_floor_without_training_images_leaves_as_many_others_as_it_can(sets):
    reference = load_set(sets[1], "test", Config(suites={}))
    for n, taken, rest in ((5, 5, 55), (60, 30, 30)):
        whole = {
            "fake": Choice(load_set(sets[0][:n], "test", Config(suites={})), "fake"),
            "real": Choice(reference, "real"),
        }
        found, means = floor_sets(whole, None, 0)
        assert (len(found["fake"]), len(found["real"])) == (taken, rest)
        assert means == f"{taken} images of the reference against {rest} others of it"
        assert not set(found["fake"].rows) & set(found["real"].rows)


def test_the_table_and_the_frame_show_the_interval_of_the_floor(sets):
    scores = score_images(*sets, ("kernel", "vendi"), train=sets[1][:0:-1])
    assert any("floor: taken with 59 images against 60, not 60 against 60" in warning for warning in scores.warnings)
    frame = scores.to_frame().set_index("metric")
    row = frame.loc["kid_effnetlite0"]
    assert row.floor_low < row.floor < row.floor_high
    assert row.floor_n == 59
    text = io.StringIO()
    Console(file=text, width=140).print(scores_renderable(scores))
    (line,) = (line for line in text.getvalue().splitlines() if line.strip().startswith("kid"))
    assert "±" in line
    halved = bench.score(*sets, metrics=("kernel", "vendi")).set_index("metric")
    assert np.isfinite(halved.floor["kid_effnetlite0"]) or halved.floor_n["kid_effnetlite0"] == 30
    assert halved.floor.filter(like="vendi").isna().all()


def test_images_that_stand_in_two_sets_or_twice_are_said(digits):
    test, train = digits.test, digits.train
    samples = np.concatenate([test[:20], train[:40], train[:5]])
    scores = score_images(samples, test[:60], "kernel", train=np.concatenate([train[:100], test[:3]]))
    for said in (
        "20 of 65 samples equal a reference image: the sets are not independent and intervals do not hold",
        "5 of 65 samples repeat another one pixel by pixel: intervals take samples for independent",
        "3 of 60 reference images are training images, too: copies of them pass for good samples",
        "48 of 65 samples equal a training image pixel by pixel",
    ):
        assert said in scores.warnings


def test_pictures_that_are_none_are_said(sets, tmp_path):
    scores = score_images((sets[0] > 127).astype(np.uint8), sets[1], "kernel")
    assert any(warning.startswith("no pixel of array is above 1 of 255") for warning in scores.warnings)
    grey = as_folder(np.full((60, 8, 8, 1), 7, np.uint8), tmp_path / "grey")
    scores = score_images(grey, sets[1], "kernel")
    assert f"all pixels of {grey} are 7: look at the images" in scores.warnings


def test_shares_of_jpeg_are_said(sets, tmp_path):
    mixed = as_folder(sets[0][:53], tmp_path / "mixed")
    for i, image in enumerate(sets[0][53:]):
        Image.fromarray(image[..., 0]).save(mixed / f"j{i}.jpg")
    scores = score_images(mixed, as_folder(sets[1], tmp_path / "jpeg", "jpg"), "kernel")
    said = f"{mixed} holds 12% JPEG and {tmp_path}/jpeg 100%: the distance also measures JPEG artefacts"
    assert said in scores.warnings


def test_where_nothing_can_be_measured_there_is_no_table(sets, tmp_path):
    with pytest.raises(
        BenchError, match=r"^nothing could be measured: memorisation: it needs the training images, which"
    ):
        score_images(*sets, "memorisation")
    np.save(tmp_path / "a.npy", sets[0])
    words = "score a.npy --reference a.npy --metrics memorisation,modes,codes"
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", *words.split()], cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "--train" in done.stderr


CONFIG = """
[suites]
[datasets.sprites]
dataset = "shapes"
options = { size = 600, test_size = 200 }
[datasets.stacked]
dataset = "stacked-mnist"
options = { resolution = 16, size = 2000, test_size = 1000 }
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path / "c.toml"


def test_what_is_known_of_a_named_reference_reaches_its_metrics(config):
    data = Shapes(size=600, test_size=200).load()
    scores = score_images(data.train[:200], "sprites", ("modes", "kernel"), config=config)
    found = {m.name: m for m in scores.measurements}
    assert found["factor_coverage_shape"] == 1
    assert found["sprite_error"] < 1
    assert "sprite_error" in scores.floor
    assert not any("left out" in warning for warning in scores.warnings)
    small = score_images(data.train[:60, ::2, ::2], "sprites", ("modes", "kernel"), config=config)
    assert "modes left out: it needs images of one size and as many channels in all sets" in small.warnings


@pytest.mark.slow
def test_modes_of_stacked_digits_are_counted(config):
    """By a classifier of its training images; the floor is counted by the same one."""
    data = StackedMnist(resolution=16, size=2000, test_size=1000).load()
    scores = score_images(data.train[:300], "stacked", ("stacked-modes",), config=config)
    found = {m.name: float(m) for m in scores.measurements}
    assert found["modes_captured"] > 150
    assert found["mode_classifier_accuracy"] == float(scores.floor["mode_classifier_accuracy"]) > 0.5
