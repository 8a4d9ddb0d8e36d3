"""The one way in which extractors are named, in `bench score` and in suites; nothing is imported to read a name."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from typing import Any

from bench import registry
from bench.errors import BenchError

VARIANTS = {"timm": "model", "dinov2": "variant", "clip": "variant", "inception": "mode"}
"""Extractors that come in several kinds, and the option that chooses one."""


def extractor_source(name: str, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Target ``module:Class`` and options of ``timm:resnet18``, ``dinov2-vits14``, ``clip-vitb32``, ``inception-legacy_tensorflow``,
    of any registered extractor, or of a class named directly. Raises BenchError with did-you-mean for an unknown name."""
    given = dict(options or {})
    if name not in registry.entries("extractor"):
        for base, option in VARIANTS.items():
            if name.startswith((f"{base}:", f"{base}-")):
                kind = name[len(base) + 1 :]
                name, given = base, {option: kind, **given} if kind else given
                break
        else:
            _refuse_misspelt(name)
    if name == "timm" and "model" not in given:
        raise BenchError("extractor 'timm' needs the name of a network; write for example timm:resnet18")
    return registry.find("extractor", name).target, given


def _refuse_misspelt(name: str) -> None:
    """``timn:resnet18``: a kind of something that is nearly an extractor, and no module."""
    for separator in ":-":
        head, found, kind = name.partition(separator)
        near = difflib.get_close_matches(head, VARIANTS, n=1, cutoff=0.6) if found else []
        if near and "." not in head and importlib.util.find_spec(head) is None:
            raise BenchError(f"unknown extractor '{name}'; did you mean '{near[0]}{separator}{kind}'?")
