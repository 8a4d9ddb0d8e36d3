"""What a module computes with besides its weights: plain attributes, nested configurations, and the code of its classes.

Two modules of equal weights whose ``self.scale`` differs are two extractors. What cannot be told apart safely (hooks, closures,
objects without visible state, classes without source) is named, so that nothing is cached for it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import inspect
import sys
import types
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.provenance import canonical_json

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_NAMES_ENOUGH = (
    "torch",
    "builtins",
    "_operator",
    "math",
    "numpy",
)  # packages whose functions and classes are known by name


class _Unclear(Exception):
    """Something that has no digest; says what."""


def module_digest(module: nn.Module) -> str:
    """SHA-256 (hex) of a module's structure and of every parameter and buffer."""
    sha = hashlib.sha256(repr(module).encode())
    for name, value in sorted(module.state_dict().items()):
        sha.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        sha.update(_tensor_bytes(value))
    return sha.hexdigest()


def state_digest(module: nn.Module) -> tuple[str, str | None]:
    """(SHA-256 (hex) of attributes and code of the module and of all modules in it, what of them it could not cover or None)."""
    found: list[Any] = []
    unclear: str | None = None
    for name, part in module.named_modules(remove_duplicate=False):
        try:
            found.append([name, _module(part, ())])
        except _Unclear as problem:
            unclear = unclear or f"{type(part).__name__}{f' ({name})' if name else ''}: {problem}"
    return hashlib.sha256(canonical_json(found).encode()).hexdigest(), unclear


def _module(module: nn.Module, inside: tuple[int, ...]) -> Any:
    """Of one module without those registered in it."""
    if any(getattr(module, hooks) for hooks in _HOOKS):
        raise _Unclear("it has forward hooks")
    if isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule):
        raise _Unclear("it is a compiled or traced graph, whose constants cannot be seen")
    kind = type(module)
    known = _is_known(kind.__module__)
    attributes: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name in _OF_EVERY_MODULE or (known and name.startswith("_")):
            continue
        attributes[name] = _described(value, f"the attribute '{name}'", (*inside, id(module)))
    return [_class(kind), attributes]


def _described(value: Any, what: str, inside: tuple[int, ...]) -> Any:
    """JSON that differs where values differ. what: for the sentence. inside: ids of what it stands in, against circles."""
    if id(value) in inside:
        raise _Unclear(f"{what} holds itself")
    again = functools.partial(_described, what=what, inside=(*inside, id(value)))
    kind = type(value).__qualname__
    match value:
        case None | bool() | int() | str() if type(value) in (type(None), bool, int, str):
            return value
        case float():
            return [kind, value.hex()]
        case bytes() | complex() | torch.dtype() | torch.device() | torch.memory_format() | range() | PurePath():
            return [kind, repr(value)]
        case enum.Enum():
            return [_class(type(value)), value.name]
        case Tensor():
            return [kind, str(value.dtype), list(value.shape), hashlib.sha256(_tensor_bytes(value)).hexdigest()]
        case np.ndarray() | np.generic() if not value.dtype.hasobject:
            array = np.ascontiguousarray(value)
            return [kind, array.dtype.str, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        case list() | tuple():
            return [kind, [again(item) for item in value]]
        case set() | frozenset():
            return [kind, sorted(canonical_json(again(item)) for item in value)]
        case dict():
            return [kind, [[again(key), again(item)] for key, item in value.items()]]
        case nn.Module():
            return [module_digest(value), [[name, _module(part, inside)] for name, part in value.named_modules()]]
        case type():
            return _class(value)
        case functools.partial():
            return [kind, again(value.func), again(value.args), again(value.keywords)]
        case types.FunctionType() | types.BuiltinFunctionType() | np.ufunc():
            return _function(value, what, again)
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [_class(type(value)), again({**fields, **getattr(value, "__dict__", {})})]
    if isinstance(value, types.SimpleNamespace) or _is_plain(value):
        return [_class(type(value)), again(vars(value))]
    raise _Unclear(f"{what} is of type {kind}, whose state cannot be seen")


def _function(value: Any, what: str, again: Any) -> Any:
    module = getattr(value, "__module__", None) or "torch"
    name = f"{module}.{getattr(value, '__qualname__', value.__name__)}"
    if _is_known(module):
        return name
    if value.__closure__:
        raise _Unclear(f"{what} is a function that closes over variables")
    return [name, _source(value), again(value.__defaults__), again(value.__kwdefaults__)]


def _is_plain(value: Any) -> bool:
    """An object of a class written in Python whose whole state is its ``__dict__``."""
    kind = type(value)
    builtin = any(base.__module__ == "builtins" and base is not object for base in kind.__mro__)
    slots = any("__slots__" in vars(base) for base in kind.__mro__)
    return hasattr(value, "__dict__") and not (builtin or slots or _is_known(kind.__module__)) and not callable(value)


def _class(kind: type) -> Any:
    """Names of a class and its bases, with the source of the modules that they are written in."""
    bases = [base for base in kind.__mro__ if base is not object]
    return [
        [f"{base.__module__}.{base.__qualname__}", "" if _is_known(base.__module__) else _source(base)]
        for base in bases
    ]


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in _NAMES_ENOUGH


@functools.cache
def _source(thing: Any) -> str:
    """Digest of the module's source that a class or function is written in, helpers beside it included; else of its own source."""
    for part in (sys.modules.get(thing.__module__), thing):
        try:
            return hashlib.sha256(inspect.getsource(part).encode()).hexdigest()  # type: ignore[arg-type]  # None: TypeError
        except (OSError, TypeError):
            continue
    raise _Unclear(f"the source of {thing.__qualname__} is not at hand")


def _tensor_bytes(value: Tensor) -> memoryview:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
