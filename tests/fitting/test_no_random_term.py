"""Generalised linear models: numbers of R's survey and glmmTMB, a likelihood at random effects of zero, every verb."""

import numpy as np
import pytest
from helpers import close, outcomes
from scipy import stats

import pmwmix
from pmwmix.data.table import Table
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.families import FAMILIES
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.frame.build import build_frame
from pmwmix.likelihood.general import flat
from pmwmix.spec.design import Design
from pmwmix.spec.formula import parse
from pmwmix.spec.outcome import Distribution

OUTCOMES = [
    ("z", "binomial", "logit"),
    ("z", "binomial", "probit"),
    ("cbind(hits, misses)", "binomial", "cloglog"),
    ("count", "poisson", "log"),
    ("visits", "negbinomial", "log"),
    ("minutes", "gamma", "log"),
    ("minutes", "gaussian", "log"),
    ("share", "beta", "logit"),
    ("y", "student", "identity"),
    ("mark", "cumulative", "logit"),
    ("mark", "cumulative", "cloglog"),
]
DESIGN = {"strata": "s", "psu": "school"}


def data():
    d = outcomes()
    d["s"], d["misses"] = d["school"] % 3, d["n"] - d["hits"]
    return d


def problem_of(formula, family, link, weights=None, d=None):
    """The likelihood alone, at parameters of the caller's choice."""
    known = FAMILIES[family]
    asked = Distribution(family, link, known.read, False, known.has_scale)
    frame = build_frame(
        parse(formula), Table(data() if d is None else d), Design(weights=weights, conditional=True), (), None, asked
    )
    return frame, make_problem(frame, frame.designs[0], Plan("numpy", n_agq=1))


@pytest.mark.parametrize(("y", "family", "link"), OUTCOMES)
def test_it_is_the_multilevel_likelihood_with_random_effects_of_zero(y, family, link):
    """Value, gradient and Hessian; rows of a unit add up to the scores of the unit."""
    _, multilevel = problem_of(f"{y} ~ x + v + (1 | school)", family, link, ["w1", "w3"])
    d = data()
    d["total"] = d["w1"] * d["w3"]
    _, alone = problem_of(f"{y} ~ x + v", family, link, ["total"], d=d)
    psi = alone.objective.start() + 0.1 * np.random.default_rng(0).normal(size=len(alone.objective.start()))
    p = alone.structure.p
    whole, keep = np.insert(psi, p, 0.0), np.arange(len(psi) + 1) != p
    a, b = alone.objective.at(psi), multilevel.objective.at(whole)
    ratio = alone.top_scale / multilevel.top_scale  # the top level's mean weight counts as 1
    close(a.value * ratio, b.value, rtol=1e-12)
    close(a.gradient * ratio, b.gradient[keep], rtol=1e-10, atol=1e-10 * abs(b.value))
    close(a.hessian * ratio, b.hessian[np.ix_(keep, keep)], rtol=1e-10, atol=1e-10 * abs(b.value))
    scores = alone.objective.scores(a)
    close(scores.sum(axis=0), -a.gradient, rtol=1e-10, atol=1e-11 * abs(a.value))
    units = np.array([np.bincount(d["school"], column) for column in scores.T]).T
    close(units * ratio, multilevel.objective.scores(b)[:, keep], rtol=1e-9, atol=1e-11 * abs(b.value))


@pytest.mark.parametrize(("y", "family", "link"), OUTCOMES)
def test_derivatives(y, family, link):
    """Central differences; steps of 1e-5 leave eight digits."""
    _, problem = problem_of(f"{y} ~ x + v + offset(0.1 * x)", family, link, ["t1"])
    psi = problem.objective.start() + 0.05
    point = problem.objective.at(psi)
    steps = 1e-5 * np.eye(len(psi))
    sides = [(problem.objective.at(psi + h), problem.objective.at(psi - h)) for h in steps]
    close(point.gradient, [(a.value - b.value) / 2e-5 for a, b in sides], rtol=2e-7, atol=1e-7 * abs(point.value))
    close(point.hessian, [(a.gradient - b.gradient) / 2e-5 for a, b in sides], rtol=2e-6, atol=1e-6 * abs(point.value))


@pytest.mark.parametrize("engine", ["numpy", "jax"])
def test_rows_in_pieces(monkeypatch, engine):
    """161 rows at once, and in pieces of 50 of which the last overlaps the one before."""
    whole = pmwmix.fit("visits ~ x", data(), family="negbinomial", weights="t1", design=DESIGN)
    monkeypatch.setattr(flat, "ROWS", 50)
    parts = pmwmix.fit("visits ~ x", data(), family="negbinomial", weights="t1", design=DESIGN, engine=engine)
    close(parts.coef, whole.coef, rtol=1e-9)
    close(parts.vcov, whole.vcov, rtol=1e-9)


# s <- svydesign(id = ~school, strata = ~s, weights = ~t1, data = d, nest = TRUE); of survey 4.1-1:
# coefficients and standard errors of svyglm(z ~ x + v, s, family = quasibinomial("probit"), control =
# glm.control(epsilon = 1e-14)) and so on; df.residual is 9 in all of them
SVYGLM = {
    ("z", "binomial", "probit"): (
        [-0.1943356528, 0.1470758756, -0.002454952244],
        [0.1690331198, 0.07817945418, 0.1007481942],
    ),
    ("count", "poisson", "log"): (
        [-0.7589586401, 0.4100155566, 0.1067802318],
        [0.2239746727, 0.0909705793, 0.2294382104],
    ),
    ("cbind(hits, misses)", "binomial", "cloglog"): (
        [-1.22891826, 0.3631244275, 0.02765673989],
        [0.2227144348, 0.0599881337, 0.1146514928],
    ),
    ("minutes", "gamma", "log"): (
        [-0.7455702163, 0.4299301436, 0.03663525211],
        [0.2047249401, 0.04802565679, 0.156777781],
    ),
}


@pytest.mark.parametrize("model", SVYGLM)
def test_svyglm(model):
    """To seven digits: Fisher scoring, with other links than the canonical ones, comes near linearly."""
    y, family, link = model
    fit = pmwmix.fit(f"{y} ~ x + v", data(), family=family, link=link, weights="t1", design=DESIGN)
    coef, se = SVYGLM[model]
    close(fit.coef, coef, rtol=1e-7, atol=1e-7)
    close(fit.se, se, rtol=1e-7)
    assert (fit.df() == 9).all()  # 14 PSUs - 3 strata - 2 slopes
    assert fit.settings.clusters == ("school", "s", 14, 3)


def test_svyolr():
    """svyolr(mark ~ x + v, s); R's optimiser stops early, and df.residual takes slopes off, not thresholds."""
    fit = pmwmix.fit("mark ~ x + v", data(), family="cumulative", weights="t1", design=DESIGN)
    coef = {"1|2": 0.19648144, "2|3": 1.1849236, "3|4": 2.7891556, "x": 0.45370815, "v": 0.039338689}
    se = {"1|2": 0.31071752, "2|3": 0.39927714, "3|4": 0.33126369, "x": 0.15774563, "v": 0.15893176}
    close(fit.coef[list(coef)], list(coef.values()), rtol=1e-3, atol=1e-3)
    close(fit.se[list(se)], list(se.values()), rtol=1e-3)
    assert (fit.df() == 9).all()


def test_glmmtmb_without_random_effects():
    """glmmTMB(visits ~ x + v, d, family = nbinom2) and glmmTMB(share ~ x + v, d, family = beta_family()), 1.1.5."""
    fit = pmwmix.fit("visits ~ x + v", data(), family="negbinomial")
    close(fit.coef, [-1.1973453774, 0.516694826, 0.2399144279], rtol=1e-5)
    close(fit.se, [0.25367542831, 0.09416161924, 0.15704754369], rtol=1e-4)
    close(fit.loglik, -203.6528604, rtol=1e-9)
    fit = pmwmix.fit("share ~ x + v", data(), family="beta")
    close(fit.coef, [-1.3264994714, 0.4846899953, 0.1054461281], rtol=1e-5)
    close(fit.se, [0.14019409471, 0.06063442351, 0.09310440222], rtol=1e-4)


def test_errors_of_a_probit_model_rest_on_the_expected_information():
    """By hand, (X'WX)^-1 with W = phi(eta)² / (Phi(eta) (1 - Phi(eta))), as glm has it."""
    d = data()
    fit = pmwmix.fit("z ~ x + v", d, family="binomial", link="probit")
    X = np.column_stack([np.ones(len(d)), d["x"], d["v"]])
    eta = X @ fit.coef.to_numpy()
    W = stats.norm.pdf(eta) ** 2 / (stats.norm.cdf(eta) * stats.norm.sf(eta))
    close(fit.vcov, np.linalg.inv((X.T * W) @ X), rtol=1e-9)


@pytest.mark.parametrize(("y", "family", "link"), [("z", "binomial", "logit"), ("visits", "negbinomial", "log")])
def test_what_must_not_change_the_fit(y, family, link):
    """Order of rows, a factor of the weights, scale of predictors, an offset that a coefficient takes up."""
    d = data()

    def fit(table=d, formula=f"{y} ~ x + v", weights="t1"):
        return pmwmix.fit(formula, table, family=family, link=link, weights=weights, design=DESIGN)

    base = fit()
    for other in (fit(d.sample(frac=1.0, random_state=1)), fit(d.assign(t7=7.0 * d["t1"]), weights="t7")):
        close(other.coef, base.coef, rtol=1e-8)
        close(other.se, base.se, rtol=1e-8)
    wide = fit(d.assign(x=1000.0 * d["x"] + 7.0))
    close(wide.coef["x"] * 1000.0, base.coef["x"], rtol=1e-7)
    close(wide.loglik, base.loglik, rtol=1e-10)
    close(fit(formula=f"{y} ~ x + v + offset(0.3 * x)").coef["x"] + 0.3, base.coef["x"], rtol=1e-7)


def test_tests_against_a_model_without_random_term_agree_with_ranova():
    d = data()
    small = pmwmix.fit("z ~ x", d, family="binomial")
    large = pmwmix.fit("z ~ x + (1 | school)", d, family="binomial")
    table, other = pmwmix.lrt(small, large), pmwmix.ranova(large)
    close(table["chisq"].iloc[1], other["chisq"].iloc[1], rtol=1e-8)
    close(table["p_boundary"].iloc[1], other["p_boundary"].iloc[1], rtol=1e-6)
    two = pmwmix.lrt(pmwmix.fit("z ~ 1", d, family="binomial"), small)
    close(two["chisq"].iloc[1], 2 * (small.loglik - pmwmix.fit("z ~ 1", d, family="binomial").loglik), rtol=1e-8)


@pytest.mark.parametrize("how", ["replicate", "replicate-one-step"])
def test_replicates_are_refits(how):
    """JK2 by hand: the same model with each replicate's weights."""
    d = data()
    rng = np.random.default_rng(2)
    names = [f"R{r}" for r in range(4)]
    for r, name in enumerate(names):
        half = np.where(d["school"] % 4 == r, rng.choice([0.0, 2.0], 14)[d["school"]], 1.0)
        d[name] = d["t1"] * half
    design = {"replicate_weights": names, "replicate_type": "jk2"}
    fit = pmwmix.fit("mark ~ x", d, family="cumulative", weights="t1", design=design, vcov=how)
    each = [pmwmix.fit("mark ~ x", d[d[name] > 0], family="cumulative", weights=name).coef for name in names]
    expected = sum(np.outer(one - fit.coef, one - fit.coef) for one in each)
    close(fit.vcov, expected, rtol=1e-6 if how == "replicate" else 0.1)


def test_plausible_values_are_pooled():
    d = data()
    for k in (1, 2, 3):
        d[f"PV{k}"] = (d["y"] + 0.1 * np.random.default_rng(k).normal(size=len(d)) > 0).astype(int)
    fit = pmwmix.fit("pass ~ x", d, family="binomial", weights="t1", design=DESIGN, pv={"pass": "PV{}"})
    each = [pmwmix.fit(f"PV{k} ~ x", d, family="binomial", weights="t1", design=DESIGN) for k in (1, 2, 3)]
    coefs = np.array([one.coef for one in each])
    close(fit.coef, coefs.mean(axis=0), rtol=1e-7)
    total = np.mean([one.vcov for one in each], axis=0) + 4 / 3 * np.cov(coefs.T)
    close(fit.vcov, total, rtol=1e-7)
    assert (fit.df() < 14 - 3 - 1).all() and fit.quadrature is None


def test_summary_tables_and_saved_fits(tmp_path):
    d = data()
    for y, family, link in OUTCOMES[:1] + OUTCOMES[4:5] + OUTCOMES[-2:-1]:
        fit = pmwmix.fit(f"{y} ~ x + v", d, family=family, link=link, weights="t1", design=DESIGN, n_agq=3)
        text = fit.summary().to_text(1000)
        assert "Generalised linear model (" in text and "Integration" not in text and "Variance terms" not in text
        assert fit.ranef() == {} and fit.varcorr.empty and np.isnan(fit.icc) and fit.theta.empty
        assert fit.r2()["estimate"]["marginal"] == fit.r2()["estimate"]["conditional"]
        fit.save(tmp_path / "fit.npz")
        again = pmwmix.load(tmp_path / "fit.npz")
        assert again.summary().to_text(1000) == text
        close(again.predict(d), fit.predict(d), rtol=1e-12)
        close(again.tidy().drop(columns="term"), fit.tidy().drop(columns="term"), rtol=1e-12)


def test_marginal_effects_by_hand():
    d = data()
    fit = pmwmix.fit("z ~ x + v", d, family="binomial", weights="t1", design=DESIGN)
    eta = fit.predict(d, type="link")
    slope = np.average(np.exp(-np.abs(eta)) / (1 + np.exp(-np.abs(eta))) ** 2, weights=d["t1"]) * fit.coef["x"]
    effects = fit.ame(newdata=d).set_index("term")
    close(effects.loc["x", "estimate"], slope, rtol=1e-6)
    close(effects.loc["x", "df"], 9)
    close(fit.residuals(), d["z"] - fit.predict(d), rtol=1e-10)


def test_groups_of_fits():
    fits = pmwmix.fit_groups("count ~ x", data(), by="s", family="poisson", weights="t1", progress=False)
    alone = pmwmix.fit("count ~ x", data().query("s == 1"), family="poisson", weights="t1")
    close(fits[1].coef, alone.coef, rtol=1e-9)


def test_posterior_without_random_term():
    """Flat enough priors: the mean is near the maximum, within a tenth of a standard error by 2000 draws."""
    d = data()
    fit = pmwmix.fit(
        "count ~ x", d, family="poisson", method="bayes", draws=500, tune=500, chains=2, random_seed=1, progress=False
    )
    away = (fit.coef - fit.ml.coef) / fit.ml.se
    assert (np.abs(away) < 0.3).all()
    close(fit.se, fit.ml.se, rtol=0.15)
    assert "Generalised linear model" in str(fit) and "Standard deviations" not in str(fit)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: pmwmix.fit("y ~ x", d, family="student", vcov="CR2"), NotSupportedError, "'CR2' with family"),
        (lambda d: pmwmix.fit("z ~ x", d, family="binomial", n_agq=(3, 3)), OptionError, "no random term"),
        (lambda d: pmwmix.quadrature_check(pmwmix.fit("z ~ x", d, family="binomial")), NotSupportedError, "'z ~ x'"),
        (
            lambda d: pmwmix.plots.caterpillar(pmwmix.fit("z ~ x", d, family="binomial")),
            NotSupportedError,
            "no random term",
        ),
        (lambda d: pmwmix.fit("z ~ x", d, family="binomial").ranef("school"), OptionError, "'school'"),
        (lambda d: pmwmix.fit("z ~ x", d, family="binomial", method="reml"), NotSupportedError, "REML"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call(data())
