"""What ``import bench`` alone gives, in a process that has imported nothing else."""

import subprocess
import sys

import pytest


def in_a_fresh_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.parametrize(
    "code",
    [
        "assert bench.metrics.frechet_distance([[0.0], [1.0]], [[0.0], [1.0]]) < 1e-9",
        "assert bench.metrics.slerp.__doc__",
        "assert bench.features.__name__ == 'bench.features'",
        "assert {'metrics', 'features'} <= set(bench.__all__)",
        "assert 'torch' not in sys.modules and 'bench.metrics' not in sys.modules",
        "bench.metrics; assert 'torch' not in sys.modules",
    ],
)
def test_submodules_are_there_and_cost_nothing_until_used(code):
    done = in_a_fresh_process(f"import sys, bench\n{code}")
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_said():
    assert "module 'bench' has no attribute 'metric'" in in_a_fresh_process("import bench; bench.metric").stderr
