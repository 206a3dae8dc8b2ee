"""What other programs call the members of a result, for messages."""

from __future__ import annotations

from collections.abc import Iterable

from pmwmix.errors import OptionError, near

ELSEWHERE = {  # statsmodels, linearmodels, R
    **dict.fromkeys(("params", "fe_params", "coefficients", "beta", "fixed_effects"), "coef"),
    **dict.fromkeys(("bse", "bse_fe", "std_errors", "std_error"), "se"),
    **dict.fromkeys(("resid", "resids", "residual"), "residuals()"),
    **dict.fromkeys(("fittedvalues", "fitted_values"), "fitted()"),
    **dict.fromkeys(("cov_params", "cov", "covariance"), "vcov"),
    **dict.fromkeys(("pvalues", "p_values"), "tidy()['p_value']"),
    **dict.fromkeys(("tvalues", "tstats", "zvalues"), "tidy()['statistic']"),
    **dict.fromkeys(("conf_int", "intervals"), "confint()"),
    **dict.fromkeys(("llf", "logLik", "log_likelihood"), "loglik"),
    **dict.fromkeys(("random_effects", "blups"), "ranef()"),
    **dict.fromkeys(("cov_re", "VarCorr", "vcomp", "variance_components"), "varcorr"),
    **dict.fromkeys(("scale", "mse_resid"), "sigma ** 2"),
    **dict.fromkeys(("rsquared", "r_squared", "R2"), "r2()"),
    **dict.fromkeys(("df_resid", "df_residual"), "df()"),
    **dict.fromkeys(("wald_test", "f_test", "linearHypothesis"), "wald()"),
    **dict.fromkeys(("t_test", "t_test_pairwise", "glht"), "contrast()"),
    **dict.fromkeys(("n_obs", "N"), "nobs"),
    **dict.fromkeys(("AIC",), "aic"),
    **dict.fromkeys(("BIC",), "bic"),
    **dict.fromkeys(("margeff", "get_margeff", "slopes", "avg_slopes"), "ame()"),
    **dict.fromkeys(("summary2", "summary_frame"), "summary()"),
}
IN_PACKAGE = {  # what is no member, but a function here
    "effects": "pmwmix.plots.effects(fit, ...) or fit.ame()",
    **dict.fromkeys(("predictions", "avg_predictions", "margins"), "pmwmix.predictions(fit, {...})"),
    **dict.fromkeys(("influence", "get_influence", "cooks_distance", "dfbetas", "hatvalues"), "pmwmix.influence(fit)"),
    **dict.fromkeys(("anova", "compare_lr_test", "lrtest"), "pmwmix.lrt(fit, other)"),
    "ranova": "pmwmix.ranova(fit)",
    "table": "pmwmix.table([fit, ...])",
    "plot": "pmwmix.plots.check(fit), or another of pmwmix.plots",
    "sensitivity": "pmwmix.sensitivity(fit)",
}


class NoSuchMemberError(OptionError, AttributeError):
    """A member that this kind of result does not have."""


def no_such_member(name: str, members: Iterable[str], kind: str) -> AttributeError:
    """Make the error for a member that is not there.

    Parameters
    ----------
    name : str
    members : iterable of str
        Those that are.
    kind : str
        Of the result: ``"FitResult"``.
    """
    if name.startswith("_"):
        return AttributeError(name)
    here = ELSEWHERE.get(name)
    if here is not None and here.partition("(")[0].split(" ")[0] in set(members):
        return NoSuchMemberError(f"A result has no member {name!r}. Other programs call it so. Use fit.{here}.")
    if name in IN_PACKAGE:
        return NoSuchMemberError(f"A result has no member {name!r}. It is a function here. Call {IN_PACKAGE[name]}.")
    return NoSuchMemberError(
        f"A result has no member {name!r}.{near(name, [m for m in members if not m.startswith('_')])} See the "
        f"documentation of {kind}."
    )


__all__ = ["ELSEWHERE", "NoSuchMemberError", "no_such_member"]
