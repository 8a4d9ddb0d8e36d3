"""GenerativeModel: the one interface that every model family implements, and the capabilities a model may add.

A model needs two methods, ``train_step`` and ``sample``. The harness owns everything else: seeding, device,
precision, weight averaging (EMA), the clock and the budget. Reference models import this module and torch only.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.options import check_fields
from bench.space import ImageSpace, Space, TokenSpace, VectorSpace

__all__ = [
    "Batch",
    "BenchError",
    "Conditional",
    "FitsPrior",
    "GenerativeModel",
    "HasCodes",
    "HasLatent",
    "HasLikelihood",
    "HasStyle",
    "ImageSpace",
    "Iterative",
    "NoConfig",
    "Reconstructs",
    "SampleGenerator",
    "Space",
    "TextConditional",
    "TokenSpace",
    "VectorSpace",
]


class Batch(NamedTuple):
    """What a training step receives.

    x: ``(B, *space.shape)``; images float32 in [-1, 1], tokens int64, vectors float32.
    labels: ``(B,)`` int64 class indices, or None where the data set has none.
    captions: a text for each example, or None where the data set has none.
    """

    x: Tensor
    labels: Tensor | None = None
    captions: tuple[str, ...] | None = None

    def __len__(self) -> int:  # type: ignore[override]  # the number of examples, not of fields
        return self.x.shape[0]


class SampleGenerator:
    """Randomness for ``n`` samples such that sample ``i`` is the same for any batch size.

    The samples of a run are numbered 0, 1, 2 ...; this object serves the numbers ``start ... start + n - 1``. Noise is
    drawn in fixed blocks of ``BLOCK`` samples, one torch generator a block, seeded by (seed, block number); so what
    sample ``i`` receives in its k-th draw depends on (seed, i, k) only. Every method returns a tensor whose first
    dimension is ``n``, on ``device``.
    """

    BLOCK: ClassVar[int] = 16

    def __init__(self, seed: int, n: int, start: int = 0, device: torch.device | str = "cpu") -> None:
        self.seed, self.n, self.start, self.device = seed, n, start, torch.device(device)
        first, last = start // self.BLOCK, (start + n - 1) // self.BLOCK
        self._skip = start - first * self.BLOCK
        self._generators = [
            torch.Generator(self.device).manual_seed((seed * 0x9E3779B97F4A7C15 + block) % (1 << 63))
            for block in range(first, last + 1)
        ]

    @property
    def indices(self) -> Tensor:
        """The numbers of the samples served, ``(n,)`` int64."""
        return torch.arange(self.start, self.start + self.n, device=self.device)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal noise, ``(n, *shape)`` float32."""
        return self._draw(lambda g: torch.randn(self.BLOCK, *shape, generator=g, device=self.device))

    def rand(self, *shape: int) -> Tensor:
        """Uniform noise in [0, 1), ``(n, *shape)`` float32."""
        return self._draw(lambda g: torch.rand(self.BLOCK, *shape, generator=g, device=self.device))

    def randint(self, high: int, *shape: int) -> Tensor:
        """Uniform integers in [0, high), ``(n, *shape)`` int64."""
        return self._draw(lambda g: torch.randint(high, (self.BLOCK, *shape), generator=g, device=self.device))

    def categorical(self, logits: Tensor) -> Tensor:
        """One draw from each row's softmax, by the Gumbel-max trick. logits: ``(n, ..., K)`` -> ``(n, ...)`` int64."""
        uniform = self.rand(*logits.shape[1:]).clamp_min(torch.finfo(torch.float32).tiny)
        return (logits.float() - (-uniform.log()).log()).argmax(-1)

    def _draw(self, draw: Any) -> Tensor:
        blocks = [draw(generator) for generator in self._generators]
        whole = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        return whole[self._skip : self._skip + self.n]


UNSCALED = torch.amp.GradScaler(enabled=False)
"""Hands losses, gradients and steps on as they are."""


@dataclasses.dataclass(frozen=True)
class NoConfig:
    """The configuration of a model that has nothing to configure."""


class GenerativeModel(nn.Module, abc.ABC):
    """Base class of every model. A subclass sets the class attributes below as *literals*: listings read them from the
    source text without importing torch, so the first docstring line, ``family`` and ``paper`` must be plain strings.

    family: the family it is listed under (``vae``, ``gan``, ``diffusion``, ``baseline`` ...).
    paper: title, year and arXiv id of the source, or "" for none.
    known_failures: one or two sentences for the model card: when does it go wrong?
    trains: False for baselines that only look at the data once, in ``fit_prior``.
    Config: a frozen dataclass of JSON-serialisable fields with defaults; it is hashed into the trial's id.
    spaces: the kinds of space the model can generate.
    samples_need_prior: False where a model has ``fit_prior`` and can sample before it, so that it is watched for collapse in training.
    """

    family: ClassVar[str] = "other"
    paper: ClassVar[str] = ""
    known_failures: ClassVar[str] = ""
    trains: ClassVar[bool] = True
    Config: ClassVar[type] = NoConfig
    spaces: ClassVar[tuple[type, ...]] = (ImageSpace,)
    samples_need_prior: bool = True
    float16_scaler: torch.amp.GradScaler | None = None  # in float16, see ``descend``

    def __init__(self, space: Space, **config: Any) -> None:
        super().__init__()
        if not isinstance(space, self.spaces):
            able = " or ".join(kind.__name__ for kind in self.spaces)
            raise BenchError(f"{type(self).__name__} generates {able}, but the data set holds {space}")
        self.space = space
        self.config: Any = self.make_config(**config)

    @classmethod
    def make_config(cls, **config: Any) -> Any:
        """``Config(**config)``; an unknown key or an illegal value raises BenchError with one sentence."""
        check_fields(cls.__name__, cls.Config, config)
        try:
            return cls.Config(**config)
        except (TypeError, ValueError) as error:
            raise BenchError(f"{cls.__name__}: {error}") from None

    @abc.abstractmethod
    def train_step(self, batch: Batch, progress: float) -> dict[str, float | Tensor]:
        """One step of training: forward, backward and the step of each optimizer.

        batch: see Batch. progress: share of the budget used so far, in [0, 1] (for warm-ups, decays and stages).
        Returns named losses; return 0-d *detached tensors* rather than ``.item()`` so that no step waits for the device.
        """

    @abc.abstractmethod
    def sample(self, n: int, generator: SampleGenerator, **options: Any) -> Tensor:
        """Draw ``n`` finished samples, ``(n, *space.shape)``, in the range that training batches have.

        All randomness comes from ``generator`` (``generator.randn(64)`` is ``(n, 64)``), which makes sample i independent of
        the batch size. Runs under ``torch.inference_mode`` in eval mode.
        """

    def descend(self, loss: Tensor, *optimizers: torch.optim.Optimizer, longest: float | None = None) -> None:
        """One step of each optimizer down the gradient of ``loss`` (0-d): gradients to zero, backward, clip, step.

        longest: a gradient of greater 2-norm, over all parameters of these optimizers, is shortened to it.

        Under float16 autocast the loss is scaled up before the backward pass, so that small gradients do not vanish, and the
        gradients back before the step; a step whose gradients overflowed is left out, and the scale halved ("Mixed Precision
        Training", Micikevicius et al. 2017, arXiv 1710.03740). A model that calls ``backward`` and ``step`` itself trains in
        float32 and bfloat16 just as well, but not in float16.
        """
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        scaler = self._scaler_of_autocast(loss.device.type)
        scaler.scale(loss).backward()
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        if longest is not None:
            every = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(every, longest)
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()

    def _scaler_of_autocast(self, kind: str) -> torch.amp.GradScaler:
        """What scales losses where this code runs under float16 autocast of that kind of device, made at first use; else one that
        does nothing."""
        if not (torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16):
            return UNSCALED
        if self.float16_scaler is None:
            self.float16_scaler = torch.amp.GradScaler(kind)
        return self.float16_scaler

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Every optimizer held in an attribute, by attribute name."""
        return {k: v for k, v in vars(self).items() if isinstance(v, torch.optim.Optimizer)}

    @property
    def device(self) -> torch.device:
        tensors: list[Tensor] = [*self.parameters(), *self.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")


# --- Capabilities: implement the methods and the harness finds them -------------------------------------------------


@runtime_checkable
class FitsPrior(Protocol):
    """Something to fit once after training, on the averaged weights (a GMM on latents, a PCA ...); its time is reported."""

    def fit_prior(self, loader: Iterable[Batch]) -> None: ...


@runtime_checkable
class Reconstructs(Protocol):
    """``(B, *shape)`` -> ``(B, *shape)``: the sample passed through the model's bottleneck."""

    def reconstruct(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class HasLatent(Protocol):
    """A latent space, ``encode(x) -> (B, d)`` and ``decode(z) -> (B, *shape)``."""

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, z: Tensor) -> Tensor: ...


@runtime_checkable
class HasStyle(Protocol):
    """A style space W between noise and samples: ``style(z) -> w``, each ``(B, latent)`` with z standard normal; ``synthesise(w) ->
    (B, *shape)``, the same for the same w."""

    @property
    def latent(self) -> int: ...

    def style(self, z: Tensor) -> Tensor: ...

    def synthesise(self, w: Tensor) -> Tensor: ...


@runtime_checkable
class HasCodes(Protocol):
    """Discrete codes. ``code_usage()``: of the last pass over the training data, ``codes_used`` (share of the codes that occur) and
    ``perplexity`` (e to the entropy of their shares: the number of codes, were all used equally)."""

    def code_usage(self) -> dict[str, float]: ...


@runtime_checkable
class HasLikelihood(Protocol):
    """``nll(x) -> (B,)``: nats per example of the discrete data (8-bit images: 256 levels), of a stated kind."""

    nll_kind: Literal["exact", "upper_bound", "estimate"]

    def nll(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Conditional(Protocol):
    """Class-conditional: ``sample(n, generator, labels=...)`` with ``labels`` ``(n,)`` int64.

    ``labels_of(indices)``: the labels that ``sample`` takes where it is not given any, for the samples numbered ``indices``: then
    the metrics per class know what each sample was to be. A Config field ``classes`` that is None is given the data set's
    number of classes by the harness.
    """

    conditions: Literal["class"]

    def labels_of(self, indices: Tensor) -> Tensor: ...


@runtime_checkable
class TextConditional(Protocol):
    """Learns from ``Batch.captions`` and draws what a text says: ``sample(n, generator, captions=[...])``, of which sample number i
    takes caption i, and where there are fewer captions they are taken in turn.

    ``captions_of(indices)``: the captions that ``sample`` takes where it is not given any, for the samples numbered ``indices``.
    """

    conditions: Literal["text"]

    def captions_of(self, indices: Tensor) -> list[str]: ...


@runtime_checkable
class Iterative(Protocol):
    """Sampling that evaluates a network several times: ``nfe`` is the number of evaluations per sample."""

    @property
    def nfe(self) -> int: ...


def capabilities(model: GenerativeModel) -> Sequence[str]:
    """The names of the optional protocols that ``model`` implements."""
    protocols = (
        FitsPrior,
        Reconstructs,
        HasLatent,
        HasStyle,
        HasCodes,
        HasLikelihood,
        Conditional,
        TextConditional,
        Iterative,
    )
    return [protocol.__name__ for protocol in protocols if isinstance(model, protocol)]
