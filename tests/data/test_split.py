"""Splits depend on content only."""

import numpy as np
import pytest

from bench.data.split import content_key, hashed_split, name_key, stratified_split


@pytest.fixture
def keys():
    return [name_key(f"image {i}") for i in range(1000)]


def test_hashed_split_ignores_order(keys, rng):
    _, test = hashed_split(keys, 0.2)
    order = rng.permutation(len(keys))
    _, shuffled = hashed_split([keys[i] for i in order], 0.2)
    assert {keys[i] for i in test} == {keys[order[i]] for i in shuffled}


def test_adding_an_image_moves_no_other(keys):
    _, test = hashed_split(keys, 0.2)
    _, more = hashed_split([*keys, name_key("new"), name_key("newer")], 0.2)
    assert set(test) == {i for i in more if i < len(keys)}


def test_a_larger_test_share_contains_the_smaller(keys):
    small, large = (set(hashed_split(keys, share)[1].tolist()) for share in (0.1, 0.3))
    assert small < large


def test_hashed_share_is_near_what_was_asked(keys):
    train, test = hashed_split(keys, 0.2)
    assert len(train) + len(test) == 1000
    assert 160 < len(test) < 240  # 200 +- 12.6: three standard deviations


def test_equal_images_stay_together(rng):
    images = rng.integers(0, 256, (50, 4, 4, 1), dtype=np.uint8)
    keys = [content_key(image) for image in np.concatenate([images, images])]
    for train, test in (hashed_split(keys, 0.5), stratified_split(keys, None, 50)):
        assert {i % 50 for i in train}.isdisjoint({i % 50 for i in test})
        assert len(test) > 10


def test_stratified_split_is_exact_and_ignores_order(keys, rng):
    labels = rng.choice(4, 1000, p=[0.4, 0.3, 0.2, 0.1])
    _, test = stratified_split(keys, labels, 201)
    assert len(test) == 201
    shares = np.bincount(labels[test]) - np.bincount(labels) * 0.201
    assert np.abs(shares).max() < 1
    order = rng.permutation(1000)
    _, shuffled = stratified_split([keys[i] for i in order], labels[order], 201)
    assert {keys[i] for i in test} == {keys[order[i]] for i in shuffled}


def test_content_key_tells_shape_and_type_apart():
    a = np.zeros((2, 8), dtype=np.uint8)
    assert len({content_key(a), content_key(a.reshape(8, 2)), content_key(a.astype(bool)), content_key(a + 1)}) == 4
