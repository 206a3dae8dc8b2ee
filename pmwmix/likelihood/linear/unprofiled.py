"""The Gaussian pseudo-log-likelihood as a function of all parameters, for sampling: nothing is profiled out.

The same recursion over the levels as `nested.objective_graph` (theory, eqs. 5-10), written for one reverse pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.likelihood.contract import LOG_2PI
from pmwmix.likelihood.linear.crossproducts import Blocks
from pmwmix.likelihood.linear.nested import (
    Inputs,
    Structure,
    at_rho,
    log_det_R,
    per_top_unit,
    random_columns,
    reduce_levels,
)


def joint_loglik(structure: Structure, data: Inputs, n: Any, beta: Any, theta: Any, phi: Any) -> Any:
    """Write the log-likelihood at (beta, theta, phi) of standardised data.

    Parameters
    ----------
    structure : Structure
        Without levels (``layout.q == ()``) the model is a regression.
    data : Inputs
        Only ``zx`` is laid out otherwise: (..., p, Q G_1), so that all random columns take one product.
    n : scalar
        Weighted number of rows.
    beta, theta : tensors (p,), (n_theta,)
    phi : tensor (1 + n_rho,)
        log sigma, then rho.

    Returns
    -------
    Scalar tensor
        -(1/2) [n log(2 pi sigma²) + D + Q / sigma²] (theory, eq. 10, before sigma and beta are profiled out).
    """
    p, n_theta, Q_columns = structure.p, structure.layout.n_theta, sum(structure.layout.q)

    def climbed(level: int, k: int) -> Any:
        return theta[k] if k < n_theta else phi[1 + k - n_theta]

    S0 = at_rho(structure, data.S0, [phi[1 + r] for r in range(structure.n_rho)])
    Q = S0[p, p] - 2.0 * pt.dot(S0[p, :p], beta) + pt.dot(beta, pt.dot(S0[:p, :p], beta))
    D: Any = 0.0
    if structure.layout.q:
        zr = data.zy - pt.dot(beta, data.zx).reshape((*structure.lead, Q_columns, -1))
        reduction = reduce_levels(structure, data, climbed, random_columns(structure, zr))
        logdets = per_top_unit(data, reduction.logdets)
        if structure.n_rho:
            logdets = logdets + data.w[-1] * log_det_R(structure, data, climbed)
        D = pt.sum(logdets)
        for level, (left, right) in enumerate(reduction.pairs):
            for a, b in zip(left, right, strict=True):
                if a is not None and b is not None:
                    Q = Q - pt.sum(data.w_total[level] * a * b)
    return -0.5 * (n * (LOG_2PI + 2.0 * phi[0]) + D + Q * pt.exp(-2.0 * phi[0]))


def joint_arrays(blocks: Blocks, k: int) -> dict[str, Array]:
    """List the data of outcome ``k`` by the names of `nested.Inputs`' symbols, and ``n_total``."""
    levels = range(len(blocks.w)) if blocks.zz.size else range(0)
    paths = blocks.paths()
    zx = np.ascontiguousarray(np.moveaxis(blocks.zx, -2, -3))
    zx = zx.reshape(*zx.shape[:-2], -1)
    out = {"S0": blocks.S0(k)}
    if levels:
        out = {"zz": blocks.zz, "zx": zx, "zy": blocks.zy[..., k, :, :]} | out
    if blocks.counts is not None:
        out["counts"] = blocks.counts
    out |= {f"parent{level}": blocks.parents[level] for level in levels[:-1]}
    out |= {f"to_top{level}": paths[level][0] for level in levels[:-1]}
    out |= {f"w{level}": blocks.w[level] for level in levels}
    out |= {f"w_total{level}": paths[level][1] for level in levels}
    return {**out, "n_total": np.array(blocks.n_total)}


__all__ = ["joint_arrays", "joint_loglik"]
