"""FLOPs of operators that torch's counter has no formula for: attention on a CPU, recurrent layers, Fourier
transforms, products with a vector, distances.

A multiply and an add are two FLOPs, as in torch's own formulas. Arguments are shapes in place of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import conv_flop_count, sdpa_backward_flop_count, sdpa_flop_count

Shape = Sequence[int]


def attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores and their product with the values: ``2 B H L S (d + d_v)``."""
    return sdpa_flop_count(query, key, value)


def attention_backward(grad: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Five products of the forward pass's size: the scores once more and four gradients."""
    return sdpa_backward_flop_count(grad, query, key, value)


def attention_overrideable_backward(grad: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def convolution_backward(grad: Shape, x: Shape, weight: Shape, *rest: Any, **_: Any) -> int:
    """The forward pass's size for the gradient of the input and again for that of the weights. (torch's own formula takes the second as
    if every group saw all channels.) rest: bias sizes, stride, padding, dilation, transposed, output padding, groups, mask."""
    transposed, (to_input, to_weight, _to_bias) = rest[4], rest[7]
    return conv_flop_count(list(x), list(weight), list(grad), transposed) * (int(to_input) + int(to_weight))


def rnn_layer(x: Shape, w_input: Shape, w_hidden: Shape, *_: Any, **__: Any) -> int:
    """One direction of one layer: every gate of every step is a row of two matrix products, ``2 T B G H (in + H)``."""
    return 2 * math.prod(x[:-1]) * (math.prod(w_input) + math.prod(w_hidden))


def rnn_layer_backward(x: Shape, w_input: Shape, w_hidden: Shape, *_: Any, **__: Any) -> int:
    """Gradients of the inputs and of the weights: twice the forward pass."""
    return 2 * rnn_layer(x, w_input, w_hidden)


def rnn(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """All layers and directions at once (cuDNN): each matrix is used once a step."""
    return 2 * math.prod(x[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) > 1)


def rnn_backward(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    return 2 * rnn(x, weights)


def matrix_vector(matrix: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def plus_matrix_vector(_: Shape, matrix: Shape, *__: Any, **___: Any) -> int:
    return 2 * math.prod(matrix)


def distances(x: Shape, y: Shape, *_: Any, **__: Any) -> int:
    """Difference, square and sum for every pair of rows and every coordinate."""
    return 3 * math.prod(x) * y[-2]


def fft_complex(x: Shape, dim: Sequence[int], *_: Any, **__: Any) -> int:
    """``5 N log2 N`` a transform of N points (Cooley & Tukey 1965; the convention of FFTW's benchmarks)."""
    return _fft(x, dim, 5.0)


def fft_from_real(x: Shape, dim: Sequence[int], *_: Any, **__: Any) -> int:
    """Half of a complex transform: real input has a symmetric spectrum."""
    return _fft(x, dim, 2.5)


def fft_to_real(x: Shape, dim: Sequence[int], *_: Any, out_shape: Any = None, **__: Any) -> int:
    return _fft(out_shape, dim, 2.5)


def _fft(shape: Shape, dim: Sequence[int], factor: float) -> int:
    points = math.prod(shape[d] for d in dim)
    transforms = math.prod(shape) / max(points, 1)
    return round(factor * transforms * points * math.log2(points)) if points > 1 else 0


_NAMED: dict[str, Callable[..., int]] = {
    "convolution_backward": convolution_backward,
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": attention_backward,
    "_scaled_dot_product_fused_attention_overrideable": attention,
    "_scaled_dot_product_fused_attention_overrideable_backward": attention_overrideable_backward,
    "mkldnn_rnn_layer": rnn_layer,
    "mkldnn_rnn_layer_backward": rnn_layer_backward,
    "_cudnn_rnn": rnn,
    "_cudnn_rnn_backward": rnn_backward,
    "miopen_rnn": rnn,
    "miopen_rnn_backward": rnn_backward,
    "mv": matrix_vector,
    "addmv": plus_matrix_vector,
    "dot": matrix_vector,
    "vdot": matrix_vector,
    "_cdist_forward": distances,
    "_fft_c2c": fft_complex,
    "_fft_r2c": fft_from_real,
    "_fft_c2r": fft_to_real,
}

FORMULAS: dict[Any, Callable[..., int]] = {
    getattr(torch.ops.aten, name): formula for name, formula in _NAMED.items() if hasattr(torch.ops.aten, name)
}
"""Operator -> formula of shapes; operators that this torch lacks are left out."""
