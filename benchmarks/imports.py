"""How long the command line takes to answer, and what it holds in memory."""

from __future__ import annotations

import subprocess
import sys


class CommandLine:
    params = ("--help", "list models", "list metrics")
    param_names = ("words",)
    rounds, number, warmup_time = 1, 1, 0.0
    repeat = (2, 5, 3.0)

    def time_command(self, words: str) -> None:
        subprocess.run([sys.executable, "-m", "bench.cli", *words.split()], check=True, capture_output=True)


class Import:
    rounds, number, warmup_time = 1, 1, 0.0
    repeat = (2, 5, 5.0)

    def timeraw_bench(self) -> str:
        return "import bench; bench.BenchError"

    def timeraw_model(self) -> str:
        return "import bench.model"

    def peakmem_model(self) -> None:
        import bench.model  # noqa: F401
