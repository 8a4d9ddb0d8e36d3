"""Text-to-image samples: do they show what the caption says? Answered where the truth can describe an image (``shapes``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.errors import BenchError
from bench.metrics.base import Evidence, Metric
from bench.metrics.intervals import proportion_of
from bench.record import Measurement


def caption_consistency(asked: Sequence[str], seen: Sequence[str]) -> list[Measurement]:
    """``caption_consistency``: share of samples whose description has every word that was asked for, and ``caption_words``: share
    of those words over all samples that could have been wrong (words that all captions have are left out). Higher is better.

    asked, seen: ``n`` captions each; words are compared without regard to their order. Wilson interval for the first; none for
    the second, since the words of one sample are not independent.
    """
    if len(asked) != len(seen) or not asked:
        raise BenchError(
            f"captions: {len(asked)} were asked for and {len(seen)} seen; the numbers must agree and not be 0"
        )
    wanted, found = ([set(caption.split()) for caption in captions] for captions in (asked, seen))
    common = set.intersection(*wanted, *found)
    obeyed = np.array([want <= have for want, have in zip(wanted, found)])
    words = [word in have for want, have in zip(wanted, found) for word in want - common]
    share = Measurement(
        float(np.mean(words)) if words else 1.0,
        name="caption_words",
        n=len(asked),
        direction="higher",
        note="no interval: the words of one sample are not independent",
    )
    return [proportion_of(obeyed, name="caption_consistency"), share]


class CaptionConsistency(Metric):
    """Share of samples that show what their caption says, as read off the image by the data set's truth."""

    paper = ""
    needs = frozenset({"truth", "sample_captions"})

    def measure(self, evidence: Evidence) -> list[Measurement]:
        truth, asked = evidence.data.truth, evidence.sample_captions
        if asked is None or not hasattr(truth, "describe"):
            return []
        return caption_consistency(asked, truth.describe(evidence.samples))
