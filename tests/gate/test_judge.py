"""Two sides of records: what may be compared, what is named instead, and what the gate says."""

import json

import numpy as np
import pytest

from bench.errors import BenchError
from bench.gate.judge import compare_sides, gate_sides
from bench.gate.margins import Margin, stored_margins
from bench.gate.sides import Side
from bench.suite import Gate

from .records import record, trained

KID, SPEED = "kid_effnetlite0", "sampling_throughput"


def side(*groups, model=None):
    return Side("side", tuple(r for group in groups for r in group), model)


def family(*metrics, alpha=0.01, margin="10%"):
    directions = {KID: "lower", SPEED: "higher", "sampling-throughput": "higher", "coverage_effnetlite0": "higher"}
    members = [{"metric": m, "margin": margin, "direction": directions.get(m, "lower")} for m in metrics]
    return Gate.model_validate({"suite": "ci", "alpha": alpha, "metrics": members})


def only(verdicts):
    [line] = verdicts.lines
    return line


def noisy(rng, mean, n=5, spread=0.02):
    return mean * np.exp(rng.normal(0, spread, n))


def test_the_four_verdicts_of_a_comparison():
    rng = np.random.default_rng(0)
    base = side(*(trained(m, KID, noisy(rng, 0.2)) for m in "abcd"))
    head = side(
        trained("a", KID, noisy(rng, 0.4)), trained("b", KID, noisy(rng, 0.1)), trained("c", KID, noisy(rng, 0.2, spread=0.001)),
        trained("d", KID, noisy(rng, 0.22, spread=0.5)),
    )  # fmt: skip
    found = {line.subject: line for line in compare_sides(base, head, margin="10%").lines}
    assert [found[f"digits16/{m}"].verdict for m in "abcd"] == ["worse", "better", "equivalent", "inconclusive"]
    open_ = found["digits16/d"]
    assert open_.smallest_p == 2 / 2**5
    assert open_.detectable > 0.5
    assert found["digits16/a"].change.low < 1 < found["digits16/a"].change.high
    assert found["digits16/a"].paired


def test_three_seeds_against_three_can_be_significant_only_through_normality_and_the_table_says_so():
    rng = np.random.default_rng(1)
    verdicts = compare_sides(
        side(trained("a", KID, noisy(rng, 1, 3))), side(trained("a", KID, noisy(rng, 1.01, 3, 0.2)))
    )
    assert only(verdicts).smallest_p == 0.25


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"n": 500}, "n differs (300 against 500): score both with as many samples"),
        ({"data": "e" * 64}, "data differs (dddddddddddd against eeeeeeeeeeee)"),
        ({"budget": {"steps": 600.0}}, "budget differs (300 steps against 600 steps): train both under one budget"),
        ({"protocol": "bbbbbbbbbbbb"}, "protocol differs"),
    ],
)
def test_what_must_not_be_compared_says_which_key_differs(changes, says):
    line = only(compare_sides(side(trained("a", KID, [1, 2, 3])), side(trained("a", KID, [1, 2, 3], **changes))))
    assert line.verdict == "not comparable"
    assert says in line.reason


def test_without_a_margin_speed_gets_twice_the_stored_noise_and_quality_five_percent(tmp_path):
    """Differences of 4 % have a robust spread of 5.9 %: the margin is exp(2 * 0.059) - 1."""
    from bench.commands.ab import margins_of

    stored = [
        {"environment": "eeeeeeeeeeee", "differences": [0.04, -0.04] * 5},
        {"environment": "f", "differences": [0.001] * 9},
    ]
    (tmp_path / "noise.json").write_text(json.dumps(stored))
    noise = stored_margins(tmp_path)
    assert noise == {"eeeeeeeeeeee": pytest.approx(np.expm1(2 * 1.4826 * 0.04)), "f": 0.05}
    records = [record("a", seed, {KID: 1 + seed / 100, SPEED: 100.0 + seed}) for seed in range(5)]
    again = [record("a", seed, {KID: 1 + seed / 90, SPEED: 101.0 + seed}) for seed in range(5)]
    verdicts = compare_sides(side(records), side(again), noise=noise)
    margins = {line.metric: line.margin for line in verdicts.lines}
    assert margins == {KID: 0.05, SPEED: pytest.approx(0.126, abs=0.001)}
    assert any("12.6%, twice what this machine differs from itself" in note for note in verdicts.notes)
    given = compare_sides(side(records), side(again), margin="7%", noise=noise)
    assert {line.margin for line in given.lines} == {0.07}
    gated = gate_sides(side(records), side(again), family(SPEED, margin=None), noise)
    assert [line.margin for line in gated.lines] == [pytest.approx(0.126, abs=0.001)], (
        "bench gate: a member without a margin"
    )
    # bench ab: --margin, then [gate], then the noise of this very machine, which is not stored here
    margins, note = margins_of(["sampling_throughput", "training_throughput"], family(SPEED), None, tmp_path, "cpu")
    assert margins == {"sampling_throughput": 0.1, "training_throughput": 0.05}
    assert note == "margin of training_throughput: 5%, as nothing else was said"


def test_hardware_matters_to_speed_and_to_quality_under_a_budget_of_seconds_only():
    def verdict(metric, budget):
        base = side(trained("a", metric, [1.0, 1.01, 1.02], budget=budget))
        head = side(trained("a", metric, [1.0, 1.01, 1.02], budget=budget, environment="ffffffffffff"))
        return only(compare_sides(base, head, [metric])).verdict

    assert verdict(SPEED, {"steps": 300.0}) == "not comparable"
    assert verdict(KID, {"seconds": 12.0}) == "not comparable"
    assert verdict(KID, {"steps": 300.0}) == "equivalent"


def test_a_side_that_mixes_protocols_is_not_averaged():
    mixed = [*trained("a", KID, [1.0, 1.1]), record("a", 2, {KID: 1.2}, n=500)]
    line = only(compare_sides(side(mixed), side(mixed)))
    assert line.verdict == "not comparable"
    assert "base mixes trials of different n (300 and 500)" in line.reason


def test_two_models_are_compared_by_narrowed_sides():
    base, head = (
        side(trained("a", KID, [1.0, 1.1, 1.2]), model="a"),
        side(trained("b", KID, [0.5, 0.51, 0.52]), model="b"),
    )
    assert only(compare_sides(base, head)).verdict == "better"
    with pytest.raises(BenchError, match="share no"):
        compare_sides(side(trained("a", KID, [1.0])), side(trained("b", KID, [1.0])))


def test_quality_gate_catches_a_worse_model_with_five_seeds_and_passes_an_unchanged_one():
    rng = np.random.default_rng(2)
    runs, alarms, caught = 100, 0, 0
    for _ in range(runs):
        base = side(*(trained(m, KID, noisy(rng, 0.2, spread=0.1)) for m in "abc"))
        same = side(*(trained(m, KID, noisy(rng, 0.2, spread=0.1)) for m in "abc"))
        worse = side(*(trained(m, KID, noisy(rng, 0.5 if m == "a" else 0.2, spread=0.1)) for m in "abc"))
        alarms += gate_sides(base, same, family(KID)).exit_code == 1
        caught += gate_sides(base, worse, family(KID)).exit_code == 1
    assert alarms <= 4  # P(more | 1 %) = 0.3 %
    assert caught >= 90


def test_identical_samples_and_untrained_models_are_compared_exactly():
    same = trained("a", KID, [0.2, 0.9, 0.4], samples="s")
    assert only(gate_sides(side(same), side(same), family(KID))).verdict == "equivalent"
    moved = trained("a", KID, [0.2, 0.9, 0.41], samples="s")
    line = only(gate_sides(side(same), side(moved), family(KID)))
    assert line.verdict == "worse"
    assert "seed 2 differs by 0.01" in line.reason


@pytest.mark.parametrize(("value", "verdict"), [(0.205, "equivalent"), (0.25, "worse"), (0.1, "better")])
def test_a_baseline_with_other_samples_may_move_by_its_sampling_errors(value, verdict):
    base = trained("noise", KID, [0.2], role="baseline", error=0.01)
    head = trained("noise", KID, [value], role="baseline", error=0.01)
    line = only(gate_sides(side(base), side(head), family(KID)))
    assert line.verdict == verdict  # tolerance: 2.58 * sqrt(2) * 0.01 / 1.96 = 0.0186
    assert line.reason.endswith("(2.58 sampling errors)"), "one seed, 1 % of false alarms in both directions"


@pytest.mark.parametrize("with_trained", [False, True])
def test_unchanged_baselines_keep_the_false_alarm_rate_of_the_family(with_trained):
    """Four baselines with five seeds whose samples changed, in 400 gates: three sampling errors for each would alarm in 2.7 %."""
    rng = np.random.default_rng(0)

    def drawn(tag):
        found = [
            record(
                f"b{model}",
                seed,
                {KID: rng.normal(0.5, 0.01)},
                role="baseline",
                error=0.0196,
                samples=f"{tag}{model}{seed}",
            )
            for model in range(4)
            for seed in range(5)
        ]
        return [*found, *(trained("vae", KID, list(rng.normal(0.2, 0.01, 5)), samples=tag) if with_trained else ())]

    alarms = sum(
        any(line.verdict == "worse" for line in gate_sides(side(drawn("x")), side(drawn("y")), family(KID)).lines)
        for _ in range(400)
    )
    assert alarms <= 7, "1 % of 400, and three standard errors"


def test_a_new_row_that_failed_is_failed_and_so_is_a_baseline_that_failed_on_both_sides():
    good = trained("vae", KID, noisy(np.random.default_rng(0), 0.2))
    broken = [record("new", seed, {}, status="failed", reason="boom") for seed in range(2)]
    partly = [record("half", 0, {KID: 0.2}), record("half", 1, {}, status="diverged")]
    verdicts = gate_sides(side(good), side([*good, *broken, *partly]), family(KID))
    found = {line.subject: line for line in verdicts.lines}
    assert [found[f"digits16/{name}"].verdict for name in ("new", "half")] == ["failed", "failed"]
    assert "boom" in found["digits16/new"].reason
    assert verdicts.exit_code == 3
    noise = [record("noise", 0, {}, role="baseline", status="failed", reason="boom")]
    assert gate_sides(side([*good, *noise]), side([*good, *noise]), family(KID)).exit_code == 3


def test_the_very_same_trials_are_said_to_be_no_run():
    good = trained("vae", KID, [0.2, 0.21])
    again = [r.model_copy(update={"started": "2026-11-23T00:00:00+00:00"}) for r in good]
    assert "nothing was run anew" in gate_sides(side(good), side(good), family(KID)).notes[0]
    assert not any("anew" in note for note in gate_sides(side(good), side(again), family(KID)).notes)


def test_a_model_that_the_suite_has_no_more_is_named_and_not_judged():
    both = [*trained("vae", KID, [0.2, 0.21]), *trained("gan", KID, [0.3, 0.31])]
    verdicts = gate_sides(side(both), side(both), family(KID), models={"vae", "floor"})
    assert [line.subject for line in verdicts.lines] == ["digits16/vae"]
    assert "not judged, no longer in suite ci: gan" in verdicts.notes


def test_a_new_row_has_the_declared_direction():
    speed = trained("new", "sampling_throughput", [5.0, 6.0])
    old = trained("old", "sampling_throughput", [5.0, 6.0])
    lines = gate_sides(side(old), side([*old, *speed]), family("sampling_throughput")).lines
    assert {line.direction for line in lines} == {"higher"}


def test_flops_are_judged_without_a_machine_and_seconds_are_not():
    """Four times the FLOPs on another machine is worse; half the speed there says nothing."""

    def both(metric, value, environment):
        groups = [
            record("gan", seed, {metric: value}, environment=environment, samples=f"{environment}{seed}")
            for seed in range(5)
        ]
        return side(groups)

    def verdict(metric, before, after):
        return only(gate_sides(both(metric, before, "e" * 12), both(metric, after, "f" * 12), family(metric)))

    assert verdict("sampling_flops_per_image", 1e6, 4e6).verdict == "worse"
    assert verdict("sampling_flops_per_image", 1e6, 1e6).verdict == "equivalent"
    assert "environment differs" in verdict("sampling_throughput", 100.0, 50.0).reason


def test_a_model_against_a_baseline_is_the_same_test_in_either_order():
    rng = np.random.default_rng(3)
    model = side(trained("m", KID, noisy(rng, 0.2)))
    baseline = side(trained("m", KID, noisy(rng, 0.4), role="baseline", error=0.01))
    one, two = (only(compare_sides(*pair)) for pair in ((model, baseline), (baseline, model)))
    assert (one.verdict, two.verdict) == ("worse", "better")
    assert one.p == pytest.approx(two.p)


def test_baselines_without_a_seed_in_common_are_not_compared():
    one, two = (side([record("noise", seed, {KID: 0.3}, role="baseline")]) for seed in (0, 1))
    line = only(compare_sides(one, two))
    assert (line.verdict, line.reason) == ("not comparable", "no seed in common")


def test_missing_failed_and_new_cells_are_named_and_never_pass_silently():
    base = side(trained("gone", KID, [1, 2, 3]), trained("short", KID, [1, 2, 3]), trained("bad", KID, [1, 2, 3]))
    failed = record("bad", 2, {}, status="diverged", reason="loss is nan")
    head = side(trained("short", KID, [1, 2]), [*trained("bad", KID, [1, 2]), failed], trained("fresh", KID, [1, 2, 3]))
    verdicts = gate_sides(base, head, family(KID))
    found = {line.subject.partition("/")[2]: (line.verdict, line.reason) for line in verdicts.lines}
    assert found["gone"] == ("missing", "base has this row, head does not")
    assert found["short"] == ("missing", "head lacks seed 2 of base")
    assert found["bad"] == ("failed", "in head: seed 2 diverged (loss is nan)")
    assert found["fresh"][0] == "new"
    assert verdicts.exit_code == 3


def test_a_comparison_for_people_uses_the_seeds_that_both_have_and_the_metrics_of_both():
    base = [record("a", s, {KID: 1 + s / 100, SPEED: 100.0 + s}) for s in range(5)]
    head = [record("a", s, {KID: 2 + s / 100}) for s in range(4)]
    verdicts = compare_sides(side(base), side(head))
    [line] = verdicts.lines
    assert (line.metric, line.verdict, line.n, line.paired) == (KID, "worse", 4, True)
    assert any(note == f"only one side has: {SPEED}" for note in verdicts.notes)
    assert any("Holm over 1 comparisons" in note for note in verdicts.notes)
    [asked] = compare_sides(side(base), side(head), [SPEED]).lines
    assert (asked.verdict, asked.reason) == ("not comparable", "base measured it, head did not")
    assert {line.verdict for line in gate_sides(side(base), side(head), family(KID)).lines} == {"missing"}


def test_nothing_compared_is_no_pass():
    assert gate_sides(side(), side(trained("fresh", KID, [1, 2, 3])), family(KID)).exit_code == 4


def test_a_trial_that_failed_in_every_seed_is_named_for_every_metric():
    failed = [record("a", seed, {}, status="failed", reason="boom") for seed in range(3)]
    head = side(failed, trained("b", KID, [1, 1.01, 1.02]))
    verdicts = gate_sides(side(trained("a", KID, [1, 2, 3]), trained("b", KID, [1, 1.01, 1.02])), head, family(KID))
    assert {line.subject: line.verdict for line in verdicts.lines} == {
        "digits16/a": "failed",
        "digits16/b": "equivalent",
    }


def test_slower_in_another_session_is_inconclusive_and_points_to_ab():
    base, head = side(trained("a", SPEED, [100, 101, 102, 103, 99])), side(trained("a", SPEED, [50, 51, 52, 51, 50]))
    verdicts = gate_sides(base, head, family(SPEED))
    assert only(verdicts).verdict == "inconclusive"
    assert "confirm it with `bench ab`" in only(verdicts).reason
    assert verdicts.exit_code == 4


def test_speed_of_two_sessions_cannot_fail_and_costs_the_others_no_power():
    """Quality is judged as if it were gated alone, however many speeds are gated beside it."""
    rng = np.random.default_rng(3)
    speeds = {m: noisy(rng, 100.0) for m in "abcdefgh"}

    def both(kid):
        return side(*([record(m, s, {KID: 0.2 + s / 1e4, SPEED: v} if m != "a" else {KID: kid[s], SPEED: v})
                       for s, v in enumerate(values)] for m, values in speeds.items()))  # fmt: skip

    base, head = both(noisy(rng, 0.2)), both(noisy(rng, 0.26, spread=0.04))
    alone = {line.name: line for line in gate_sides(base, head, family(KID)).lines}
    beside = {line.name: line for line in gate_sides(base, head, family(KID, SPEED)).lines}
    assert 0 < alone[f"digits16/a {KID}"].p < 1
    assert {name: line.p for name, line in beside.items() if KID in name} == {n: line.p for n, line in alone.items()}
    assert {line.detectable for name, line in beside.items() if SPEED in name} == {None}


def test_baselines_have_no_gated_speed():
    rows = [*trained("noise", SPEED, [1.0, 2.0, 3.0], role="baseline"), *trained("a", SPEED, [1.0, 1.0, 1.0])]
    assert [line.subject for line in gate_sides(side(rows), side(rows), family(SPEED)).lines] == ["digits16/a"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Margin.parse("5 percent"), "reads '5%'"),
        (lambda: Margin.parse("-1%"), "reads '5%'"),
        (lambda: compare_sides(side(trained("a", KID, [1])), side(trained("a", KID, [1])), ["kid_effnetlit0"]), "did you mean"),
        (lambda: compare_sides(side(trained("a", "parameters", [1])), side(trained("a", "parameters", [1])), ["parameters"]),
         "no better direction"),
        (lambda: gate_sides(side(trained("a", KID, [1])), side(trained("a", KID, [1])),
                            Gate.model_validate({"suite": "ci", "metrics": [{"metric": KID, "direction": "higher"}]})),
         "correct \\[gate\\]"),
        (lambda: gate_sides(side(), side(), family(KID)), "bench run ci"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_sentence(call, says):
    with pytest.raises(BenchError, match=says):
        call()


def test_a_hyphen_in_the_name_of_a_gated_metric_judges_it_all_the_same():
    speed = trained("gan", SPEED, [100.0, 101.0, 99.0])
    lines = gate_sides(side(speed), side(speed), family("sampling-throughput")).lines
    assert [line.metric for line in lines] == [SPEED]
