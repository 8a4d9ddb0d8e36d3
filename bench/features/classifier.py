"""A small classifier of the data set at hand: features and class scores where ImageNet's networks are far from home."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.data.base import Data
from bench.errors import BenchError
from bench.features.cache import default_folder
from bench.features.extract import extract
from bench.features.module_state import module_digest
from bench.features.network import ConvNorm, NetworkExtractor, fold_batch_norms, pool
from bench.features.resize import resize
from bench.features.weights import load_state_dict, load_strictly, without_weights
from bench.record import Measurement
from bench.space import ImageSpace
from bench.stats.intervals import wilson_interval

RECIPE = "cnn 16-32-64-128 v2: AdamW 1e-2 one cycle, batch 64, shifts of 1/16"  # changes with anything that changes the weights
BATCH = 64
PEAK_RATE = 1e-2
CHANNELS = (16, 32, 64, 128)
WIDTH = CHANNELS[-1]


class SmallCNN(nn.Module):
    """Four convolutions with batch norm, three halvings, mean pooling, one linear layer: 0.1 M parameters."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            ConvNorm(inputs, outputs, 3, padding=1) for inputs, outputs in zip((3, *CHANNELS), CHANNELS)
        )
        self.classifier = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i < len(CHANNELS) - 1 and min(x.shape[2:]) >= 2:
                x = F.max_pool2d(x, 2)
        features = pool(x)
        return {"features": features, "logits": self.classifier(features)}


class DatasetClassifier(NetworkExtractor):
    """Small CNN trained on the data set's own labelled training split: features (128) and one logit per class.

    Training is seeded and single-threaded; the weights are kept in ``folder`` (default: beside the feature cache) and their
    digest stands in ``version``. ``accuracy`` is measured on the test split, which training never sees.
    """

    paper: ClassVar[str] = ""
    licence: ClassVar[str] = "MIT"
    needs_data: ClassVar[bool] = True

    def __init__(
        self, data: Data, seed: int = 0, epochs: int = 6, folder: str | os.PathLike[str] | None = None
    ) -> None:
        _check(data)
        folder = default_folder().parent / "classifiers" if folder is None else Path(folder).expanduser()
        network = _trained(data, seed, epochs, folder)
        classes = network.classifier.out_features
        side = max(data.train.shape[1:3])
        super().__init__(
            "dataset_classifier",
            fold_batch_norms(network),
            {"features": WIDTH, "logits": classes},
            fingerprint=module_digest(network)[:16],
            sides=(side, side),
            mean=127.5,
            std=127.5,
        )
        self.accuracy = self._accuracy(data)

    def _accuracy(self, data: Data) -> Measurement:
        """Share of the test split that is classified rightly, with Wilson's interval."""
        predicted = extract(data.test, self)["logits"].argmax(1)
        n, share = len(data.test), float((predicted == data.test_labels).mean())
        low, high = wilson_interval(round(share * n), n)[1:3]
        name = "accuracy_dataset_classifier"
        return Measurement(share, name=name, low=low, high=high, n=n, direction="higher", interval="wilson")


def _check(data: Data) -> None:
    if not isinstance(data.space, ImageSpace):
        raise BenchError(f"extractor dataset-classifier reads images, but data set {data.name} holds {data.space}")
    if data.train_labels is None or data.test_labels is None:
        raise BenchError(
            f"extractor dataset-classifier needs labels, but data set {data.name} has none; choose another extractor"
        )
    if len(np.unique(data.train_labels)) < 2:
        raise BenchError(
            f"extractor dataset-classifier needs at least two classes in the training split of {data.name}"
        )


def _trained(data: Data, seed: int, epochs: int, folder: Path) -> SmallCNN:
    """The trained network, from ``folder`` where it is there."""
    classes = max(len(data.classes), 1 + int(data.train_labels.max()))  # type: ignore[union-attr]
    key = hashlib.sha256(f"{RECIPE}|{data.digest()}|{classes}|{seed}|{epochs}".encode()).hexdigest()
    path = folder / f"{key}.safetensors"
    network = without_weights(lambda: SmallCNN(classes))
    try:
        load_strictly(network, load_state_dict(path), path)
    except BenchError:  # absent, cut short or of another shape: train, and write it again
        network = train(data, classes, seed, epochs)
        _save(network, path)
    return network.eval()


def train(data: Data, classes: int, seed: int, epochs: int) -> SmallCNN:
    """Fit a SmallCNN to the training split, squared as extraction squares it: cross-entropy, random shifts, one-cycle learning rate."""
    labels = torch.as_tensor(data.train_labels, device="cpu")
    images = torch.from_numpy(np.ascontiguousarray(data.train))
    side = max(images.shape[1:3])
    shift = max(1, side // 16)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        with torch.device("cpu"):  # whatever the default device
            network = SmallCNN(classes).train().to(memory_format=torch.channels_last)
        steps = epochs * math.ceil(len(images) / BATCH)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
        for _ in range(epochs):
            for chosen in torch.randperm(len(images), device="cpu").split(BATCH):
                batch = resize(images[chosen], side).expand(-1, 3, -1, -1).sub(127.5).div_(127.5)
                logits = network(_shifted(batch, shift))["logits"]
                optimizer.zero_grad()
                F.cross_entropy(logits, labels[chosen]).backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def _shifted(batch: Tensor, most: int) -> Tensor:
    """The batch moved by up to ``most`` pixels each way; edges are repeated."""
    height, width = batch.shape[2:]
    top, left = torch.randint(0, 2 * most + 1, (2,), device="cpu").tolist()
    padded = F.pad(batch, (most,) * 4, mode="replicate")
    return padded[:, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, so that sums have the same order on any number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _save(network: SmallCNN, path: Path) -> None:
    """Write aside and rename; a folder that cannot be written only costs the next training."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, aside)
        os.replace(aside, path)
