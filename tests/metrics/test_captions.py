"""Caption consistency: the definition, and real sprites that were asked for something else."""

import pytest

from bench.data.shapes import Shapes
from bench.errors import BenchError
from bench.metrics.base import Evidence
from bench.metrics.captions import CaptionConsistency, caption_consistency


def test_words_that_could_be_wrong_are_counted():
    asked = ["a small red heart", "a small blue heart", "a large red heart", "a small red square"]
    seen = ["a small red heart", "a small red heart", "a small green square", "a small red square"]
    whole, words = caption_consistency(asked, seen)
    assert (float(whole), whole.n) == (0.5, 4)
    assert float(words) == pytest.approx((3 + 2 + 0 + 3) / 12)
    assert whole.low < 0.5 < whole.high
    with pytest.raises(BenchError, match="agree"):
        caption_consistency(asked, seen[:2])


def test_real_sprites_obey_their_own_captions_and_not_those_of_others():
    data = Shapes(size=50, test_size=300).load()
    found = {}
    for shift in (0, 1):
        asked = list(data.test_captions[shift:] + data.test_captions[:shift])
        evidence = Evidence(data=data, samples=data.test, features=None, sample_captions=asked)
        found[shift] = {m.name: float(m) for m in CaptionConsistency().measure(evidence)}
    assert found[0] == {"caption_consistency": 1.0, "caption_words": 1.0}
    assert found[1]["caption_consistency"] < 0.1
    assert found[1]["caption_words"] < 0.5
    assert CaptionConsistency().measure(Evidence(data=data, samples=data.test, features=None)) == []
