"""The FID network: equal to pytorch-fid, clean-fid and torch-fidelity under shared random weights; its weights are never guessed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.features.inception import FILES, FIDInception, InceptionExtractor
from bench.features.resize import ResizeMode
from bench.features.weights import load_strictly
from tests.features.random_inception import network_with, random_state, saved

RELATIVE = 1e-5


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_state(seed=int(np.random.default_rng().integers(1 << 30)))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (3, 40, 32, 3), dtype=torch.uint8)


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def ours(state: dict[str, Tensor], mode: ResizeMode, images: Tensor) -> dict[str, Tensor]:
    return InceptionExtractor.of_network(network_with(state), "random", mode)(images)


def as_floats(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.mark.peer
def test_pool_agrees_with_pytorch_fid(
    state: dict[str, Tensor], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = pytest.importorskip("pytorch_fid.inception")
    monkeypatch.setattr(peer, "load_state_dict_from_url", lambda url, progress: state)
    network = peer.InceptionV3([2, 3]).eval()
    with torch.no_grad():
        _, pooled = network(as_floats(images))
    assert relative(ours(state, "legacy_pytorch", images)["pool"], pooled.flatten(1)) < RELATIVE


@pytest.mark.peer
def test_clean_agrees_with_clean_fid(state: dict[str, Tensor], images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """clean-fid's resizer in front of clean-fid's network; its torchscript network subtracts and divides by 128."""
    resizer = pytest.importorskip("cleanfid.resize").build_resizer("clean")
    peer = pytest.importorskip("cleanfid.inception_pytorch")
    monkeypatch.setattr(peer, "load_state_dict_from_url", lambda url, progress: state)
    network = peer.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    resized = torch.from_numpy(np.stack([resizer(image.numpy()) for image in images])).permute(0, 3, 1, 2)
    with torch.no_grad():
        (pooled,) = network((resized - 128) / 128)
    assert relative(ours(state, "clean", images)["pool"], pooled.flatten(1)) < RELATIVE


@pytest.mark.peer
def test_all_layers_agree_with_torch_fidelity(state: dict[str, Tensor], images: Tensor, tmp_path: Path) -> None:
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3").FeatureExtractorInceptionV3
    network = peer(
        "random", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(saved(state, tmp_path / "w.pth"))
    )
    maps: list[Tensor] = []
    network.Mixed_6d.branch1x1.register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.no_grad():
        pooled, logits = network(images.permute(0, 3, 1, 2))
    features = ours(state, "legacy_tensorflow", images)
    assert relative(features["pool"], pooled) < RELATIVE
    assert relative(features["logits"], logits) < RELATIVE
    spatial = maps[0][:, :7].permute(0, 2, 3, 1).reshape(len(images), -1)
    assert features["spatial"].shape == (3, 2023)
    assert relative(features["spatial"], spatial) < RELATIVE


def test_the_way_to_resize_changes_features_and_version(state: dict[str, Tensor], images: Tensor) -> None:
    modes: list[ResizeMode] = ["clean", "legacy_pytorch", "legacy_tensorflow"]
    extractors = [InceptionExtractor.of_network(network_with(state), "random", mode, ["pool"]) for mode in modes]
    assert len({extractor.version for extractor in extractors}) == 3
    clean, torch_like, tensorflow_like = (extractor(images)["pool"] for extractor in extractors)
    for legacy in (torch_like, tensorflow_like):
        assert relative(legacy, clean) > 1e-3


def test_layers_can_be_left_out(state: dict[str, Tensor], images: Tensor) -> None:
    extractor = InceptionExtractor.of_network(network_with(state), "random", layers=["pool"])
    assert extractor(images[:1]).keys() == {"pool"}
    with pytest.raises(BenchError, match="did you mean 'pool'"):
        InceptionExtractor.of_network(network_with(state), "random", layers=["pol"])


def test_other_weights_are_not_called_inception(state: dict[str, Tensor]) -> None:
    assert InceptionExtractor.of_network(network_with(state), "random").name == "inception_custom"


def test_missing_weights_say_where_to_put_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(BenchError, match=f"put {FILES[0]}.* into {tmp_path}") as error:
        InceptionExtractor()
    assert "\n" not in str(error.value)
    with pytest.raises(BenchError, match="are not at"):
        InceptionExtractor(weights=tmp_path / "nowhere.pth")


@pytest.mark.parametrize("place", ["given", "hub cache"])
def test_weights_with_another_digest_are_refused(
    state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    path = saved(state, folder / FILES[1])
    with pytest.raises(BenchError, match="has SHA-256"):
        InceptionExtractor(weights=path if place == "given" else None)


def test_a_download_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("bench.features.inception.URL", (tmp_path / "none.pth").as_uri())
    with pytest.raises(BenchError, match="cannot download"):
        InceptionExtractor(download=True)


def test_a_state_dict_that_does_not_fit_is_named(state: dict[str, Tensor]) -> None:
    with pytest.raises(BenchError, match=r"lacks 'fc\.bias'"):
        load_strictly(FIDInception(), {name: value for name, value in state.items() if name != "fc.bias"}, "w.pth")
    with pytest.raises(BenchError, match="has an unknown 'AuxLogits"):
        load_strictly(FIDInception(), {**state, "AuxLogits.fc.weight": torch.zeros(1)}, "w.pth")
    with pytest.raises(BenchError, match=r"'fc\.weight' is \(1000, 2048\), expected \(1008, 2048\)"):
        load_strictly(FIDInception(), {**state, "fc.weight": torch.zeros(1000, 2048)}, "w.pth")
