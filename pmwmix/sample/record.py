"""Record of a posterior: what was sampled, and the numbers read off the draws."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import OptionError, near
from pmwmix.frame.crossing import LAPLACE
from pmwmix.likelihood.layout import semidefinite_cholesky
from pmwmix.pooling import Pooled, pool
from pmwmix.pooling.nested import mix_draws
from pmwmix.prediction.abilities import Abilities
from pmwmix.results.result import FitResult
from pmwmix.results.varcorr import varcorr_table
from pmwmix.sample.draws.quantities import entry, records
from pmwmix.sample.nuts.convergence import sentences
from pmwmix.sample.posterior import Live
from pmwmix.sample.refusal import missing_member
from pmwmix.spec.settings import Settings


@dataclass(frozen=True, eq=False, repr=False)
class BayesRecord(Abilities):
    """The pseudo-posterior of a multilevel model; tables are pandas objects, draws an ArviZ DataTree.

    Parameters
    ----------
    ml : FitResult
        The same model by maximum likelihood: same rows, weights, plausible values.
    idata : xarray.DataTree
        Groups ``posterior`` (chain, draw; with plausible values their chains one after the other, coordinate ``pv``),
        ``posterior_uncorrected`` (where sampling weights asked for the correction), ``sample_stats``, ``prior``,
        ``observed_data``, ``constant_data``; ``random_effects``, ``posterior_predictive`` once they were drawn.
    priors : DataFrame
        ``prior, default`` by parameter. Those of intercepts are at the means of the predictors.
    corrected : bool
        Whether the spread was corrected to the sandwich covariance (Williams & Savitsky 2021).
    own_notes : tuple of str
        Notes of the sampling alone; ``notes`` has all.
    how : dict
        ``draws, tune, chains, random_seed, sampler``.
    each : tuple of BayesResult
        Of the single plausible values.
    """

    ml: FitResult
    idata: Any
    priors: pd.DataFrame
    corrected: bool
    own_notes: tuple[str, ...]
    how: dict[str, Any]
    each: tuple[Any, ...] = ()
    live: Live | None = None
    _memo: dict[str, Any] = field(default_factory=dict)

    # -- what it shares with the fit by maximum likelihood ----------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What was asked for."""
        return replace(self.ml.settings, method="bayes")

    @property
    def method(self) -> str:
        """``"bayes"``."""
        return "bayes"

    formula = property(lambda self: self.ml.formula, doc="The model formula.")
    family = property(lambda self: self.ml.family, doc="Name of the distribution.")
    link = property(lambda self: self.ml.link, doc="Name of the link.")
    nobs = property(lambda self: self.ml.nobs, doc="Rows in the likelihood.")
    n_groups = property(lambda self: self.ml.n_groups, doc="Units per level.")
    weight_stats = property(lambda self: self.ml.weight_stats, doc="Weights per level, total and used.")
    index = property(lambda self: self.ml.index, doc="Labels of the rows.")
    categories = property(lambda self: self.ml.categories, doc="Of an ordinal or two-category outcome.")
    quadrature = property(lambda self: self.ml.quadrature, doc="How the random effects are integrated out.")
    rows = property(lambda self: self.ml.rows, doc="Rows and groups of the fit by maximum likelihood.")

    nests = property(lambda self: self.ml.nests, doc="Nests of imputations of every plausible value.")

    @property
    def fits(self) -> tuple[Any, ...]:
        """The posteriors of the single plausible values; one without them contains itself."""
        return self.each or (self,)

    @property
    def n_pv(self) -> int:
        """Number of plausible values."""
        return len(self.fits)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What should be known when reading the result, diagnostics of the sampler first."""
        of_ml = [note for note in self.ml.notes if note != LAPLACE]  # of crossed effects, which were sampled
        return tuple(dict.fromkeys((*self.diagnostics, *self.own_notes, *of_ml)))

    @cached_property
    def diagnostics(self) -> tuple[str, ...]:
        """What is wrong with the sample, a sentence each with what to do; empty if all is well."""
        return sentences([fit.idata for fit in self.fits])

    @property
    def status(self) -> str:
        """All diagnostics, as one text."""
        return " ".join(self.diagnostics) or "All diagnostics of the sampler are in order."

    @property
    def singular(self) -> bool:
        """Whether the fit by maximum likelihood is on the boundary; draws never are."""
        return self.ml.singular

    def __getattr__(self, name: str) -> Any:
        raise missing_member(name)

    @property
    def converged(self) -> bool:
        """Whether no diagnostic complains."""
        return not self.diagnostics

    # -- numbers ------------------------------------------------------------------------------------------------

    def draws(self, name: str = "beta") -> Array:
        """All draws of a variable, chains and plausible values one after the other.

        Parameters
        ----------
        name : str
            Variable of the group ``posterior``.

        Returns
        -------
        ndarray, shape (S, ...)
        """
        group = self.idata["posterior"]
        if name not in group:
            raise OptionError(
                f"Draws are asked for by the name of a variable. There is no variable {name!r}."
                f"{near(name, list(group.data_vars))} The variables are {', '.join(map(str, group.data_vars))}."
            )
        values = np.asarray(group[name])
        return values.reshape(-1, *values.shape[2:])

    def pooled_draws(self, name: str = "beta") -> Array:
        """Draws whose spread is that of Rubin's rules for a finite number of plausible values (S, ...).

        The mixture of K posteriors has between-variance (K - 1) / K B; each posterior's mean is moved away from the
        overall one so that it becomes (1 + 1/K) B (theory, eq. 23). Without plausible values the draws themselves.
        """
        return mix_draws([fit.draws(name) for fit in self.fits])

    @property
    def _terms(self) -> list[str]:
        return [str(term) for term in np.asarray(self.idata["posterior"]["term"])]

    @cached_property
    def coef(self) -> pd.Series:
        """Posterior means of the fixed effects by term."""
        return pd.Series(self.draws().mean(axis=0), index=self._terms, name="coef")

    @cached_property
    def vcov(self) -> pd.DataFrame:
        """Posterior covariance of the fixed effects; with plausible values the total one of Rubin's rules."""
        return pd.DataFrame(self._pooled.vcov, index=self._terms, columns=self._terms)

    @cached_property
    def _pooled(self) -> Pooled:
        draws = [fit.draws() for fit in self.fits]
        covariances = [np.atleast_2d(np.cov(one.T, ddof=1)) for one in draws]
        return pool(np.array([one.mean(axis=0) for one in draws]), np.array(covariances), nests=self.nests)

    @property
    def se(self) -> pd.Series:
        """Posterior standard deviations of the fixed effects (p,)."""
        return pd.Series(np.sqrt(np.diag(self.vcov)), index=self._terms, name="se")

    @cached_property
    def varcorr(self) -> pd.DataFrame:
        """``grp, var1, var2, vcov, sdcor, se`` as a FitResult's: posterior means, and deviations of (co)variances."""
        table = self.ml.varcorr.copy()
        names, values = self._components()
        made = varcorr_table(names, values.mean(axis=0), values.var(axis=0, ddof=1), residual="sigma" in self._vars)
        for name in ("vcov", "se"):
            table[name] = made[name].to_numpy()
        table["sdcor"] = self._sdcor(table)
        return table

    @property
    def _vars(self) -> Any:
        return self.idata["posterior"].data_vars

    def _components(self) -> tuple[list[tuple[str, str, str | None]], Array]:
        """Names and draws (S, n_theta + 1) of variance components, that of level 1 last."""
        names: list[tuple[str, str, str | None]] = []
        for label in self.ml.theta.index:
            names.append(self._split(str(label)))
        last = self.pooled_draws("sigma") ** 2 if "sigma" in self._vars else np.zeros(len(self.draws()))
        values = self.pooled_draws("vcov") if "vcov" in self._vars else np.zeros((len(last), 0))
        return names, np.column_stack([values, last])

    def _split(self, label: str) -> tuple[str, str, str | None]:
        """Undo ``group.term.other``; terms and groups may have dots themselves."""
        for row in records(self.ml.varcorr):
            if row.var2 is None and label == f"{row.grp}.{row.var1}":
                return str(row.grp), str(row.var1), None
            if row.var2 is not None and label == f"{row.grp}.{row.var2}.{row.var1}":
                return str(row.grp), str(row.var2), str(row.var1)
        raise AssertionError(label)

    def _sdcor(self, table: pd.DataFrame) -> list[float]:
        group = self.idata["posterior"]
        out = []
        for row in records(table):
            if row.grp == "Residual":
                out.append(float(self.draws("sigma").mean()))
            elif row.var2 is None:
                out.append(float(group["sd"].sel(component=f"{row.grp}.{row.var1}").mean()))
            else:
                out.append(float(group["cor"].sel(pair=f"{row.grp}.{row.var1}.{row.var2}").mean()))
        return out

    @property
    def sigma(self) -> float:
        """Posterior mean of the residual standard deviation; 1 where a family has none."""
        return float(self.draws("sigma").mean()) if "sigma" in self._vars else self.ml.sigma

    @cached_property
    def theta(self) -> pd.Series:
        """Cholesky factors of the mean covariance of the random effects relative to the mean variance of level 1."""
        names, values = self._components()
        unit = float(values[:, -1].mean()) if "sigma" in self._vars else 1.0
        out: dict[Any, float] = {}
        mean = dict(zip(names, values.mean(axis=0), strict=False))
        for group in dict.fromkeys(g for g, _, _ in names):
            terms = [a for g, a, b in names if g == group and b is None]
            Psi = np.array([[entry(mean, group, a, b) for b in terms] for a in terms])
            L = semidefinite_cholesky(Psi / unit)
            out |= {
                (group, terms[i], None if i == j else terms[j]): L[i, j] for i in range(len(L)) for j in range(i + 1)
            }
        return pd.Series([out[name] for name in names], index=self.ml.theta.index, name="theta")

    @cached_property
    def icc(self) -> Any:
        """Posterior mean of the share of variance at or above each level; a number with one level."""
        if "icc" not in self._vars:
            return float("nan")
        values = self.draws("icc").mean(axis=0)
        levels = [str(level) for level in np.asarray(self.idata["posterior"]["level"])]
        return float(values[0]) if len(levels) == 1 else pd.Series(values, index=levels, name="icc")

    @cached_property
    def family_parameters(self) -> pd.DataFrame | None:
        """Further parameters of the family: posterior mean and standard deviation, ``estimate, se``."""
        known = self.ml.family_parameters
        if known is None:
            return None
        draws = [self.pooled_draws(str(name)) for name in known.index]
        return pd.DataFrame(
            {"estimate": [d.mean() for d in draws], "se": [d.std(ddof=1) for d in draws]},
            index=known.index,
            dtype=float,
        )

    @property
    def phi(self) -> Any:
        """Further parameters of the family on their working scale, at the fit by maximum likelihood."""
        return self.ml.phi

    @property
    def dispersion(self) -> Any:
        """Further parameter of the family, a Series if there are several; NaN for families without one."""
        if self.family_parameters is None or not len(self.family_parameters):
            return float("nan")
        values = self.family_parameters["estimate"]
        return float(values.iloc[0]) if len(values) == 1 else values.rename("dispersion")

    def fixef(self) -> pd.Series:
        """Give the fixed effects, as ``coef``."""
        return self.coef.copy()
