"""p-values and intervals of several tests of one model, adjusted for their number."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, chdtr, fdtr, stdtr, stdtrit

from pmwmix._types import Array
from pmwmix.errors import OptionError, near

ADJUSTMENTS = ("holm", "single-step", "bonferroni", "fdr", "none")
POWER = 16  # of two: points of the quasi-Monte-Carlo rule; errors are below 5e-6 with four categories, 5e-5 with six


def check_adjustment(adjust: str) -> None:
    """Refuse an adjustment that does not exist.

    Raises
    ------
    OptionError
    """
    if adjust not in ADJUSTMENTS:
        raise OptionError(
            f"Unknown adjustment {adjust!r}.{near(str(adjust), ADJUSTMENTS)} It is the rule for p-values of several "
            f"tests. Use one of "
            f"{', '.join(map(repr, ADJUSTMENTS))}."
        )


def adjusted(statistic: Array, df: Array, R: Array, adjust: str) -> Array:
    """Adjust two-sided p-values (contrasts, eqs. 1-4).

    Parameters
    ----------
    statistic, df : ndarray, shape (m,)
    R : ndarray, shape (m, m)
        Correlation of the statistics.
    adjust : str

    Returns
    -------
    ndarray, shape (m,)
    """
    p, m = 2.0 * stdtr(np.minimum(df, 1e10), -np.abs(statistic)), len(statistic)
    order = np.argsort(p)
    out = np.empty(m)
    if adjust == "holm":
        out[order] = np.maximum.accumulate(p[order] * (m - np.arange(m)))
    elif adjust == "fdr":
        out[order[::-1]] = np.minimum.accumulate(p[order[::-1]] * m / (m - np.arange(m)))
    elif adjust == "single-step":
        largest = Largest(R, float(df.min()))
        out = np.array([1.0 - largest.cdf(abs(t)) for t in statistic])
    else:
        out = p * (m if adjust == "bonferroni" else 1)
    return np.clip(out, 0.0, 1.0)


def multiplier(df: Array, R: Array, adjust: str, ci_prob: float) -> Array:
    """Multiples (m,) of the standard errors in the intervals: simultaneous under single-step and Bonferroni."""
    m, capped = len(df), np.minimum(df, 1e10)
    if adjust == "single-step":
        largest, lowest = Largest(R, float(df.min())), capped.min()
        low, high = stdtrit(lowest, 0.4 + ci_prob / 2), stdtrit(lowest, 1.0 - (1.0 - ci_prob) / (4 * m))
        return np.full(m, brentq(lambda q: largest.cdf(q) - ci_prob, low, high, xtol=1e-8))
    tail = (1.0 - ci_prob) / (m if adjust == "bonferroni" else 1)
    return np.asarray(stdtrit(capped, 1.0 - tail / 2))


class Largest:
    """Distribution of the largest absolute value of m correlated t variables (contrasts, eq. 4).

    Its direction in the space of the independent normal variables is integrated over by quasi-Monte-Carlo, its length,
    whose square is F, exactly.

    Parameters
    ----------
    R : ndarray, shape (m, m)
        Correlation; may be singular.
    df : float
    """

    def __init__(self, R: Array, df: float) -> None:
        from scipy.stats import qmc  # half a second of imports that no other table waits for

        size, vectors = np.linalg.eigh(R)
        kept = size > 1e-10 * size.max()
        self.rank, self.df = int(kept.sum()), df
        points = qmc.Sobol(max(self.rank - 1, 1), seed=1).random_base2(POWER)
        self.reach = np.abs(directions(points, self.rank) @ (vectors[:, kept] * np.sqrt(size[kept])).T).max(axis=1)

    def cdf(self, q: float) -> float:
        """Probability that none is larger."""
        ratio = np.square(q / self.reach)
        each = fdtr(self.rank, self.df, ratio / self.rank) if self.df < 1e6 else chdtr(self.rank, ratio)
        return float(each.mean())


def directions(points: Array, rank: int) -> Array:
    """Points of the unit cube as directions, uniform on the sphere: one coordinate after the other, then an angle.

    A direction in r dimensions takes r - 1 numbers (normal variables scaled to length 1 would take r): seven times the
    accuracy at the same number of points.

    Parameters
    ----------
    points : ndarray, shape (n, rank - 1), or (n, 1) with rank 1
    rank : int

    Returns
    -------
    ndarray, shape (n, rank)
    """
    if rank == 1:
        return np.ones((len(points), 1))
    out, rest = np.empty((len(points), rank)), np.ones(len(points))
    for j in range(rank - 2):
        side = 2.0 * points[:, j] - 1.0
        square = betaincinv(0.5, (rank - 1 - j) / 2, np.abs(side))
        out[:, j] = rest * np.sign(side) * np.sqrt(square)
        rest = rest * np.sqrt(np.maximum(1.0 - square, 0.0))
    angle = 2.0 * np.pi * points[:, -1]
    out[:, -2], out[:, -1] = rest * np.cos(angle), rest * np.sin(angle)
    return out
