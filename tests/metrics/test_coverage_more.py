import pytest

from bench.metrics import coverage_more


@pytest.mark.parametrize("simulation", coverage_more.ALL, ids=lambda f: f.__name__)
def test_every_simulation_gives_rows(simulation):
    if simulation in (coverage_more.vendi, coverage_more.clipped, coverage_more.sliced, coverage_more.divergences):
        rows = [next(iter(simulation(repetitions=20, seed=1)))]
    else:
        rows = list(simulation(repetitions=20, seed=1))
    for row in rows:
        assert set(row) == {"metric", "distribution", "n", "coverage", "offered", "repetitions"}
        if row["coverage"] is not None:
            assert row["coverage"] >= 0.7, row  # 20 repetitions; the table itself is made with many
