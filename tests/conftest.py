"""Every test draws from its own seeds, whichever tests ran before it and in which worker.

``BENCH_TEST_SEED=7 make test`` draws other inputs; a failure is repeated with the same number. Generators that a test makes
without a seed stay fresh in every run.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

SEED = int(os.environ.get("BENCH_TEST_SEED", "0"))


def pytest_report_header() -> str:
    return f"BENCH_TEST_SEED={SEED}"


@pytest.fixture(autouse=True, scope="session")
def _own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trials of tests do not wait for a benchmark that runs on this machine, nor for those of another worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_LOCKS", str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture(autouse=True)
def _own_seeds(request: pytest.FixtureRequest) -> None:
    import torch

    seed = zlib.crc32(f"{SEED} {request.node.nodeid}".encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
