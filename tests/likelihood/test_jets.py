"""Products of stacks of small matrices."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import close

from pmwmix.likelihood.jets import MANY, TINY, product


@pytest.mark.parametrize("last", [False, True], ids=["matrices", "units"])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((1, 2, 2), (4, MANY, 2, 3)),
        ((3, MANY, 3, 2), (1, MANY, 2, 4)),
        ((MANY, 1, 1), (MANY, 1, TINY + 1)),
        ((MANY, 2, 0), (0, 4)),
        ((5, 1, 2), (2, 2)),
    ],
)
def test_products_of_stacks_are_those_of_their_matrices(left, right, last):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=left), rng.normal(size=right)
    if last:
        a, b = (np.moveaxis(np.moveaxis(one, (-2, -1), (0, 1)).copy(), (0, 1), (-2, -1)) for one in (a, b))
    close(product(a, b), a @ b, rtol=1e-14, atol=1e-14)
