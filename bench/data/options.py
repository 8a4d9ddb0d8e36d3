"""Checks for ``Dataset.Options``: each raises ValueError with the end of a sentence that names the key and its value."""

from __future__ import annotations

from typing import Any


def one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """``value`` must be one of ``allowed``, and of their type (so ``16.0`` or ``"16"`` is no 16)."""
    if type(value) is not type(allowed[0]) or value not in allowed:
        raise ValueError(f"{key} = {value!r} is not possible; choose {', '.join(repr(a) for a in allowed)}")


def whole_number(key: str, value: Any, low: int, high: int) -> None:
    """``value`` must be an int in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{key} = {value!r} is not possible; choose a whole number from {low} to {high}")


def share(key: str, value: Any) -> None:
    """``value`` must be a number strictly between 0 and 1."""
    if type(value) not in (int, float) or not 0 < value < 1:
        raise ValueError(f"{key} = {value!r} is not possible; choose a number between 0 and 1, say 0.2")


def yes_or_no(key: str, value: Any) -> None:
    """``value`` must be a bool."""
    if type(value) is not bool:
        raise ValueError(f"{key} = {value!r} is not possible; choose true or false")


def class_numbers(key: str, value: Any) -> None:
    """``value`` must be a list of different whole numbers from 0."""
    fits = isinstance(value, list | tuple) and all(type(each) is int and each >= 0 for each in value)
    if not fits or len(set(value)) < len(value):
        raise ValueError(f"{key} = {value!r} is not possible; choose a list of class numbers from 0, say [9]")


def path_given(key: str, value: Any) -> None:
    """``value`` must be a non-empty string."""
    if type(value) is not str or not value:
        raise ValueError(f'needs {key} = "...", where its files are')
