"""What `bench score` looks through and what it measures: extractors by name or in hand, metrics with their options."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench import registry
from bench.errors import BenchError
from bench.extractor_names import VARIANTS
from bench.features.base import Extractor
from bench.features.module import ModuleExtractor
from bench.foreign_images import ImageSet
from bench.measured_names import measured_by
from bench.options import check_parameters
from bench.plan import Part, extractor_named
from bench.scoring import make_extractor, said_by
from bench.suite import Config

AnyExtractor = str | Extractor | nn.Module
AnyMetric = str | Mapping[str, Any]


class ExtractorChoice:
    """An extractor by name, in hand, or as a torch module; built once the images that it reads are known.

    options: of a named extractor, or of ``ModuleExtractor`` for a module. BenchError for anything that is none of these.
    """

    def __init__(self, chosen: AnyExtractor, options: Mapping[str, Any] | None = None) -> None:
        self._chosen, self._options = chosen, dict(options or {})
        self._part: Part | None = None
        if isinstance(chosen, str):
            self._part = extractor_named(chosen, options)
        elif isinstance(chosen, nn.Module):
            own = set(self._options) - {"module"}
            check_parameters("a module as extractor", ModuleExtractor, {name: self._options[name] for name in own})
        elif not isinstance(chosen, Extractor):
            kind = f"the class {chosen.__name__}" if isinstance(chosen, type) else type(chosen).__name__
            raise BenchError(
                f"extractor must be a name, a torch module or an instance of bench.features.base.Extractor, not {kind}"
            )
        elif self._options:
            raise BenchError("an extractor in hand takes no options; set them where it is made")

    def make(self, device: str, images: ImageSet) -> tuple[Extractor, list[str]]:
        """The extractor on a device, and what must be known of it. images: whose data and size it is made for."""
        if self._part is not None:
            return make_extractor(self._part, device, images.data), []
        if isinstance(self._chosen, nn.Module):
            return _of_module(self._chosen, dict(self._options), device, images)
        assert isinstance(self._chosen, Extractor)
        lacking = [name for name in ("name", "layers", "version") if not hasattr(self._chosen, name)]
        if lacking:
            raise BenchError(
                f"the extractor {type(self._chosen).__name__} has no '{lacking[0]}'; set it as Extractor says"
            )
        return _on(self._chosen, device), []


def _of_module(
    module: nn.Module, options: dict[str, Any], device: str, images: ImageSet
) -> tuple[Extractor, list[str]]:
    """A copy of the module as extractor: neither the mode nor the device of the caller's own changes."""
    name = str(options.pop("name", type(module).__name__))
    warnings = []
    if "size" not in options:
        height, width, _ = images.shape or (0, 1, 0)
        if height != width:
            raise BenchError(
                f"images of {images.name} are not squares of one size, so that {name} needs the side that it reads: give "
                "extractor_options={'size': ...}"
            )
        options["size"] = height
        warnings.append(
            f"{name} reads images of {height} x {height} pixels, as those of {images.name} are; extractor_options="
            "{'size': ...} gives it others"
        )
    try:
        return _on(ModuleExtractor(copy.deepcopy(module), name=name, **options), device), warnings
    except (BenchError, MemoryError):
        raise
    except Exception as error:  # code of anyone's: it may fail in any way
        side = options["size"]
        raise BenchError(
            f"the module {name} cannot read images (2, 3, {side}, {side}): {said_by(error)}; give the side that it reads as "
            "extractor_options={'size': ...}"
        ) from error


def _on(extractor: Extractor, device: str) -> Extractor:
    return extractor.to(torch.device(device))


def metric_parts(metrics: AnyMetric | Sequence[AnyMetric]) -> list[Part]:
    """The metrics with their options: each a name, ``"prdc:k=3:layer=mid"``, or ``{"name": "prdc", "k": 3}`` as in suites.

    Raises BenchError for unknown names and options, and for one metric with two sets of options.
    """
    chosen = [metrics] if isinstance(metrics, str | Mapping) else metrics
    parts: list[Part] = []
    for each in chosen:
        name, options = _written(each) if isinstance(each, str) else _given(each)
        part = Part(name=name, target=_metric_target(name), options=options)
        check_parameters(f"metric '{name}'", registry.load(part.target), options)
        if part in parts:
            continue
        if name in [other.name for other in parts]:
            raise BenchError(
                f"the metric '{name}' is asked for twice with other options, but its measurements would have the same names; "
                "score once for each"
            )
        parts.append(part)
    if not parts:
        raise BenchError("no metric is named; give at least one of `bench list metrics`")
    return parts


def metrics_in(text: str | None) -> list[str] | None:
    """The metrics of "prdc:k=3,kernel"; a comma within brackets parts nothing. None stays None."""
    if text is None:
        return None
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def _written(text: str) -> tuple[str, dict[str, Any]]:
    """``prdc:k=3:layer=mid`` -> name and options; values are JSON, or else text."""
    name, *words = re.split(r":(?=\w+=)", text.strip())
    return name, {key: _value(value) for key, _, value in (word.partition("=") for word in words)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _given(metric: AnyMetric) -> tuple[str, dict[str, Any]]:
    options = dict(metric) if isinstance(metric, Mapping) else {}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise BenchError(f"a metric is a name or a dict with its 'name' and options, not {metric!r}")
    return name, options


def _metric_target(name: str) -> str:
    """``module:Class`` of a metric; BenchError says where a measurement was named instead, and of which metric it is one."""
    if ":" not in name and name not in registry.entries("metric"):
        owner = measured_by(name)
        if owner is not None:
            raise BenchError(f"unknown metric '{name}'; '{name}' is measured by '{owner}'")
    return registry.find("metric", name).target


def put_on_path(config: Path, settings: Config, extractor: Any, metrics: Any = (), sources: Sequence[Any] = ()) -> None:
    """Make classes named directly (``my_ext:Mine``) importable from the current folder and that of the config, as in suites."""
    chosen = [metrics] if isinstance(metrics, str | Mapping) else metrics
    names = [each.get("name") if isinstance(each, Mapping) else _written(str(each))[0] for each in chosen]
    sets = [settings.datasets.get(each) for each in sources if isinstance(each, str)]
    names += [extractor, *(each.class_ for each in sets if each is not None)]
    if not any(isinstance(name, str) and ":" in name and name.partition(":")[0] not in VARIANTS for name in names):
        return
    packaged = Path(__file__).resolve().parent
    folders = (config.resolve().parent, Path.cwd())
    sys.path[:0] = [str(folder) for folder in folders if folder != packaged and str(folder) not in sys.path]
