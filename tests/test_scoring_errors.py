"""A metric of one's own that fails becomes one sentence with its name, the type of error and the place."""

import re

import numpy as np
import pytest

import bench
from bench.errors import BenchError
from bench.metrics.base import Metric
from bench.record import Measurement
from bench.scoring import _measured, said_by


class Mine(Metric):
    """A metric with a mistake in it."""

    def __init__(self, what):
        self.what = what

    def measure(self, evidence):
        return self.what(evidence)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (lambda evidence: evidence + 1, r"^TypeError: .* \(test_scoring_errors.py, line \d+\)$"),
        (lambda evidence: {}["key"], r"^KeyError: 'key' \(test_scoring_errors.py, line \d+\)$"),
        (lambda evidence: [3.0], r"^TypeError: measure\(\) must return a list of Measurement, but one entry is float"),
        (lambda evidence: None, r"^TypeError: "),
    ],
)
def test_a_failing_metric_says_what_and_where(what, expected):
    with pytest.raises((TypeError, KeyError)) as caught:
        _measured(Mine(what), None)
    sentence = said_by(caught.value)
    assert "\n" not in sentence

    assert re.search(expected, sentence), sentence


def test_our_own_sentences_stay_as_they_are():
    assert said_by(BenchError("give more samples")) == "give more samples"
    assert _measured(Mine(lambda evidence: [Measurement(1.0, name="x")]), None)[0].name == "x"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("digts", "did you mean 'digits'"), ("/no/such/place", "neither a file, a folder nor a data set"), (3, "not int")],
)
def test_an_unknown_reference_is_one_sentence(reference, expected):
    samples = np.zeros((4, 8, 8, 1), np.uint8)
    with pytest.raises(BenchError, match=expected):
        bench.score(samples, reference, metrics="kernel")
