"""Fixtures of all tests; what they call by name stands in ``helpers.py``."""

import gc
import os
import sys
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
    """Look seldom for what can be freed: a sixth of the time of a run that writes many graphs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000_000, 1000, 1000)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Compile quickly rather than well: tests are small, and compilers took a fifth of their time.

    Marked ``optimised``, ``reference`` or ``slow`` they run, and their children, what users run.
    """
    quick = not any(item.get_closest_marker(name) for name in ("optimised", "reference", "slow"))
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))  # read when JAX is imported
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_disable_most_optimizations", quick)


def pytest_sessionfinish() -> None:
    """Free once what pytest would look for five times among all that compiled code keeps."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and reference results; tests that need it are skipped without it."""
    if not SHARED.exists():
        pytest.skip("the shared folder is not beside the checkout")
    return SHARED
