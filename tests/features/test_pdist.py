"""Perceptual distances: LPIPS equal to the package's under shared random trunks; the embedded one is ordered as it should be."""

import functools
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from bench.errors import BenchError
from bench.features import pdist
from bench.features.pdist import LPIPS, TRUNKS, EfficientNetDistance, perceptual_distance
from bench.features.weights import sha256_of


def noise(count: int, height: int = 64, width: int = 64, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8)


@pytest.fixture(scope="module")
def distance() -> EfficientNetDistance:
    return EfficientNetDistance()


@functools.cache
def patches() -> Tensor:
    """64 x 64 pieces of four photographs."""
    photos = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
    rng = np.random.default_rng(0)
    pieces = []
    for photo in photos:
        for _ in range(6):
            top, left = rng.integers(0, photo.shape[0] - 64), rng.integers(0, photo.shape[1] - 64)
            pieces.append(photo[top : top + 64, left : left + 64])
    return torch.from_numpy(np.stack(pieces))


def with_noise(images: Tensor, sigma: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (images + sigma * torch.randn(images.shape, generator=generator)).round().clamp(0, 255).to(torch.uint8)


def blurred(images: Tensor, radius: float) -> Tensor:
    return torch.from_numpy(
        np.stack(
            [np.asarray(Image.fromarray(image.numpy()).filter(ImageFilter.GaussianBlur(radius))) for image in images]
        )
    )


def fake_trunk(net: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights in a file that is declared to be the published one."""
    from torchvision import models

    path = folder / TRUNKS[net].file
    torch.save(getattr(models, TRUNKS[net].constructor)(weights=None).state_dict(), path)
    monkeypatch.setitem(TRUNKS, net, TRUNKS[net]._replace(sha256=sha256_of(path)[:8]))
    return path


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_agrees_with_the_package(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("lpips")
    path = fake_trunk(net, tmp_path, monkeypatch)
    state = torch.load(path, weights_only=True)
    heads = package.LPIPS.__init__.__globals__["torch"].load
    monkeypatch.setattr(package.lpips.torch, "load", functools.partial(heads, map_location="cpu"))
    theirs = package.LPIPS(net=net, pnet_rand=True, verbose=False)
    monkeypatch.undo()
    monkeypatch.setitem(TRUNKS, net, TRUNKS[net]._replace(sha256=sha256_of(path)[:8]))
    slices = {name: f"features.{name.split('.', 1)[1]}" for name in theirs.net.state_dict()}
    theirs.net.load_state_dict({name: state[published] for name, published in slices.items()})
    first, second = noise(4, 80, 72), noise(4, 80, 72)
    ours = LPIPS(net, weights=path)
    with torch.no_grad():
        expected = theirs(*(x.permute(0, 3, 1, 2) / 127.5 - 1 for x in (first, second))).flatten()
    assert (ours(first, second) - expected).abs().max() < 1e-5 * expected.max()
    assert ours.calibrated
    assert ours.name == f"lpips_{net}_v0.1"
    assert sha256_of(path)[:16] in ours.version


def test_the_published_trunks_are_those_of_torchvision() -> None:
    from torchvision import models

    for trunk in TRUNKS.values():
        weights = models.get_model_weights(trunk.constructor).IMAGENET1K_V1  # type: ignore[attr-defined]
        assert weights.url == f"https://download.pytorch.org/models/{trunk.file}"
        assert trunk.sha256 == Path(trunk.file).stem.rsplit("-", 1)[1]


def test_learned_weights_are_not_negative_so_that_embeddings_exist() -> None:
    from bench.features.weights import load_state_dict

    for net in TRUNKS:
        assert len(pdist._heads(net)) == len(TRUNKS[net].taps)
        raw = load_state_dict(pdist._heads_path(net))
        assert min(float(value.min()) for value in raw.values()) >= 0


def test_small_images_are_enlarged_for_lpips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = LPIPS("alex", weights=fake_trunk("alex", tmp_path, monkeypatch))
    first, second = noise(2, 16, 16, channels=1), noise(2, 16, 16, channels=1)
    assert (ours(first, second) > 0).all()
    assert ours(first, first).abs().max() == 0


def test_missing_trunk_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(BenchError, match=f"put alexnet-owt-7be5be79.pth from https.* into {tmp_path}"):
        LPIPS()
    (tmp_path / "other.pth").write_bytes(b"x")
    with pytest.raises(BenchError, match="has SHA-256"):
        LPIPS("vgg", weights=tmp_path / "other.pth")
    with pytest.raises(BenchError, match="has no network 'resnet'"):
        LPIPS("resnet")


def test_lpips_is_taken_where_its_trunk_is_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert perceptual_distance().name == "pdist_effnetlite0"
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    path = fake_trunk("squeeze", tmp_path, monkeypatch)
    assert perceptual_distance(weights=path).name == perceptual_distance(weights=tmp_path).name == "lpips_squeeze_v0.1"
    assert perceptual_distance().name == "pdist_effnetlite0"
    path.rename(cache / path.name)
    assert perceptual_distance().name == "lpips_squeeze_v0.1"
    assert perceptual_distance("effnetlite0").name == "pdist_effnetlite0"
    (cache / TRUNKS["alex"].file).write_bytes(b"damaged")
    with pytest.raises(BenchError, match="damaged or another file"):
        perceptual_distance()
    with pytest.raises(BenchError, match="is no trunk of LPIPS"):
        perceptual_distance(weights=cache / TRUNKS["alex"].file)
    with pytest.raises(BenchError, match=r"are not at .*none\.pth"):
        perceptual_distance(weights=tmp_path / "none.pth")
    with pytest.raises(BenchError, match="takes no weights"):
        perceptual_distance("effnetlite0", "x.pth")


def test_equal_images_are_at_distance_zero_and_order_does_not_matter(distance: EfficientNetDistance) -> None:
    first, second = noise(3), noise(3)
    assert distance(first, first).abs().max() == 0
    assert torch.allclose(distance(first, second), distance(second, first))
    assert (distance(first, second) > 0).all()
    assert not distance.calibrated


def test_stronger_corruption_is_farther(distance: EfficientNetDistance) -> None:
    for corrupt, levels in ((with_noise, (5, 10, 20, 40, 80)), (blurred, (0.5, 1, 2, 3))):
        far = [float(distance(patches(), corrupt(patches(), level)).mean()) for level in levels]
        assert far == sorted(far), corrupt
        assert far[0] < 0.8 * far[-1]


def test_a_little_brightness_is_nearer_than_another_image(distance: EfficientNetDistance) -> None:
    brighter = (patches().int() + 20).clamp(0, 255).to(torch.uint8)
    assert distance(patches(), brighter).mean() < 0.2 * distance(patches(), patches().roll(7, 0)).mean()


def test_embeddings_give_the_mean_over_all_pairs_without_visiting_them(distance: EfficientNetDistance) -> None:
    images = patches()[:7]
    rows = distance.embed(images)
    pairs = [(i, j) for i in range(7) for j in range(i + 1, 7)]
    one_by_one = np.mean([float(distance(images[i][None], images[j][None])) for i, j in pairs])
    at_once = 2 * 7 / 6 * (rows.square().sum(1).mean() - rows.mean(0).square().sum())
    assert float(at_once) == pytest.approx(one_by_one, rel=1e-4)


def test_different_sizes_are_one_sentence(distance: EfficientNetDistance) -> None:
    with pytest.raises(BenchError, match="images of one size"):
        distance(noise(1, 32, 32), noise(1, 64, 64))
