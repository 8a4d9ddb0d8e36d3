"""Checks of a Config's fields: each raises ValueError with one sentence that names the field and its value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def at_least_one(config: Any, *names: str) -> None:
    """Counts and sizes."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")


def positive(config: Any, *names: str) -> None:
    """Rates and scales: above 0."""
    for name in names:
        if getattr(config, name) <= 0:
            raise ValueError(f"{name} must be positive, got {getattr(config, name)}")


def between(config: Any, low: float, high: float, *names: str) -> None:
    """A range, both ends included."""
    for name in names:
        if not low <= getattr(config, name) <= high:
            raise ValueError(f"{name} must lie in {low:g} ... {high:g}, got {getattr(config, name)}")


def given(config: Any, *names: str) -> list[str]:
    """Those of ``names`` whose value is not None (None: the model chooses)."""
    return [name for name in names if getattr(config, name) is not None]


def one_of(config: Any, name: str, choices: Iterable[str]) -> None:
    """A choice by name."""
    if getattr(config, name) not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got '{getattr(config, name)}'")
