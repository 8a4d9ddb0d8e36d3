"""The cards of all metrics, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from bench import registry
from bench.sanity.corruptions import ALL
from bench.sanity.judge import Finding, chance
from bench.sanity.trial import Outcome

INTRODUCTION = """# Metrics on trial

Made by `bench sanity --dataset {dataset} --extractor {extractor} --n {n} --repeats {repeats}`; do not edit. Held-out real images play a perfect model; then they are
corrupted in known ways, more and more, and every metric is asked whether it notices. Each of {repeats} repetitions takes {n} reference
images and {n} samples, no image twice in one of them (mode dropping and label noise draw from all images, so that their repetitions share some).

- **rank correlation** (Spearman): of the corruption's strength and of the metric getting worse, over all repetitions and the clean
  data. +1: it follows; 0: it does not care; -1: it is misled and calls the corrupted samples better.
- **noticed from**: the smallest strength from which on every repetition is worse than every clean one (with {repeats} repetitions
  chance does that once in {odds:.0f} times). A dash: not even the strongest was noticed at this n.
- **documented**: what the metric is held to. *worse* and *better* must be found, or the command fails.
"""


def page(outcome: Outcome) -> str:
    """Introduction, corruptions, overview, a card a metric."""
    findings = outcome.findings
    parts = [
        INTRODUCTION.format(
            dataset=outcome.dataset, extractor=outcome.extractor, repeats=outcome.repeats, n=outcome.n,
            odds=1 / chance(outcome.repeats),
        ),
        f"Extractor: `{outcome.extractor_version}`. Metrics tried: {', '.join(sorted({f.metric for f in findings}))}.\n",
        _corruptions({finding.corruption for finding in findings}),
        overview(findings),
    ]  # fmt: skip
    for metric, group in groupby(sorted(findings, key=lambda f: f.metric), key=lambda f: f.metric):
        parts.append(card(metric, list(group)))
    return "\n".join(parts)


def overview(findings: Sequence[Finding]) -> str:
    """One line a measurement: what it notices, what misleads it, what it is blind to."""
    lines = [
        "## Overview",
        "",
        "| measurement | notices (from strength) | misled by | does not notice |",
        "| :-- | :-- | :-- | :-- |",
    ]
    by_measurement: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        by_measurement.setdefault((finding.metric, finding.stem, finding.stage), []).append(finding)
    for name, found in by_measurement.items():
        where = "" if name[2] in ("samples", "models") else f" ({name[2]})"
        notices = ", ".join(f"{f.corruption} ({f.detected:g})" for f in found if f.found == "worse")
        misled = ", ".join(f.corruption for f in found if f.found == "better")
        blind = ", ".join(f.corruption for f in found if f.found == "nothing" and f.values)
        if not any(f.values for f in found):
            blind = "(gives no value at this n)"
        lines.append(f"| `{name[1]}`{where} | {notices} | {misled} | {blind} |")
    return "\n".join(lines) + "\n"


def card(metric: str, findings: Sequence[Finding]) -> str:
    """What the metric is, and its findings."""
    about = registry.describe(registry.find("metric", metric))
    lines = [f"## {metric}", "", about["summary"], ""]
    if about.get("paper"):
        lines += [f"Source: {about['paper']}.", ""]
    lines += [
        "| measurement | corruption | rank correlation | noticed from | documented | mean value at strength |",
        "| :-- | :-- | --: | --: | :-- | :-- |",
    ]
    for finding in findings:
        name = finding.stem if finding.stage in ("samples", "models") else f"{finding.stem} ({finding.stage})"
        documented = "" if finding.documented is None else finding.documented
        if finding.fails:
            documented = f"**{documented}: NOT FOUND**"
        values = ", ".join(f"{strength:g}: {value:.3g}" for strength, value in finding.values)
        noticed = (
            "-"
            if finding.detected is None
            else f"{finding.detected:g}{' (better)' if finding.found == 'better' else ''}"
        )
        lines.append(
            f"| `{name}` | {finding.corruption} | {finding.correlation:+.2f} | {noticed} | {documented} | {values} |"
        )
    return "\n".join(lines) + "\n"


def _corruptions(used: Iterable[str]) -> str:
    names = set(used)
    lines = ["| corruption | what is done | strengths |", "| :-- | :-- | :-- |"]
    lines += [f"| {c.name} | {c.what} | {', '.join(f'{s:g}' for s in c.strengths)} |" for c in ALL if c.name in names]
    return "\n".join(lines) + "\n"
