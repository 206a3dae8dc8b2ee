"""Random effects of linear models drawn from their conditional distribution, and linear predictors of draws.

From the top level down, each level given the levels above it (theory, eqs. 16-17). All units of a level and a block of
parameter draws are worked on at once. Numpy only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pmwmix._types import Array
from pmwmix.fitting.problem import Problem
from pmwmix.likelihood.linear.recursion import UnitTree, factor, stack_Lambdas, unpack_symmetric, walk_down

CELLS = 32_768  # draws x units worked on at once: the arrays stay in the cache
PREDICTED = 4_000_000  # draws x rows of linear predictors held at once
ROWS = 8_192  # per piece of them


class Parameters(NamedTuple):
    """One draw of the parameters, on the standardised scale."""

    theta: Array
    beta: Array
    sigma: float


def draw_linear(
    problem: Problem, k: int, beta: Array, theta: Array, sigma: Array, rng: np.random.Generator
) -> list[Array]:
    """Draw the random effects of a linear model from their conditional distribution given data and parameters.

    Exact and independent over draws: normal, with the modes of theory, eq. 16, as means and eq. 17 as covariances, the
    levels jointly. Under weights it is the pseudo-conditional distribution in which rows and lower units count with
    their conditional weights, as in the modes; a unit's own weight does not enter.

    Parameters
    ----------
    problem : Problem
    k : int
        Outcome.
    beta : ndarray, shape (S, p)
        Draws of the parameters, standardised scale.
    theta : ndarray, shape (S, n_theta)
    sigma : ndarray, shape (S,)
    rng : numpy.random.Generator

    Returns
    -------
    list of ndarray, each (S, G_l, q_l)
        Bottom-up like the levels, on the raw scale, units in the order of the level's labels; empty for a model without
        random effects.

    """
    if problem.objective.crossed:
        return _draw_crossed(problem, k, beta, theta, sigma, rng)
    q, blocks, transform = problem.layout.q, problem.blocks, problem.transforms[k]
    if not q:
        return []
    n_draws, n_lowest = len(sigma), blocks.n_units[0]
    tree = UnitTree(blocks.parents, blocks.w)
    C = unpack_symmetric(blocks.zz, sum(q))[:, :, None]
    out = [np.empty((n_draws, G, size)) for G, size in zip(blocks.n_units, q, strict=True)]
    step = max(CELLS // n_lowest, 1)
    for first in range(0, n_draws, step):
        part = slice(first, min(first + step, n_draws))
        Lambdas = stack_Lambdas(problem.layout, theta[part])
        rhs = blocks.zy[k][:, None] - np.matmul(beta[part], blocks.zx)
        noise = [
            sigma[part, None] * rng.standard_normal((size, part.stop - first, G))
            for G, size in zip(blocks.n_units, q, strict=True)
        ]
        found = walk_down(tree, factor(tree, Lambdas, C, rhs), Lambdas, noise)
        for level, (_, b) in enumerate(found):
            out[level][part] = np.einsum("ia,adg->dgi", transform.y_scale * transform.A_z[level], b)
    return out


def _draw_crossed(
    problem: Problem, k: int, beta: Array, theta: Array, sigma: Array, rng: np.random.Generator
) -> list[Array]:
    """Draw the effects of crossed factors, all of them jointly, one draw of the parameters after the other."""
    transform = problem.transforms[k]
    out: list[list[Array]] = []
    for one in map(Parameters, theta, beta, sigma):
        found = problem.objective.draw(one, k, rng)
        out.append([(transform.y_scale * A @ b).T for A, b in zip(transform.A_z, found, strict=True)])
    return [np.array(one) for one in zip(*out, strict=True)]


__all__ = ["draw_linear"]
