"""A trained model in a folder: ``model.json`` says what it is, ``weights.safetensors`` holds its tensors. Neither can run code.

model.json names a *registered* model, its options and the space it generates. A file from a stranger can therefore only choose
among the models that are installed; a class of your own is loaded by handing the class to ``load_model``.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from bench import registry
from bench.errors import BenchError, did_you_mean
from bench.model import GenerativeModel
from bench.space import ImageSpace, Space, TokenSpace, VectorSpace
from bench.store import write_atomically

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
FORMAT = "gen-bench model, version 1"
LARGEST_SIDE = 1 << 20  # of anything in a space: more is no model but an attempt to exhaust the memory
SPACES: dict[str, type] = {"image": ImageSpace, "tokens": TokenSpace, "vector": VectorSpace}


def save_model(model: GenerativeModel, folder: Path | str) -> None:
    """Write ``model.json`` and ``weights.safetensors`` into ``folder``, each atomically.

    Baselines that keep the training set store it too, so that what is loaded samples as what was saved. Optimizers are not
    stored: this is for using a model, not for training it on.
    """
    folder = Path(folder)
    tensors = {**model.state_dict(), **_kept_data(model)}
    content = safetensors.torch.save({name: tensor.contiguous().clone() for name, tensor in tensors.items()})
    write_atomically(folder / WEIGHTS, content)
    write_atomically(folder / DESCRIPTION, description_of(model))


def description_of(model: GenerativeModel) -> bytes:
    """The content of ``model.json``: the registered name, the options and the space."""
    kind = type(model)
    description = {
        "format": FORMAT,
        "model": _registered_name(kind),
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "config": dataclasses.asdict(model.config),
        "space": {"kind": _space_kind(model.space), **dataclasses.asdict(model.space)},
    }
    return (json.dumps(description, indent=2) + "\n").encode()


def load_model(
    folder: Path | str, model_class: type[GenerativeModel] | None = None, device: torch.device | str = "cpu"
) -> GenerativeModel:
    """The model of a folder that ``save_model`` wrote, in eval mode on ``device``.

    model_class: for a class that is not registered. BenchError says what is wrong with a file that does not fit.
    """
    folder = Path(folder)
    description = _read_description(folder / DESCRIPTION)
    kind = model_class or _registered_class(description, folder / DESCRIPTION)
    config = description.get("config")
    if not isinstance(config, dict):
        raise BenchError(f"{folder / DESCRIPTION}: key 'config' must be a table of options; save the model again")
    model = kind(_read_space(description.get("space"), folder / DESCRIPTION), **config)
    load_weights(model, folder / WEIGHTS)
    return model.to(torch.device(device)).eval()


def _registered_name(kind: type) -> str | None:
    target = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, entry in registry.entries("model").items() if entry.target == target), None)


def _space_kind(space: Space) -> str:
    return next(name for name, kind in SPACES.items() if isinstance(space, kind))


def _kept_data(model: GenerativeModel) -> dict[str, Tensor]:
    """Buffers that no state dict carries and a new model of the same kind does not have: data that it was given."""
    with torch.random.fork_rng(devices=[]):  # saving leaves the random state alone
        fresh = type(model)(model.space, **dataclasses.asdict(model.config))
    empty = {name for name, buffer in _all_buffers(fresh).items() if buffer is None}
    return {name: tensor for name, tensor in model.named_buffers() if name in empty and name not in model.state_dict()}


def _all_buffers(model: torch.nn.Module) -> dict[str, Tensor | None]:
    """Every buffer by its path, those that are None too."""
    return {
        f"{path}.{name}" if path else name: buffer
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
    }


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"cannot read model '{path}': {error.strerror}; give a folder that save_model wrote") from None
    except (ValueError, RecursionError):
        raise BenchError(f"{path}: not valid JSON; give a folder that save_model wrote") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise BenchError(f"{path}: key 'format' does not say '{FORMAT}'; give a folder that save_model wrote")
    return description


def _registered_class(description: dict[str, Any], path: Path) -> type[GenerativeModel]:
    name = description.get("model")
    if not isinstance(name, str):
        shown = description.get("class")
        raise BenchError(
            f"{path}: the model is of the class {shown!r}, which is not registered; pass it as model_class"
        )
    known = registry.entries("model")
    if name not in known:
        raise BenchError(f"{path}: key 'model': unknown model '{name}'; {did_you_mean(name, known)}")
    loaded: type[GenerativeModel] = registry.load(known[name].target)
    return loaded


def _read_space(space: Any, path: Path) -> Space:
    if not isinstance(space, dict) or space.get("kind") not in SPACES:
        raise BenchError(f"{path}: key 'space.kind' must be one of {', '.join(SPACES)}; save the model again")
    kind = SPACES[space["kind"]]
    sizes = {name: value for name, value in space.items() if name != "kind"}
    wanted = {field.name for field in dataclasses.fields(kind)}
    if set(sizes) != wanted or not all(type(v) is int and 0 < v <= LARGEST_SIDE for v in sizes.values()):
        raise BenchError(
            f"{path}: key 'space' needs positive whole numbers {', '.join(sorted(wanted))}; save the model again"
        )
    result: Space = kind(**sizes)
    return result


def load_weights(model: GenerativeModel, path: Path) -> None:
    try:
        tensors = safetensors.torch.load_file(path)
    except OSError as error:
        raise BenchError(f"cannot read model weights '{path}': {error.strerror or error}") from None
    except SafetensorError as error:
        raise BenchError(f"{path}: not a safetensors file ({error}); save the model again") from None
    expected = model.state_dict()
    for name, buffer in _all_buffers(model).items():
        if buffer is None and name in tensors:  # what a baseline keeps of the data, or a buffer that training made
            parent, _, leaf = name.rpartition(".")
            model.get_submodule(parent)._buffers[leaf] = tensors.pop(name).to(model.device)
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        which = f"lacks '{missing[0]}'" if missing else f"holds '{unknown[0]}', which the model has not"
        raise BenchError(f"{path}: {which}; these weights belong to another model or version")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise BenchError(
                f"{path}: '{name}' is {tensor.dtype} {list(tensor.shape)}, but the model needs {expected[name].dtype} "
                f"{list(expected[name].shape)}; these weights belong to other options"
            )
    model.load_state_dict(tensors, strict=False)  # every name was checked; buffers that training made are in place
