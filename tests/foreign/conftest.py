"""Two small sets of digits, and one feature cache for a module."""

import pytest

from bench.data.digits import Digits


@pytest.fixture(scope="module")
def digits():
    return Digits(resolution=16).load()


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One feature cache for the module: every set is extracted once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def sets(digits):
    """60 samples and 60 reference images."""
    return digits.test[:60], digits.test[60:120]
