"""Text to image: captions are read, obeyed, remembered and saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.data.shapes import Shapes
from bench.model import Batch, BenchError, ImageSpace, SampleGenerator, TextConditional
from bench.model_file import load_model, save_model
from bench.sampling import draw
from bench.scoring import captions_of, conditions_of
from reference_models.ddpm import DDPM
from reference_models.networks.text import PADDING, START, TextEncoder, tokens_of
from reference_models.networks.unet import Stage
from reference_models.text_to_image import REMEMBERED, TextToImage

SPACE = ImageSpace(1, 8, 8)
CAPTIONS = ("a white picture", "a black picture", "the left half is white")


def picture(caption: str) -> Tensor:
    x = torch.full(SPACE.shape, 1.0 if caption == CAPTIONS[0] else -1.0)
    if caption == CAPTIONS[2]:
        x[:, :, :4] = 1.0
    return x


@pytest.fixture(scope="module")
def learned() -> TextToImage:
    """Three captions, each with one picture."""
    torch.manual_seed(0)
    model = TextToImage(SPACE, width=8, multipliers=(1, 2), text_width=32, text_depth=1, steps=8)
    model.train()
    for step in range(200):
        chosen = tuple(CAPTIONS[int(i)] for i in torch.randint(3, (24,)))
        model.train_step(Batch(torch.stack([picture(c) for c in chosen]), captions=chosen), step / 200)
    return model.eval()


@torch.inference_mode()
def test_a_picture_shows_what_its_caption_says(learned: TextToImage) -> None:
    asked = [CAPTIONS[i % 3] for i in range(24)]
    x = learned.sample(24, SampleGenerator(0, 24), captions=asked)
    errors = torch.stack([(x - torch.stack([picture(c)] * 24)).abs().mean((1, 2, 3)) for c in CAPTIONS], 1)
    assert (errors.argmin(1) == torch.arange(24) % 3).float().mean() > 0.9
    assert errors.min(1).values.mean() < 0.3
    free = learned.sample(24, SampleGenerator(0, 24), captions=asked, guidance_scale=0.0)
    other = learned.sample(24, SampleGenerator(0, 24), captions=["some other words"], guidance_scale=0.0)
    torch.testing.assert_close(free, other)  # without guidance to it, a caption changes nothing


@torch.inference_mode()
def test_samples_do_not_depend_on_the_batch_and_captions_are_taken_in_turn(learned: TextToImage) -> None:
    whole, _ = draw(learned, 10, 3, 10, captions=list(CAPTIONS))
    parts, _ = draw(learned, 10, 3, 4, captions=list(CAPTIONS))
    assert abs(whole.astype(int) - parts.astype(int)).max() <= 1
    one = learned.sample(1, SampleGenerator(3, 1, 4), captions=list(CAPTIONS))
    same = learned.sample(1, SampleGenerator(3, 1, 4), captions=[CAPTIONS[1]])
    torch.testing.assert_close(one, same)


@torch.inference_mode()
def test_what_is_not_asked_for_follows_the_training_captions(learned: TextToImage, tmp_path: Path) -> None:
    assert isinstance(learned, TextConditional)
    assert sorted(learned.captions_seen()) == sorted(CAPTIONS)
    captions = captions_of(learned, 300)
    assert captions is not None
    assert conditions_of(learned, 300) is None
    for caption in CAPTIONS:
        assert captions.count(caption) == pytest.approx(100, abs=3)
    drawn = learned.sample(7, SampleGenerator(0, 7))
    torch.testing.assert_close(drawn, learned.sample(7, SampleGenerator(0, 7), captions=captions[:7]))
    save_model(learned, tmp_path)
    loaded = load_model(tmp_path)
    assert captions_of(loaded, 300) == captions
    torch.testing.assert_close(loaded.sample(7, SampleGenerator(0, 7)), drawn)


def test_training_is_repeatable_and_guidance_is_the_stated_line() -> None:
    def trained() -> TextToImage:
        torch.manual_seed(5)
        model = TextToImage(SPACE, width=8)
        for step in range(3):
            model.train_step(Batch(torch.randn(3, *SPACE.shape), captions=CAPTIONS), step / 3)
        return model

    a, b = trained(), trained()
    assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert a.nfe == 2 * 25
    for parameter in a.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(3, *SPACE.shape), torch.full((3,), 0.5)
    with torch.inference_mode():
        said = a.evaluate(x, t, *a.text(a.tokens(CAPTIONS)))
        nothing = a.evaluate(x, t, *a.text(a.tokens(["", "", ""])))
        assert (said - nothing).abs().max() > 1e-3
        assert (said - a.evaluate(x, t, *a.text(a.tokens(CAPTIONS[::-1])))).abs()[
            1
        ].max() < 1e-5  # the middle one stays


def test_a_caption_is_its_words_and_padding_is_not_seen() -> None:
    tokens = tokens_of(["A red Heart!", "a red heart", "", "one two three four five six"], 5)
    assert torch.equal(tokens[0], tokens[1])
    assert tokens[2].tolist() == [START] + 4 * [PADDING]
    assert (tokens[3] != PADDING).all()
    torch.manual_seed(0)
    encoder = TextEncoder(5, width=16)
    short, mask = encoder(tokens_of(["a red heart"], 5))
    longer, _ = encoder(tokens_of(["a red heart there"], 5))
    assert mask.tolist() == [[True] * 4 + [False]]
    torch.testing.assert_close(short[:, :4], longer[:, :4])


def test_only_so_many_captions_are_remembered() -> None:
    model = TextToImage(SPACE, width=8)
    model._remember([f"number {i}" for i in range(REMEMBERED + 50)])
    model._remember(["one too many", "ü" * 300])
    assert model.captions_seen() == [f"number {i}" for i in range(REMEMBERED)]
    other = TextToImage(SPACE, width=8)
    other._remember(["ü" * 300, "", "short"])
    assert other.captions_seen() == ["ü" * 48, "short"]
    assert TextToImage(SPACE, width=8).captions_of(torch.arange(2)) == ["", ""]


def test_data_without_captions_and_wrong_options_are_named() -> None:
    with pytest.raises(BenchError, match="captions"):
        TextToImage(SPACE, width=8).train_step(Batch(torch.randn(2, *SPACE.shape)), 0.0)
    for given in ("one text", []):
        with pytest.raises(BenchError, match="captions must be a list"):
            TextToImage(SPACE, width=8).sample(1, SampleGenerator(0, 1), captions=given)
    for wrong in ({"guidance_scale": -1.0}, {"drop": 1.0}, {"words": 0}, {"sampler": "x"}, {"text_width": 6}):
        with pytest.raises(BenchError, match=next(iter(wrong))):
            TextToImage(SPACE, **wrong)


def test_the_sprites_have_captions() -> None:
    data = Shapes(size=300, test_size=200).load()
    assert data.train_captions is not None
    assert data.test_captions is not None
    assert (len(data.train_captions), len(data.test_captions)) == (300, 200)
    assert data.truth.describe(data.test) == data.test_captions


@pytest.mark.parametrize("side", [16, 28, 32, 40, 48, 64])
def test_the_words_are_attended_to_at_every_size(side: int) -> None:
    model = TextToImage(ImageSpace(3, side, side), width=8)
    assert sum(len(m.cross) for m in model.modules() if isinstance(m, Stage)) > 0


def test_attention_that_fits_no_level_is_refused() -> None:
    with pytest.raises(BenchError, match="fits no level"):
        DDPM(ImageSpace(1, 8, 8), width=8, attention=(5,))
