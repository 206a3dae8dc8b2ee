"""Gauss-Hermite nodes for a standard normal, and product rules. Numpy only."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from pmwmix._types import Array

NOTHING = -1e30  # logarithm of a weight of zero
SLOTS = (3, 7, 15, 31)


def slots(n: int) -> int:
    """Round a number of nodes up, so that rules of like size share compiled code; the places left have weight zero.

    Examples
    --------
    >>> [slots(n) for n in (1, 2, 5, 7, 25, 50)]
    [1, 3, 7, 7, 31, 50]
    """
    return 1 if n == 1 else next((size for size in SLOTS if size >= n), n)


@lru_cache(maxsize=128)
def product_rule(n: int, q: int, places: int | None = None) -> tuple[Array, Array]:
    """Nodes (q, n^q) and log-weights plus half the squared length of the node (n^q,) (theory, eq. 46).

    Parameters
    ----------
    n : int
        Nodes per dimension.
    q : int
        Dimensions.
    places : int, optional
        Number of nodes to give; those beyond n^q stand at zero and have weight zero.

    Returns
    -------
    ndarray, shape (q, places)
    ndarray, shape (places,)

    Notes
    -----
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
    rest = (places or n**q) - n**q
    values = np.pad(logs + 0.5 * (grid**2).sum(axis=0), (0, rest), constant_values=NOTHING)
    return np.pad(grid, [(0, 0), (0, rest)]), values
