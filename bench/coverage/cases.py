"""The simulations that ``bench coverage`` runs: each by name, kept once done, and run again only where code has changed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

from bench import provenance, registry
from bench.coverage import examples, sets
from bench.coverage.pairs import (
    FRECHET_SIZES,
    NOISES,
    OTHER_SIZES,
    SEPARATE,
    frechet_rows,
    inception_rows,
    linear_pair,
    other_rows,
    separate_pair,
)
from bench.coverage.row import Row

Run = Callable[[int, int], "list[Row]"]

FRECHET = ("frechet", "frechet_interval", "frechet_infinity", "moments")
NEIGHBOURS = ("kernel", "precision_recall", "manifold")


@dataclasses.dataclass(frozen=True)
class Case:
    """A piece of the table: ``run(repetitions, seed)`` gives its rows. metrics, simulation: modules whose code decides them."""

    name: str
    run: Run
    metrics: tuple[str, ...]
    simulation: str

    @property
    def digest(self) -> str:
        """Changes with the code of the metrics, of all that they use, and of the simulations."""
        simulated = registry.modules_digest(["bench.coverage.row", f"bench.coverage.{self.simulation}"])
        return provenance.short_hash([simulated, *(registry.code_digest(f"bench.metrics.{m}:") for m in self.metrics)])


def all_cases() -> list[Case]:
    return [*_pairs(), *_others()]


def _pairs() -> Iterator[Case]:
    for equal in (False, True):
        for noise in NOISES:
            kind = f"{noise}-{'equal' if equal else 'different'}"
            for d, n, m in FRECHET_SIZES:
                run = functools.partial(_frechet, noise, equal, d, n, m)
                yield Case(f"frechet-{kind}-{d}-{n}", run, FRECHET, "pairs")
            for d, n, m in OTHER_SIZES:
                run = functools.partial(_other, noise, equal, d, n, m)
                yield Case(f"neighbours-{kind}-{d}-{n}", run, NEIGHBOURS, "pairs")
    for name in SEPARATE:
        yield Case(f"neighbours-separate-{name}", functools.partial(_separate, name), NEIGHBOURS, "pairs")


def _frechet(noise: str, equal: bool, d: int, n: int, m: int, repetitions: int, seed: int) -> list[Row]:
    return frechet_rows(linear_pair(noise, d, equal), n, m, repetitions, seed)


def _other(noise: str, equal: bool, d: int, n: int, m: int, repetitions: int, seed: int) -> list[Row]:
    return other_rows(linear_pair(noise, d, equal), n, m, repetitions, seed)


def _separate(name: str, repetitions: int, seed: int) -> list[Row]:
    _, n, _ = SEPARATE[name]
    return other_rows(separate_pair(name), n, n, repetitions, seed)


def _others() -> Iterator[Case]:
    for n, splits in ((100, 1), (1000, 1), (1000, 10)):
        yield Case(f"inception-score-{splits}-{n}", functools.partial(_inception, n, splits), ("inception",), "pairs")
    for name, rows, metrics in (
        ("means", examples.means, ("intervals",)),
        ("ratios", examples.ratios, ("intervals",)),
        ("areas-under-roc", examples.areas_under_roc, ("intervals",)),
        ("shares", examples.proportions, ("intervals",)),
        ("path-lengths", examples.path_lengths, ("latent",)),
        ("vendi", sets.vendi, ("vendi",)),
        ("memorisation", sets.distances_to_train, ("memorisation", "neighbours")),
        ("divergences", sets.divergences, ("bins",)),
        ("sliced", sets.sliced, ("sliced",)),
        ("clipped", sets.clipped, ("clipped", "neighbours")),
        ("feature-likelihood", sets.feature_likelihood, ("feature_likelihood",)),
        ("realism", sets.realism, ("realism", "precision_recall")),
        ("repetitions", sets.repeated_samples, ("collapse", "neighbours")),
        ("paired-and-by-class", sets.paired_and_by_class, ("frechet_pairs", "classes", "frechet", "frechet_interval")),
    ):
        yield Case(name, functools.partial(_listed, rows), metrics, rows.__module__.rpartition(".")[2])


def _inception(n: int, splits: int, repetitions: int, seed: int) -> list[Row]:
    return list(inception_rows(n, splits, repetitions, seed))


def _listed(rows: Callable[[int, int], Iterator[Row]], repetitions: int, seed: int) -> list[Row]:
    return list(rows(repetitions, seed))
