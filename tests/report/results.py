"""Tidy frames of results made from plain numbers, for the tests of tables and plots."""

import pandas as pd

KID, FD, COVERAGE = "kid_effnetlite0", "fd_effnetlite0", "coverage_effnetlite0"
SPEED, MEMORY, SIZE, BITS = "sampling_throughput", "peak_memory", "parameters", "bits_per_dim_upper_bound"
MONEY = "cost_per_run"
COLLAPSED = "training_collapsed"

KINDS = {
    KID: ("1", "lower", 500),
    FD: ("1", "lower", 500),
    COVERAGE: ("1", "higher", 500),
    SPEED: ("images/s", "higher", 9),
    MEMORY: ("MiB", "lower", 1),
    SIZE: ("1", "lower", 1),
    BITS: ("bits/dim", "lower", 300),
    MONEY: ("USD", "lower", 1),
    COLLAPSED: ("1", "lower", 300),
}


def rows(model, metrics, *, family="gan", role="trained", seeds=None, dataset="digits", suite="quick", **changes):
    """One row a measurement. metrics: name -> values, one a seed (or a pair of lists: values and their sampling error)."""
    lines = []
    for metric, values in metrics.items():
        unit, direction, n = KINDS[metric]
        values, errors = values if isinstance(values, tuple) else (values, [None] * len(values))
        for seed, value, error in zip(seeds or range(len(values)), values, errors):
            lines.append({
                "suite": suite, "dataset": dataset, "model": model, "family": family, "role": role, "seed": seed,
                "trial": f"{dataset}-{model}-{seed}", "status": "complete", "reason": None, "metric": metric,
                "value": value, "low": None if error is None else value - error,
                "high": None if error is None else value + error, "unit": unit, "n": n, "direction": direction,
                "interval": None, "note": None, "protocol": "aaaaaaaaaaaa", "environment": "eeeeeeeeeeee", **changes,
            })  # fmt: skip
    return lines


def failure(model, seed, status="diverged", reason="loss is not finite at step 40", **changes):
    [line] = rows(model, {KID: [0.0]}, seeds=[seed], **changes)
    empty = dict.fromkeys(["metric", "value", "low", "high", "unit", "n", "direction", "protocol"])
    return [{**line, **empty, "status": status, "reason": reason}]


def frame(*parts):
    table = pd.DataFrame([line for part in parts for line in part])
    table[["value", "low", "high"]] = table[["value", "low", "high"]].astype(float)
    table["n"] = table["n"].astype("Int64")
    return table


def example():
    """Three separated models, two that overlap, one with a failure, the baselines and the floor."""
    floor = {KID: ([0.0004] * 3, [0.0003] * 3), FD: ([3.1] * 3, [0.2] * 3), COVERAGE: ([0.97] * 3, [0.01] * 3)}
    return frame(
        rows("floor", floor, family="floor", role="floor"),
        rows("copy-train", {KID: [0.0005, 0.0004, 0.0006], FD: [3.2, 3.1, 3.0], COVERAGE: [0.96, 0.97, 0.96],
                            SPEED: [1e6, 1.1e6, 1.05e6]}, family="baseline", role="baseline"),
        rows("noise", {KID: [0.5, 0.51, 0.52], FD: [300.0, 301, 302], COVERAGE: [0.0, 0.0, 0.0], SPEED: [2e5, 2.1e5, 2e5]},
             family="baseline", role="baseline"),
        rows("ddpm", {KID: [0.010, 0.011, 0.012], FD: [20.0, 21, 22], COVERAGE: [0.80, 0.81, 0.82], SPEED: [90, 91, 92],
                      MEMORY: [700, 701, 702], SIZE: [300000] * 3, BITS: [3.1, 3.2, 3.0]}, family="diffusion"),
        rows("flow", {KID: [0.011, 0.012, 0.013], FD: [19.0, 20, 21], COVERAGE: [0.81, 0.82, 0.83], SPEED: [190, 191, 192],
                      MEMORY: [690, 691, 692], SIZE: [300000] * 3}, family="flow matching"),
        rows("gan", {KID: [0.050, 0.052, 0.051], FD: [60.0, 61, 62], COVERAGE: [0.50, 0.51, 0.52],
                     SPEED: [9000, 9100, 9200], MEMORY: [500, 501, 502], SIZE: [260000] * 3}, family="gan"),
        rows("vae", {KID: [0.080, 0.081, 0.082], FD: [90.0, 91, 92], COVERAGE: [0.40, 0.41, 0.42],
                     SPEED: [8000, 8100, 8200], MEMORY: [550, 551, 552], SIZE: [200000] * 3, BITS: [3.9, 4.0, 4.1]},
             family="vae"),
        rows("wgan", {KID: [0.030, 0.031], FD: [40.0, 41], COVERAGE: [0.6, 0.61], SPEED: [9000, 9100], MEMORY: [500, 501],
                      SIZE: [260000] * 2}, family="gan"),
        failure("wgan", 2),
    )  # fmt: skip
