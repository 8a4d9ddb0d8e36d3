"""Records -> cells: which numbers depend on the machine, and what must agree before two of them are compared."""

import pytest

from bench.gate.cells import COUNTED_NAMES, depends_on_machine, rows_of
from bench.gate.judge import compare_sides, gate_sides
from bench.gate.sides import Side
from bench.suite import Gate

from .records import trained

FLOPS, SPEED, COLLAPSED = "sampling_flops_per_image", "sampling_throughput", "training_collapsed"
HERE, ELSEWHERE = {"environment": "e" * 12, "protocol": "a" * 12}, {"environment": "f" * 12, "protocol": "b" * 12}
"""The protocol of costs differs where the environment does."""


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("sampling_throughput", "images/s"), ("training_step_rate", "steps/s"), ("sampling_latency_p95", "s"),
        ("training_seconds", "s"), ("time_to_first_sample", "s"), ("compile_seconds", "s"), ("peak_memory_sampling", "MiB"),
        ("memory_growth_training", "MiB"), ("training_energy_per_image", "J/image"), ("training_mean_power", "W"),
        ("cost_per_run", "EUR"), ("cost_per_1000_images", "USD"), ("training_mfu", "1"), ("sampling_mfu", "1"),
        ("data_loading_share", "1"), ("best_sample_batch", "1"),
    ],
)  # fmt: skip
def test_times_memory_energy_and_money_depend_on_the_machine(metric, unit):
    assert depends_on_machine(metric, unit)


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("sampling_flops_per_image", "FLOP/image"), ("training_flops_coverage", "1"), ("nfe", "1"), ("parameters", "1"),
        ("training_collapsed", "1"), ("collapse_step", "steps"), ("oscillation", "1"), ("gradient_spike", "1"),
        ("discriminator_advantage", "1"), ("discriminator_saturated", "1"), ("ema_lag", "1"), ("final_loss_mse", "1"),
        ("training_steps", "steps"), ("training_images", "images"),
    ],
)  # fmt: skip
def test_counts_and_courses_of_training_do_not(metric, unit):
    assert not depends_on_machine(metric, unit)


def judged(metric, base, head, direction="lower", **head_changes):
    """The gate's only line of five seeds a side."""
    member = {"metric": metric, "margin": "5%", "direction": direction}
    gate = Gate.model_validate({"suite": "ci", "metrics": [member]})
    one, two = (
        Side("side", tuple(trained("vae", metric, values, **changes)))
        for values, changes in ((base, HERE), (head, HERE | head_changes))
    )
    [line] = gate_sides(one, two, gate).lines
    return line


def test_more_work_for_a_sample_fails_the_gate_on_any_machine():
    for where in (HERE, ELSEWHERE):
        assert judged(FLOPS, [1e9] * 5, [4e10] * 5, **where).verdict == "worse"
        assert judged(FLOPS, [1e9] * 5, [1e9] * 5, **where).verdict == "equivalent"
    assert judged(SPEED, [100.0] * 5, [50.0] * 5, "higher").verdict == "inconclusive", "measured in two sessions"
    assert judged(SPEED, [100.0] * 5, [50.0] * 5, "higher", **ELSEWHERE).verdict == "not comparable"


def test_facts_of_what_does_not_depend_on_the_machine_are_those_of_quality():
    [row] = rows_of(Side("side", tuple(trained("vae", FLOPS, [1e9] * 3)))).values()
    assert {"n", "protocol", "data", "budget", "batch size", "sample batch"} == set(row.cells[FLOPS].facts)
    line = judged(FLOPS, [1e9] * 5, [1e9] * 5, n=500)
    assert (line.verdict, "n differs (300 against 500)" in line.reason) == ("not comparable", True)


@pytest.mark.parametrize(
    ("metric", "budget", "comparable"),
    [
        (COLLAPSED, {"steps": 300.0}, True),
        (COLLAPSED, {"flops": 1e12}, True),
        (COLLAPSED, {"seconds": 12.0}, False),
        (FLOPS, {"seconds": 12.0}, True),
        (SPEED, {"steps": 300.0}, False),
    ],
)
def test_two_machines_train_alike_unless_the_budget_is_in_seconds(metric, budget, comparable):
    base, head = (
        Side("side", tuple(trained("vae", metric, [1.0, 1.0, 1.0], budget=budget, **where)))
        for where in (HERE, ELSEWHERE)
    )
    [line] = compare_sides(base, head, [metric]).lines
    assert (line.verdict == "not comparable") is not comparable
    assert comparable or "environment differs" in line.reason


def test_what_is_counted_does_not_depend_on_the_machine():
    assert not any(depends_on_machine(name, "1") for name in COUNTED_NAMES)
