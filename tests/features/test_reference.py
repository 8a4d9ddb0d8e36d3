"""Reference statistics: round trip with provenance, foreign files, and files that must be refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.errors import BenchError
from bench.features.module import ModuleExtractor
from bench.features.reference import Provenance, ReferenceStatistics


@pytest.fixture
def extractor() -> ModuleExtractor:
    torch.manual_seed(0)
    return ModuleExtractor(nn.Sequential(nn.Flatten(), nn.Linear(48, 6)), 4, name="linear")


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng().normal(size=(40, 6)).astype(np.float32)


def made(features: np.ndarray, extractor: ModuleExtractor) -> ReferenceStatistics:
    return ReferenceStatistics.of_features(
        features, extractor, "features", data="digits", data_sha256="ab" * 32, split="test"
    )


def test_statistics_are_the_mean_and_the_unbiased_covariance(features: np.ndarray, extractor: ModuleExtractor) -> None:
    statistics = made(features, extractor)
    centred = features.astype(np.float64) - features.astype(np.float64).mean(0)
    np.testing.assert_allclose(statistics.mu, features.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.sigma, centred.T @ centred / 39, rtol=1e-10, atol=1e-12)


def test_a_round_trip_keeps_numbers_and_provenance(
    features: np.ndarray, extractor: ModuleExtractor, tmp_path: Path
) -> None:
    statistics = made(features, extractor)
    path = statistics.save(tmp_path / "new" / "digits")
    assert path == tmp_path / "new" / "digits.npz"
    assert [entry.name for entry in path.parent.iterdir()] == ["digits.npz"]
    again = ReferenceStatistics.load(path)
    np.testing.assert_array_equal(again.mu, statistics.mu)
    np.testing.assert_allclose(again.sigma, statistics.sigma, rtol=1e-15, atol=1e-18)
    assert again.n == 40
    assert again.provenance == statistics.provenance
    assert again.provenance.extractor_version == extractor.version
    assert again.require(extractor, "features") is None


def test_our_files_are_read_by_pytorch_fid(features: np.ndarray, extractor: ModuleExtractor, tmp_path: Path) -> None:
    scores = pytest.importorskip("pytorch_fid.fid_score")
    path = made(features, extractor).save(tmp_path / "ours.npz")
    mu, sigma = scores.compute_statistics_of_path(str(path), None, 1, 6, "cpu")
    np.testing.assert_array_equal(mu, made(features, extractor).mu)
    assert sigma.shape == (6, 6)


def test_files_of_pytorch_fid_and_clean_fid_are_read_with_a_note(
    features: np.ndarray, extractor: ModuleExtractor, tmp_path: Path
) -> None:
    mu, sigma = features.mean(0), np.cov(features, rowvar=False)
    np.savez(tmp_path / "stats.npz", mu=mu, sigma=sigma)
    statistics = ReferenceStatistics.load(tmp_path / "stats.npz", layer="features")
    np.testing.assert_allclose(statistics.mu, mu)
    np.testing.assert_allclose(statistics.sigma, sigma)
    assert statistics.n is None
    note = statistics.require(extractor, "features")
    assert note is not None
    assert "stats.npz does not say with which weights" in note


def test_features_of_clean_fid_become_statistics(features: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "kid.npz", feats=features)
    statistics = ReferenceStatistics.load(tmp_path / "kid.npz")
    np.testing.assert_allclose(statistics.sigma, np.cov(features.astype(np.float64), rowvar=False))
    assert statistics.n == 40


def test_adm_files_hold_two_layers_and_images_that_stay_closed(features: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "VIRTUAL_imagenet.npz"
    spatial = features[:, :3]
    images = np.empty(2, dtype=object)
    np.savez(
        path, arr_0=images, mu=features.mean(0), sigma=np.cov(features, rowvar=False),
        mu_s=spatial.mean(0), sigma_s=np.cov(spatial, rowvar=False),
    )  # fmt: skip
    assert len(ReferenceStatistics.load(path).mu) == 6
    statistics = ReferenceStatistics.load(path, layer="spatial")
    np.testing.assert_allclose(statistics.mu, spatial.mean(0))
    assert statistics.provenance == Provenance(layer="spatial", source=str(path))


def test_statistics_of_something_else_are_not_compared(features: np.ndarray, extractor: ModuleExtractor) -> None:
    statistics = made(features, extractor)
    with torch.no_grad():
        extractor.network.module[1].weight += 1  # type: ignore[operator,union-attr,index]
    other = ModuleExtractor(extractor.network.module, 4, name="linear")  # type: ignore[arg-type]
    with pytest.raises(BenchError, match="were made with"):
        statistics.require(other, "features")
    with pytest.raises(BenchError, match="cannot be compared with layer 'logits'"):
        statistics.require(extractor, "logits")


class Bomb:
    """Unpickling this would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.trace,))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    objects = np.empty(1, dtype=object)
    objects[0] = Bomb(trace)
    np.savez(tmp_path / "objects.npz", mu=objects, sigma=objects)
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Bomb(trace)))
    for name in ("objects.npz", "plain.npz"):
        with pytest.raises(BenchError, match="pickled"):
            ReferenceStatistics.load(tmp_path / name)
    assert not trace.exists()


def test_unusable_files_are_one_sentence(features: np.ndarray, tmp_path: Path) -> None:
    mu, sigma = features.mean(0), np.cov(features, rowvar=False)
    lopsided, endless = sigma.copy(), mu.copy()
    lopsided[0, 1] += 5
    endless[2] = np.inf
    bad: dict[str, tuple[dict, str]] = {
        "flat": ({"mu": mu, "sigma": sigma[0]}, "no mean and covariance"),
        "text": ({"mu": np.array(["a"] * 6), "sigma": sigma}, "no mean and covariance"),
        "inf": ({"mu": endless, "sigma": sigma}, "not finite"),
        "lopsided": ({"mu": mu, "sigma": lopsided}, "not symmetric"),
        "other": ({"images": features}, "has no mu and sigma .it has images"),
        "rows": ({"feats": features[0]}, "a covariance needs numbers .N, d. with N >= 2"),
        "words": ({"feats": np.array([["a"], ["b"]])}, "a covariance needs numbers"),
        "nan": ({"feats": np.where(np.arange(len(features))[:, None] == 3, np.nan, features)}, "row 3 holds NaN"),
        "format": ({"mu": mu, "sigma": sigma, "provenance": np.array('{"format": "x"}')}, "in a way we know"),
        "json": ({"mu": mu, "sigma": sigma, "provenance": np.array("{")}, "in a way we know"),
    }
    for name, (arrays, said) in bad.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(BenchError, match=said) as error:
            ReferenceStatistics.load(tmp_path / f"{name}.npz")
        assert "\n" not in str(error.value)
    np.save(tmp_path / "array.npy", mu)
    with pytest.raises(BenchError, match="single array"):
        ReferenceStatistics.load(tmp_path / "array.npy")
    with pytest.raises(BenchError, match="do not exist"):
        ReferenceStatistics.load(tmp_path / "nowhere.npz")
    whole = (tmp_path / "inf.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:200])
    with pytest.raises(BenchError, match="cannot read"):
        ReferenceStatistics.load(tmp_path / "cut.npz")


def test_a_place_that_cannot_be_written_is_one_sentence(
    features: np.ndarray, extractor: ModuleExtractor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="cannot write"):
        made(features, extractor).save(tmp_path / "file" / "stats.npz")
    with pytest.raises(BenchError, match="N >= 2"):
        made(features[:1], extractor)
