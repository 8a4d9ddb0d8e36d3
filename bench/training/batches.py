"""Batches for training and for fits of a prior, from arrays in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bench.data.base import Data
from bench.model import Batch
from bench.sampling import to_model_range


class Batches:
    """Endless shuffled batches from arrays in memory, on the device, in model range; every epoch has its own order."""

    def __init__(self, data: Data, batch_size: int, seed: int, device: torch.device) -> None:
        self.x = torch.as_tensor(data.train, device=device)
        self.labels = None if data.train_labels is None else torch.as_tensor(data.train_labels, device=device)
        self.captions = data.train_captions
        self.space = data.space
        self.batch_size = min(batch_size, len(self.x))
        self._generator = torch.Generator().manual_seed(seed)
        self._epoch = self._generator.get_state()  # as it was before the present epoch was shuffled
        self._place = 0  # examples of the present epoch that were handed out

    def __iter__(self) -> Iterator[Batch]:
        while True:
            self._epoch = self._generator.get_state()
            order = torch.randperm(len(self.x), generator=self._generator)
            on_device = order.to(self.x.device)
            while self._place <= len(order) - self.batch_size:
                chosen = slice(self._place, self._place + self.batch_size)
                self._place += self.batch_size
                yield self._take(on_device[chosen], order[chosen])
            self._place = 0

    def state(self) -> dict[str, Any]:
        """The place in the stream of batches; ``load`` puts a stream that is iterated anew there."""
        return {"epoch": self._epoch, "place": self._place}

    def load(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["epoch"])
        self._place = state["place"]

    def once(self) -> Iterator[Batch]:
        """Every training example once, in order: what a prior is fitted on."""
        for start in range(0, len(self.x), self.batch_size):
            yield self._take(slice(start, start + self.batch_size))

    def _take(self, which: Any, on_host: Tensor | None = None) -> Batch:
        """on_host: the same indices, where ``which`` are on a device that should not be waited for."""
        labels = None if self.labels is None else self.labels[which]
        captions = self._captions(which if on_host is None else on_host)
        return Batch(to_model_range(self.x[which], self.space), labels, captions)

    def _captions(self, which: Any) -> tuple[str, ...] | None:
        if self.captions is None:
            return None
        return self.captions[which] if isinstance(which, slice) else tuple(self.captions[i] for i in which.tolist())


class OnePass:
    """A loader that can be iterated more than once, each time over the whole training set."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return self._batches.once()
