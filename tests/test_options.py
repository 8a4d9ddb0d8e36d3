"""Options of models, data sets, metrics and extractors are held against the kinds that their owners declare."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from bench import registry
from bench.errors import BenchError
from bench.options import check_fields, check_parameters
from reference_models.vae import VAE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 1.5}, "VAE: option 'latent' is 1.5, but it should be a valid integer"),
        ({"latent": "16"}, "option 'latent' is '16'"),
        ({"latent": True}, "option 'latent' is True"),
        ({"latent": [16]}, r"option 'latent' is \[16\]"),
        ({"beta": "4"}, "option 'beta' is '4', but it should be a valid number"),
        ({"learning_rate": float("nan")}, "option 'learning_rate' is nan; give a finite number"),
        ({"learning_rate": float("-inf")}, "option 'learning_rate' is -inf"),
        ({"likelihood": 3}, "option 'likelihood' is 3, but it should be a valid string"),
        ({"latnt": 16}, "VAE has no option 'latnt'; did you mean 'latent'?"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        check_fields("VAE", VAE.Config, options)


def test_whole_numbers_are_numbers_and_lists_are_tuples() -> None:
    @dataclasses.dataclass(frozen=True)
    class Shape:
        sides: tuple[int, ...] = (1, 2)
        scale: float = 1.0
        crop: int | None = None

    check_fields("Shape", Shape, {"sides": [3, 4, 5], "scale": 2, "crop": 7})
    check_fields("VAE", VAE.Config, {"beta": 4, "latent": 8})
    check_fields("VAE", VAE.Config, {"beta": np.float32(4), "latent": np.int64(8)})
    with pytest.raises(BenchError, match="sides"):
        check_fields("Shape", Shape, {"sides": [3, "4"]})


def test_fields_without_a_readable_kind_are_left_to_their_owner() -> None:
    own = dataclasses.make_dataclass("Own", [("generator", "OnlyForTypeChecking", None), ("size", int, 3)])
    check_fields("Own", own, {"generator": "anything", "size": "not looked at"})


@pytest.mark.parametrize(
    "entry", [*registry.entries("model").values(), *registry.entries("dataset").values()], ids=lambda entry: entry.name
)
def test_every_default_is_of_its_own_kind(entry: registry.Entry) -> None:
    owner = registry.load(entry.target)
    kinds = owner.Config if entry.kind == "model" else owner.Options
    fields = [f for f in dataclasses.fields(kinds) if f.default is not dataclasses.MISSING]
    check_fields(entry.name, kinds, {f.name: f.default for f in fields})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("prdc", {"k": 2.5}, "option 'k' is 2.5"),
        ("prdc", {"kk": 3}, "no option 'kk'"),
        ("inception-score", {"splits": "ten"}, "option 'splits' is 'ten'"),
        ("frechet", {"layer": 3}, "option 'layer' is 3"),
    ],
)
def test_parameters_of_metrics(name: str, options: dict[str, Any], message: str) -> None:
    target = registry.load(registry.find("metric", name).target)
    with pytest.raises(BenchError, match=message):
        check_parameters(name, target, options)
    check_parameters(name, target, {})
