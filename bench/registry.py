"""Names -> things. Built-ins and plug-ins are found through the same entry points; nothing is imported to list them.

A package adds a model with one line in its pyproject.toml::

    [project.entry-points."bench.models"]
    my-vae = "my_package.my_model:MyVAE"

Listings read descriptions from the source text (``ast``), so ``bench list`` needs neither torch nor the plug-in's imports.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import re
import traceback
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from bench.errors import BenchError, did_you_mean

KINDS = {
    "model": "bench.models",
    "dataset": "bench.datasets",
    "extractor": "bench.extractors",
    "metric": "bench.metrics",
}

CARD_TEXTS = ("paper", "known_failures")  # of a model: words for its card


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered class: its name and where it lives (``module:Class``)."""

    kind: str
    name: str
    target: str


@functools.cache
def _entry_points() -> Any:
    """Those of all installed distributions, read once: EntryPoints, or on Python 3.11 what else has ``select``."""
    return entry_points()


@functools.cache
def entries(kind: str) -> dict[str, Entry]:
    """Everything registered as ``kind`` (model, dataset, extractor, metric), by name."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(_entry_points().select(group=KINDS[kind]), key=lambda point: point.name):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            here, there = (
                each.dist.name if each.dist else "?" for each in (other, point)
            )  # reading a name takes milliseconds
            raise BenchError(
                f"two installed packages register the {kind} '{point.name}': {here} and {there}; uninstall one or rename its "
                "entry point"
            )
    return {name: Entry(kind, name, point.value) for name, point in found.items()}


def find(kind: str, name: str) -> Entry:
    """The entry called ``name``; a ``module:Class`` target is taken as it is. BenchError with did-you-mean otherwise."""
    if ":" in name:
        return Entry(kind, name, name)
    known = entries(kind)
    if name not in known:
        raise BenchError(f"unknown {kind} '{name}'; {did_you_mean(name, known)}")
    return known[name]


def load(target: str) -> Any:
    """Import ``module:Class`` and return the class."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise BenchError(
            f"cannot import '{target}': {error}; is its package installed or beside the config?"
        ) from error
    except Exception as error:  # code of anyone's: it may fail in any way
        where = place_of(error)
        raise BenchError(f"cannot import '{target}': {type(error).__name__}: {error}{where}; correct it") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise BenchError(f"module '{module_name}' has no '{attribute}'; {did_you_mean(attribute, classes)}") from None


def place_of(error: Exception) -> str:
    """`` (file, line n)`` of the line that an error came from; a SyntaxError names its own."""
    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _parse(path: Path) -> ast.Module:
    """The syntax tree of a source file; BenchError with file and line where it is no Python."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise BenchError(f"{path}, line {error.lineno}: not valid Python: {error.msg}; correct it") from None
    except ValueError:
        raise BenchError(f"{path}: not Python source in UTF-8; write it again") from None


def module_path(name: str) -> Path | None:
    """The source file of a module, without importing the module itself; None where there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def describe(entry: Entry) -> dict[str, str]:
    """``summary`` (first docstring line) and every literal string class attribute of the entry's class."""
    module_name, _, class_name = entry.target.partition(":")
    path = module_path(module_name)
    if path is None:
        return {"summary": "(source not found)"}
    node = _class_node(path.read_text(encoding="utf-8"), class_name)
    if node is None:
        return {"summary": "(class not found)"}
    text = ast.get_docstring(node) or ""
    return {"summary": text.split("\n")[0], **dict(_literal_strings(node))}


def _class_node(text: str, name: str) -> ast.ClassDef | None:
    """The class ``name`` of a module's text. Where that can be, only what stands before its first method is parsed: it is
    several times faster."""
    head = re.search(rf"^class {name}\b.*?(?=^    (?:@|def |async def |class )|^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    for part in (head.group() if head else "", text):
        try:
            body = ast.parse(part).body
        except SyntaxError:  # cut within a string or a bracket
            continue
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node
    return None


def _literal_strings(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if isinstance(targets[0], ast.Name) and value is not None:
            try:
                literal = ast.literal_eval(value)
            except ValueError:
                continue
            if isinstance(literal, str):
                yield targets[0].id, literal


@functools.cache
def code_digest(target: str) -> str:
    """SHA-256 over the code of ``module:Class``: its module and every module that it imports from its own top-level package (for
    what gen-bench brings: from its part of it, and its statistics). A file that is in no package and not installed brings along
    what it imports from beside it.

    Comments, docstrings, formatting and the words of a model card do not count, so that a better comment costs no retraining.
    """
    module_name = target.partition(":")[0]
    top = module_name.partition(".")[0]
    packages = (module_name.rpartition(".")[0] or top, "bench.stats") if top == __package__ else (top,)
    return modules_digest(sorted(_closure(module_name, packages)))


def modules_digest(names: list[str]) -> str:
    """SHA-256 over the code of the named modules, without docstrings, comments and the words of model cards."""
    sha = hashlib.sha256()
    for name in names:
        path = module_path(name)
        if path is not None:
            sha.update(name.encode())
            sha.update(ast.dump(_without_words(_parse(path))).encode())
    return sha.hexdigest()


def _closure(module_name: str, packages: Sequence[str]) -> set[str]:
    """``module_name`` and all modules of ``packages`` (of a file in no package: beside it) that it imports, directly or not."""
    reached: set[str] = set()
    beside = _loose_folder(module_name)
    waiting = [module_name]
    while waiting:
        name = waiting.pop()
        path = module_path(name)
        if name in reached or path is None:
            continue
        reached.add(name)
        parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for imported in _imports(_parse(path), parent):
            own = any(imported == package or imported.startswith(package + ".") for package in packages)
            if own or (beside and _lies_in(imported, beside)):
                waiting.append(imported)
    return reached


def _loose_folder(module_name: str) -> Path | None:
    """The folder of a module that is in no package and not installed: ``my_model.py`` beside the config."""
    path = module_path(module_name) if "." not in module_name else None
    if path is None or path.name == "__init__.py" or {"site-packages", "dist-packages"} & set(path.parts):
        return None
    return path.parent


def _lies_in(module_name: str, folder: Path) -> bool:
    """Whether the package or module at the top of a dotted name stands in ``folder``; this one does not count."""
    top = module_name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top) if top and top != __package__ else None
    except (ImportError, ValueError):
        return False
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    return any(Path(place).parent == folder for place in places if place)


def _imports(tree: ast.Module, parent: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = parent.split(".")[: len(parent.split(".")) - node.level + 1]
                base = ".".join([*above, base]) if base else ".".join(above)
            yield base
            path = module_path(base) if base else None
            if path is not None and path.name == "__init__.py":  # asking find_spec below a plain module would import it
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _without_words(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and without ``paper = ...`` and ``known_failures = ...`` of classes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            node.body = body[1:] if ast.get_docstring(node, clean=False) is not None else body
        if isinstance(node, ast.ClassDef):
            node.body = [statement for statement in node.body if not _is_card_text(statement)]
    return tree


def _is_card_text(statement: ast.stmt) -> bool:
    """``paper`` or ``known_failures`` given as a literal; a computed value is code."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return (
        isinstance(statement, ast.Assign | ast.AnnAssign)
        and all(isinstance(target, ast.Name) and target.id in CARD_TEXTS for target in targets)
        and isinstance(statement.value, ast.Constant)
    )
