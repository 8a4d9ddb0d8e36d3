"""The one exception a user is meant to see, and the did-you-mean that makes it useful."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """A wrong input, said in one sentence: what is wrong, where, and what to do. The command line exits with 2."""


class TrialFailure(Exception):
    """A trial that cannot go on (diverged, out of memory ...); it becomes a row with this ``status``."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A half sentence for the end of an error: the nearest known name, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(known)}" if known else "none is known"
