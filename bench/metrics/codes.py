"""Models with a codebook: how much of it do they use? Collapse to a few codes is how such models fail first."""

from __future__ import annotations

from bench.metrics.base import Evidence, Metric
from bench.record import Measurement


class CodeUsage(Metric):
    """Share of a model's codes that the training set uses, and their perplexity."""

    paper = "Neural Discrete Representation Learning, van den Oord et al. 2017 (arXiv 1711.00937)"
    needs = frozenset({"codes"})

    def measure(self, evidence: Evidence) -> list[Measurement]:
        usage, n = evidence.model.code_usage(), len(evidence.data.train)
        note = "no interval: a count over the whole training set"
        return [
            Measurement(usage["codes_used"], name="codes_used", n=n, direction="higher", note=note),
            Measurement(usage["perplexity"], name="code_perplexity", n=n, unit="codes", direction="higher", note=note),
        ]
