"""Does the quality gate catch a model that learned from fewer images? Real training, real scores.

    python benchmarks/worse_model.py --write       # minutes; the table goes to docs/gate.md

Each version of the VAE trains with the seeds, data, steps and protocol of suite `ci`, and is gated on `kid_effnetlite0` against
the first one, as `bench gate` does. "Other luck" differs in its initial weights only: it must pass. The others keep the first N images that they are
given and learn from nothing else, as a broken loader would.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench.gate.judge import gate_sides  # noqa: E402
from bench.gate.sides import Side  # noqa: E402
from bench.model import Batch  # noqa: E402
from bench.plan import plan  # noqa: E402
from bench.record import Record  # noqa: E402
from bench.report.verdicts_text import change_text, p_text  # noqa: E402
from bench.suite import Config, Gate, load_config  # noqa: E402
from bench.trial import run_trial  # noqa: E402
from benchmarks.false_alarms import show  # noqa: E402
from reference_models.vae import VAE  # noqa: E402

METRIC, MARGIN = "kid_effnetlite0", "10%"
SUITE = load_config(ROOT / "benchmarks.toml").suites["ci"]


class OtherLuck(VAE):
    """The same model from other initial weights."""

    def __init__(self, space: Any, **config: Any) -> None:
        torch.rand(1)
        super().__init__(space, **config)


class FewerImages(VAE):
    """Learns from the first ``keep`` images alone."""

    keep = 0

    def train_step(self, batch: Batch, progress: float) -> dict[str, Any]:
        kept = getattr(self, "kept", batch.x[:0])
        self.kept = torch.cat([kept, batch.x])[: self.keep]
        chosen = torch.randint(len(self.kept), (len(batch.x),))
        return super().train_step(Batch(self.kept[chosen], batch.labels), progress)


class Images64(FewerImages):
    """64 of 1348 images."""

    keep = 64


class Images16(FewerImages):
    """16 of 1348 images."""

    keep = 16


VERSIONS = {
    "all images, other initial weights": OtherLuck,
    "64 images": Images64,
    "16 images": Images16,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/gate.md")
    given = parser.parse_args()
    base = train(VAE)
    lines = [
        f"Model `vae-beta4` of suite `ci` ({SUITE.budget}, batches of {SUITE.batch_size}), five seeds, from all 1348 images and from fewer, gated against the first on "
        f"`{METRIC}` with a margin of {MARGIN} (family-wise alpha 1 %):",
        "",
        f"| version | {METRIC} | change | p | verdict |",
        "|---|--:|--:|--:|---|",
    ]
    for name, version in VERSIONS.items():
        found = gate_sides(Side("base", base), Side(name, train(version)), family())
        [line] = found.lines
        if line.head is None:
            sys.exit(f"{name}: {line.verdict}, {line.reason}")
        half = line.head.half_width or 0.0
        lines.append(
            f"| {name} | {line.head.value:.3f} ± {half:.3f} | {change_text(line)} | {p_text(line)} | {line.verdict} |"
        )
        print(lines[-1], flush=True)
    show("worse model", "\n".join(lines), given.write)


def family() -> Gate:
    member = {"metric": METRIC, "margin": MARGIN, "direction": "lower"}
    return Gate.model_validate({"suite": "ci", "metrics": [member]})


def train(version: type[VAE]) -> tuple[Record, ...]:
    """One record a seed."""
    suite = SUITE.model_dump(exclude_none=True, by_alias=True)
    suite |= {
        "models": ["vae"],
        "baselines": [],
        "metrics": [{"name": "kernel"}],
    }
    target = f"{version.__module__ if version is VAE else 'benchmarks.worse_model'}:{version.__name__}"
    settings = Config.model_validate({
        "suites": {"ci": suite}, "models": {"vae": {"class": target, "config": {"beta": 4.0}}},
        "datasets": {"digits16": {"dataset": "digits", "options": {"resolution": 16}}},
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trials = plan(settings, "ci", device="cpu", models=["vae"], search_path=ROOT)
        return tuple(run_trial(trial, Path(folder, trial.id)) for trial in trials)


if __name__ == "__main__":
    main()
