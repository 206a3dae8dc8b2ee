"""Fixtures of all tests; what they call by name stands in ``helpers.py``."""

from pathlib import Path

import pytest
from helpers import SHARED


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and reference results; tests that need it are skipped without it."""
    if not SHARED.exists():
        pytest.skip("the shared folder is not beside the checkout")
    return SHARED
