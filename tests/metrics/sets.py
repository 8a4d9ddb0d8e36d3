"""Small inputs for every public metric function and every registered metric, and the same with their rows in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from bench import metrics
from bench.data.base import Data
from bench.metrics.base import Evidence
from bench.record import Measurement
from bench.space import ImageSpace, VectorSpace

Sets = dict[str, dict[str, np.ndarray]]
"""Group -> arrays of one length, whose rows belong together."""

SIDE = 16


def images(n: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 ``(n, 16, 16, 3)``: a bright square somewhere on noise."""
    pictures = rng.integers(0, 90, (n, SIDE, SIDE, 3))
    for picture, (top, left) in zip(pictures, rng.integers(0, SIDE - 5, (n, 2))):
        picture[top : top + 5, left : left + 5] += 120
    return pictures.astype(np.uint8)


def smooth(seed: int) -> Sets:
    """Sets without any tie."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, 9) ** -0.5

    def features(n: int, shift: float) -> np.ndarray:
        return rng.normal(size=(n, 8)) * scale + shift

    pictures = images(70, rng)
    return {
        "real": {"features": features(260, 0), "labels": np.arange(260) % 2},
        "fake": {"features": features(230, 0.1), "labels": np.arange(230) % 2, "logits": 3 * rng.normal(size=(230, 9))},
        "train": {"features": features(300, 0)},
        "pairs": (lambda x: {"first": x, "second": 0.9 * x + 0.1})(features(220, 0)),
        "images": {
            "images": pictures,
            "labels": np.arange(70) % 2,
            "rebuilt": np.clip(pictures * 0.8 + rng.normal(0, 9, pictures.shape), 0, 255).astype(np.uint8),
            "noisy": np.clip(pictures + rng.normal(0, 25, pictures.shape), 0, 255).astype(np.uint8),
            "nats": rng.gamma(2, 900, 70),
            "errors": rng.gamma(2, 1, 70),
        },
        "others": {"images": images(60, rng), "labels": np.arange(60) % 2},
        "novel": {"errors": rng.gamma(3, 1, 60)},
        "paths": {"starts": rng.normal(size=(40, 4)), "ends": rng.normal(size=(40, 4))},
        "factors": {"shape": rng.integers(0, 3, 150)},
        "true factors": {"shape": rng.integers(0, 3, 120)},
    }


def tied(seed: int) -> Sets:
    """The same in float32 on a grid, so that distances tie, and with twins, in rows and between sets."""
    sets = smooth(seed)
    for group in ("real", "fake", "train", "pairs"):
        for name, values in sets[group].items():
            if values.dtype == np.float64:
                grid = np.round(2 * values) / 2
                grid[-6:] = grid[:6]
                sets[group][name] = grid.astype(np.float32)
    sets["fake"]["features"][:9] = sets["train"]["features"][:9]
    return sets


def reordered(sets: Sets, seed: int = 5) -> Sets:
    """The rows of each group in another order, those of one group alike."""
    found: Sets = {}
    for group, arrays in sets.items():
        order = np.random.default_rng([seed, len(found)]).permutation(len(next(iter(arrays.values()))))
        found[group] = {name: array[order] for name, array in arrays.items()}
    return found


def brightness(pictures: np.ndarray) -> np.ndarray:
    """A classifier into ten classes."""
    return pictures.reshape(len(pictures), -1).mean(1).astype(np.int64) % 10


def decode(z: torch.Tensor) -> torch.Tensor:
    basis = torch.from_numpy(np.random.default_rng(3).normal(size=(4, 3 * SIDE * SIDE)))
    return torch.tanh(0.1 * z.double() @ basis).reshape(-1, 3, SIDE, SIDE)


def encode(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x.double().flatten(1)[:, i::4].mean(1) for i in range(4)], 1)


def pixel_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first.double() - second.double()).abs().flatten(1).mean(1)


def on(function: Callable[..., Any], *where: tuple[str, str], **options: Any) -> Callable[[Sets], Any]:
    return lambda sets: function(*(sets[group][name] for group, name in where), **options)


REAL, FAKE, TRAIN = ("real", "features"), ("fake", "features"), ("train", "features")
FIRST, SECOND = ("pairs", "first"), ("pairs", "second")
IMAGES, LABELS, REBUILT = ("images", "images"), ("images", "labels"), ("images", "rebuilt")
PATHS = ("paths", "starts"), ("paths", "ends")

FUNCTIONS: dict[str, Callable[[Sets], Any]] = {
    "frechet_distance": on(metrics.frechet_distance, REAL, FAKE),
    "frechet_distance_corrected": on(metrics.frechet_distance_corrected, REAL, FAKE),
    "frechet_distance_of_pairs": on(metrics.frechet_distance_of_pairs, FIRST, SECOND),
    "fid_infinity": on(metrics.fid_infinity, REAL, FAKE),
    "kernel_distance": on(metrics.kernel_distance, REAL, FAKE),
    "cmmd": lambda sets: [on(metrics.cmmd, REAL, FAKE, unbiased=each)(sets) for each in (False, True)],
    "inception_score": lambda sets: [on(metrics.inception_score, ("fake", "logits"), splits=n)(sets) for n in (1, 2)],
    "prdc": on(metrics.prdc, REAL, FAKE),
    "realism_score": lambda sets: np.sort(on(metrics.realism_score, REAL, FAKE)(sets)),
    "median_realism": on(metrics.median_realism, REAL, FAKE),
    "clipped_density": on(metrics.clipped_density, REAL, FAKE),
    "clipped_coverage": on(metrics.clipped_coverage, REAL, FAKE),
    "sliced_wasserstein": on(metrics.sliced_wasserstein, REAL, FAKE, directions=50),
    "fld": on(metrics.fld, TRAIN, REAL, FAKE),
    "fld_gap": on(metrics.fld_gap, TRAIN, REAL, FAKE),
    "vendi_score": lambda sets: (
        [on(metrics.vendi_score, FAKE, q=q)(sets) for q in (0.1, 1, np.inf)]
        + [metrics.vendi_score(sets["fake"]["features"], kernel=lambda x: np.exp(-((x[:, None] - x) ** 2).sum(2)))]
    ),
    "vendi_score_from_kernel": lambda sets: metrics.vendi_score_from_kernel(
        (lambda x: np.exp(-((x[:, None] - x) ** 2).sum(2)))(sets["fake"]["features"].astype(np.float64))
    ),
    "interpolation_smoothness": lambda sets: metrics.interpolation_smoothness(
        decode, *(torch.from_numpy(sets[g][n]) for g, n in PATHS)
    ),
    "path_linearity": lambda sets: metrics.path_linearity(
        encode, decode, *(torch.from_numpy(sets[g][n]) for g, n in PATHS)
    ),
    "lpips_diversity": lambda sets: [
        on(metrics.lpips_diversity, IMAGES, distance=pixel_distance)(sets),
        on(metrics.lpips_diversity, IMAGES, distance=pixel_distance, pairs=31, seed=2)(sets),
    ],
    "lpips_diversity_by_class": on(metrics.lpips_diversity_by_class, IMAGES, LABELS, distance=pixel_distance),
    "ms_ssim_diversity": lambda sets: [
        on(metrics.ms_ssim_diversity, IMAGES)(sets),
        on(metrics.ms_ssim_diversity, IMAGES, LABELS, pairs=31)(sets),
    ],
    "ndb": on(metrics.ndb, REAL, FAKE, bins=20),
    "mixture_modes": lambda sets: metrics.mixture_modes(sets["fake"]["features"], 0.5 * np.eye(8), 0.4),
    "stacked_modes": on(metrics.stacked_modes, IMAGES, classify=brightness),
    "factor_coverage": lambda sets: metrics.factor_coverage(sets["factors"], sets["true factors"], {"shape": 3}),
    "collapse_verdict": on(metrics.collapse_verdict, REAL, FAKE, TRAIN),
    "authpct": on(metrics.authpct, TRAIN, FAKE),
    "data_copying": on(metrics.data_copying, TRAIN, REAL, FAKE),
    "nearest_train_ratio": on(metrics.nearest_train_ratio, TRAIN, REAL, FAKE),
    "near_copies": on(metrics.near_copies, TRAIN, REAL, FAKE),
    "memorisation_verdict": on(metrics.memorisation_verdict, TRAIN, REAL, FAKE),
    "mifid": lambda sets: metrics.mifid(
        on(metrics.frechet_distance, REAL, FAKE)(sets), on(metrics.mifid_distance, TRAIN, FAKE)(sets)
    ),
    "mifid_distance": on(metrics.mifid_distance, TRAIN, FAKE),
    "mse": on(metrics.mse, IMAGES, REBUILT),
    "psnr": on(metrics.psnr, IMAGES, REBUILT),
    "mean_ssim": on(metrics.mean_ssim, IMAGES, REBUILT),
    "reconstruction_fd": on(metrics.reconstruction_fd, FIRST, SECOND, name="rfd"),
    "reconstruction_distance": on(metrics.reconstruction_distance, IMAGES, REBUILT, distance=pixel_distance),
    "denoising_gain": on(metrics.denoising_gain, IMAGES, ("images", "noisy"), REBUILT, level=0.1),
    "anomaly_auroc": on(metrics.anomaly_auroc, ("images", "errors"), ("novel", "errors")),
    "bits_per_dim": on(metrics.bits_per_dim, ("images", "nats"), dimensions=768, kind="exact"),
    "compression_vs_png": on(metrics.compression_vs_png, ("images", "nats"), ("images", "errors"), kind="exact"),
    "png_pixel_bits": lambda sets: np.sort(on(metrics.png_pixel_bits, IMAGES)(sets)),
    "intra_class_fd": on(metrics.intra_class_fd, REAL, ("real", "labels"), FAKE, ("fake", "labels")),
    "classification_accuracy_score": on(
        metrics.classification_accuracy_score, IMAGES, LABELS, ("others", "images"), ("others", "labels")
    ),
    "condition_consistency": on(metrics.condition_consistency, IMAGES, LABELS, classify=brightness),
}


def _in_batches(accumulator: Any, rows: np.ndarray, *side: bool) -> Any:
    for start in range(0, len(rows), 50):
        accumulator.update(rows[start : start + 50], *side)
    return accumulator


FUNCTIONS |= {
    "Moments": lambda sets: [
        (lambda m: np.concatenate([m.mean, m.covariance().ravel()]))(
            _in_batches(metrics.Moments(8), sets["fake"]["features"])
        )
    ],
    "FrechetAccumulator": lambda sets: _in_batches(
        _in_batches(metrics.FrechetAccumulator(8), sets["real"]["features"], True), sets["fake"]["features"], False
    ).compute(),
    "InceptionScoreAccumulator": lambda sets: np.array(
        [_in_batches(metrics.InceptionScoreAccumulator(9), sets["fake"]["logits"]).compute()]
    ),
}

NO_ROWS_OR_PLACES = {
    "frechet_distance_from_stats": "takes means and covariances, no rows",
    "perceptual_path_length": "draws its paths itself, by a seed; batch sizes are tested with it",
    "lerp": "a point of each path by itself",
    "slerp": "a point of each path by itself",
    "slerp_unit": "a point of each path by itself",
    "kernel_distance_subsets": "the published protocol draws its subsets by the place of rows",
}
"""Public functions that have no rows, or hang on their order by definition."""


class Toy:
    """A model that has all that metrics ask of models; what it draws at random it draws for each example in turn."""

    nll_kind = "estimate"
    latent = 4
    encode, decode = staticmethod(encode), staticmethod(decode)
    synthesise, style = staticmethod(decode), staticmethod(torch.tanh)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return (0.8 * x + 0.1 * torch.randn(x.shape)).clamp(-1, 1)

    def nll(self, x: torch.Tensor) -> torch.Tensor:
        return 3000 + 300 * torch.rand(len(x)).double() + x.double().flatten(1).sum(1)

    def code_usage(self) -> dict[str, float]:
        return {"codes_used": 0.5, "perplexity": 7.0}


def evidence(seed: int, kind: str, order: int | None = None) -> Evidence:
    """kind: ``images`` (labelled, all needs but truths), ``captions``, ``points`` (a known mixture) or ``stacked-mnist``.
    order: the seed of another order of all rows; features are moved with them, not computed again."""
    rng = np.random.default_rng(seed)
    sets: Sets = {}
    for split, n in (("train", 110), ("real", 100), ("fake", 90)):
        pictures, labels = images(n, rng), np.arange(n) % 3
        spread = pictures.reshape(n, -1)[:, ::97].astype(np.float64)
        centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
        sets[split] = {
            "images": pictures,
            "labels": labels + 111 * (kind == "stacked-mnist"),
            "features": (spread - 60) / 40 + 0.3 * rng.normal(size=spread.shape),
            "logits": 2 * rng.normal(size=(n, 5)),
            "points": (centres[labels] + 0.3 * rng.normal(size=(n, 2))).astype(np.float32),
            "captions": np.array(["red square", "green disc", "red disc"])[rng.integers(0, 3, n)],
        }
    if order is not None:
        sets = reordered(sets, order)
    layers = {"final": "features", "spatial": "features", "logits": "logits"}
    train, real, fake = sets["train"], sets["real"], sets["fake"]
    shown = "points" if kind == "points" else "images"
    truth: Any = None
    if kind == "points":
        truth = SimpleNamespace(centers=np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]), std=0.3)
    elif kind == "captions":
        words = {p.tobytes(): "red disc" if p.mean() > 60 else "green disc" for p in fake["images"]}
        truth = SimpleNamespace(describe=lambda pictures: [words[p.tobytes()] for p in pictures])
    labels: Iterable[Any] = (None, None) if kind == "points" else (train["labels"], real["labels"])
    data = Data(
        "stacked-mnist" if kind == "stacked-mnist" else "toy",
        VectorSpace(2) if kind == "points" else ImageSpace(3, SIDE, SIDE),
        train[shown],
        real[shown],
        *labels,
        truth=truth,
    )
    projection = np.random.default_rng(1).normal(size=(3 * SIDE * SIDE, 6))
    return Evidence(
        data=data,
        samples=fake[shown],
        features=lambda split, layer: sets[split][layers[layer]],
        extractor="toy",
        layers={"final": train["features"].shape[1], "spatial": 8, "logits": 5},
        model=Toy(),
        sample_labels=fake["labels"] if kind in ("images", "stacked-mnist") else None,
        sample_captions=[str(text) for text in fake["captions"]] if kind == "captions" else None,
        extract=lambda pictures, layer: pictures.reshape(len(pictures), -1) @ projection,
    )


def numbers(found: Any) -> list[float]:
    """Value and ends of each measurement, NaN where there is none."""
    if isinstance(found, Measurement):
        return [float(end) if end is not None else float("nan") for end in (float(found), found.low, found.high)]
    if isinstance(found, np.ndarray):
        return [float(each) for each in found]
    return [number for each in found for number in numbers(each)]
