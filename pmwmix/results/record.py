"""FitRecord: what a fit found, field by field, and the numbers that follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.pooling import Pooled
from pmwmix.prediction.abilities import Abilities
from pmwmix.prediction.rows import LiveRows, SavedRows
from pmwmix.spec.fixed import RESIDUAL
from pmwmix.spec.random import NORMAL, is_discrete
from pmwmix.spec.settings import Settings


@dataclass(frozen=True, eq=False, repr=False)
class FitRecord(Abilities):
    """What a fit found, and the numbers that follow from it; every table is a pandas object.

    Parameters
    ----------
    coef : Series
        Fixed effects by term, in units of the outcome per unit of the predictor. With plausible values the mean.
    vcov : DataFrame
        Covariance of ``coef``; with plausible values the total one.
    varcorr : DataFrame
        ``grp, var1, var2, vcov, sdcor, se`` as lme4 prints it, ``se`` being that of ``vcov``; last row ``Residual``.
    sigma : float or Series
        Residual standard deviation; of several outcomes a Series, those that have one.
    theta : Series
        Cholesky factors of the random effects' covariance relative to ``sigma``.
    loglik : float
        (Restricted) pseudo-log-likelihood; with plausible values the mean of theirs.
    nobs : int
        Rows in the likelihood.
    n_groups : Series
        Units per level.
    icc : float or Series
        Share of the intercepts' variance at or above each level; a number when there is one level.
    weight_stats : DataFrame
        Per level, of the total weights and of the weights used after scaling.
    converged, singular : bool
    status : str
        What happened, as a sentence.
    notes : tuple of str
        What should be known when reading the result.
    settings : Settings
    pooled : Pooled or None
        Of the coefficients, with plausible values.
    family, link : str
    phi : ndarray or None
        Further parameters of the family on their working scale; with plausible values those of the first.
    family_parameters : DataFrame or None
        The same as they are reported: ``estimate, se`` by name (``theta`` of the negative binomial, ...).
    quadrature : dict or None
        ``n_agq``: nodes per dimension and level, lowest first; ``moved``: largest change of an estimate, in standard
        errors, when more nodes were tried; ``loglik_error``: by how much more nodes change ``loglik`` (both NaN if the
        nodes were given).
    residual_parameters : DataFrame or None
        Of a residual structure: ``estimate, se, scale`` by name, ``scale`` being the one on which the estimate is about
        normal: ``"correlation"`` (Fisher's z), ``"share"`` (logit), ``"positive"`` (logarithm) or ``"number"``.
    latent_means : DataFrame or None
        Of the model of predictors with latent group means: ``estimate, se, scale`` of the mean, the standard deviations
        between and within groups given the other predictors, and the average reliability of observed group means
        (latent-means, eq. 8).
    categories : tuple of str
        Of an ordinal or two-category outcome.
    outcomes : tuple of str
        All of them where there are several, each with coefficients, random effects and a residual variance of its own.
    n_starts : int
        Climbs from different starting values, the best of which is reported; of plausible values the most.
    random_shape : tuple of ndarray
        Parameters of the random effects' distribution on their working scale, per level; with plausible values those
        of the first.
    random_vcov : ndarray (P + r, P + r) or None
        Covariance of ``parameters`` and of the r numbers that the distribution of the random effects reports.
    parameters : (ndarray (P,), ndarray (P, P))
        Coefficients, variance components and the level-1 variance together, and their covariance.
    index : Index
        Labels of the rows in the likelihood.
    rows : LiveRows, SavedRows or None
        Rows and groups; None of a pooled fit, whose single fits have them.
    each : tuple
        The fits of the single plausible values; empty without them.
    nest : tuple of str
        Of a single fit, the nests of imputations that it belongs to, outermost first; empty where they are
        exchangeable.
    satterthwaite : callable or None
        Gives the degrees of freedom (p,).
    small_df : ndarray, shape (p,), or None
        Bell-McCaffrey degrees of freedom, with ``vcov="CR0"`` to ``"CR3"``.
    """

    coef: pd.Series
    vcov: pd.DataFrame
    varcorr: pd.DataFrame
    sigma: Any
    theta: pd.Series
    loglik: float
    nobs: int
    n_groups: pd.Series
    icc: Any
    weight_stats: pd.DataFrame
    converged: bool
    singular: bool
    status: str
    notes: tuple[str, ...]
    settings: Settings
    pooled: Pooled | None = None
    family: str = "gaussian"
    link: str = "identity"
    parameters: Any = None
    index: Any = None
    rows: LiveRows | SavedRows | None = None
    each: tuple[Self, ...] = ()
    nest: tuple[str, ...] = ()
    satterthwaite: Callable[[], Array] | None = None
    small_df: Any = None
    phi: Any = None
    family_parameters: Any = None
    quadrature: Any = None
    residual_parameters: Any = None
    latent_means: Any = None
    categories: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    n_starts: int = 1
    random_shape: tuple[Array, ...] = ()
    random_vcov: Any = None
    _memo: dict[str, Any] = field(default_factory=dict)

    @property
    def formula(self) -> str:
        """The model formula."""
        return self.settings.formula

    @property
    def method(self) -> str:
        """``"ml"`` or ``"reml"``."""
        return self.settings.method

    @property
    def random(self) -> str:
        """Distribution of the random effects: ``"normal"``, ``"t"``, ``"t(5)"``, ``"discrete(3)"``."""
        return self.settings.random

    @property
    def has_one_effect(self) -> bool:
        """Whether the random part of a row is one effect times what is known of the row."""
        levels = self.varcorr.loc[self.varcorr["var2"].isna() & (self.varcorr["grp"] != "Residual")]
        intercept = not is_discrete(self.random) or list(levels["var1"]) == ["Intercept"]
        return len(self.n_groups) <= 1 and intercept

    def vcov_of(self, size: int) -> Array:
        """Covariance of ``parameters``, or of these and what the distribution of the random effects reports."""
        found: Array = self.parameters[1] if size == len(self.parameters[1]) else self.random_vcov
        return found

    @property
    def se(self) -> pd.Series:
        """Standard errors of the fixed effects (p,)."""
        return pd.Series(np.sqrt(np.diag(self.vcov)), index=self.coef.index, name="se")

    @property
    def deviance(self) -> float:
        """Minus twice ``loglik``; under REML the REML criterion."""
        return -2.0 * self.loglik

    @property
    def fits(self) -> tuple[Self, ...]:
        """The fits of the single plausible values; a fit without them contains itself."""
        return self.each or (self,)

    @property
    def n_pv(self) -> int:
        """Number of plausible values."""
        return len(self.fits)

    @property
    def has_measured(self) -> bool:
        """Whether predictors are measured with error, so that the likelihood is a corrected one."""
        return bool(self.fits[0].rows is not None and self.fits[0].rows.blueprint.formula.measured)

    @property
    def nests(self) -> tuple[tuple[str, ...], ...]:
        """Nests of imputations of every single fit, which say by which rule they are pooled."""
        return tuple(fit.nest for fit in self.fits)

    @property
    def dispersion(self) -> Any:
        """Further parameter of the family (``theta`` of the negative binomial), a Series if there are several.

        NaN for families without one.
        """
        if self.family_parameters is None or not len(self.family_parameters):
            return float("nan")
        own = self.family_parameters
        if self.random != NORMAL:  # the table ends with what the distribution of the random effects reports
            own = own.loc[[not any(str(name).startswith(f"{g}.") for g in self.n_groups.index) for name in own.index]]
            if own.empty:
                return float("nan")
        values = own["estimate"]
        return float(values.iloc[0]) if len(values) == 1 else values.rename("dispersion")

    @property
    def design_df(self) -> float:
        """Degrees of freedom of the design: PSUs minus strata, or what the replicates give.

        Without a random term less the number of slopes, but at least 1, as survey's svyglm and svyolr have them.
        """
        complete = float(self.settings.design_df)
        if len(self.n_groups):
            return complete
        per_category = self.has_thresholds or self.first_predictor is not None
        constants = len(self.categories) - 1 if per_category else 1
        return max(complete - (len(self.coef) - constants), 1.0)

    @property
    def constants(self) -> set[str]:
        """Names of the coefficients that no predictor belongs to: thresholds, or intercepts."""
        if self.has_thresholds:
            return {"Intercept", *self.coef.index[: len(self.categories) - 1]}
        names = () if self.first_predictor is None else self.named_predictors
        return {f"{name}.Intercept" for name in names} or {"Intercept"}

    @property
    def trimming(self) -> pd.DataFrame:
        """What was cut off the weights, a row per trimmed level; empty where nothing was asked for.

        Columns: ``times`` the median of the level's conditional weights, that value ``limit``, how many were above
        (``n`` of ``of``), and the sum of the level's weights before and after.
        """
        columns = ["times", "limit", "n", "of", "sum_before", "sum_after"]
        rows = {level: list(numbers) for level, *numbers in self.settings.trimmed}
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype({"n": int, "of": int})

    @property
    def residual_structure(self) -> pd.Series:
        """Parameters of the residual structure by name (residuals, eqs. 1-9); empty without one.

        Their standard errors and intervals are in `residual_table`.
        """
        table = self.residual_parameters
        values = [] if table is None else table["estimate"]
        return pd.Series(values, index=None if table is None else table.index, name="residual_structure", dtype=float)

    @property
    def sigmas(self) -> pd.Series:
        """Residual standard deviations of several outcomes by name, of those that have one; empty of one outcome."""
        S = self.residual_covariance
        return pd.Series(np.sqrt(np.diag(S)), index=S.index, name="sigma", dtype=float)

    @property
    def residual_covariance(self) -> pd.DataFrame:
        """Residual covariance matrix of several outcomes, those that have one; with plausible values the mean."""
        if not self.outcomes:
            return pd.DataFrame(dtype=float)
        if not self.has_residual_variance:
            return self._covariance_of_families()
        table = self.varcorr[self.varcorr["grp"] == RESIDUAL]
        names = list(self.outcomes)
        out = pd.DataFrame(np.nan, index=names, columns=names)
        for first, second, value in table[["var1", "var2", "vcov"]].itertuples(index=False):
            out.loc[first, second or first] = out.loc[second or first, first] = value
        return out.loc[names, names]

    def _covariance_of_families(self) -> pd.DataFrame:
        """Lay out what the gaussian ones among outcomes of several kinds report."""
        values = self.family_parameters["estimate"]
        family: Any = self.distribution[0]
        names = [m.outcome for m in family.members if m.has_closed_form]
        sd = np.array([values[f"{name}.sigma"] for name in names])
        out = pd.DataFrame(np.diag(sd**2), index=names, columns=names)
        for i, second in enumerate(names):
            for j, first in enumerate(names[:i]):
                out.iloc[i, j] = out.iloc[j, i] = values[f"cor({first}, {second})"] * sd[i] * sd[j]
        return out

    def fixef(self) -> pd.Series:
        """Give the fixed effects, as ``coef``."""
        return self.coef.copy()
