"""How long the command line takes to answer, and what it holds in memory."""

from __future__ import annotations

import subprocess
import sys


class CommandLine:
    params = (["--help"], ["list", "models"], ["list", "metrics"])
    param_names = ("words",)

    def time_command(self, words: list[str]) -> None:
        subprocess.run([sys.executable, "-m", "bench.cli", *words], check=True, capture_output=True)


class Import:
    def timeraw_bench(self) -> str:
        return "import bench; bench.BenchError"

    def timeraw_model(self) -> str:
        return "import bench.model"

    def peakmem_model(self) -> None:
        import bench.model  # noqa: F401
