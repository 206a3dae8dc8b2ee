"""Influence of top-level units: against least squares without them, R's lm and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import close, nested, outcomes, survey

import pmwmix
from pmwmix.errors import NotSupportedError

EXACT = 1e-8  # the same sums in another order, and an inverse


def without(d, fit, group=None):
    """Generalised least squares with the estimated variances, by matrices of every group, one of them left out."""
    table, A, b = fit.varcorr, np.zeros((2, 2)), np.zeros(2)
    Psi = np.array([[table["vcov"][0], table["vcov"][2]], [table["vcov"][2], table["vcov"][1]]])
    for school, part in d.groupby("school"):
        if school != group:
            X = np.column_stack([np.ones(len(part)), part["x"]])
            W = part["w3"].iloc[0] * np.linalg.inv(X @ Psi @ X.T + fit.sigma**2 * np.eye(len(part)))
            A, b = A + X.T @ W @ X, b + X.T @ W @ part["y"].to_numpy()
    return np.linalg.solve(A, b)


def test_a_school_is_left_out_exactly_with_the_variances_held():
    d = nested()
    fit = pmwmix.fit("y ~ x + (x | school)", d, weights=[None, "w3"], conditional=True)
    found = pmwmix.influence(fit)
    for school in found.index[:4]:
        change = fit.coef.to_numpy() - without(d, fit, school)
        close(found.loc[school, ["dfbetas[Intercept]", "dfbetas[x]"]], change / fit.se, EXACT)
        close(found.loc[school, "cooks_d"], change @ np.linalg.solve(fit.vcov, change) / 2, EXACT)
    close(found["leverage"].sum(), 2.0, EXACT)
    assert found["n"].sum() == fit.nobs and found.index.name == "school"
    mixed = d.sample(frac=1.0, random_state=1)
    again = pmwmix.influence(pmwmix.fit("y ~ x + (x | school)", mixed, weights=[None, "w3"], conditional=True))
    close(again, found, 1e-5)  # the climb ends a little elsewhere


def test_rows_of_a_model_without_random_terms_are_those_of_lm():
    """R 4.5: m <- lm(y ~ x, nested()); cooks.distance(m)[1:4]; hatvalues(m)[1:4]."""
    found = pmwmix.influence(pmwmix.fit("y ~ x", nested(), method="reml"))
    close(found["cooks_d"][:4], [0.0037004286388, 0.0001639774545, 0.0025956436129, 0.0001227289138], 1e-9)
    close(found["leverage"][:4], [0.011767400428, 0.006289540879, 0.016140656896, 0.006258995225], 1e-9)


def test_one_step_of_a_generalised_model_is_near_the_fit_without_the_school():
    d = outcomes()
    fit = pmwmix.fit("z ~ x + (1 | school)", d, family="binomial", n_agq=1)
    found = pmwmix.influence(fit)
    school = found["cooks_d"].idxmax()
    left = pmwmix.fit("z ~ x + (1 | school)", d[d["school"] != school], family="binomial", n_agq=1)
    change = (fit.coef - left.coef) / fit.se
    # a step is first order: right sign, and within a third of the distance
    close(found.loc[school, ["dfbetas[Intercept]", "dfbetas[x]"]], change, rtol=0.34)
    assert found["leverage"].isna().all()


@pytest.mark.parametrize("x", ["measured(escs, sd=0.4)", "escs + latent_mean(escs, SCHOOLID)"])
def test_one_step_knows_errors_of_predictors_and_latent_means(x):
    """Least squares without the school would take the column for the true predictor."""
    d, formula = survey().data, f"PV1MATH ~ {x} + (1 | SCHOOLID)"
    fit = pmwmix.fit(formula, d)
    found = pmwmix.influence(fit)
    school = found["cooks_d"].idxmax()
    left = pmwmix.fit(formula, d[d["SCHOOLID"].astype(str) != str(school)])
    change = (fit.coef - left.coef) / fit.se
    close(found.loc[school].filter(like="dfbetas"), change, rtol=0.2, atol=0.02)
    assert found["leverage"].isna().all()


def test_plausible_values_are_averaged_and_alike_ones_change_nothing():
    s = survey()
    fit = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, pv={"math": s.pv["math"]}, weights=s.weights)
    every = [pmwmix.influence(one) for one in fit.fits]
    close(pmwmix.influence(fit), np.mean([one.to_numpy() for one in every], axis=0), EXACT)


def test_what_cannot_be_left_out_is_refused(tmp_path):
    d = nested()
    crossed = pmwmix.fit("y ~ x + (1 | school) + (1 | item)", d.assign(item=np.arange(len(d)) % 5))
    with pytest.raises(NotSupportedError, match="school and item are crossed"):
        pmwmix.influence(crossed)
    with pytest.raises(NotSupportedError, match="read from a file"):
        pmwmix.influence(pmwmix.load(pmwmix.fit("y ~ x + (1 | school)", d).save(tmp_path / "fit")))
    few = pmwmix.fit("y ~ x + (1 | school)", d[d["school"] < 2], vcov="robust")
    assert pmwmix.influence(few)["cooks_d"].isna().all()
