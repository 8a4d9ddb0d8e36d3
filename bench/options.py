"""Options written in a config file, held against the names and kinds that their owner declares."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

import numpy as np
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from bench.errors import BenchError, did_you_mean


def check_fields(owner: str, fields: type, options: Mapping[str, Any]) -> None:
    """``options`` against the annotated fields of the dataclass ``fields``; BenchError names the first that does not fit.

    A whole number passes for a float and a list for a tuple; nothing else is converted. What a field accepts beyond its
    kind (a range, a choice) is for the dataclass itself to say. Fields whose annotation cannot be read are not checked.
    """
    known = {field.name for field in dataclasses.fields(fields)}
    _check(owner, known, _hints(fields), options)


def check_parameters(owner: str, target: Any, options: Mapping[str, Any]) -> None:
    """``options`` against the parameters of the class or function ``target``, in the same way."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    _check(owner, set(parameters), _hints(target.__init__ if inspect.isclass(target) else target), options)


def _check(owner: str, known: set[str], hints: dict[str, Any], options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in known:
            raise BenchError(f"{owner} has no option '{name}'; {did_you_mean(name, known)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise BenchError(f"{owner}: option '{name}' is {value}; give a finite number")
        reason = _mismatch(hints.get(name, Any), value)
        if reason:
            raise BenchError(f"{owner}: option '{name}' is {value!r}, but {reason}")


def _mismatch(kind: Any, value: Any) -> str | None:
    """Why ``value`` is not of this kind, or None. JSON's rules in strict mode: 1 is a float, 1.5 and "1" are no int."""
    try:
        TypeAdapter(kind).validate_json(json.dumps(value, default=_as_json), strict=True)
    except ValidationError as error:
        return error.errors()[0]["msg"].replace("Input should be", "it should be")
    except PydanticUserError:  # an annotation of the user's own that has no JSON form
        return None
    return None


def _as_json(value: Any) -> Any:
    """From Python, numpy's numbers are numbers, and paths are text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _hints(owner: Any) -> dict[str, Any]:
    try:
        return get_type_hints(owner)
    except (NameError, TypeError):  # annotations under TYPE_CHECKING, or none at all
        return {}
