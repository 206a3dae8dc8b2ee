"""Kenward-Roger and CR0-CR3 as a user reaches them: through vcov=, tidy(df=), wald()."""

import numpy as np
import pytest
from helpers import close, nested, sleepstudy, survey

import pmwmix
from pmwmix.errors import NotSupportedError


def test_kenward_roger_through_tidy_and_wald():
    """pbkrtest: summary(lmer(Reaction ~ Days + (Days | Subject), sleepstudy), ddf = "Kenward-Roger"): df 17, 17."""
    fit = pmwmix.fit("Reaction ~ Days + (Days | Subject)", sleepstudy(), method="reml")
    tidy = fit.tidy(df="kenward-roger").set_index("term")
    close(tidy["df"], [17.0, 17.0], atol=1e-3)
    close(tidy["std_error"], fit.se, rtol=1e-3)  # balanced: the adjustment is nil
    test = fit.wald("Days", df="kenward-roger")
    close(test["p_value"], tidy.loc["Days", "p_value"], rtol=1e-6)
    with pytest.raises(NotSupportedError, match="ml"):
        pmwmix.fit("Reaction ~ Days + (Days | Subject)", sleepstudy()).tidy(df="kenward-roger")


@pytest.mark.parametrize("kind", ["CR0", "CR1", "CR2", "CR3"])
def test_cluster_robust_kinds_in_a_fit(kind):
    d = nested()
    options = {"weights": ["w1", "w3"], "conditional": True, "scaling": "size"}
    fit = pmwmix.fit("y ~ x + (1 | school)", d, vcov=kind, **options)
    block = pmwmix.fit("y ~ x + (1 | school)", d, vcov="robust-block", **options)
    close(fit.coef, block.coef)
    factor = {"CR0": np.sqrt(13 / 14), "CR1": 1.0}.get(kind)
    if factor is not None:
        close(fit.se, factor * block.se, rtol=1e-7)
    else:
        assert (fit.se > block.se * np.sqrt(13 / 14)).all()
    assert (fit.tidy()["df"] < 13).all() and (fit.tidy()["df"] > 2).all()
    tenfold = pmwmix.fit("y ~ x + (1 | school)", d.assign(w3=10 * d["w3"]), vcov=kind, **options)
    close(tenfold.se, fit.se, rtol=1e-6)
    assert kind in str(fit.summary())


def weighted(formula="y ~ x + v + (1 | school)", **more):
    d = nested()
    d = d.assign(v=np.sin(np.arange(len(d))), small=lambda t: 1e9 * t["v"])
    return pmwmix.fit(formula, d, weights=["w1", "w3"], conditional=True, scaling="size", **{"vcov": "CR2"} | more)


def test_hotelling_ignores_how_a_hypothesis_is_written():
    """Rows mixed, doubled and repeated; other units of a predictor; a pair of coefficients as one contrast."""
    fit = weighted()
    one = fit.wald(["x", "v"])
    close(fit.wald([[0, 1, 1], [0, 3, -1], [0, 6, -2]]), one, rtol=1e-8)
    other = weighted("y ~ x + small + (1 | school)")
    close(other.wald(["x", "small"]), one, rtol=1e-5)
    close(fit.wald("x")["df2"], fit.tidy()["df"][1])
    close(fit.wald([[0, 1, -1]])["df2"], weighted("y ~ x + I(x + v) + (1 | school)").tidy()["df"][1], rtol=1e-6)
    assert fit.wald(["x", "v"], df="design")["df2"] == 12  # 14 schools: 13 - 2 + 1


def test_hotelling_of_plausible_values_and_files(tmp_path):
    """Identical plausible values change nothing."""
    d = nested().assign(v=lambda t: np.sin(np.arange(len(t))), a=lambda t: t["y"], b=lambda t: t["y"])
    options = {"weights": ["w1", "w3"], "conditional": True, "scaling": "size", "vcov": "CR2"}
    both = pmwmix.fit("s ~ x + v + (1 | school)", d, pv={"s": ["a", "b"]}, **options)
    close(both.wald(["x", "v"]), weighted().wald(["x", "v"]), rtol=1e-6)
    back = pmwmix.load(weighted().save(tmp_path / "cr2"))
    close(back.wald("x"), weighted().wald("x"))
    with pytest.raises(NotSupportedError, match="read from a file"):
        back.wald(["x", "v"])


def test_wald_does_not_depend_on_units():
    """A coefficient a billion times smaller is still a coefficient."""
    one, other = weighted(vcov="robust"), weighted("y ~ x + small + (1 | school)", vcov="robust")
    close(other.wald(["x", "small"]), one.wald(["x", "v"]), rtol=1e-6)
    close(other.wald(["Intercept", "small"]), one.wald(["Intercept", "v"]), rtol=1e-6)


def test_small_sample_variance_is_pooled_and_saved(tmp_path):
    s = survey()
    fit = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, weights=s.weights, scaling="size", pv=s.pv, vcov="CR2")
    assert (fit.tidy()["df"] < 39).all()
    back = pmwmix.load(fit.save(tmp_path / "cr2.pmwmix"))
    close(back.tidy()["df"], fit.tidy()["df"])
    assert str(back.summary()) == str(fit.summary())
