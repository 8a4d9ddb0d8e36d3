"""FLOPs counted while the work runs, with a figure for how much of it the count covers.

torch's formulas multiply out the shapes of matrix products, convolutions and attention; formulas.py adds what they lack. Layers of
attention are counted by the operators that they are made of: the fused ones that torch takes in eval mode have no formula.
Element-wise operators, reductions and normalisations have no formula by convention: at one FLOP an output element they are what
``coverage`` leaves out. Anything else without a formula (an eigenvalue problem, a kernel of one's own) is named.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, shape_wrapper

from bench.measure.formulas import FORMULAS

Model = TypeVar("Model", bound=nn.Module)

# Work of a few FLOPs an element that has no tag to be known by: names begin with one of these.
_LIGHT = (
    "native_", "_amp_", "_native_batch_norm", "cudnn_batch_norm", "_fused_rms_norm", "_softmax", "_log_softmax", "_safe_softmax", "_thnn_fused",
    "max_pool", "avg_pool", "_adaptive_avg_pool", "_adaptive_max_pool", "upsample", "_upsample", "nll_loss", "mse_loss",
    "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "cumsum", "cumprod", "logcumsumexp", "sort", "topk", "searchsorted",
    "bucketize", "embedding", "bernoulli", "normal", "uniform", "rand", "multinomial", "exponential", "random", "poisson",
    "linalg_vector_norm", "isfinite", "dot", "vdot", "bincount", "histc", "unique", "_unique", "_foreach", "_fused_adam",
    "_fused_sgd", "lerp", "_pdist", "var_mean", "std_mean", "_masked_softmax", "log_sigmoid", "glu", "silu", "gelu", "elu",
)  # fmt: skip
# Data that only moves, and bookkeeping.
_MOVES = (
    "empty", "zeros", "ones", "full", "new_", "arange", "linspace", "eye", "scalar_tensor", "copy", "_to_copy", "clone",
    "contiguous", "cat", "stack", "index", "_index", "_unsafe_index", "gather", "scatter", "slice", "select", "constant_pad_nd",
    "repeat", "roll", "flip", "tril", "triu", "unfold", "im2col", "col2im", "pixel_", "reflection_pad", "replication_pad",
    "masked_fill", "masked_select", "masked_scatter", "nonzero", "where", "fill", "zero", "resize", "_local_scalar_dense", "item",
    "equal", "lift_fresh", "split", "unsafe_", "chunk", "unbind", "_reshape_alias", "_unsafe_view", "set", "detach",
    "_assert", "is_", "sym_", "size", "stride", "storage_offset", "record_stream", "_has_", "_efficientzerotensor", "one_hot",
    "_pin_memory", "diag", "channel_shuffle", "as_strided", "permute", "_conj", "view_as",
)  # fmt: skip

PROBES = 4
"""Training steps by which it is known whether all of them take the same."""

VARYING_STEPS = 16
"""Training steps that are counted where they differ: the longest period of a penalty."""

_FORMULAS = flop_registry | {operator: shape_wrapper(formula) for operator, formula in FORMULAS.items()}


@dataclasses.dataclass(frozen=True)
class FlopCount:
    """flops: counted, two for a multiply-add. by_operator: where they were. coverage: the share of all work that the count is,
    taking one FLOP an output element for what has no formula (at most that share where ``unknown`` holds heavy operators). light:
    element-wise work and reductions left out by convention, unknown: other operators without a formula; both name -> calls.
    """

    flops: float
    by_operator: dict[str, float]
    coverage: float
    light: dict[str, int]
    unknown: dict[str, int]

    @property
    def note(self) -> str | None:
        """Names the operators that should have a formula and have none."""
        if not self.unknown:
            return None
        return "no formula for " + ", ".join(sorted(self.unknown))

    def to_dict(self) -> dict[str, Any]:
        return {
            "by_operator": self.by_operator,
            "coverage": round(self.coverage, 4),
            "without_formula": {**self.light, **self.unknown},
            "unknown": self.unknown,
        }


def count(work: Callable[[], object]) -> FlopCount:
    """Run ``work`` once and count its FLOPs: forward, backward (through gradients, too) and optimizers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _Operators() as operators:
            work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    total = sum(operators.flops.values())
    whole = total + operators.elements
    return FlopCount(
        flops=float(total),
        by_operator={name: float(flops) for name, flops in operators.flops.items()},
        coverage=total / whole if whole else 0.0,
        light=dict(operators.light.most_common()),
        unknown=dict(operators.unknown.most_common()),
    )


def count_training(model: Model, step: Callable[[Model, float], object]) -> tuple[FlopCount, int]:
    """(FLOPs of training steps together, how many steps they are), on copies of the model: it stays as it is before training.

    step: trains the model it is given by one step, at a progress. One step, where four spread over the training take the same; else
    ``VARYING_STEPS``, spread evenly: networks that grow, and penalties of every 8th or 16th step, in their shares.
    """
    probes = _probes(copy.deepcopy(model).train(), step)
    if len({probe.flops for probe in probes}) == 1:
        return probes[0], 1
    copied = copy.deepcopy(model).train()
    return count(lambda: [step(copied, at) for at in _spread(VARYING_STEPS)]), VARYING_STEPS


def _probes(copied: Model, step: Callable[[Model, float], object]) -> list[FlopCount]:
    """(A function of its own, so that its copy of the model is gone before there is another.)"""
    return [count(functools.partial(step, copied, at)) for at in _spread(PROBES)]


def _spread(steps: int) -> list[float]:
    """Progress at the middle of each of ``steps`` equal parts of a training."""
    return [(number + 0.5) / steps for number in range(steps)]


class _Operators(TorchDispatchMode):
    """Adds up the FLOPs of every operator with a formula; of the others it notes the names, and how many elements they put out.

    torch's own FlopCounterMode also attributes them to modules, with hooks that refuse ``autograd.grad`` within the work:
    gradient penalties could not be counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.light: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = getattr(func, "_overloadpacket", func)
        formula = _FORMULAS.get(packet)
        if (
            formula is None
            and hasattr(func, "decompose")
            and (parts := self._parts(func, args, kwargs)) is not NotImplemented
        ):
            return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops[_name(packet)] += formula(*args, **kwargs, out_val=out)
        elif (kind := _kind(func)) != "moves":
            (self.light if kind == "light" else self.unknown)[_name(packet)] += 1
            self.elements += sum(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        return out

    def _parts(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result by way of simpler operators, each counted; NotImplemented for one that has none."""
        with self:
            return func.decompose(*args, **kwargs)


def _kind(operator: Any) -> str:
    """``moves`` (data and bookkeeping), ``light`` (about one FLOP an element) or ``unknown``."""
    space, _, name = _name(operator).partition(".")
    tags = _tags(operator)
    if name.endswith("_backward"):
        forward = getattr(torch.ops.aten, name.removesuffix("_backward"), None)
        tags |= _tags(getattr(forward, "default", None))
    if tags & {"pointwise", "reduction"} and name != "clone":
        return "light"
    if (
        space in ("prim", "profiler")
        or "inplace_view" in tags
        or getattr(operator, "is_view", False)
        or name.endswith("_copy")
    ):
        return "moves"
    if space == "aten" and name.startswith(_LIGHT):
        return "light"
    return "moves" if space == "aten" and (name == "t" or name.startswith(_MOVES)) else "unknown"


def _tags(operator: Any) -> set[str]:
    return {str(tag).rpartition(".")[2] for tag in getattr(operator, "tags", ())}


def _name(operator: Any) -> str:
    """``aten.addmm`` of ``aten.addmm.default``."""
    packet = getattr(operator, "_overloadpacket", operator)
    return str(packet)
