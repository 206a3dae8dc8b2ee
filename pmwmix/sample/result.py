"""BayesResult: the posterior in the shape of a FitResult."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array
from pmwmix.errors import OptionError
from pmwmix.inference.margins import ame
from pmwmix.pooling.nested import mix_draws
from pmwmix.results.later import report
from pmwmix.results.summary import Summary
from pmwmix.sample.account import account_of
from pmwmix.sample.draws.pointwise import log_likelihood, log_prior, prior_sensitivity
from pmwmix.sample.draws.predictive import posterior_predictive, prior_predictive
from pmwmix.sample.draws.quantities import component_draws, records
from pmwmix.sample.draws.randomeffects import group_table, need_live, random_effects
from pmwmix.sample.draws.responses import fitted, predict, residuals
from pmwmix.sample.keep import save_bayes
from pmwmix.sample.nuts.convergence import convergence
from pmwmix.sample.posterior import set_data
from pmwmix.sample.record import BayesRecord
from pmwmix.sample.refusal import refuse_given
from pmwmix.spec.checks import check_prob


@dataclass(frozen=True, eq=False, repr=False)
class BayesResult(BayesRecord):
    """A sampled multilevel model: its numbers are those of `BayesRecord`, here are the verbs."""

    # -- tables -------------------------------------------------------------------------------------------------

    def tidy(
        self, ci_prob: float = 0.95, df: Any = None, exponentiate: bool = False, labels: bool = False
    ) -> pd.DataFrame:
        """Table of the fixed effects.

        Parameters
        ----------
        ci_prob : float
            Probability of the equal-tailed interval.
        df : None
            Draws need no degrees of freedom; here because a FitResult has it.
        exponentiate : bool
            Give ratios: posterior medians and intervals of exp(coefficient).
        labels : bool
            Add a column ``label`` with the survey's labels of the variables in each term.

        Returns
        -------
        DataFrame
            ``term, estimate`` (posterior mean), ``std_error`` (posterior standard deviation), ``ci_low, ci_high,
            p_direction`` (probability of the more likely sign), ``r_hat, ess_bulk, ess_tail, mcse_mean``; with
            plausible values also ``fmi, within_var, between_var``. With plausible values errors and intervals include
            (1 + 1/K) times the variance between them, R-hat is the largest and sizes the smallest within one value.
        """
        check_prob(ci_prob)
        refuse_given("tidy()", df=df)
        draws = self.pooled_draws()
        if exponentiate and (other := self.link_without_ratios) is not None:
            raise OptionError(
                f"Exponentiated coefficients are ratios only under a log link. This fit has link={other!r}. "
                f"Leave exponentiate out."
            )
        low, high = np.quantile(draws, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)
        table = pd.DataFrame(
            {
                "term": self._terms,
                "estimate": self.coef.to_numpy(),
                "std_error": self.se.to_numpy(),
                "ci_low": low,
                "ci_high": high,
                "p_direction": np.maximum((draws > 0).mean(axis=0), (draws < 0).mean(axis=0)),
                **self._convergence("beta"),
            }
        )
        if exponentiate:
            table["estimate"] = np.exp(np.median(draws, axis=0))
            table[["ci_low", "ci_high"]] = np.exp(table[["ci_low", "ci_high"]])
        if self.n_pv > 1:
            pooled = self._pooled
            table["fmi"] = np.diag(pooled.added) / np.diag(pooled.vcov)
            table["within_var"] = np.diag(pooled.within)
            table["between_var"] = np.diag(pooled.between)
        if labels:
            table.insert(1, "label", [self.settings.label_of(term) for term in table["term"]])
        return table

    def _convergence(self, name: str) -> dict[str, Array]:
        every = [convergence(np.asarray(fit.idata["posterior"][name])) for fit in self.fits]
        K = len(every)
        return {
            "r_hat": np.max([one["r_hat"] for one in every], axis=0),
            "ess_bulk": np.min([one["ess_bulk"] for one in every], axis=0),
            "ess_tail": np.min([one["ess_tail"] for one in every], axis=0),
            "mcse_mean": np.sqrt(np.sum([one["mcse_mean"] ** 2 for one in every], axis=0)) / K,
        }

    def confint(self, ci_prob: float = 0.95, method: Any = None) -> pd.DataFrame:
        """Equal-tailed intervals of the fixed effects by term: ``ci_low, ci_high``; there is no other method."""
        refuse_given("confint()", method=method)
        return self.tidy(ci_prob).set_index("term")[["ci_low", "ci_high"]]

    def confint_varcorr(self, ci_prob: float = 0.95, scale: str = "sd") -> pd.DataFrame:
        """Equal-tailed intervals of standard deviations and correlations, or of variances and covariances.

        Parameters
        ----------
        ci_prob : float
        scale : {"sd", "var"}

        Returns
        -------
        DataFrame
            Rows as ``varcorr``: ``grp, var1, var2, estimate, se, ci_low, ci_high, r_hat, ess_bulk``.
        """
        check_prob(ci_prob)
        if scale not in ("sd", "var"):
            raise OptionError(f"Unknown scale {scale!r}. Asked for in confint_varcorr(). Use 'sd' or 'var'.")
        rows = []
        for row in records(self.varcorr):
            each = [component_draws(fit.idata["posterior"], row, scale) for fit in self.fits]
            flat = mix_draws([values.ravel() for values in each])
            low, high = np.quantile(flat, [(1 - ci_prob) / 2, (1 + ci_prob) / 2])
            checks = [convergence(values[..., None]) for values in each]
            rows.append(
                {
                    "grp": row.grp,
                    "var1": row.var1,
                    "var2": row.var2,
                    "estimate": float(np.mean([values.mean() for values in each])),
                    "se": float(flat.std(ddof=1)),
                    "ci_low": low,
                    "ci_high": high,
                    "r_hat": max(float(one["r_hat"][0]) for one in checks),
                    "ess_bulk": min(float(one["ess_bulk"][0]) for one in checks),
                }
            )
        return pd.DataFrame(rows)

    # -- rows and groups ----------------------------------------------------------------------------------------

    def ranef(self, group: str | None = None) -> Any:
        """Posterior means of the random effects with their standard deviations.

        Parameters
        ----------
        group : str, optional
            Level. None: the only one, or a dict of all.

        Returns
        -------
        DataFrame or dict of DataFrame
            As a FitResult's: group labels as index, a column per term and ``<term>_se``. They are drawn when first
            asked for (`random_effects`).
        """
        return group_table(self, group)

    ame = ame
    report = report
    random_effects = random_effects
    fitted, residuals, predict = fitted, residuals, predict
    posterior_predictive, prior_predictive = posterior_predictive, prior_predictive
    log_likelihood, log_prior = log_likelihood, log_prior
    prior_sensitivity = prior_sensitivity

    def pymc_model(self, pv: int = 1) -> Any:
        """Give the PyMC model, to go on in PyMC.

        Parameters
        ----------
        pv : int
            Plausible value whose data are put into the model; all of them share one model object.

        Returns
        -------
        pymc.Model
            Random variables are the coefficients of centred predictors (``beta_centred``), standard deviations of the
            random effects, partial correlations, ``sigma`` or ``phi[j]``; the marginal log-likelihood, weights
            included, is the potential ``loglik``.

        Raises
        ------
        OptionError
            If there is no such plausible value, or the result was read from a file.
        """
        if isinstance(pv, bool) or not isinstance(pv, int) or not 1 <= pv <= self.n_pv:
            raise OptionError(f"There is no plausible value {pv!r}. This result has {self.n_pv}. Count from 1.")
        return set_data(need_live(self.fits[pv - 1]))

    # -- face and file ------------------------------------------------------------------------------------------

    def summary(self, ci_prob: float = 0.95, show: Any = None) -> Summary:
        """Readable account of the posterior: text by ``str()``, HTML in notebooks, ``.to_html()``, ``.to_latex()``.

        ``show`` is there because a FitResult has it: what it adds is in the account of a posterior, or in ``fit.ml``.
        """
        check_prob(ci_prob)
        refuse_given("summary()", show=show or None)
        return account_of(self, ci_prob)

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def save(self, path: str | Path) -> Path:
        """Write everything to one file, netCDF (``.nc``) or zarr (``.zarr``), readable by `pmwmix.load` and ArviZ."""
        return save_bayes(self, path)


__all__ = ["BayesResult"]
