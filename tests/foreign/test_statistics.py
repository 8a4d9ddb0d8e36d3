"""`bench score` where one side, or both, is a file of statistics."""

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.features.effnetlite0 import EfficientNetLite0Extractor
from bench.features.extract import extract
from bench.features.reference import Provenance, ReferenceStatistics
from bench.foreign import score_images
from bench.metrics import frechet_distance
from bench.plan import extractor_named
from bench.scoring import make_extractor

METRICS = ("frechet", "kernel")


def test_statistics_are_a_reference_for_the_frechet_distance(sets, tmp_path):
    extractor = EfficientNetLite0Extractor()
    features = [extract(images, extractor, batch_size=16) for images in sets]
    path = ReferenceStatistics.of_features(
        features[1]["mid"], extractor, "mid", data="digits", data_sha256="0", split="test"
    ).save(tmp_path / "reference.npz")
    scores = score_images(sets[0], path, METRICS)
    (measured,) = scores.measurements
    assert measured.name == "fd_effnetlite0_mid"
    assert float(measured) == pytest.approx(
        float(frechet_distance(features[1]["mid"], features[0]["mid"], interval=False)), rel=1e-5
    )
    assert measured.low is None
    assert any("kernel left out" in warning for warning in scores.warnings)
    assert any("60 samples are few for 112 dimensions" in warning for warning in scores.warnings)

    mu, sigma = features[1]["mid"].mean(0), np.cov(features[1]["mid"], rowvar=False)
    np.savez(tmp_path / "foreign.npz", mu=mu, sigma=sigma)  # as pytorch-fid writes them
    foreign = score_images(sets[0], tmp_path / "foreign.npz", METRICS)
    assert float(foreign.measurements[0]) == pytest.approx(float(measured), rel=1e-5)
    assert any("does not say with which weights" in warning for warning in foreign.warnings)
    np.savez(tmp_path / "wide.npz", mu=np.zeros(7), sigma=np.eye(7))
    with pytest.raises(BenchError, match="7 numbers a row"):
        score_images(sets[0], tmp_path / "wide.npz", METRICS)


def test_statistics_of_any_layer_are_found_by_their_width(sets, tmp_path):
    """timm's networks have a layer ``features``; files of features, as of clean-fid, hold whatever layer."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet10t.pt")
    name, weights = "timm:resnet10t", {"weights": str(tmp_path / "resnet10t.pt")}
    extractor = make_extractor(extractor_named(name, weights), "cpu", None)
    features = extract(sets[1], extractor, batch_size=16)["features"]
    np.savez(tmp_path / "moments.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    np.savez(tmp_path / "rows.npz", feats=features)
    exact = frechet_distance(features, extract(sets[0], extractor, batch_size=16)["features"], interval=False)
    for file in ("moments.npz", "rows.npz"):
        scores = score_images(sets[0], tmp_path / file, ("frechet",), name, extractor_options=weights)
        assert scores.measurements[0].name.endswith("_features")
        assert float(scores.measurements[0]) == pytest.approx(float(exact), rel=1e-5)
    final = extract(sets[1], EfficientNetLite0Extractor(), batch_size=16)["final"]
    np.savez(tmp_path / "final.npz", feats=final)
    assert score_images(sets[0], tmp_path / "final.npz", ("frechet",)).measurements[0].name == "fd_effnetlite0_final"


def test_training_images_beside_statistics_are_said_to_be_unused(sets, tmp_path):
    np.savez(tmp_path / "wide.npz", mu=np.zeros(112), sigma=np.eye(112))
    scores = score_images(sets[0], tmp_path / "wide.npz", ("frechet",), train=sets[1])
    assert any("training images were not looked at" in warning for warning in scores.warnings)


def test_statistics_may_stand_for_samples_too(sets, tmp_path):
    extractor = EfficientNetLite0Extractor()
    features = [extract(images, extractor, batch_size=16)["mid"] for images in sets]
    paths = [
        ReferenceStatistics.of_features(each, extractor, "mid", data=name, data_sha256="0", split="test").save(
            tmp_path / f"{name}.npz"
        )
        for name, each in zip(("samples", "reference"), features, strict=True)
    ]
    exact = float(frechet_distance(features[1], features[0], interval=False))
    for samples, reference in ((paths[0], sets[1]), (paths[0], paths[1])):
        scores = score_images(samples, reference, METRICS)
        (measured,) = scores.measurements
        assert (measured.name, measured.n, measured.low) == ("fd_effnetlite0_mid", 60, None)
        assert float(measured) == pytest.approx(exact, rel=1e-5)
    final = extract(sets[1], extractor, batch_size=16)["final"]
    other = ReferenceStatistics.of_features(final, extractor, "final", data="x", data_sha256="0", split="test")
    with pytest.raises(BenchError, match="make both with one extractor and layer"):
        score_images(paths[0], other.save(tmp_path / "final.npz"), METRICS)
    np.savez(tmp_path / "foreign.npz", mu=features[1].mean(0), sigma=np.cov(features[1], rowvar=False))
    foreign = score_images(paths[0], tmp_path / "foreign.npz", METRICS)
    assert float(foreign.measurements[0]) == pytest.approx(exact, rel=1e-5)
    assert any("does not say with which weights" in warning for warning in foreign.warnings)


def test_a_statistics_file_that_is_no_covariance_is_refused(sets, tmp_path):
    for name, sigma in (("negative", -np.eye(1280)), ("beyond", np.ones((1280, 1280)) + np.eye(1280) * -0.5)):
        np.savez(tmp_path / f"{name}.npz", mu=np.zeros(1280), sigma=sigma)
        with pytest.raises(BenchError, match="no covariance"):
            score_images(sets[0], tmp_path / f"{name}.npz", ("frechet",))


@pytest.mark.parametrize(
    ("mode", "name"), [("clean", "fid"), ("legacy_tensorflow", "fd_inception_legacy_tensorflow_pool")]
)
def test_statistics_of_legacy_resizing_give_no_fid(mode, name, tmp_path):
    rng = np.random.default_rng(0)
    for which in ("a", "b"):
        about = Provenance(extractor="inception", extractor_version=f"inception weights=x resize={mode}", layer="pool")
        rows = rng.normal(size=(30, 4))
        ReferenceStatistics(rows.mean(0), np.cov(rows, rowvar=False), 30, about).save(tmp_path / f"{which}.npz")
    scores = score_images(tmp_path / "a.npz", tmp_path / "b.npz", ("frechet",))
    assert [m.name for m in scores.measurements] == [name]
