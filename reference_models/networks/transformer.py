"""A causal transformer over tokens, with sampling from a cache of keys and values.

    start, token 0 ... token L - 2  ->  [norm, self-attention; (norm, cross-attention;) norm, perceptron] x depth  ->  logits of token 0 ... L - 1

The decoder of "Attention Is All You Need" (2017, arXiv 1706.03762) with normalisation first and the initialisation of GPT-2.
Optional rotary positions: "RoFormer" (2021, arXiv 2104.09864).
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.model import BenchError, SampleGenerator

POSITIONS = ("learned", "rotary")


class Transformer(nn.Module):
    """``(B, L) tokens -> (B, L, vocabulary) logits``; logits ``[:, i]`` are of token i given the tokens before it.

    vocabulary: number of tokens. length: most tokens of a sequence. width: of the residual stream, a multiple of ``heads``.
    positions: "learned" (a vector for each) or "rotary" (queries and keys are turned by their position).
    prefix: how many vectors a call may put in front of the sequence (classes, codes of another model), ``(B, P <= prefix, width)``.
    memory: width of the vectors ``(B, M, memory)`` that every block attends to (a text encoder's, say), 0 for none.
    Raises BenchError where the sizes do not fit.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        positions: str = "learned",
        prefix: int = 0,
        memory: int = 0,
    ) -> None:
        super().__init__()
        if width % heads or (positions == "rotary" and (width // heads) % 2):
            raise BenchError(
                f"a transformer of width {width} cannot have {heads} heads; the width must be a multiple of them"
            )
        if positions not in POSITIONS:
            raise BenchError(f"positions must be one of {', '.join(POSITIONS)}, got '{positions}'")
        self.vocabulary, self.length, self.prefix = vocabulary, length, prefix
        self.start = nn.Parameter(torch.zeros(width))
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(prefix + length, width) if positions == "learned" else None
        rotary = Rotary(width // heads, prefix + length) if positions == "rotary" else None
        self.blocks = nn.ModuleList(Block(width, heads, memory, rotary) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:  # GPT-2: N(0, 0.02), and less where a branch joins the residual stream
                joins = name.endswith(("out.weight", "shrink.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * depth) ** 0.5 if joins else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, tokens: Tensor, prefix: Tensor | None = None, memory: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """tokens: ``(B, L)`` int64. prefix, memory: see the class. mask: ``(B, M)`` bool, False where memory is padding."""
        hidden = self._run(self._enter(tokens[:, :-1], prefix), None, memory, mask)
        return self.head(hidden[:, hidden.shape[1] - tokens.shape[1] :])

    def begin(
        self,
        n: int,
        prompt: Tensor | None = None,
        prefix: Tensor | None = None,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Cache]:
        """The logits ``(n, vocabulary)`` of the token after ``prompt`` ``(n, P)``, and the cache to go on from."""
        if prompt is None:
            prompt = torch.zeros(n, 0, dtype=torch.int64, device=self.start.device)
        cache = Cache(self.prefix + self.length, len(self.blocks))
        hidden = self._run(self._enter(prompt, prefix), cache, memory, mask)
        return self.head(hidden[:, -1]), cache

    def step(self, token: Tensor, cache: Cache) -> Tensor:
        """The logits ``(n, vocabulary)`` of the token after ``token`` ``(n,)``; the cache grows by one."""
        x = self.tokens(token)[:, None]
        if self.places is not None:
            x = x + self.places.weight[cache.filled]
        return self.head(self._run(x, cache, None, cache.mask)[:, 0])

    def _enter(self, tokens: Tensor, prefix: Tensor | None) -> Tensor:
        """Prefix, start, tokens as vectors with their positions."""
        if tokens.shape[1] >= self.length or (prefix is not None and prefix.shape[1] > self.prefix):
            given = 0 if prefix is None else prefix.shape[1]
            raise BenchError(
                f"a sequence of {tokens.shape[1] + 1} tokens behind {given} prefix vectors does not fit a transformer "
                f"made for {self.length} and {self.prefix}"
            )
        start = self.start.expand(len(tokens), 1, -1)
        x = torch.cat([*([] if prefix is None else [prefix]), start, self.tokens(tokens)], 1)
        return x if self.places is None else x + self.places.weight[: x.shape[1]]

    def _run(self, x: Tensor, cache: Cache | None, memory: Tensor | None, mask: Tensor | None) -> Tensor:
        if cache is not None:
            cache.mask = mask
        for index, block in enumerate(self.blocks):
            x = block(x, memory, mask, None if cache is None else cache.layer(index))
        if cache is not None:
            cache.filled += x.shape[1]
        return self.norm(x)


@dataclasses.dataclass
class Cache:
    """Keys and values of what has been read so far. size: most positions. filled: positions read."""

    size: int
    depth: int
    filled: int = 0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        self._layers = [LayerCache(self) for _ in range(self.depth)]

    def layer(self, index: int) -> LayerCache:
        return self._layers[index]


class LayerCache:
    """One layer's share of a ``Cache``."""

    def __init__(self, whole: Cache) -> None:
        self.whole = whole
        self.own: Tensor | None = None
        self.memory: tuple[Tensor, Tensor] | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store ``(B, heads, T, d)`` behind what is there; all keys and values so far."""
        if self.own is None:
            b, heads, _, d = key.shape
            self.own = key.new_empty(2, b, heads, self.whole.size, d)
        end = self.whole.filled + key.shape[2]
        self.own[0, :, :, self.whole.filled : end] = key
        self.own[1, :, :, self.whole.filled : end] = value
        return self.own[0, :, :, :end], self.own[1, :, :, :end]


class Block(nn.Module):
    """Self-attention, cross-attention where there is a memory, perceptron; each normalised before and added."""

    def __init__(self, width: int, heads: int, memory: int, rotary: Rotary | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, rotary)
        self.norm_memory = nn.LayerNorm(width) if memory else None
        self.cross = CrossAttention(width, heads, memory) if memory else None
        self.norm2 = nn.LayerNorm(width)
        self.grow = nn.Linear(width, 4 * width)
        self.shrink = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor | None, cache: LayerCache | None) -> Tensor:
        x = x + self.attention(self.norm1(x), cache)
        if self.cross is not None:
            x = x + self.cross(self.norm_memory(x), memory, mask, cache)  # type: ignore[misc]
        return x + self.shrink(F.gelu(self.grow(self.norm2(x))))


class SelfAttention(nn.Module):
    """Causal attention of every position to itself and those before it."""

    def __init__(self, width: int, heads: int, rotary: Rotary | None) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, cache: LayerCache | None) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.rotary is not None:
            first = 0 if cache is None else cache.whole.filled
            query, key = self.rotary(query, first), self.rotary(key, first)
        if cache is not None:
            key, value = cache.append(key, value)
        # a step of one position sees all that is cached; anything longer starts from an empty cache
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=query.shape[2] > 1)
        return self.out(mixed.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of every position to all vectors of a memory."""

    def __init__(self, width: int, heads: int, memory: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(memory, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor | None, cache: LayerCache | None) -> Tensor:
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        if cache is not None and cache.memory is not None:
            key, value = cache.memory
        else:
            if memory is None:
                raise BenchError("this transformer attends to a memory; pass it one")
            key, value = self.key_value(memory).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            if cache is not None:
                cache.memory = (key, value)
        allowed = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Rotary(nn.Module):
    """Turns pairs of channels by angles that grow with the position, so that products depend on distances only."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, channels: int, length: int, base: float = 10_000.0) -> None:
        super().__init__()
        frequencies = base ** -torch.linspace(0, 1, channels // 2 + 1)[:-1]
        angles = torch.arange(length)[:, None] * frequencies
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """x: ``(B, heads, T, channels)``, at positions ``first ... first + T - 1``."""
        cosine, sine = (table[first : first + x.shape[2]].to(x.dtype) for table in (self.cosine, self.sine))
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1)


def sample_tokens(
    network: Transformer,
    generator: SampleGenerator,
    length: int,
    *,
    prompt: Tensor | None = None,
    prefix: Tensor | None = None,
    memory: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Tensor:
    """Draw ``(n, length)`` tokens one after another, ``prompt`` ``(n, P)`` included; every step reads one position.

    temperature: divides the logits; 0 takes the likeliest token. top_k, top_p: see ``restrict``.
    """
    logits, cache = network.begin(generator.n, prompt, prefix, memory, mask)
    chosen = [] if prompt is None else list(prompt.unbind(1))
    while True:
        if temperature == 0:
            token = logits.argmax(-1)
        else:
            token = generator.categorical(restrict(logits.float() / temperature, top_k, top_p))
        chosen.append(token)
        if len(chosen) >= length:
            return torch.stack(chosen, 1)
        logits = network.step(token, cache)


def restrict(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """``(..., vocabulary)``: all but the likeliest tokens at -inf.

    top_k: keep that many, 0 all. top_p: keep the fewest likeliest whose mass reaches it ("The Curious Case of Neural Text
    Degeneration", 2019, arXiv 1904.09751).
    """
    if top_k:
        least = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        mass_before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        ordered = ordered.masked_fill(mass_before >= top_p, -torch.inf)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, order, ordered)
    return logits
