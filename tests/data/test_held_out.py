"""Classes that training leaves out stay on the test side, with all that belongs to each example."""

import numpy as np
import pytest

from bench.data.digits import Digits
from bench.data.emoji import CLASSES, Emoji
from bench.data.folder import Folder
from bench.data.mnist import Mnist
from bench.data.shapes import Shapes
from bench.errors import BenchError

SETS = [
    (Digits, {}, [9]),
    (Mnist, {"resolution": 16}, [0, 3]),
    (Shapes, {"size": 200, "test_size": 60}, [2]),
    (Emoji, {"resolution": 32}, [len(CLASSES) - 1]),
]


@pytest.mark.parametrize(("kind", "options", "held_out"), SETS, ids=lambda value: getattr(value, "__name__", ""))
def test_training_never_shows_a_held_out_class(kind, options, held_out):
    whole, data = kind(**options).load(), kind(**options, held_out=held_out).load()
    kept = np.flatnonzero(~np.isin(whole.train_labels, held_out))
    assert 0 < len(kept) < len(whole.train)
    assert np.array_equal(data.train, whole.train[kept])
    assert np.array_equal(data.train_labels, whole.train_labels[kept])
    assert set(np.unique(data.train_labels)).isdisjoint(held_out)
    assert np.array_equal(data.test, whole.test)
    assert np.array_equal(data.test_labels, whole.test_labels)
    assert set(held_out) <= set(np.unique(data.test_labels))
    assert data.classes == whole.classes
    if whole.train_captions is not None:
        assert data.train_captions == tuple(whole.train_captions[i] for i in kept)
    if whole.train_factors is not None:
        assert all(np.array_equal(levels[kept], data.train_factors[n]) for n, levels in whole.train_factors.items())
    assert data.digest() != whole.digest()


def test_classes_of_folders_may_be_held_out(write_pictures):
    shapes = {f"{name}/{i}.png": (8, 8, 3) for name in ("cats", "dogs", "owls") for i in range(30)}
    folder, _ = write_pictures(shapes)
    data = Folder(path=str(folder), labels="folders", held_out=[1]).load()
    assert set(data.train_labels) == {0, 2}
    assert set(data.test_labels) == {0, 1, 2}
    with pytest.raises(BenchError, match="needs a data set with labels"):
        Folder(path=str(folder), held_out=[1]).load()


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        ([10], "digits has no class 10"),
        (list(range(10)), "leaves digits no class to train on"),
        ([9, 9], "choose a list of class numbers"),
        ([-1], "choose a list of class numbers"),
        (9, "choose a list of class numbers"),
        (["9"], "choose a list of class numbers"),
    ],
)
def test_impossible_choices_are_one_sentence(held_out, said):
    with pytest.raises(BenchError, match=said):
        Digits(held_out=held_out).load()
