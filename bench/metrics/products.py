"""Products of all rows of one matrix with all rows of another, in the precision of their type whatever training has switched on.

In float32 by oneDNN where torch has it: as fast as the BLAS inside torch on one vendor's processors, twice as fast on another's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

COLUMNS = 1024


def row_products(x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """``x @ y.T`` of ``(n, d)`` and ``(m, d)``, both float32 or both float64, on the CPU; out: ``(n, m)``, to be overwritten.

    Extra memory: a copy of x and 1024 rows of y. Training may have set ``torch.set_float32_matmul_precision``: call it within
    ``bench.exact.exact_float32``.
    """
    if x.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return torch.mm(x, y.T, out=out)
    left = x.to_mkldnn()
    if len(y) <= COLUMNS and out is None:
        return linear(left, y.contiguous()).to_dense()
    products = x.new_empty(len(x), len(y)) if out is None else out
    for start in range(0, len(y), COLUMNS):
        part = slice(start, start + COLUMNS)
        products[:, part] = linear(left, y[part].contiguous()).to_dense()
    return products


def rounding(dtype: torch.dtype, d: int) -> float:
    """Bound of the error of a product of two rows of ``d`` values, relative to half the sum of their squared lengths, whatever the
    order of summation: one rounding a term (after a large first term each may be lost), and a few more of the factors."""
    return (d + 8) * torch.finfo(dtype).eps / 2
