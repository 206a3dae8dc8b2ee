"""Names of types that every room uses."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
