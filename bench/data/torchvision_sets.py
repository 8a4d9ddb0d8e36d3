"""``torchvision``: any image data set that torchvision can read, by name and path."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.assemble import image_data
from bench.data.base import Data, Dataset
from bench.data.decode import fit, pack, to_array
from bench.data.held_out import without_classes
from bench.data.options import class_numbers, path_given, share, whole_number, yes_or_no
from bench.data.split import content_key, hashed_split
from bench.errors import BenchError, did_you_mean

TRAIN_NAMES = ("train", "trainval", "train-standard")
TEST_NAMES = ("test", "val", "valid")


class Torchvision(Dataset):
    """Any torchvision image data set (CIFAR10, SVHN, CelebA ...) whose files are at a path."""

    licence = "that of the data set"
    attribution = ""
    paper = ""

    @dataclass(frozen=True)
    class Options:
        """name: a class of ``torchvision.datasets``. path: its ``root``.
        download: let torchvision fetch missing files; off by default.
        resolution: centre-crop to a square and resize (Lanczos) to this side; needed where sizes differ.
        arguments: further arguments of that class, e.g. ``{split = "letters"}`` for EMNIST. Given ``train`` or ``split`` of an
        officially split set, only that part is read.
        test_share: about this share is for testing, where there is no official split.
        held_out: numbers of classes that training leaves out and the test side keeps.
        """

        name: str = ""
        path: str = ""
        download: bool = False
        resolution: int | None = None
        arguments: dict[str, Any] = field(default_factory=dict)
        test_share: float = 0.2
        held_out: Sequence[int] = ()

        def __post_init__(self) -> None:
            path_given("name", self.name)
            path_given("path", self.path)
            yes_or_no("download", self.download)
            if self.resolution is not None:
                whole_number("resolution", self.resolution, 1, 4096)
            if not isinstance(self.arguments, dict):
                raise ValueError(f"arguments = {self.arguments!r} is not possible; choose a table of names and values")
            share("test_share", self.test_share)
            class_numbers("held_out", self.held_out)

    def load(self) -> Data:
        """Read the official training and test parts (a validation part where there is no test part); a set without them is
        split by the hash of each image's pixels."""
        options = self.options
        parts = _open_parts(options)
        images: list[np.ndarray] = []
        names, keys, targets, sizes = [], [], [], []
        for part_name, part in parts.items():
            for index in range(len(part)):
                name = f"{options.name}[{part_name}][{index}]"
                pixels, target = _item(part, index, name)
                keys.append(content_key(pixels))
                images.append(pixels if options.resolution is None else fit(pixels, options.resolution))
                names.append(name)
                targets.append(target)
            sizes.append(len(part))
        if not images:
            raise BenchError(f"the torchvision data set {options.name} at {options.path} holds no images")
        if len(parts) == 2:
            sides = np.arange(sizes[0]), np.arange(sizes[0], sum(sizes))
        else:
            sides = hashed_split(keys, options.test_share)
        labels, classes = _labels(targets, next(iter(parts.values())))
        return without_classes(
            image_data(options.name, options.path, pack(images), names.__getitem__, sides, labels, classes),
            self.options.held_out,
        )


def _open_parts(options: Torchvision.Options) -> dict[str, Any]:
    """Part name -> torchvision data set: ``train`` and ``test``, or ``all``."""
    kind = _class_named(options.name)
    known = _parameters(kind)
    for key in options.arguments:
        if key not in known:
            raise BenchError(
                f"the torchvision data set {options.name} has no argument '{key}'; {did_you_mean(key, known)}"
            )
    if "train" in known and "train" not in options.arguments:
        return {"train": _open(kind, options, train=True), "test": _open(kind, options, train=False)}
    if "split" in known and not {"split", "train"} & options.arguments.keys():
        return {"train": _open_first(kind, options, TRAIN_NAMES), "test": _open_first(kind, options, TEST_NAMES)}
    return {"all": _open(kind, options)}


def _class_named(name: str) -> Any:
    from torchvision import datasets

    names = [n for n in datasets.__all__ if inspect.isclass(getattr(datasets, n))]
    if name not in names:
        raise BenchError(f"torchvision has no data set '{name}'; {did_you_mean(name, names)}")
    return getattr(datasets, name)


def _parameters(kind: Any) -> set[str]:
    """Names of the constructor's arguments, those of its bases too where it passes ``**kwargs`` on."""
    names: set[str] = set()
    for base in kind.__mro__[:-1]:
        parameters = inspect.signature(base.__init__).parameters
        names |= parameters.keys()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return names - {"self", "kwargs", "transform", "target_transform", "transforms", "root", "download"}


def _open_first(kind: Any, options: Torchvision.Options, names: tuple[str, ...]) -> Any:
    """The part with the first of these names that the data set knows; an unknown name raises ValueError in torchvision."""
    reason = ""
    for name in names:
        try:
            return _construct(kind, options, split=name)
        except ValueError as error:
            reason = _first_line(error)
    raise BenchError(
        f"torchvision reads no part of {options.name} named {', '.join(names)} ({reason}); "
        'name one in the option arguments, e.g. {split = "..."}'
    )


def _open(kind: Any, options: Torchvision.Options, **part: Any) -> Any:
    try:
        return _construct(kind, options, **part)
    except ValueError as error:
        raise BenchError(
            f"torchvision cannot open {options.name}: {_first_line(error)}; see the option arguments"
        ) from None


def _construct(kind: Any, options: Torchvision.Options, **part: Any) -> Any:
    """The torchvision data set. ValueError (an argument it does not like) passes, all else becomes a BenchError."""
    accepted = inspect.signature(kind.__init__).parameters
    arguments = {**options.arguments, **part}
    if options.download and ("download" in accepted or "kwargs" in accepted):
        arguments["download"] = True
    root = Path(options.path).expanduser()
    if not root.exists() and not options.download:
        raise BenchError(f"{root} does not exist; put the files of {options.name} there, or set download = true")
    try:
        return kind(root=str(root), **arguments)
    except ValueError:
        raise
    except Exception as error:  # each of its classes reports missing files in its own way
        remedy = "check the connection" if options.download else "put its files there, or set download = true"
        raise BenchError(
            f"torchvision cannot read {options.name} from {root}: {_first_line(error)} ({remedy})"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _item(part: Any, index: int, name: str) -> tuple[np.ndarray, Any]:
    try:
        item = part[index]
        pixels = to_array(item[0])
    except Exception as error:  # a damaged file, or an item that is no (image, target)
        files = getattr(part, "samples", None) or getattr(part, "_samples", None)
        file = f" ({files[index][0]})" if files else ""
        raise BenchError(f"{name}{file} is not a readable image: {error}") from None
    return pixels, item[1]


def _labels(targets: list[Any], part: Any) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Class indices where every target is a whole number from 0 on, else None (attributes, captions, boxes ...)."""
    try:
        labels = np.array([operator.index(target) for target in targets], dtype=np.int64)
    except (TypeError, ValueError, RuntimeError):
        return None, ()
    if labels.min() < 0:
        return None, ()
    count = int(labels.max()) + 1
    named = [str(name) for name in getattr(part, "classes", [])]
    return labels, tuple(named) if len(named) >= count else tuple(str(number) for number in range(count))
