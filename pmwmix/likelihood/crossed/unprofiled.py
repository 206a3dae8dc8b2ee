"""The Gaussian pseudo-log-likelihood with crossed random effects as a function of all parameters, for sampling.

The same elimination as `lineargraph.crossed_objective_graph` (crossed, eqs. 8-9); nothing is profiled out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytensor.tensor as pt

from pmwmix.likelihood.contract import LOG_2PI
from pmwmix.likelihood.crossed.jointblock import CellIndex
from pmwmix.likelihood.crossed.lineargraph import CrossedInputs, CrossedLinearStructure, Reduction

CELLS = ("cell_unit", "cell_place", "pair_one", "pair_other", "pair_share")
NAMES = tuple(field.name for field in fields(CrossedInputs) if field.name not in ("cells", "cell_partner"))


def crossed_joint_loglik(
    structure: CrossedLinearStructure, symbols: Mapping[str, Any], beta: Any, theta: Any, log_sigma: Any
) -> Any:
    """Write the log-likelihood at (beta, theta, log sigma) of standardised data.

    Parameters
    ----------
    structure : CrossedLinearStructure
    symbols : mapping of str to symbol
        The fields of `CrossedInputs`, and those of its cells.
    beta, theta : tensors (p,), (n_theta,)
    log_sigma : scalar tensor

    Returns
    -------
    Scalar tensor
        -(1/2) [n log(2 pi sigma²) + D + Q / sigma²].
    """
    data = CrossedInputs(*(symbols[name] for name in NAMES))
    if structure.sparse:
        cells = CellIndex(*(symbols[name] for name in CELLS))
        data = replace(data, cell_partner=symbols["cell_partner"], cells=cells)
    found = Reduction(structure, data, theta[:, None] + pt.zeros_like(data.parts, dtype="float64")[None, :])
    own = [data.own_y[a] - pt.dot(beta, data.own_x[a]) for a in range(structure.layout.q[0])]
    residual = found.reduce(own, data.dense_y - pt.dot(beta, data.dense_x))
    whole = pt.concatenate([-beta, pt.ones(1)])
    Q = pt.dot(whole, pt.dot(data.S0, whole)) - found.inner(residual, residual)
    D = found.curvature.logdet
    return -0.5 * (data.n[0] * (LOG_2PI + 2.0 * log_sigma) + D + Q * pt.exp(-2.0 * log_sigma))


__all__ = ["CELLS", "NAMES", "crossed_joint_loglik"]
