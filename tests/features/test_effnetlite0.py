"""EfficientNet-Lite0: against an independent implementation, on photographs, and folded against unfolded."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from bench.errors import BenchError
from bench.features import effnetlite0
from bench.features.effnetlite0 import EfficientNetLite0Extractor, load_network
from bench.features.network import fold_batch_norms


@pytest.fixture(scope="module")
def extractor() -> EfficientNetLite0Extractor:
    return EfficientNetLite0Extractor()


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def centre_crop(photo: np.ndarray, side: int = 224) -> np.ndarray:
    """The short side resized to ``side``, the middle cut out; grey becomes RGB."""
    image = Image.fromarray(photo).convert("RGB")
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.array(image.crop((left, top, left + side, top + side)))


@pytest.mark.parametrize(
    ("photo", "label"),
    [("chelsea", "Egyptian cat"), ("coffee", "espresso"), ("camera", "tripod"), ("rocket", "missile")],
)
def test_names_what_is_in_a_photograph(extractor: EfficientNetLite0Extractor, photo: str, label: str) -> None:
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    image = torch.from_numpy(centre_crop(getattr(skimage.data, photo)()))[None]
    assert _IMAGENET_CATEGORIES[int(extractor(image)["logits"].argmax())] == label


@pytest.mark.peer
@pytest.mark.parametrize("side", [128, 131, 224])
def test_agrees_with_the_independent_implementation(side: int) -> None:
    efficientnet = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    theirs = efficientnet.from_name("efficientnet-lite0", image_size=side)
    theirs.load_state_dict(torch.load(effnetlite0.weights_path(), weights_only=True))
    theirs.eval()
    images = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    pixels = (images.permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        final = theirs.extract_features(pixels).mean((2, 3))
        logits = theirs(pixels)
    ours = EfficientNetLite0Extractor()(images)
    assert relative(ours["final"], final) < 1e-5
    assert relative(ours["logits"], logits) < 1e-5


def test_folding_changes_features_by_less_than_1e_5() -> None:
    pixels = torch.randn(2, 3, 128, 128).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        unfolded = load_network()(pixels)
        folded = fold_batch_norms(load_network())(pixels)
    for layer, value in unfolded.items():
        assert relative(folded[layer], value) < 1e-5, layer
        assert not torch.equal(folded[layer], value), "nothing was folded"


def test_layers_have_their_widths_and_small_images_are_enlarged(extractor: EfficientNetLite0Extractor) -> None:
    features = extractor(torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8))
    assert {layer: tuple(value.shape) for layer, value in features.items()} == {
        "final": (3, 1280),
        "mid": (3, 112),
        "logits": (3, 1000),
    }
    sides = {
        side: extractor.pixels(torch.zeros(1, side, side, 3, dtype=torch.uint8)).shape[-1]
        for side in (8, 128, 160, 512)
    }
    assert sides == {8: 128, 128: 128, 160: 160, 512: 224}


def test_a_grey_image_is_its_rgb_copy(extractor: EfficientNetLite0Extractor) -> None:
    grey = torch.randint(0, 256, (2, 32, 32, 1), dtype=torch.uint8)
    assert relative(extractor(grey)["final"], extractor(grey.expand(-1, -1, -1, 3))["final"]) < 1e-6


def test_training_settings_do_not_reach_the_features(extractor: EfficientNetLite0Extractor) -> None:
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    before = extractor(images)["final"]
    precision = torch.backends.cuda.matmul.fp32_precision
    torch.set_float32_matmul_precision("medium")
    try:
        setting = torch.backends.mkldnn.matmul.fp32_precision
        assert torch.equal(extractor(images)["final"], before)
        assert torch.backends.mkldnn.matmul.fp32_precision == setting, "the caller's setting was not restored"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.fp32_precision = precision


def test_building_an_extractor_leaves_random_states_alone() -> None:
    before = torch.get_rng_state()
    EfficientNetLite0Extractor()
    assert torch.equal(torch.get_rng_state(), before)


def test_version_names_what_changes_a_number(extractor: EfficientNetLite0Extractor) -> None:
    assert effnetlite0.SHA256[:16] in extractor.version
    assert extractor.version != EfficientNetLite0Extractor(side=224).version


def test_a_damaged_weight_file_is_refused(tmp_path, monkeypatch) -> None:
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(effnetlite0.weights_path().read_bytes()[:-1])
    monkeypatch.setattr(effnetlite0, "weights_path", lambda: damaged)
    with pytest.raises(BenchError, match="has SHA-256"):
        EfficientNetLite0Extractor()


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 8, 8, 3), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, 3, dtype=torch.uint8)],
    ids=["float", "NCHW", "one image"],
)
def test_wrong_images_are_one_sentence(extractor: EfficientNetLite0Extractor, images: torch.Tensor) -> None:
    with pytest.raises(BenchError, match="uint8 images of shape"):
        extractor(images)
