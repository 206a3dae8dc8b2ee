"""Parameters of a refit as a fit, for functions of it: what it has without rows and errors."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.inference.components import places_of
from pmwmix.inference.delta import unpack
from pmwmix.inference.icc import icc_of, mean_squares, residual_variances
from pmwmix.weights.conditional import total_weights

ENDS = {"correlation": (-1.0, 1.0), "share": (0.0, 1.0), "positive": (0.0, np.inf), "number": (-np.inf, np.inf)}


class Refitted:
    """Turns parameters into what a function of the fit may ask for."""

    def __init__(self, one: Any) -> None:
        self.one, self.p = one, len(one.coef)
        self.places = places_of(one.varcorr, list(one.theta.index))
        self.missing = pd.DataFrame(np.nan, index=one.vcov.index, columns=one.vcov.columns)

    @property
    def names(self) -> list[str]:
        """Name coefficients, standard deviations and correlations."""
        rows = self.one.varcorr[["grp", "var1", "var2"]].to_numpy().tolist()
        names = [" ".join(part for part in row if isinstance(part, str)) for row in rows]
        return [*self.one.coef.index, *names, *self.one.residual_structure.index]

    def numbers(self, values: Array) -> Array:
        """Give them (R, m), of parameters (R, P)."""
        components = values[:, self.p :]
        shown = [[_shown(row, place) for place in self.places] for row in components]
        of_residuals = values[:, self.n_first :] if self.one.residual_parameters is not None else values[:, :0]
        return np.hstack([values[:, : self.p], np.array(shown).reshape(len(values), -1), of_residuals])

    @property
    def n_first(self) -> int:
        """Number of parameters before those of the family, or of the residual structure."""
        return len(self.one.parameters[0])

    def _reported(self, table: Any, values: Array) -> Any:
        return None if table is None else table.assign(estimate=values[self.n_first :], se=np.nan)

    @property
    def ends(self) -> list[tuple[float, float]]:
        """Give the range of every number, in the order of `names`."""
        own = [(0.0, np.inf) if len(place) == 1 else (-1.0, 1.0) for place in self.places]
        told = self.one.residual_parameters
        return [(-np.inf, np.inf)] * self.p + own + ([] if told is None else [ENDS[scale] for scale in told["scale"]])

    def legal(self, values: Array) -> Array:
        """Move standard deviations below 0, correlations beyond 1, which shifts may make, and their like inside."""
        low, high = np.array(self.ends).T
        return np.clip(values, low, high)

    def at(self, values: Array) -> Any:
        """Give the fit with these parameters (P,), without rows and errors."""
        one, coef, components = self.one, values[: self.p], values[self.p :]
        shown = [_shown(components, place) for place in self.places]
        table = one.varcorr.assign(vcov=[components[place[0]] for place in self.places], sdcor=shown, se=np.nan)
        single = one.has_residual_variance and not one.outcomes
        sigma = float(np.sqrt(components[len(one.theta)])) if single else one.sigma
        m = self.n_first
        found = replace(
            one, coef=pd.Series(coef, index=one.coef.index, name="coef"), vcov=self.missing, varcorr=table, sigma=sigma,
            icc=self._icc(values), parameters=(values[:m], np.full((m, m), np.nan)), rows=None,
            satterthwaite=None, small_df=None, _memo={},
            residual_parameters=self._reported(one.residual_parameters, values),
            family_parameters=self._reported(one.family_parameters, values),
        )  # fmt: skip
        return replace(found, sigma=found.sigmas) if one.outcomes else found

    @cached_property
    def _squares(self) -> tuple[Array, ...]:
        return mean_squares(self.one.rows.frame, self.one.rows.design)

    def _icc(self, values: Array) -> Any:
        _, Psi, residual = unpack(self.one.rows, values)
        own = self._level_one(values) if self.one.outcomes else np.array([residual])
        return icc_of(self.one.rows.frame, Psi, own, self._squares)

    def _level_one(self, values: Array) -> Array:
        """Give the level-1 variance of every outcome (m,); NaN where it hangs on parameters other than sigma."""
        one, rows = self.one, self.one.rows
        if one.has_residual_variance:
            return residual_variances(values, len(one.outcomes))
        w = total_weights(rows.frame.cond or rows.frame.w, rows.frame.hierarchy.row_parents)[0]
        found, moved = (one.distribution[0].latent_variances(rows.response, w, one.phi + h) for h in (0.0, 0.1))
        reported = dict(zip(one.family_parameters.index, values[self.n_first :], strict=True))
        for k, member in enumerate(one.distribution[0].members):
            if found[k] != moved[k]:
                found[k] = reported[f"{member.outcome}.sigma"] ** 2 if member.has_closed_form else np.nan
        return np.asarray(found)


def _shown(components: Array, place: tuple[int, ...]) -> float:
    """Give a standard deviation or a correlation."""
    if len(place) == 1:
        return float(np.sqrt(max(components[place[0]], 0.0)))
    product = components[place[1]] * components[place[2]]
    return float(components[place[0]] / np.sqrt(product)) if product > 0 else np.nan
