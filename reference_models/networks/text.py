"""A small text encoder: words by their hash, read by a causal transformer.

"a red heart" -> start, hash(a), hash(red), hash(heart), padding ... -> vectors (B, L, width) and a mask of those that are words

No vocabulary has to be collected: a word is the number that its hash says, so that any text can be read at any time. Two words
may share a number (one pair in ``BUCKETS``), as in "Enriching Word Vectors with Subword Information" (2016, arXiv 1607.04606).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reference_models.networks.transformer import Block

BUCKETS = 4096
PADDING, START = 0, 1
WORD = re.compile(r"\w+")


def tokens_of(captions: Sequence[str], length: int) -> Tensor:
    """Captions -> ``(B, length)`` int64: the start, a number for each word in lower case (as many as fit), padding."""
    rows = []
    for caption in captions:
        words = WORD.findall(caption.lower())[: length - 1]
        numbers = [2 + zlib.crc32(word.encode()) % BUCKETS for word in words]
        rows.append([START, *numbers] + [PADDING] * (length - 1 - len(words)))
    return torch.tensor(rows, dtype=torch.int64).view(-1, length)


class TextEncoder(nn.Module):
    """``(B, L) tokens -> (B, L, width) vectors, (B, L) mask`` (True: a word or the start).

    Every word sees those before it, as in the text encoder of CLIP ("Learning Transferable Visual Models From Natural Language
    Supervision", 2021, arXiv 2103.00020); padding comes last, so that nothing sees it.
    """

    def __init__(self, length: int, *, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(2 + BUCKETS, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, 0, None) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.words.weight, std=0.5)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(tokens) + self.places[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, None, None, None)
        return self.norm(x), tokens != PADDING
