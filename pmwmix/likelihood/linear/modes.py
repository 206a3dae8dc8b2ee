"""Conditional modes of the random effects and their variances, in closed form. Numpy only.

Theory page, eqs. 16-17: from the top level down, each level given the modes above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pmwmix._types import Array
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Blocks


@dataclass(frozen=True)
class Whitened:
    """One level after factoring: M = RR' per unit.

    Parameters
    ----------
    R : ndarray, shape (G_l, q_l, q_l)
    B : ndarray, shape (q_l, m, G_l)
        R⁻¹Λ'c for the m right-hand sides.
    upper : ndarray, shape (q_l, Q_above, G_l)
        R⁻¹Λ'C for the random columns of the levels above.
    w_total : ndarray, shape (G_l,)
    to_top : ndarray of int, shape (G_l,)
    """

    R: Array
    B: Array
    upper: Array
    w_total: Array
    to_top: Array


def whiten_units(blocks: Blocks, layout: ThetaLayout, theta: Array, rhs: Array) -> list[Whitened]:
    """Run the recursion of `gaussian.reduce_levels` in numpy for right-hand sides (Q, m, G_1)."""
    Q = sum(layout.q)
    rows, cols = np.tril_indices(Q)
    C = np.empty((Q, Q, blocks.n_units[0]))
    C[rows, cols] = C[cols, rows] = blocks.zz
    out, paths = [], blocks.paths()
    for level, (q, Lambda) in enumerate(zip(layout.q, layout.unpack(theta), strict=True)):
        M = np.eye(q) + np.einsum("ai,abg,bj->gij", Lambda, C[:q, :q], Lambda)
        R = np.linalg.cholesky(M)
        both = np.concatenate([C[:q, q:], rhs[:q]], axis=1)
        white = np.linalg.solve(R, np.einsum("ai,amg->gim", Lambda, both)).transpose(1, 2, 0)
        n_upper = C.shape[0] - q
        upper, B = white[:, :n_upper], white[:, n_upper:]
        to_top, w_total = paths[level]
        out.append(Whitened(R, B, upper, w_total, to_top))
        if level < len(layout.q) - 1:
            w, parent, n = blocks.w[level], blocks.parents[level], blocks.n_units[level + 1]
            C = _lift((C[q:, q:] - np.einsum("iag,ibg->abg", upper, upper)) * w, parent, n)
            rhs = _lift((rhs[q:] - np.einsum("iag,img->amg", upper, B)) * w, parent, n)
    return out


def _lift(values: Array, parent: Array, n: int) -> Array:
    out = np.zeros((*values.shape[:-1], n))
    np.add.at(np.moveaxis(out, -1, 0), parent, np.moveaxis(values, -1, 0))
    return out


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
    return _walk_down(blocks, whiten_units(blocks, layout, theta, zr[:, None, :]), layout.unpack(theta), sigma)


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
    zero = np.zeros((sum(layout.q), 1, blocks.n_units[0]))
    levels = whiten_units(blocks, layout, theta, zero)
    return [V for _, V in _walk_down(blocks, levels, layout.unpack(theta), 1.0)]


def _walk_down(blocks: Blocks, levels: list[Whitened], Lambdas: list[Array], sigma: float) -> list[tuple[Array, Array]]:
    """From the top level down, each level given the ones above."""
    out: list[tuple[Array, Array]] = []
    above_b: Array = np.zeros((0, blocks.n_units[-1]))  # modes of the levels above, per unit of this level
    above_V: Array = np.zeros((blocks.n_units[-1], 0, 0))
    for level in range(len(levels) - 1, -1, -1):
        white, Lambda = levels[level], Lambdas[level]
        Rt = white.R.transpose(0, 2, 1)
        rest = white.B[:, 0] - np.einsum("iag,ag->ig", white.upper, above_b)
        b = np.linalg.solve(Rt, rest.T[:, :, None])[:, :, 0] @ Lambda.T
        half = Lambda @ np.linalg.inv(Rt)  # (G, q, q): ΛR'⁻¹
        gain = half @ white.upper.transpose(2, 0, 1)
        own = sigma**2 * half @ half.transpose(0, 2, 1)
        V = own + gain @ above_V @ gain.transpose(0, 2, 1)
        out.insert(0, (b, V))
        if level > 0:
            parent = blocks.parents[level - 1]
            cross = -gain @ above_V
            joint = np.concatenate(
                [np.concatenate([V, cross], 2), np.concatenate([cross.transpose(0, 2, 1), above_V], 2)], 1
            )
            above_V = joint[parent]
            above_b = np.concatenate([b.T, above_b])[:, parent]
    return out
