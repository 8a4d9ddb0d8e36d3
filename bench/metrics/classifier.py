"""A small image classifier, trained in seconds and reproducibly, for metrics that need to know what an image shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import BenchError

STEPS = 250
BATCH = 128


@dataclasses.dataclass
class Classifier:
    """``classifier(images)``: uint8 ``(N, H, W, C)`` -> int64 ``(N,)`` labels."""

    network: nn.Module

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batches = [self.network(_to_input(images[i : i + 512])).argmax(1) for i in range(0, len(images), 512)]
        return torch.cat(batches).numpy() if batches else np.zeros(0, dtype=np.int64)

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        return float((self(images) == labels).mean())


def train_classifier(
    images: np.ndarray, labels: np.ndarray, classes: int, seed: int = 0, steps: int = STEPS
) -> Classifier:
    """Fit a three-layer convolutional network on uint8 ``(N, H, W, C)`` and int64 ``(N,)``; the same seed gives the same network.

    AdamW with a one-cycle rate, random shifts by up to a sixteenth of the side, batches of 128. Works from 8 x 8 pixels up.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels) or len(images) == 0:
        raise BenchError(
            f"a classifier needs uint8 images (N, H, W, C) and N labels, not {images.shape} and {labels.shape}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(images.shape[3], min(images.shape[1:3]), classes).to(memory_format=torch.channels_last)
        x, y = _to_input(images), torch.from_numpy(np.asarray(labels, dtype=np.int64))
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
        for step in range(steps):
            chosen = _batch(step, len(x), seed)
            loss = F.cross_entropy(network(_shifted(x[chosen])), y[chosen], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return Classifier(network.eval())


def _batch(step: int, n: int, seed: int) -> Tensor:
    """Rows of this step: without repetition within an epoch."""
    per_epoch = max(1, n // BATCH)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step // per_epoch)
    return torch.randperm(n, generator=generator)[(step % per_epoch) * BATCH :][:BATCH]


def _shifted(x: Tensor) -> Tensor:
    """The whole batch moved by one random offset, edges repeated."""
    reach = max(1, x.shape[2] // 16)
    down, right = torch.randint(0, 2 * reach + 1, (2,)).tolist()
    padded = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    return padded[:, :, down : down + x.shape[2], right : right + x.shape[3]]


def _network(channels: int, side: int, classes: int) -> nn.Module:
    def block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    stride = 1 if side < 16 else 2 if side < 64 else 4
    return nn.Sequential(
        *block(channels, 24, kernel=5, stride=stride), *block(24, 48, stride=2), *block(48, 96, stride=2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(384, classes),
    )  # fmt: skip


def _to_input(images: np.ndarray) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)
