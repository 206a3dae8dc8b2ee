"""FitResult: the record of a fit with its verbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from pmwmix.data.codes import printed
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.fitting.severalfits import degrees_under
from pmwmix.inference.components import confint_varcorr
from pmwmix.inference.correlations import correlations
from pmwmix.inference.criteria import aic, bic, check_whole
from pmwmix.inference.intervals import predict
from pmwmix.inference.kenward import KenwardRoger, kenward_of
from pmwmix.inference.margins import ame
from pmwmix.inference.missing import missing_information
from pmwmix.inference.profile import profile_interval
from pmwmix.inference.r2 import r2
from pmwmix.inference.residualtable import residual_table
from pmwmix.pooling import Pooled, pool
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.groupmeans import group_means
from pmwmix.prediction.modes import LevelModes
from pmwmix.prediction.responses import fitted, residuals
from pmwmix.resampling.bootstrap import bootstrap
from pmwmix.resampling.outcomes import simulate
from pmwmix.results.account import summarise
from pmwmix.results.glance import augment, glance
from pmwmix.results.hints import no_such_member
from pmwmix.results.later import report
from pmwmix.results.record import FitRecord
from pmwmix.results.store import save_fit
from pmwmix.results.summary import Summary
from pmwmix.results.wald import contrast, wald
from pmwmix.spec.checks import check_prob
from pmwmix.spec.latentmean import refuse_latent

DF_RULES = ("satterthwaite", "kenward-roger", "bell-mccaffrey", "design", "inf")


@dataclass(frozen=True, eq=False, repr=False)
class FitResult(FitRecord):
    """A fitted multilevel model; every table is a pandas object.

    Its fields and the numbers that follow from them (``coef``, ``se``, ``vcov``, ``varcorr``, ``icc``, ``loglik``, ...)
    are those of `pmwmix.results.record.FitRecord`.
    """

    # -- inference ----------------------------------------------------------------------------------------------

    def df(self, rule: str | float | None = None) -> pd.Series:
        """Degrees of freedom of every coefficient.

        Parameters
        ----------
        rule : {"satterthwaite", "kenward-roger", "bell-mccaffrey", "design", "inf"} or float, optional
            None: Satterthwaite for unweighted model-based fits, clusters minus strata under a robust variance, without
            a random term minus slopes too, normal otherwise. ``"bell-mccaffrey"``, the default under CR0 to CR3, is
            Satterthwaite's rule for a sandwich (small-sample, eq. 20). With plausible values Barnard-Rubin on top
            (theory, eq. 24).

        Returns
        -------
        Series (p,)
        """
        complete = self._complete_df(self._default_rule() if rule is None else rule)
        if self.pooled is not None:
            complete = self._pooled_with(complete).df
        return pd.Series(np.broadcast_to(complete, len(self.coef)).astype(float), index=self.coef.index, name="df")

    def _pooled_with(self, complete: Any) -> Pooled:
        """Pool the coefficients with these degrees of freedom of one fit."""
        values, covariances = ([fit.coef for fit in self.fits], [fit.vcov for fit in self.fits])
        return pool(np.array(values), np.array(covariances), complete, self.nests)

    def _default_rule(self) -> str:
        if self.settings.vcov != "model":
            return "design" if any(fit.small_df is None for fit in self.fits) else "bell-mccaffrey"
        plain = self.has_closed_form and self.latent_means is None and not self.settings.weighted
        return "satterthwaite" if plain else "inf"

    def _complete_df(self, rule: str | float) -> Any:
        if isinstance(rule, int | float | np.number) and not isinstance(rule, bool):
            if not rule > 0:
                raise OptionError(f"Degrees of freedom are positive. Got df={rule!r}. Use a rule such as 'design'.")
            return float(rule)
        rule = rule if isinstance(rule, str) else repr(rule)
        refuse_latent(self.latent_means is not None and rule in DF_RULES[:2], f"The rule {rule!r}", "Use df='design'")
        if rule == "kenward-roger":
            return np.mean([one.df for one in self._kenward], axis=0)
        if rule == "bell-mccaffrey" and all(fit.small_df is not None for fit in self.fits):
            return np.mean([fit.small_df for fit in self.fits], axis=0)
        if rule == "bell-mccaffrey":
            if rule not in self._memo:
                self._memo[rule] = degrees_under(self.fits)
            return self._memo[rule]
        if rule not in DF_RULES:
            raise OptionError(
                f"Unknown rule for degrees of freedom {rule!r}.{near(str(rule), DF_RULES)} "
                f"Use one of {', '.join(map(repr, DF_RULES))} or a number."
            )
        if rule in ("design", "inf"):
            return self.design_df if rule == "design" else np.inf
        if not self.has_closed_form:
            raise NotSupportedError(
                f"Degrees of freedom by {rule!r} are defined for linear models. This one has {self.kind}. "
                f"Use df='inf' (normal) or df='design'."
            )
        if self.settings.weighted or self.settings.vcov != "model":
            raise NotSupportedError(
                f"Satterthwaite degrees of freedom are defined for unweighted model-based fits. This one has "
                f"vcov={self.settings.vcov!r}{' and sampling weights' if self.settings.weighted else ''}. "
                f"Use df='design'."
            )
        if "satterthwaite" not in self._memo:
            every = [fit.satterthwaite() for fit in self.fits if fit.satterthwaite is not None]
            self._memo["satterthwaite"] = np.mean(every, axis=0)
        return self._memo["satterthwaite"]

    @cached_property
    def _kenward(self) -> list[KenwardRoger]:
        return kenward_of(self.fits)

    def _added(self, rule: Any) -> Any:
        """Give what Kenward-Roger adds to the covariance of the coefficients; nothing under other rules."""
        if not isinstance(rule, str) or rule != "kenward-roger":
            return 0.0
        pairs = zip(self._kenward, self.fits, strict=True)
        return np.mean([one.vcov_adjusted - fit.vcov.to_numpy() for one, fit in pairs], axis=0)

    def tidy(
        self, ci_prob: float = 0.95, df: str | float | None = None, exponentiate: bool = False, labels: bool = False
    ) -> pd.DataFrame:
        """Table of the fixed effects.

        Parameters
        ----------
        ci_prob : float
            Probability of the interval.
        df : {"satterthwaite", "design", "inf"} or float, optional
            As in `df`.
        exponentiate : bool
            Give exp(estimate) and its interval: odds ratios with the logit link, rate ratios with the log link, hazard
            ratios with cloglog. Standard errors, statistics and p-values stay those of the estimates.
        labels : bool
            Add a column ``label`` with the survey's labels of the variables in each term.

        Returns
        -------
        DataFrame
            ``term, estimate, std_error, statistic, df, p_value, ci_low, ci_high``, with plausible values also
            ``fmi, within_var, between_var``.

        Raises
        ------
        OptionError
            If ``ci_prob`` is not between 0 and 1.
        """
        check_prob(ci_prob)
        if exponentiate and (other := self.link_without_ratios) is not None:
            raise OptionError(
                f"Exponentiated coefficients are ratios only under a log link. This fit has link={other!r}. "
                f"Leave exponentiate out, or use predict() and ame()."
            )
        degrees = self.df(df).to_numpy()
        estimate, error = self.coef.to_numpy(), np.sqrt(np.diag(self.vcov.to_numpy() + self._added(df)))
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = estimate / error
        capped = np.minimum(degrees, 1e10)
        half = stdtrit(capped, 0.5 + ci_prob / 2) * error
        out = pd.DataFrame(
            {
                "term": list(self.coef.index),
                "estimate": estimate,
                "std_error": error,
                "statistic": statistic,
                "df": degrees,
                "p_value": 2 * stdtr(capped, -np.abs(statistic)),
                "ci_low": estimate - half,
                "ci_high": estimate + half,
            }
        )
        if exponentiate:
            ratios = ["estimate", "ci_low", "ci_high"]
            with np.errstate(over="ignore"):
                out[ratios] = np.exp(out[ratios])
        if self.pooled is not None:
            out["fmi"] = self._pooled_with(self._complete_df(self._default_rule() if df is None else df)).fmi
            out["within_var"] = np.diag(self.pooled.within)
            out["between_var"] = np.diag(self.pooled.between)
        if labels:
            out.insert(1, "label", [self.settings.label_of(term) for term in out["term"]])
        return out

    def confint(self, ci_prob: float = 0.95, method: str = "wald") -> pd.DataFrame:
        """Intervals of the fixed effects.

        Parameters
        ----------
        ci_prob : float
        method : {"wald", "profile"}
            Estimate plus and minus a multiple of the standard error, or where the profile likelihood of an unweighted
            ML fit has dropped by the chi-square quantile (theory, eq. 33).

        Returns
        -------
        DataFrame
            By term: ``ci_low, ci_high``.
        """
        check_prob(ci_prob)
        if method == "profile":
            return self._profile(ci_prob)
        if method != "wald":
            raise OptionError(
                f"Unknown method of intervals {method!r}. Asked for in confint(). Use 'wald' or 'profile'."
            )
        return self.tidy(ci_prob).set_index("term")[["ci_low", "ci_high"]]

    def _profile(self, ci_prob: float) -> pd.DataFrame:
        check_whole(self, "A profile interval")
        check_one_outcome(self, "A profile interval")
        rows = self.fits[0].rows
        if self.settings.weighted or self.n_pv > 1 or rows is None or not rows.is_live:
            raise NotSupportedError(
                "Profile intervals need the likelihood of one unweighted fit. This fit is weighted, pooled or loaded. "
                "Use confint(method='wald')."
            )
        ends = profile_interval(rows.problem, rows.k, rows.fit, ci_prob)
        return pd.DataFrame(ends, index=self.coef.index, columns=["ci_low", "ci_high"])

    wald, contrast = wald, contrast
    aic, bic = property(aic), property(bic)
    glance, augment = glance, augment
    report = report
    r2 = r2
    ame = ame
    confint_varcorr, correlations = confint_varcorr, correlations
    residual_table = residual_table
    missing_information = missing_information
    simulate, bootstrap = simulate, bootstrap

    # -- rows and groups ----------------------------------------------------------------------------------------

    @cached_property
    def _modes(self) -> list[LevelModes]:
        out = []
        for same in zip(*(fit.rows.modes() for fit in self.fits if fit.rows is not None), strict=True):
            found = pool(np.array([m.b for m in same]), np.array([m.se**2 for m in same]), nests=self.nests)
            Psi = np.mean([m.Psi for m in same], axis=0)
            classes = None if same[0].classes is None else np.mean([m.classes for m in same], axis=0)
            out.append(replace(same[0], b=found.estimate, se=np.sqrt(found.vcov), Psi=Psi, classes=classes))
        return out

    def ranef(self, group: str | None = None) -> Any:
        """Conditional modes of the random effects with their standard errors.

        Parameters
        ----------
        group : str, optional
            Level, as named in ``varcorr``. None: the only one, or a dict of all.

        Returns
        -------
        DataFrame or dict of DataFrame
            Group labels as index; a column per random term (in units of the outcome) and ``<term>_se``: the
            conditional standard deviation given the estimates; with plausible values pooled. Of discrete random
            effects mean and standard deviation over the masses, and ``class1``, ..., the probabilities of the masses
            given the outcomes.
        """
        tables = {modes.group: _mode_table(modes) for modes in self._modes if modes.terms}
        if group is None:
            return next(iter(tables.values())) if len(tables) == 1 else tables
        group = str(group)
        wanted = sorted(group.rsplit(".", 1)[0].split(":") if _numbered(group) else group.split(":"))
        for name, table in tables.items():
            if sorted(name.split(":")) == wanted or sorted(name.split(":")) == sorted(group.split(":")):
                return table
        short = [name for name in tables if name.split(":")[0] == group]
        if len(short) == 1:
            return tables[short[0]]
        raise OptionError(
            f"There is no group {group!r}.{near(group, list(tables))} The groups are {', '.join(map(repr, tables))}."
        )

    fitted, residuals, predict = fitted, residuals, predict
    group_means = group_means

    # -- face and file ------------------------------------------------------------------------------------------

    def summary(self, ci_prob: float = 0.95, show: str | Sequence[str] = ()) -> Summary:
        """Readable account of the fit: text as wide as the terminal, HTML in notebooks, ``to_html()``, ``to_latex()``.

        Parameters
        ----------
        ci_prob : float
        show : str or list of str
            What to add: ``"correlation"`` of the coefficients, ``"intervals"`` of standard deviations and correlations,
            ``"residuals"`` (quantiles of Pearson ones), ``"lrt"`` against no random effects (refits); or ``"all"``.
        """
        return summarise(self, self.tidy(ci_prob), ci_prob, show)

    if not TYPE_CHECKING:  # type checkers find misspelt members themselves

        def __getattr__(self, name: str) -> Any:
            raise no_such_member(name, [*self.__dataclass_fields__, *dir(type(self))], "FitResult")

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def save(self, path: str | Path) -> Path:
        """Write the fit to one file, readable by `pmwmix.load`; arrays and JSON, no pickle."""
        return save_fit(self, path)


def _numbered(group: str) -> bool:
    return group.rsplit(".", 1)[-1].isdigit() and "." in group


def _mode_table(modes: LevelModes) -> pd.DataFrame:
    index = pd.Index(printed(modes.labels), name=modes.group)
    errors = [f"{term}_se" for term in modes.terms]
    classes = np.zeros((len(modes.b), 0)) if modes.classes is None else modes.classes
    names = [*modes.terms, *errors, *(f"class{c}" for c in range(1, classes.shape[1] + 1))]
    table = pd.DataFrame(np.hstack([modes.b, modes.se, classes]), index=index, columns=names)
    try:
        return table.sort_index()
    except TypeError:
        return table
