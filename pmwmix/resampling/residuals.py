"""Residual bootstrap of nested linear models: random effects and residuals of the fit, drawn with replacement."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.likelihood.layout import semidefinite_cholesky
from pmwmix.prediction.rows import LiveRows
from pmwmix.resampling.outcomes import random_part
from pmwmix.weights.conditional import total_weights


def check_residuals(one: Any, rows: LiveRows) -> None:
    """Refuse models whose residuals are no exchangeable numbers.

    Raises
    ------
    NotSupportedError
    """
    if not one.has_closed_form:
        raise NotSupportedError(
            f"Residuals are drawn in linear models. This one has {one.kind}. Use kind='parametric'."
        )
    if rows.frame.residual is not None:
        raise NotSupportedError(
            "Residuals are drawn where they have one variance and are independent. This model has a residual "
            "structure. Use kind='parametric'."
        )


class ResidualDraws:
    """Draws outcomes from the reflated random effects and residuals of a fit (bootstrap, eq. 2).

    Parameters
    ----------
    rows : LiveRows
    covariance : ndarray, shape (m, m), optional
        Of the residuals of several outcomes.

    Notes
    -----
    Carpenter, Goldstein and Rasbash (2003) [1]_: modes and residuals are centred and transformed so that their
    covariance is the estimated one, for which modes are too close to zero. Under sampling weights means, covariances
    and chances of being drawn are those of the total weights.

    References
    ----------
    .. [1] Carpenter, J. R., Goldstein, H. & Rasbash, J. (2003). A novel bootstrap procedure for assessing the
       relationship between class size and achievement. J. R. Stat. Soc. C, 52(4), 431-443.
       doi:10.1111/1467-9876.00415
    """

    def __init__(self, rows: LiveRows, covariance: Array | None = None) -> None:
        self.rows, self.fixed = rows, rows.etas(False)
        weights = total_weights(rows.frame.cond, rows.frame.hierarchy.row_parents)
        self.shares = [w / w.sum() for w in weights]
        self.effects = [
            reflated(modes.b, Psi, share)
            for modes, Psi, share in zip(rows.modes(), rows.fit.Psi, self.shares[1:], strict=True)
        ]
        outcomes = rows.ys if rows.frame.formula.outcomes else rows.y[None]
        covariance = np.array([[rows.fit.sigma**2]]) if covariance is None else covariance
        self.rest = reflated((outcomes - rows.etas(True)).T, covariance, self.shares[0]).T

    def __call__(self, rng: np.random.Generator) -> Array:
        """Draw one outcome (n,), of several all (m, n)."""
        out = self.fixed.copy()
        for position, (effects, share) in enumerate(zip(self.effects, self.shares[1:], strict=True)):
            drawn = effects[rng.choice(len(effects), len(effects), p=share)]
            out += random_part(self.rows, position, drawn)
        n = out.shape[1]
        out += self.rest[:, rng.choice(n, n, p=self.shares[0])]
        return out if len(out) > 1 else out[0]


def reflated(values: Array, Psi: Array, share: Array) -> Array:
    """Centre values (G, q) and give them the covariance Psi, those of a unit counting as its share (G,).

    Effects whose variance is zero stay zero.
    """
    centred = values - share @ values
    own = semidefinite_cholesky((centred * share[:, None]).T @ centred)
    wanted = semidefinite_cholesky(Psi)
    return centred @ np.linalg.pinv(own).T @ wanted.T
