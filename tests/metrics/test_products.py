"""Products of rows: within their stated rounding error, and in float32 whatever training has switched on."""

import threading

import numpy as np
import pytest
import torch

from bench.exact import exact_float32
from bench.metrics import cmmd, kernel_distance, prdc
from bench.metrics.products import COLUMNS, rounding, row_products

SEED = int(np.random.randint(2**31))


def rows(kind, n, d):
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((n, d))
    if kind == "of one size":  # every term of x.x rounds the same way
        x = rng.random((n, 1)) * np.sign(x)
    elif kind == "one large column":
        x *= 0.01
        x[:, 0] = 100
    elif kind == "large, then small":  # each small term is lost beside the first
        x = np.full((n, d), 1.0)
        x[:, 0] = 4097
    elif kind == "constant":
        x = np.broadcast_to(rng.random((n, 1)), (n, d)).copy()
    return torch.from_numpy(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["normal", "of one size", "one large column", "large, then small", "constant"])
@pytest.mark.parametrize(
    ("n", "m", "d"), [(1, 1, 1), (3, 5, 2), (20, 30, 2048), (7, 2 * COLUMNS + 3, 65), (16, 16, 12_288)]
)
def test_rounding_stays_below_its_bound(kind, dtype, n, m, d):
    x, y = rows(kind, n, d).to(dtype), rows(kind, m, d).to(dtype)
    exact = np.einsum("id,jd->ij", *(z.numpy().astype(np.longdouble) for z in (x, y)))
    scale = ((x.double() ** 2).sum(1)[:, None] + (y.double() ** 2).sum(1)).numpy() / 2
    memory = torch.full((n, m), torch.nan, dtype=dtype)
    assert row_products(x, y, memory) is memory
    for found in (row_products(x, y), memory):
        assert found.shape == (n, m)
        assert found.dtype == dtype
        assert (abs(found.numpy() - exact) <= rounding(dtype, d) * scale).all()


def test_float32_whatever_training_has_switched_on():
    """``medium`` lets matrix products round their factors to bfloat16, 8 bits of them."""
    rng = np.random.default_rng(SEED)
    real, fake = (rng.standard_normal((700, 256), dtype=np.float32) + 3 for _ in range(2))
    measures = (kernel_distance, cmmd, lambda x, y: prdc(x, y, k=5).density)
    before = torch.get_float32_matmul_precision()
    due = [float(measure(real, fake)) for measure in measures]
    try:
        torch.set_float32_matmul_precision("medium")
        found = [float(measure(real, fake)) for measure in measures]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == due


def test_autocast_changes_nothing():
    rng = np.random.default_rng(SEED)
    real, fake = (rng.standard_normal((300, 64), dtype=np.float32) for _ in range(2))
    due = float(kernel_distance(real, fake))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(kernel_distance(real, fake)) == due
        assert torch.is_autocast_enabled("cpu")


def test_threads_share_the_settings_and_the_last_one_puts_them_back():
    first, second, settings = threading.Event(), threading.Event(), torch.backends.mkldnn.matmul
    before = torch.get_float32_matmul_precision()
    seen = []

    def stays():
        with exact_float32():
            first.set()
            second.wait(10)
            seen.append(settings.fp32_precision)

    try:
        torch.set_float32_matmul_precision("medium")
        found = settings.fp32_precision
        thread = threading.Thread(target=stays)
        with exact_float32():
            thread.start()
            first.wait(10)
        second.set()
        thread.join()
        assert seen == ["ieee"] != [found]
        assert settings.fp32_precision == found
    finally:
        torch.set_float32_matmul_precision(before)
