"""Gauss-Hermite nodes for a standard normal, and product rules. Numpy only."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

Array = np.ndarray


@lru_cache(maxsize=128)
def product_rule(n: int, q: int) -> tuple[Array, Array]:
    """Nodes (q, n^q) and log-weights plus half the squared length of the node (n^q,) (theory, eq. 46).

    The sum over nodes a of exp(log-weight) f(a) is the integral of f over (2 pi)^(-q/2) da.

    Examples
    --------
    >>> a, w = product_rule(3, 1)
    >>> float(np.round(np.sum(np.exp(w - 0.5 * a[0] ** 2) * a[0] ** 2), 12))
    1.0
    """
    x, w = hermegauss(n)
    grid = np.array(list(itertools.product(x, repeat=q))).T.reshape(q, n**q)
    logs = np.array([sum(part) for part in itertools.product(np.log(w / w.sum()), repeat=q)])
    return grid, logs + 0.5 * (grid**2).sum(axis=0)
