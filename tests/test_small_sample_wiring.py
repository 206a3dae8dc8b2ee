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


def test_small_sample_variance_is_pooled_and_saved(tmp_path):
    s = survey()
    fit = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, weights=s.weights, scaling="size", pv=s.pv, vcov="CR2")
    assert (fit.tidy()["df"] < 39).all()
    back = pmwmix.load(fit.save(tmp_path / "cr2.pmwmix"))
    close(back.tidy()["df"], fit.tidy()["df"])
    assert str(back.summary()) == str(fit.summary())
