"""The Gaussian pseudo-log-likelihood as a function of all parameters, for sampling: nothing is profiled out.

The same recursion over the levels as `nested.objective_graph` (theory, eqs. 5-10), written for one reverse pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.likelihood.contract import LOG_2PI
from pmwmix.likelihood.linear.crossproducts import Blocks, Structure
from pmwmix.likelihood.linear.nested import Inputs, per_top_unit, reduce_levels


def joint_loglik(structure: Structure, data: Inputs, n: Any, beta: Any, theta: Any, log_sigma: Any) -> Any:
    """Write the log-likelihood at (beta, theta, log sigma) of standardised data.

    Parameters
    ----------
    structure : Structure
        Without levels (``layout.q == ()``) the model is a regression.
    data : Inputs
        Only ``zx`` is laid out otherwise: (p, Q G_1), so that all random columns take one product.
    n : scalar
        Weighted number of rows.
    beta, theta : tensors (p,), (n_theta,)
    log_sigma : scalar tensor

    Returns
    -------
    Scalar tensor
        -(1/2) [n log(2 pi sigma²) + D + Q / sigma²] (theory, eq. 10, before sigma and beta are profiled out).
    """
    p = structure.p
    S0 = data.S0
    Q = S0[p, p] - 2.0 * pt.dot(S0[p, :p], beta) + pt.dot(beta, pt.dot(S0[:p, :p], beta))
    D: Any = 0.0
    if structure.layout.q:
        zr = data.zy - pt.dot(beta, data.zx).reshape((sum(structure.layout.q), -1))
        columns = [zr[a] for a in range(sum(structure.layout.q))]
        reduction = reduce_levels(structure, data, lambda level, k: theta[k], columns)
        D = pt.sum(per_top_unit(data, reduction.logdets))
        for level, (left, right) in enumerate(reduction.pairs):
            for a, b in zip(left, right, strict=True):
                if a is not None and b is not None:
                    Q = Q - pt.sum(data.w_total[level] * a * b)
    return -0.5 * (n * (LOG_2PI + 2.0 * log_sigma) + D + Q * pt.exp(-2.0 * log_sigma))


def joint_arrays(blocks: Blocks, k: int) -> dict[str, Array]:
    """List the data of outcome ``k`` by the names of `gaussian.Inputs`' symbols, and ``n_total``."""
    levels = range(len(blocks.w)) if blocks.zz.size else range(0)
    paths = blocks.paths()
    zx = np.ascontiguousarray(blocks.zx.transpose(1, 0, 2)).reshape(blocks.zx.shape[1], -1)
    out = {"zz": blocks.zz, "zx": zx, "zy": blocks.zy[k], "S0": blocks.S0(k)} if levels else {"S0": blocks.S0(k)}
    out |= {f"parent{level}": blocks.parents[level] for level in levels[:-1]}
    out |= {f"to_top{level}": paths[level][0] for level in levels[:-1]}
    out |= {f"w{level}": blocks.w[level] for level in levels}
    out |= {f"w_total{level}": paths[level][1] for level in levels}
    return {**out, "n_total": np.array(blocks.n_total)}


__all__ = ["joint_arrays", "joint_loglik"]
