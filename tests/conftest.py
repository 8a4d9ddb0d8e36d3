"""Every test draws from its own seeds, whichever tests ran before it and in which worker.

``BENCH_TEST_SEED=7 make test`` draws other inputs; a failure is repeated with the same number. Generators that a test makes
without a seed stay fresh in every run.
"""

from __future__ import annotations

import os
import random
import zlib

import numpy as np
import pytest

SEED = int(os.environ.get("BENCH_TEST_SEED", "0"))


def pytest_report_header() -> str:
    return f"BENCH_TEST_SEED={SEED}"


@pytest.fixture(autouse=True)
def _own_seeds(request: pytest.FixtureRequest) -> None:
    import torch

    seed = zlib.crc32(f"{SEED} {request.node.nodeid}".encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
