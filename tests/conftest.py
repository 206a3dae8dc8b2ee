"""Fixtures of all tests; what they call by name stands in ``helpers.py``."""

import gc
import os
from pathlib import Path

import pytest
from helpers import SHARED


def pytest_configure(config: pytest.Config) -> None:
    """Let all processes of a run, workers and those that tests start, share what JAX has compiled.

    Graphs that tests write themselves do not note where, as those of the package do not: a tenth of writing them. Each
    worker has one processor: a second thread of linear algebra only waits for it.
    """
    if os.environ.get("PYTEST_XDIST_WORKER") is None:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        os.environ.setdefault("PYTENSOR_FLAGS", "traceback__limit=0")
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.rootpath / ".pytest_cache" / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def pytest_collection_finish() -> None:
    """Look through less for what can be freed: an eighth of the time of a run that writes many graphs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and reference results; tests that need it are skipped without it."""
    if not SHARED.exists():
        pytest.skip("the shared folder is not beside the checkout")
    return SHARED
