"""Verdicts for machines: GitHub annotations, JUnit XML and the JSON of a badge."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from bench.report.verdicts import Line, Verdicts
from bench.report.verdicts_text import change_text, side_text, verdicts_markdown
from bench.store import write_atomically

_LEVELS = {
    "worse": "error",
    "failed": "error",
    "missing": "error",
    "inconclusive": "warning",
    "not comparable": "warning",
}


def github_annotations(verdicts: Verdicts) -> list[str]:
    """Workflow commands, one a line that needs attention, and a notice with the headline.

    Format: GitHub docs, "Workflow commands for GitHub Actions", ``::error title={title}::{message}``.
    """
    lines = []
    for line in verdicts.by_weight():
        level = _LEVELS.get(line.verdict)
        if level:
            title = _property(f"{line.verdict}: {line.name}")
            lines.append(f"::{level} title={title}::{_data(' '.join(f'{change_text(line)} {line.reason}'.split()))}")
    return [*lines, f"::notice title=gen-bench {verdicts.kind}::{_data(verdicts.headline)}"]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def junit_xml(verdicts: Verdicts) -> bytes:
    """One test case a line: worse is a failure, failed and missing an error, inconclusive and incomparable a skip.

    Valid under the schema that Jenkins, GitLab and Azure read (the "Apache Ant JUnit XML schema").
    """
    counts = {"failure": 0, "error": 0, "skipped": 0}
    cases = []
    for line in verdicts.lines:
        case = ElementTree.Element(
            "testcase", {"classname": _xml(line.subject), "name": _xml(line.metric), "time": "0"}
        )
        kind = {"worse": "failure", "failed": "error", "missing": "error"}.get(
            line.verdict, "skipped" if line.verdict in ("inconclusive", "not comparable", "new") else ""
        )
        if kind:
            counts[kind] += 1
            attributes = {"message": _xml(f"{line.verdict}: {line.reason}")}
            if kind != "skipped":
                attributes["type"] = line.verdict
            ElementTree.SubElement(case, kind, attributes).text = _xml(_details(line))
        cases.append(case)
    totals = {
        "tests": str(len(cases)), "failures": str(counts["failure"]), "errors": str(counts["error"]),
        "skipped": str(counts["skipped"]), "time": "0",
    }  # fmt: skip
    suites = ElementTree.Element(
        "testsuites", {"name": "gen-bench", **{k: v for k, v in totals.items() if k != "skipped"}}
    )
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(f"gen-bench {verdicts.kind}"), **totals})
    suite.extend(cases)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)


def _details(line: Line) -> str:
    return "\n".join(
        (
            f"base {side_text(line.base, line.unit)}",
            f"head {side_text(line.head, line.unit)}",
            f"change {change_text(line)}",
            line.reason,
        )
    )


def _xml(text: str) -> str:
    """Without the control characters that XML 1.0 forbids."""
    return "".join(
        c
        for c in text
        if c in "\t\n" or (ord(c) >= 32 and not 0xD800 <= ord(c) <= 0xDFFF and ord(c) not in (0xFFFE, 0xFFFF))
    )


def badge_json(verdicts: Verdicts) -> str:
    """For shields.io/badges/endpoint-badge: schemaVersion, label, message, color."""
    colour = {0: "brightgreen", 1: "red", 3: "red", 4: "yellow"}[verdicts.exit_code]
    passed = sum(line.verdict in ("better", "equivalent") for line in verdicts.lines)
    message = {0: f"{passed}/{len(verdicts.lines)} hold", 1: "regression", 3: "failed trials", 4: "inconclusive"}
    badge = {"schemaVersion": 1, "label": "gen-bench", "message": message[verdicts.exit_code], "color": colour}
    return json.dumps(badge)


def write_outputs(
    verdicts: Verdicts,
    junit: Path | None = None,
    markdown: Path | None = None,
    json_file: Path | None = None,
    badge: Path | None = None,
) -> None:
    """Write the files that were asked for, each whole or not at all."""
    for path, content in (
        (junit, lambda: junit_xml(verdicts)),
        (markdown, lambda: verdicts_markdown(verdicts).encode()),
        (json_file, lambda: verdicts.to_json().encode()),
        (badge, lambda: badge_json(verdicts).encode()),
    ):
        if path is not None:
            write_atomically(path, content())
