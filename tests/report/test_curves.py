"""Time to a target with its censoring, rank changes, and the tables made from curves."""

import pytest

from bench.record import CurvePoint, MeasurementFields, Record
from bench.report.costs import costs_markdown
from bench.report.curve_plot import write_curve_plots
from bench.report.curves import (
    Reached,
    crossing,
    curve_metrics,
    quality_metric,
    rank_changes,
    ranks_by_share,
    target_of,
    times_to,
    training_curve,
)

KID = "kid_effnetlite0"


def number(name, value, source="kernel", direction="lower", **more):
    return MeasurementFields(name=name, value=value, source=source, direction=direction, **more)


def record(model, seed, values, final, *, target=None, price=None, status="complete", seconds=16.0, curves=None):
    """A run of ``seconds`` whose quality at 1/8, 1/4 and 1/2 of the budget is ``values``, and ``final`` at the end."""
    points = [
        CurvePoint(
            at={"share": share, "seconds": share * seconds, "images": 1000 * share, "steps": 10 * share},
            measurements=[] if value is None else [number(KID, value)],
            failure="the model generated values that are not finite" if value is None else None,
        )
        for share, value in zip((0.125, 0.25, 0.5), values)
    ]
    costs = {
        "training_seconds": seconds,
        "training_images": 1000.0,
        "training_flops_per_image": 5.0,
        "prior_seconds": 2.0,
    }
    return Record(
        trial=f"{model}{seed}", suite="s", dataset="digits", model=model, seed=seed, status=status, started="",
        budget={"seconds": seconds}, config={"rank_by": KID, "target": target, "price": price},
        measurements=[number(name, value, "cost") for name, value in costs.items()] + ([number(KID, final)] if final else []),
        scoring={}, environment="e", provenance={"hardware": {"cpu": "AMD EPYC"}},
        curves=curves if curves is not None else {"training": points},
    )  # fmt: skip


FAST = [record("fast", seed, (0.5, 0.3 + 0.01 * seed, 0.2), 0.15) for seed in range(3)]
SLOW = [record("slow", seed, (0.9, 0.7, 0.4), 0.1 if seed else 0.25) for seed in range(3)]
NEVER = [record("never", seed, (0.9, None, 0.8), 0.7) for seed in range(3)]


def test_the_curve_ends_with_the_finished_model():
    curve = training_curve(FAST[0], KID)
    assert [point.share for point in curve] == [0.125, 0.25, 0.5, 1.0]
    assert [point.value for point in curve] == [0.5, 0.3, 0.2, 0.15]
    assert curve[-1].seconds == 18.0, "a model is not finished before its prior is fitted"
    assert curve[-1].flops == 5000.0
    assert len(training_curve(NEVER[0], KID)) == 3, "a checkpoint that could not be scored is left out"


def test_a_target_is_reached_between_two_checkpoints():
    curve = training_curve(FAST[0], KID)
    before, point = crossing(curve, 0.25)
    assert (before, point.seconds) == (4.0, 8.0)
    assert crossing(curve, 0.5)[0] == 0.0
    assert crossing(curve, 0.01) is None


def test_runs_that_never_reach_it_are_longer_than_any():
    found = {entry.model: entry for entry in times_to([*SLOW, *NEVER, *FAST], KID, 0.2)}
    assert list(found) == ["fast", "slow", "never"]
    assert found["fast"].median == 8.0
    assert found["fast"].ends == (4.0, 8.0)
    assert len(found["slow"].brackets) == 2
    assert found["slow"].median == 18.0, "two of three reached it at the end"
    assert found["slow"].ends == (8.0, None)
    assert found["never"].median is None
    assert found["never"].budget == 18.0
    assert Reached("x", ((1, 2),), (5,), 3, 9.0).median is None, (
        "one of three: the median is among those that never did"
    )


def test_the_target_is_the_suites_or_what_half_of_the_models_end_with():
    assert target_of([*FAST, *NEVER, *SLOW], KID) == (pytest.approx(0.15), "what half of the models end with")
    target = {"metric": KID, "value": 0.3}
    assert target_of([record("a", 0, (1, 1, 1), 1, target=target)], KID) == (0.3, "set by the suite")


def test_runs_that_all_failed_after_a_checkpoint_have_curves_and_no_target():
    failed = [record("a", seed, (0.5, 0.3, 0.2), None, status="diverged") for seed in range(2)]
    assert target_of(failed, KID) is None
    text = costs_markdown(failed)
    assert "Time to quality" not in text
    assert "Rank by budget" in text


def test_ranks_change_with_the_budget():
    early = [record("early", s, (0.3, 0.3, 0.3), 0.3) for s in range(2)]
    late = [record("late", s, (0.9, 0.5, 0.29), 0.1) for s in range(2)]
    ranks = ranks_by_share([*early, *late], KID)
    assert [model for model, _ in ranks[0.125]] == ["early", "late"]
    assert [model for model, _ in ranks[1.0]] == ["late", "early"]
    assert rank_changes(ranks) == [(0.5, "late", "early")]
    assert list(ranks_by_share([*FAST, *NEVER], KID)) == [0.125, 0.5, 1.0], "only where every model was scored"


def test_the_tables(tmp_path):
    price = {"device": "AMD EPYC", "per_hour": 3.6, "currency": "USD", "date": "2026-11-01", "source": "the bill"}
    target = {"metric": KID, "value": 0.2}
    records = [record(r.model, r.seed, (0.5, 0.3, 0.2), 0.15, target=target, price=price) for r in FAST] + NEVER
    text = costs_markdown(records)
    assert "| fast | 3 of 3 (44% to 100%) | 8 [4, 8] | 500 | 0.00800 USD |" in text
    assert "| never | 0 of 3 (0% to 56%) | > 18 | > 1,000 | – |" in text
    assert "Cost: seconds by the price of the device, 3.6 USD an hour, price of 2026-11-01 (the bill)." in text
    assert "set by the suite" in text
    assert "The order is the same at every checkpoint" in text
    assert "| fast | 0.25 | 4 | 250 | 1.25e+03 | 0.3000 |" in text, "three equal seeds"
    assert "| never | 1 | 18 | 1,000 | 5e+03 | 0.7000 |" in text
    assert write_curve_plots(records, tmp_path) == 6
    for spent in ("time", "images", "flops"):
        assert (tmp_path / f"quality_vs_{spent}_digits.png").stat().st_size > 5000


def test_images_to_the_target_are_the_median_over_the_same_runs_as_the_seconds():
    def row(runs):
        [found] = times_to(runs, KID, 0.25)
        return found.median, found.median_images

    early, late, never = (
        record("m", *run) for run in ((0, (0.2, 0.2, 0.2), 0.1), (1, (0.9, 0.8, 0.2), 0.1), (2, (1, 1, 1), 1))
    )
    assert row([early, late, never]) == (8.0, 500.0), "the second of three, not the mean of the two that reached it"
    assert row([early, never]) == (None, None)
    assert "| m | 1 of 2 (9% to 91%) | > 18 | > 1,000 |" in costs_markdown(
        [run.model_copy(update={"config": {"target": {"metric": KID, "value": 0.25}}}) for run in (early, never)]
    )


def test_the_interval_of_the_median_needs_six_seeds():
    """Brackets (4, 8]: of nine seeds the second and the eighth order statistic; with two that never got there that is beyond the budget."""
    early = [record("slow", seed, (0.5, 0.3, 0.2), 0.15) for seed in range(7)]
    never = [record("slow", seed, (0.9, 0.8, 0.7), 0.6) for seed in (7, 8)]
    [found] = times_to([*early, *never], KID, 0.25)
    assert (found.median, found.interval) == (8.0, (4.0, None))
    text = costs_markdown([*early, *never])
    assert "| slow | 7 of 9 (45% to 94%) | 8 [4, > 18] |" in text
    [clear] = times_to([*early, record("slow", 7, (0.5, 0.3, 0.2), 0.15), never[1]], KID, 0.25)
    assert clear.interval == (4.0, 8.0)
    assert times_to(early[:5], KID, 0.25)[0].interval is None


def test_an_overtaking_within_the_noise_says_so():
    def runs(model, mid, final):
        return [record(model, s, (0.9, 0.8, mid + 0.01 * s), final + 0.01 * s) for s in range(3)]

    steady, clear, close = runs("steady", 0.5, 0.5), runs("clear", 0.6, 0.2), runs("close", 0.6, 0.499)
    text = costs_markdown([*steady, *clear])
    assert "clear overtakes steady at 1." in text
    assert "close overtakes steady at 1 (within noise)" in costs_markdown([*steady, *close])
    assert "clear (0.21 ± 0.025)" in text.replace("0.210 ± 0.025", "0.21 ± 0.025"), "mean and interval of three seeds"


def test_every_distance_stands_along_the_curves():
    run = record("a", 0, (0.5, 0.3, 0.2), 0.1)
    for point in run.curves["training"]:
        point.measurements.append(number("fd_effnetlite0", 9.0, "frechet"))
    assert curve_metrics([run]) == [KID, "fd_effnetlite0"]
    assert f"{KID} ↓ | fd_effnetlite0 ↓" in costs_markdown([run])


def test_no_curves_no_tables():
    plain = FAST[0].model_copy(update={"curves": {}})
    assert costs_markdown([plain]) is None
    assert quality_metric([plain]) is None


def test_steps_and_batches():
    nfe = [
        CurvePoint(at={"steps": steps, "nfe": 2 * steps}, measurements=[number(KID, 1 / steps), speed(100 / steps)])
        for steps in (2, 4)
    ]
    batch = [
        CurvePoint(at={"batch": 1}, measurements=[speed(10)]),
        CurvePoint(at={"batch": 8}, measurements=[speed(60)]),
        CurvePoint(at={"batch": 512}, measurements=[], failure="CUDA out of memory. Tried to allocate 20.00 GiB."),
        CurvePoint(at={"batch": 1024}, measurements=[], failure="cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    ]
    text = costs_markdown([record("flow", 0, (), 0.1, curves={"nfe": nfe, "batch": batch})])
    assert "| flow | 2 | 4 | 0.500 | 50 | – |" in text
    assert "| flow | 8 | **60** |" in text
    assert "| flow | 512 | did not fit |" in text
    assert "| flow | 1024 | failed: cuDNN error: CUDNN_STATUS_NOT_SUPPORTED |" in text


def speed(value):
    return number("sampling_throughput", value, "cost", "higher", unit="images/s")
