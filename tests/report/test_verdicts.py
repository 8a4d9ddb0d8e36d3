"""Every output from one object: exit codes, JSON and back, frame, table, Markdown, annotations, JUnit XML, badge."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from lxml import etree
from rich.console import Console

from bench.errors import BenchError
from bench.report.verdicts import OUTCOMES, Line, Verdicts, merged
from bench.report.verdicts_ci import badge_json, github_annotations, junit_xml, write_outputs
from bench.report.verdicts_text import verdicts_markdown, verdicts_renderable
from bench.stats.intervals import Estimate

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).with_name("junit.xsd")))
NASTY = 'a|b <i>&"x"</i>\n::error::\x07 100%'


def line(verdict, metric="kid", **changes):
    fields = {
        "reason": "because", "base": Estimate(1.0, 0.9, 1.1, 5, "t"), "head": Estimate(1.2, 1.1, 1.3, 5, "t"),
        "change": Estimate(0.2, 0.1, 0.3, 5, "paired t"), "margin": 0.05, "p": 0.001, "smallest_p": 0.06, "detectable": 0.1, "n": 5,
    }  # fmt: skip
    return Line("digits/vae", metric, verdict, **{**fields, **changes})


def verdicts(*outcomes, **changes):
    lines = tuple(line(outcome, f"metric_{i}") for i, outcome in enumerate(outcomes))
    return Verdicts("gate", "main", "results", 0.01, lines, ("a note",), **changes)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (("equivalent", "better", "new"), 0),
        (("equivalent", "worse", "failed", "inconclusive"), 1),
        (("equivalent", "failed", "inconclusive"), 3),
        (("missing",), 3),
        (("equivalent", "inconclusive"), 4),
        (("not comparable",), 4),
        (("new",), 4),
        ((), 4),
    ],
)
def test_exit_codes(outcomes, code):
    assert verdicts(*outcomes).exit_code == code


def test_json_and_back():
    whole = verdicts(*OUTCOMES)
    assert Verdicts.from_json(whole.to_json(), "here") == whole
    fields = json.loads(whole.to_json())
    assert (fields["exit_code"], fields["lines"][0]["change"]["value"]) == (1, 0.2)
    endless = Verdicts("ab", "a", "b", 0.01, (line("worse", detectable=float("inf")),))
    assert json.loads(endless.to_json())["lines"][0]["detectable"] is None
    for text in ("", "[]", "{}", '{"schema_version": 9}'):
        with pytest.raises(BenchError, match="here"):
            Verdicts.from_json(text, "here")


def test_frame():
    frame = verdicts("worse", "missing").frame()
    assert list(frame.verdict) == ["worse", "missing"]
    assert frame.change_low[0] == 0.1
    assert len(verdicts().frame()) == 0
    assert set(verdicts().frame().columns) == set(frame.columns)


def test_table_shows_every_line_the_weightiest_first():
    out = io.StringIO()
    Console(file=out, width=200).print(verdicts_renderable(verdicts(*reversed(OUTCOMES))))
    text = out.getvalue()
    assert [text.index(f"\n{outcome} ") for outcome in OUTCOMES] == sorted(text.index(f"\n{o} ") for o in OUTCOMES)
    assert "+20%" in text
    assert "[+10%, +30%]" in text
    assert "the smallest p that an exact test of so few values can give is 0.06" in " ".join(text.split())
    assert text.rstrip().endswith(verdicts(*OUTCOMES).headline)


def test_at_eighty_columns_no_name_number_or_verdict_is_broken():
    """Names of metrics and figures are what people copy: they stand whole in a terminal of any usual width."""
    out = io.StringIO()
    wide = line("not comparable", "fd_effnetlite0_infinity_mid")
    shown = dataclasses.replace(wide, verdict="inconclusive", subject="cifar/flow-matching", base=Estimate(26000, 13000, 39000, 3, "t"),
                                unit="images/s", change=Estimate(-0.576, -0.627, -0.519, 3, "t"), p=0.00067, detectable=1.51)  # fmt: skip
    table = Verdicts("gate", "a", "b", 0.01, (shown, wide))
    Console(file=out, width=80).print(verdicts_renderable(table))
    words = out.getvalue().split()
    for whole in (
        "fd_effnetlite0_infinity_mid",
        "cifar/flow-matching",
        "26,000",
        "13,000",
        "-57.6%",
        "0.00067",
        "+151%",
    ):
        assert whole in words, whole


def test_a_comparison_has_counts_for_a_headline_and_a_gate_a_word_before_them():
    assert Verdicts("compare", "a", "b", 0.05, (line("worse"),)).headline == "1 worse"
    assert Verdicts("gate", "a", "b", 0.05, (line("worse"),)).headline == "regression: 1 worse"


def test_markdown_folds_what_is_fine_and_escapes_the_rest():
    text = verdicts_markdown(
        Verdicts("gate", NASTY, "b", 0.01, (line("worse", "m|`", reason=NASTY), line("equivalent")), (NASTY,))
    )
    assert text.startswith("<!-- gen-bench -->\n### ❌ gen-bench gate: regression: 1 worse, 1 equivalent")
    assert text.index("❌ worse") < text.index("<details>") < text.index("✅ equivalent")
    assert "<i>" not in text
    rows = [row for row in text.splitlines() if row.startswith("| ")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {9}


def test_annotations_are_one_line_each():
    broken = Verdicts(
        "gate", "a", "b", 0.01, (line("worse", NASTY, reason=NASTY), line("inconclusive"), line("better"))
    )
    lines = github_annotations(broken)
    assert [one.partition(" ")[0] for one in lines] == ["::error", "::warning", "::notice"]
    assert all("\n" not in one for one in lines)
    assert "title=worse%3A digits/vae" in lines[0]
    assert "100%25" in lines[0]


@pytest.mark.parametrize("outcomes", [OUTCOMES, ("equivalent",), ()])
def test_junit_is_valid_and_counts_right(outcomes):
    root = etree.fromstring(junit_xml(verdicts(*outcomes)))
    SCHEMA.assertValid(root)
    suite = root[0]
    assert int(suite.get("tests")) == len(suite) == len(outcomes)
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert int(suite.get(attribute)) == len(suite.findall(f"*/{kind}"))
    assert len(suite.findall("*/failure")) == sum(o == "worse" for o in outcomes)


def test_junit_survives_any_text():
    nasty = Verdicts("gate", "a", "b", 0.01, (line("worse", NASTY, reason=NASTY),))
    root = etree.fromstring(junit_xml(nasty))
    SCHEMA.assertValid(root)
    assert root[0][0].get("name").startswith('a|b <i>&"x"</i>')


def test_badge_is_what_shields_reads():
    badges = [json.loads(badge_json(verdicts(o))) for o in ("equivalent", "worse", "failed", "inconclusive")]
    assert [b["message"] for b in badges] == ["1/1 hold", "regression", "failed trials", "inconclusive"]
    assert all(b["schemaVersion"] == 1 and b["label"] == "gen-bench" for b in badges)
    assert len({b["color"] for b in badges}) == 3


def test_files_are_written_whole_where_asked(tmp_path):
    whole = verdicts("worse")
    paths = {name: tmp_path / "out" / name for name in ("junit", "markdown", "json_file", "badge")}
    write_outputs(whole, **paths)
    assert Verdicts.from_json(paths["json_file"].read_text(), "") == whole
    assert all(path.stat().st_size > 50 for path in paths.values())


def test_what_failed_or_is_missing_is_not_replaced_by_a_measurement_of_something_else():
    records = verdicts("failed", "inconclusive", "inconclusive")
    timed = verdicts("equivalent", "equivalent")
    left = records.without(timed)
    assert [(each.metric, each.verdict) for each in left.lines] == [
        ("metric_0", "failed"),
        ("metric_2", "inconclusive"),
    ]
    other = dataclasses.replace(
        timed, lines=tuple(dataclasses.replace(each, subject="digits/gan") for each in timed.lines)
    )
    assert records.without(other) == records
    assert merged([left, timed]).exit_code == 3


def test_merged_verdicts_have_one_exit_code_and_add_their_error_rates():
    speed = dataclasses.replace(verdicts("worse"), kind="ab", alpha=0.01)
    both = merged([verdicts("equivalent", "equivalent"), speed])
    assert both.exit_code == 1
    assert both.alpha == pytest.approx(0.02)
