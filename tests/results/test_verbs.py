"""The usual verbs: glance, augment, aic, bic, and hints for the names of other programs; types of calls."""

import copy
import inspect
import pickle
import typing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, outcomes, survey

import pmwmix
from pmwmix.errors import DataError, NotSupportedError, OptionError
from pmwmix.spec import options


@pytest.fixture(scope="module")
def slopes():
    return pmwmix.fit("y ~ x + (x | school)", nested())


@pytest.fixture(scope="module")
def weighted():
    s = survey()
    return pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="size", pv=s.pv)


def test_criteria_of_a_likelihood_are_lme4s(slopes):
    """R, lme4: AIC(m) and BIC(m), -2 logLik + 2 npar and + log(n) npar, six parameters."""
    close(slopes.aic, -2 * slopes.loglik + 12)
    close(slopes.bic, -2 * slopes.loglik + 6 * np.log(161))
    line = pmwmix.lrt(pmwmix.fit("y ~ x + (1 | school)", nested()), slopes)
    close(line["aic"].iloc[1], slopes.aic)
    close(line["bic"].iloc[1], slopes.bic)


def test_criteria_under_weights_are_those_of_lrt(weighted):
    s = survey()
    smaller = pmwmix.fit("math ~ escs + (1 + escs | SCHOOLID)", s.data, weights=s.weights, scaling="size", pv=s.pv)
    line = pmwmix.lrt(smaller, weighted).iloc[1]
    close([weighted.aic, weighted.bic], [line["aic"], line["bic"]])


def test_weights_times_a_constant_leave_the_criteria():
    d = nested()
    one = pmwmix.fit("y ~ x + (1 | school)", d, weights=["t1", "w3"], scaling="size")
    ten = pmwmix.fit(
        "y ~ x + (1 | school)", d.assign(t1=10 * d["t1"], w3=10 * d["w3"]), weights=["t1", "w3"], scaling="size"
    )
    close([one.aic, one.bic], [ten.aic, ten.bic], rtol=1e-6)


def test_criteria_of_loaded_fits(slopes, tmp_path):
    back = pmwmix.load(slopes.save(tmp_path / "plain"))
    close([back.aic, back.bic], [slopes.aic, slopes.bic])
    fit = pmwmix.fit("y ~ x + (1 | school)", nested(), weights=["t1", "w3"])
    back = pmwmix.load(fit.save(tmp_path / "weighted"))
    with pytest.raises(NotSupportedError, match=r"design-adjusted AIC.*read from a file"):
        back.aic  # noqa: B018
    assert np.isnan(back.glance()["aic"][0]) and back.glance()["npar"][0] == 4
    cs = pmwmix.load(pmwmix.fit("y ~ x + cs(1 + x | school)", nested()).save(tmp_path / "cs"))
    with pytest.raises(NotSupportedError, match="number of parameters"):
        cs.bic  # noqa: B018


def test_a_fit_in_one_row(slopes, weighted):
    row = slopes.glance().iloc[0]
    assert len(slopes.glance()) == 1 and row["nobs"] == 161 and row["n_school"] == 14 and row["npar"] == 6
    close([row["icc"], row["sigma"], row["loglik"], row["aic"]], [slopes.icc, slopes.sigma, slopes.loglik, slopes.aic])
    assert row["converged"] and row["status"] == slopes.status
    three = pmwmix.fit("y ~ x + (1 | school) + (1 | classroom)", nested()).glance()
    assert {"icc_school", "icc_classroom", "n_classroom"} <= set(three)
    assert np.isnan(pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial").glance()["sigma"][0])


def test_rows_with_what_the_fit_says_of_them(slopes):
    d = nested()
    out = slopes.augment(d)
    assert list(out.columns) == [*d.columns, ".fitted", ".fixed", ".resid", ".pearson"]
    close(out[".fitted"] + out[".resid"], d["y"])
    close(out[".fixed"], slopes.coef["Intercept"] + slopes.coef["x"] * d["x"])
    assert list(slopes.augment().columns) == [".fitted", ".fixed", ".resid", ".pearson"]
    missing = d.assign(x=d["x"].where(d.index % 5 > 0)).set_index(d.index + 1000)
    fit = pmwmix.fit("y ~ x + (1 | school)", missing)
    out = fit.augment(missing)
    assert len(out) == fit.nobs and (out["x"].notna()).all() and out.index.equals(fit.index)
    polars = pytest.importorskip("polars")
    close(
        pmwmix.fit("y ~ x + (x | school)", polars.DataFrame(d)).augment(polars.DataFrame(d))[".resid"],
        slopes.residuals(),
    )


def test_rows_of_an_ordinal_outcome():
    fit = pmwmix.fit("mark ~ x + (1 | school)", outcomes(), family="cumulative", n_agq=1)
    out = fit.augment(outcomes())
    close(out.filter(regex=r"^\.fitted\[").sum(axis=1), np.ones(len(out)))
    assert ".resid" not in out


def test_rows_of_another_table_are_refused(slopes):
    with pytest.raises(DataError, match="lacks 61 of its rows"):
        slopes.augment(nested().iloc[:100])
    with pytest.raises(DataError, match="repeat"):
        slopes.augment(pd.concat([nested(), nested()]))


@pytest.mark.parametrize(
    ("name", "here"),
    [("params", "coef"), ("bse", "se"), ("resid", "residuals()"), ("llf", "loglik"), ("cov_params", "vcov"),
     ("AIC", "aic"), ("conf_int", "confint()"), ("t_test", "contrast()"), ("VarCorr", "varcorr")],
)  # fmt: skip
def test_names_of_other_programs_are_hinted_at(slopes, name, here):
    with pytest.raises(AttributeError, match=name) as caught:
        getattr(slopes, name)
    assert f"Use fit.{here}." in str(caught.value) and isinstance(caught.value, OptionError)
    assert not hasattr(slopes, name)


def test_functions_of_the_package_are_hinted_at(slopes):
    for name, call in {"effects": "plots.effects", "cooks_distance": "influence", "anova": "lrt"}.items():
        with pytest.raises(AttributeError, match=rf"function here\. Call pmwmix\.{call}"):
            getattr(slopes, name)


def test_misspelt_members_are_hinted_at_and_copies_work(slopes):
    with pytest.raises(AttributeError, match=r"'varcor'.*Did you mean 'varcorr'"):
        slopes.varcor  # noqa: B018
    for twin in (copy.copy(slopes), copy.deepcopy(slopes), pickle.loads(pickle.dumps(slopes))):
        close(twin.coef, slopes.coef)
    assert not hasattr(slopes, "__array__") and not hasattr(slopes, "_ipython_display_")


def test_every_hint_leads_to_a_member(slopes):
    from pmwmix.results.hints import ELSEWHERE

    for name, here in ELSEWHERE.items():
        assert not hasattr(type(slopes), name) and hasattr(slopes, here.partition("(")[0].split(" ")[0]), name


# -- types --------------------------------------------------------------------------------------------------------


def test_types_of_the_call_are_those_of_the_call():
    given = inspect.signature(pmwmix.fit).parameters
    assert list(options.FitOptions.__annotations__) == [n for n in given if n not in ("formula", "data", "method")]
    returned = [inspect.signature(one).return_annotation for one in typing.get_overloads(pmwmix.fit)]
    assert returned == ["BayesResult", "FitResult", "FitResult | BayesResult"]
    assert (Path(pmwmix.__file__).parent / "py.typed").exists()


def test_names_in_types_are_those_of_the_registries():
    from pmwmix.families import FAMILIES
    from pmwmix.variance import VARIANCES
    from pmwmix.weights.replicate_types import BY_REPLICATES

    def names(of):
        return {name for part in typing.get_args(of) for name in typing.get_args(part) if isinstance(name, str)}

    assert names(options.Family) == set(FAMILIES)
    assert names(options.Vcov) == {*VARIANCES, *BY_REPLICATES}
    assert set(pmwmix.SCALINGS) <= names(options.Scaling)
