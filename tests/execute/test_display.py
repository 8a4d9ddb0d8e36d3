"""What a person sees while a suite runs."""

import io

from rich.console import Console

from bench.execute.display import RunDisplay
from bench.plan import plan
from bench.suite import load_config

SUITE = """
[suites.s]
datasets = ["digits"]
models = ["vae"]
seeds = [0]
budget = { steps = 2 }
metrics = ["kernel"]
"""


def test_images_of_a_phase_are_counted_on_a_terminal_only(tmp_path):
    (tmp_path / "benchmarks.toml").write_text(SUITE)
    trial = plan(load_config(tmp_path / "benchmarks.toml"), "s", device="cpu")[0]
    for terminal in (True, False):
        text = io.StringIO()
        with RunDisplay(Console(file=text, force_terminal=terminal, width=120)) as display:
            display.begin(trial, 1, 1)
            display.event({"event": "phase", "phase": "features of 500 [fake] images"})
            display.event({"event": "images", "done": 48, "total": 500})
        shown = text.getvalue()
        assert ("features of 500 [fake] images: 48/500" in shown) if terminal else shown == ""
