"""Conditional modes of the random effects and their variances, in closed form. Numpy only.

Theory page, eqs. 16-17: from the top level down, each level given the modes above it.
"""

from __future__ import annotations

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.recursion import (
    Factored,
    UnitTree,
    factor,
    solve_lower,
    stack_Lambdas,
    unpack_symmetric,
    walk_down,
)


def factor_blocks(blocks: Blocks, layout: ThetaLayout, theta: Array, rhs: Array) -> list[Factored]:
    """Factor the joint precision at one theta for right-hand sides (Q, m, G_1); the axis of draws has length 1."""
    C = unpack_symmetric(blocks.zz, sum(layout.q))[:, :, None]
    return factor(UnitTree(blocks.parents, blocks.w), stack_Lambdas(layout, theta[None]), C, rhs[:, :, None])


def conditional_modes(
    blocks: Blocks, layout: ThetaLayout, theta: Array, beta: Array, sigma: float, k: int = 0
) -> list[tuple[Array, Array]]:
    """Compute the modes b̂ = Λû of every level and their conditional covariance given theta, beta and sigma.

    Parameters
    ----------
    blocks, layout
        Of the standardised data.
    theta, beta, sigma
        Estimates on the standardised scale.
    k : int
        Outcome.

    Returns
    -------
    list of (ndarray (G_l, q_l), ndarray (G_l, q_l, q_l))
        Bottom-up, like the levels.
    """
    zr = blocks.zy[k] - np.einsum("apg,p->ag", blocks.zx, beta)
    factored = factor_blocks(blocks, layout, theta, zr[:, None])
    found = walk_down(UnitTree(blocks.parents, blocks.w), factored, stack_Lambdas(layout, theta[None]))
    covariances = _covariances(blocks, factored, layout.unpack(theta), sigma)
    return [(b[:, 0, 0].T, V) for (_, b), V in zip(found, covariances, strict=True)]


def conditional_covariances(blocks: Blocks, layout: ThetaLayout, theta: Array) -> list[Array]:
    """Compute the conditional covariance of b at every level from the curvature of the rows alone.

    Parameters
    ----------
    blocks : Blocks
        ``zz`` holds Z'WZ with W the weighted curvature of each row's log-density (theory, eq. 44); of the rest only
        the tree counts.
    layout : ThetaLayout
    theta : ndarray, shape (n_theta,)

    Returns
    -------
    list of ndarray, each (G_l, q_l, q_l)
    """
    none = np.zeros((sum(layout.q), 0, blocks.n_units[0]))
    return _covariances(blocks, factor_blocks(blocks, layout, theta, none), layout.unpack(theta), 1.0)


def _covariances(blocks: Blocks, factored: list[Factored], Lambdas: list[Array], sigma: float) -> list[Array]:
    """Conditional covariance of b per level (G_l, q_l, q_l), from the top level down (theory, eq. 17)."""
    out: list[Array] = []
    above: Array = np.zeros((blocks.n_units[-1], 0, 0))  # of the levels above, per unit of this level
    for level in range(len(factored) - 1, -1, -1):
        one, Lambda = factored[level], Lambdas[level]
        half = solve_lower(one.R, Lambda.T[:, :, None, None])[:, :, 0].transpose(2, 1, 0)  # ΛR'⁻¹
        gain = half @ one.upper[:, :, 0].transpose(2, 0, 1)
        V = sigma**2 * half @ half.transpose(0, 2, 1) + gain @ above @ gain.transpose(0, 2, 1)
        out.insert(0, V)
        if level > 0:
            cross = -gain @ above
            joint = np.block([[V, cross], [cross.transpose(0, 2, 1), above]])
            above = joint[blocks.parents[level - 1]]
    return out
