"""A codebook: vectors are rounded to the nearest of its entries, which follow what is rounded to them; and how much of it is in use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPOCH = 4096  # images after which usage is counted anew: about once through the data sets of minutes of training


class Codebook(nn.Module):
    """Entries ``(K, d)`` that follow the mean of the encodings assigned to them.

    n_k <- decay n_k + (1 - decay) (number assigned);  m_k <- decay m_k + (1 - decay) (their sum);  e_k = m_k / n_k
    """

    entries: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, size: int, decay: float, restart: float) -> None:
        super().__init__()
        self.decay, self.restart = decay, restart
        self.register_buffer("entries", torch.randn(codes, size))
        self.register_buffer("counts", torch.zeros(codes))  # none in use: the first batch restarts every entry
        self.register_buffer("sums", torch.zeros(codes, size))

    def quantise(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, d, h, w)`` -> the nearest entries in the same shape, and their indices ``(B, h, w)``."""
        flat = encoded.movedim(1, 3).flatten(0, 2).detach()
        with torch.autocast(flat.device.type, enabled=False):  # near ties are decided in float32
            distance = self.entries.square().sum(1) - 2 * flat @ self.entries.T
        index = distance.argmin(1).view(len(encoded), *encoded.shape[2:])
        return self.entries[index].movedim(3, 1), index

    @torch.no_grad()
    def learn(self, encoded: Tensor, index: Tensor) -> None:
        """Update counts, sums and entries by one batch; restart dead entries at random encodings of it."""
        flat, index = encoded.movedim(1, 3).flatten(0, 2), index.flatten()
        assigned = torch.zeros_like(self.counts).index_add_(0, index, torch.ones_like(flat[:, 0]))
        self.counts.lerp_(assigned, 1 - self.decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, index, flat), 1 - self.decay)
        dead = self.counts < self.restart
        chosen = flat[torch.randint(len(flat), (len(self.counts),), device=flat.device)]
        fresh = max(1.0, 2 * self.restart)  # a restarted entry has some batches to be chosen before it is dead again
        self.counts.copy_(torch.where(dead, fresh, self.counts))
        self.sums.copy_(torch.where(dead[:, None], fresh * chosen, self.sums))
        used = self.counts[:, None] > 1e-12  # without restarts, what no encoding has chosen stays where it is
        self.entries.copy_(torch.where(used, self.sums / self.counts[:, None], self.entries))


class CodeCounter(nn.Module):
    """How often each code was chosen in training, epoch by epoch of ``images`` examples.

    A batch holds few codes even where all are in use, so its perplexity says too little (bshall/VectorQuantizedVAE, issue 3). ``counts``
    are those of the last epoch that is complete; within the first one those so far.
    """

    previous: Tensor
    present: Tensor

    def __init__(self, codes: int, images: int = EPOCH) -> None:
        super().__init__()
        self.images = images
        self.seen, self.complete = 0, False
        self.register_buffer("previous", torch.zeros(codes, dtype=torch.int64), persistent=False)
        self.register_buffer("present", torch.zeros(codes, dtype=torch.int64), persistent=False)

    @property
    def counts(self) -> Tensor:
        """``(codes,)`` int64."""
        return self.previous if self.complete else self.present

    @torch.no_grad()
    def count(self, index: Tensor) -> None:
        """index: the codes of a batch, ``(B, ...)`` int64."""
        flat = index.flatten()
        self.present.index_add_(0, flat, torch.ones_like(flat))
        self.seen += len(index)
        if self.seen >= self.images:
            self.previous.copy_(self.present)
            self.present.zero_()
            self.seen, self.complete = 0, True


def usage_of(counts: Tensor) -> tuple[Tensor, Tensor]:
    """How often each code was chosen ``(K,)`` -> share of codes chosen at all, and perplexity: e to the entropy of their shares, 1 ... K;
    0-d each."""
    share = counts / counts.sum()
    return (counts > 0).float().mean(), torch.special.entr(share).sum().exp()
