"""method="bayes": the density that is sampled, against dense matrices, a hand-written PyMC model and the fit by ML.

Tolerances of sampled quantities are in Monte-Carlo standard errors, MCSE = SD / sqrt(ESS): four of them (five where
many numbers are compared at once) are exceeded by chance in fewer than 1 of 10,000 comparisons. Seeds are fixed.
"""

import functools

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from helpers import close, nested, outcomes, sleepstudy
from pytensor.compile.mode import Mode
from scipy import stats

import pmwmix
from pmwmix.fitting.rawscale import all_parameters, raw_map
from pmwmix.inference.icc import mean_squares, shares
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.sample.draws.correction import corrected, correction_of
from pmwmix.sample.draws.quantities import deviations, raw_draws, term_names
from pmwmix.sample.model import coordinates
from pmwmix.sample.model.model import arrays_of
from pmwmix.sample.model.target import target_of
from pmwmix.sample.nuts.convergence import convergence
from pmwmix.variance import VARIANCES

pytestmark = pytest.mark.optimised  # thousands of draws take longer than the compiler does
PLAIN = Mode("py", None)
ML = {"engine": "python"}
SHORT = {"method": "bayes", "random_seed": 4, "engine": "python", "progress": False}
NONE = {"conditional": True, "scaling": "none"}


def integer_weights():
    """Rows, classes and schools with whole weights, so that weighting is the same as replication."""
    d, rng = nested(), np.random.default_rng(0)
    d["w1"] = rng.integers(1, 3, len(d)).astype(float)
    d["w2"] = rng.integers(1, 3, d["classroom"].max() + 1)[d["classroom"]].astype(float)
    d["w3"] = rng.integers(1, 4, 14)[d["school"]].astype(float)
    return d


def replicated(d, levels):
    """Repeat rows, and the units of ``levels`` (column, weight column) with all their rows, from the bottom up."""
    out = d.loc[d.index.repeat(d["w1"].astype(int))].reset_index(drop=True)
    for group, weight in levels:
        copies = []
        for c in range(int(out[weight].max())):
            part = out[out[weight] > c].copy()
            for g, _ in levels[: levels.index((group, weight)) + 1]:
                part[g] = part[g].astype(str) + f"/{group}{c}"
            copies.append(part)
        out = pd.concat(copies, ignore_index=True)
    return out


def dense(d, y, X, random, sigma):
    """Log-density of N(X beta, sum Z Psi Z' + sigma² I) at y, top-level unit by unit."""
    r, total = y - X, 0.0
    top = random[-1][0] if random else None
    for _, part in d.assign(r=r, at=np.arange(len(d))).groupby(d[top] if top else np.zeros(len(d))):
        S = sigma**2 * np.eye(len(part))
        for group, columns, Psi in random:
            same = part[group].to_numpy()[:, None] == part[group].to_numpy()[None]
            Z = columns[part["at"].to_numpy()]
            S += same * (Z @ Psi @ Z.T)
        total += stats.multivariate_normal(np.zeros(len(part)), S).logpdf(part["r"].to_numpy())
    return total


def density_of(target):
    """Log-likelihood and gradient as functions of psi."""
    psi = pt.dvector("psi")
    a, b = target.p, target.p + target.n_theta
    symbols = {name: pt.as_tensor(value) for name, value in target.arrays.items()}
    value = target.loglik(symbols, psi[:a], psi[a:b], psi[b:])
    return pytensor.function([psi], [value, pytensor.grad(value, psi)], mode=PLAIN)


def columns(d, names):
    return np.column_stack([np.ones(len(d)) if name == "Intercept" else d[name] for name in names])


JOINT = {
    "two levels": ("y ~ x + (1 | school)", {"weights": ["w1", "w3"]}, [("school", "w3")]),
    "correlated slopes": ("y ~ x + (1 + x | school)", {"weights": ["w1", "w3"]}, [("school", "w3")]),
    "two terms": ("y ~ x + (x || school)", {}, [("school", None)]),
    "three levels": (
        "y ~ x + (1 | classroom) + (1 + x | school)",
        {"weights": ["w1", "w2", "w3"]},
        [("classroom", "w2"), ("school", "w3")],
    ),
    "no random term": ("y ~ x", {"weights": ["w1"]}, []),
}


@functools.cache
def joint(case):
    formula, weights, _ = JOINT[case]
    options = {**weights, **NONE} if weights else {}
    fit = pmwmix.fit(formula, integer_weights(), vcov="model", **options, **ML)
    target = target_of(fit, False)
    return fit, target, density_of(target)


@pytest.mark.parametrize("case", JOINT)
def test_density_is_the_maximised_likelihood(case):
    """At the maximum it is the likelihood that ML reports, without a slope; elsewhere the gradient is right."""
    fit, target, density = joint(case)
    problem = fit.rows.problem
    value, gradient = density(target.ml)
    raw = problem.top_scale * (value - problem.objective.n_free * np.log(target.y_scale))
    close(raw, fit.loglik, rtol=1e-10)
    free = np.ones(len(target.ml), dtype=bool)
    free[target.p : target.p + target.n_theta] = ~target.boundary
    close(gradient[free], 0.0, atol=1e-3)
    psi = target.ml + 0.1 * np.random.default_rng(1).normal(size=len(target.ml))
    h = 1e-6 * np.eye(len(psi))
    differences = [(density(psi + step)[0] - density(psi - step)[0]) / 2e-6 for step in h]
    close(density(psi)[1], differences, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("case", JOINT)
def test_density_is_the_dense_normal_of_replicated_rows(case):
    fit, target, density = joint(case)
    _, weights, levels = JOINT[case]
    d = integer_weights()
    long = d if not weights else replicated(d, [level for level in levels if level[1]])
    psi = target.ml + 0.2 * np.random.default_rng(2).normal(size=len(target.ml))
    raw = raw_draws(target, None, psi)
    z = ["Intercept", "x"]
    random = [(group, columns(long, z[: len(Psi)]), Psi) for (group, _), Psi in zip(levels, raw["Psi"], strict=True)]
    expected = dense(long, long["y"].to_numpy(), columns(long, z) @ raw["beta"], random, float(raw["sigma"]))
    problem = fit.rows.problem
    found = problem.top_scale * (density(psi)[0] - problem.objective.n_free * np.log(target.y_scale))
    close(found, expected, rtol=1e-9)


# -- the data that are sampled -----------------------------------------------------------------------------------------


def same_target(a, b, rtol=1e-7):
    assert a.terms == b.terms and a.components == b.components
    for name, value in arrays_of(a).items():
        if name != "S0":  # sums of squares of standardised columns, next to zeros
            close(np.sort(np.ravel(value)), np.sort(np.ravel(arrays_of(b)[name])), rtol=rtol, atol=1e-8)
    close(a.ml, b.ml, rtol=1e-4, atol=1e-5)
    close(a.information, b.information, rtol=1e-3, atol=1e-3)
    if a.robust is not None and b.robust is not None:
        close(a.robust, b.robust, rtol=1e-3, atol=1e-6)


FIT = functools.partial(pmwmix.fit, "y ~ x + (1 + x | school)", vcov="robust", **ML)


def test_weights_of_one_are_no_weights():
    d = nested().assign(one=1.0)
    same_target(target_of(FIT(d), True), target_of(FIT(d, weights=["one", "one"], conditional=True), True))


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_the_unit_of_top_level_weights_is_irrelevant(family):
    """The pseudo-likelihood that is sampled has as many units as there are, whatever the weights sum to."""
    d = outcomes()
    d["many"] = 1000.0 * d["w3"]
    formula = f"{'y' if family == 'gaussian' else 'z'} ~ v + (1 | school)"
    more = {"conditional": True, "scaling": "size", "family": family, "vcov": "robust", **ML}
    more |= {} if family == "gaussian" else {"n_agq": 3}
    one, other = (pmwmix.fit(formula, d, weights=["w1", top], **more) for top in ("w3", "many"))
    same_target(target_of(one, True), target_of(other, True))
    first, second = correction_of(target_of(one, True)), correction_of(target_of(other, True))
    close(first.matrix, second.matrix, rtol=1e-3, atol=1e-3)


def test_the_order_of_rows_is_irrelevant():
    d = nested()
    same_target(target_of(FIT(d), True), target_of(FIT(d.sample(frac=1.0, random_state=3)), True))


# -- quantities --------------------------------------------------------------------------------------------------------

GENERAL = {
    "binomial": ("z ~ x + v + (1 + v | school)", {"family": "binomial"}),
    "probit, three levels": ("z ~ v + (1 | classroom) + (1 | school)", {"family": "binomial", "link": "probit"}),
    "poisson": ("count ~ x + v + (v || school)", {"family": "poisson"}),
    "negbinomial": ("visits ~ x + (1 | school)", {"family": "negbinomial"}),
    "cumulative": ("mark ~ x + v + (1 + v | school)", {"family": "cumulative"}),
    "gamma": ("minutes ~ x + (1 | school)", {"family": "gamma"}),
    "beta": ("share ~ x + (1 | school)", {"family": "beta"}),
    "student": ("y ~ x + (1 | school)", {"family": "student"}),
}


def around(target, n=4):
    return target.ml + 0.1 * np.random.default_rng(6).normal(size=(2, n, len(target.ml)))


@pytest.mark.parametrize("case", GENERAL)
def test_quantities_of_generalised_models_are_those_of_ml(case):
    """Coefficients, covariances, level-1 variance and further parameters equal the ML path's, draw by draw."""
    formula, options = GENERAL[case]
    fit = pmwmix.fit(formula, outcomes(), n_agq=2, vcov="model", **options, **ML)
    target, general = target_of(fit, False), (fit.rows.problem, fit.rows.k)
    psi = around(target)
    raw = raw_draws(target, general, psi)
    assert term_names(target, general) == tuple(fit.coef.index)
    for place in np.ndindex(psi.shape[:2]):
        expected = raw_map(*general, psi[place])
        values, _ = all_parameters(*general, psi[place])
        reported = [raw["family"][name][place] for name in expected.reported]
        found = [*raw["beta"][place], *raw["vcov"][place], raw["residual"][place], *reported]
        close(found, values, rtol=1e-10, atol=1e-12)
        close(raw["eta_beta"][place], expected.eta_beta, rtol=1e-10, atol=1e-12)
        close(raw["phi"][place], expected.phi, rtol=1e-10, atol=1e-12)
    at_ml = raw_draws(target, general, target.ml)
    close(at_ml["beta"], fit.coef, rtol=1e-9, atol=1e-12)
    close(np.sort(at_ml["vcov"]), np.sort(fit.varcorr["vcov"]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", JOINT)
def test_quantities_of_linear_models_are_those_of_ml(case):
    fit, target, _ = joint(case)
    psi = around(target)
    raw, t = raw_draws(target, None, psi), target.transform
    for place in np.ndindex(psi.shape[:2]):
        beta, theta = psi[place][: target.p], psi[place][target.p : target.p + target.n_theta]
        sigma = np.exp(psi[place][-1])
        close(raw["beta"][place], t.beta(beta), rtol=1e-10)
        close(raw["sigma"][place], t.y_scale * sigma, rtol=1e-10)
        for found, expected in zip(raw["Psi"], t.Psi(target.layout, theta, sigma), strict=True):
            close(found[place], expected, rtol=1e-10)
    at_ml = raw_draws(target, None, target.ml)
    close(at_ml["beta"], fit.coef, rtol=1e-9)
    close(np.sort([*at_ml["vcov"], at_ml["residual"]]), np.sort(fit.varcorr["vcov"]), rtol=1e-7, atol=1e-9)
    if len(fit.n_groups):
        close(shares(at_ml["Psi"], target.squares, at_ml["residual"]), np.ravel(fit.icc), rtol=1e-7)
        sds, sd, pairs, cor = deviations(target, at_ml["vcov"])
        table = fit.varcorr[fit.varcorr["grp"] != "Residual"]
        single = table["var2"].isna()
        assert sds == list(table.loc[single, "grp"] + "." + table.loc[single, "var1"])
        close(sd, table.loc[single, "sdcor"], rtol=1e-7, atol=1e-9)
        assert pairs == [f"{r.grp}.{r.var1}.{r.var2}" for r in table[~single].itertuples()]
        close(cor, table.loc[~single, "sdcor"], rtol=1e-6)


# -- coordinates and the correction ------------------------------------------------------------------------------------

LAYOUTS = [ThetaLayout(((1,),)), ThetaLayout(((2,), (1, 1))), ThetaLayout(((3,), (2, 1)))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_coordinates_round_trip(layout):
    rng = np.random.default_rng(3)
    free = rng.normal(size=(2, 5, layout.n_theta))
    theta = coordinates.from_free(layout, free)
    assert (theta[..., layout.diagonal] > 0).all()
    close(coordinates.to_free(layout, theta), free, rtol=1e-9, atol=1e-9)
    for row in theta.reshape(-1, layout.n_theta):
        for L in layout.unpack(row):
            assert np.linalg.eigvalsh(L @ L.T).min() > 0
    # by a three-point rule of another step
    J, h = coordinates.jacobian(layout, free[0, 0]), 1e-4
    for k, e in enumerate(np.eye(layout.n_theta)):
        slope = coordinates.from_free(layout, free[0, 0] + h * e) - coordinates.from_free(layout, free[0, 0] - h * e)
        close(J[:, k], slope / (2 * h), rtol=1e-5, atol=1e-6)


def test_coordinates_are_log_deviations_and_partial_correlations():
    layout = ThetaLayout(((3,),))
    R = np.array([[1.0, 0.3, -0.2], [0.3, 1.0, 0.5], [-0.2, 0.5, 1.0]])
    sd = np.array([2.0, 0.5, 3.0])
    free = coordinates.to_free(layout, layout.pack([np.linalg.cholesky(R * np.outer(sd, sd))]))
    partial = (R[1, 2] - R[0, 1] * R[0, 2]) / np.sqrt((1 - R[0, 1] ** 2) * (1 - R[0, 2] ** 2))
    close(free[layout.diagonal], np.log(sd))
    close(np.tanh(free[~layout.diagonal]), [0.3, -0.2, partial])


def test_limits_of_coordinates():
    """A zero deviation takes the correlations with it; a correlation of one stands alone."""
    layout = ThetaLayout(((2,), (1,)))
    assert coordinates.limits(layout, np.array([1.0, 0.5, 0.5, 0.0]), 1e-5).tolist() == [False, False, False, True]
    assert coordinates.limits(layout, np.array([0.0, 0.0, 0.5, 1.0]), 1e-5).tolist() == [True, True, False, False]
    assert coordinates.limits(layout, np.array([1.0, 0.5, 0.0, 1.0]), 1e-5).tolist() == [False, True, False, False]


def weighted_target():
    d = nested()
    return target_of(FIT(d, weights=["w1", "w3"], **NONE), True)


def in_coordinates(target, psi):
    part, out = slice(target.p, target.p + target.n_theta), np.array(psi)
    out[..., part] = coordinates.to_free(target.layout, psi[..., part])
    return out


def test_correction_gives_normal_draws_the_sandwich_covariance():
    """Draws with covariance H⁻¹ exactly get covariance V exactly, in the coordinates in which they are moved."""
    target = weighted_target()
    P, part = len(target.ml), slice(target.p, target.p + target.n_theta)
    slope = np.eye(P)
    centre = in_coordinates(target, target.ml)
    slope[part, part] = coordinates.jacobian(target.layout, centre[part])
    H = slope.T @ target.information @ slope
    V = np.linalg.solve(slope, np.linalg.solve(slope, target.robust).T)
    z = np.random.default_rng(5).normal(size=(4, 500, P))
    z -= z.mean(axis=(0, 1))
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.reshape(-1, P).T))).T
    psi = centre + z @ np.linalg.cholesky(np.linalg.inv(H)).T * 0.05
    psi[..., part] = coordinates.from_free(target.layout, psi[..., part])
    moved = in_coordinates(target, corrected(target, correction_of(target), psi))
    close(moved.mean(axis=(0, 1)), in_coordinates(target, psi).mean(axis=(0, 1)), rtol=1e-7, atol=1e-9)
    close(np.cov(moved.reshape(-1, P).T) / 0.05**2, V, rtol=1e-6, atol=1e-8 * np.abs(V).max())


def test_sandwich_is_that_of_ml():
    """The coefficients' block on the raw scale is the fit's robust covariance."""
    fit = FIT(nested(), weights=["w1", "w3"], **NONE)
    target = target_of(fit, True)
    A = target.y_scale * target.A_x
    close(A @ target.robust[: target.p, : target.p] @ A.T, fit.vcov, rtol=1e-8)
    assert "robust" in VARIANCES


def test_correction_leaves_a_variance_on_the_boundary_alone():
    d, rng = nested(), np.random.default_rng(8)
    d["flat"] = rng.normal(size=len(d))
    d["flat"] -= d.groupby("school")["flat"].transform("mean")
    fit = pmwmix.fit("flat ~ x + (1 | school)", d, weights=["w1", "w3"], **NONE, **ML)
    target = target_of(fit, True)
    assert target.boundary.all()
    correction = correction_of(target)
    assert correction.held.tolist() == [False, False, True, False]
    psi = np.abs(target.ml + 0.05 * rng.normal(size=(2, 50, 4)))
    moved = corrected(target, correction, psi)
    assert np.isfinite(moved).all()
    close(moved[..., 2], psi[..., 2])


# -- posteriors --------------------------------------------------------------------------------------------------------


def summary_of(values):
    """Mean, standard deviation and their Monte-Carlo errors of draws (chain, draw)."""
    found = convergence(values[..., None])
    mean, sd, ess = values.mean(), values.std(ddof=1), float(found["ess_bulk"][0])
    tails = convergence(((values - mean) ** 2)[..., None])
    return mean, sd, sd / np.sqrt(ess), float(tails["mcse_mean"][0]) / (2 * sd)


def same_posterior(a, b, errors=4.0):
    """Means and standard deviations of two samples agree within Monte-Carlo error."""
    (m1, s1, em1, es1), (m2, s2, em2, es2) = summary_of(a), summary_of(b)
    assert abs(m1 - m2) < errors * np.hypot(em1, em2), (m1, m2, em1, em2)
    assert abs(s1 - s2) < errors * np.hypot(es1, es2), (s1, s2, es1, es2)


SLEEP = {
    "Intercept": "Normal(300, 100)",
    "Days": pm.Normal.dist(5, 10),
    "Subject.Intercept": "HalfNormal(sigma=30)",
    "Subject.Days": "Gamma(2, 0.4)",
    "Subject": "LKJ(1.5)",
    "sigma": "HalfNormal(50)",
}


@functools.cache
def sleep():
    formula = "Reaction ~ Days + (1 + Days | Subject)"
    return pmwmix.fit(formula, sleepstudy(), priors=SLEEP, draws=1500, tune=600, **SHORT)


def explicit_model(d):
    """The same model with its random effects spelled out, as a textbook writes it; Days centred."""
    subject, codes = np.unique(d["Subject"].astype(str), return_inverse=True)
    x = d["Days"].to_numpy(dtype=float)
    with pm.Model() as model:
        a, b = pm.Normal("a", 300, 100), pm.Normal("b", 5, 10)
        s0, s1 = pm.HalfNormal("s0", 30), pm.Gamma("s1", alpha=2, beta=0.4)
        r = 2 * pm.Beta("half", 1.5, 1.5) - 1
        sigma = pm.HalfNormal("sigma", 50)
        z = pm.Normal("z", shape=(2, len(subject)))
        u0, u1 = s0 * z[0], s1 * (r * z[0] + pt.sqrt(1 - r**2) * z[1])
        centred = x - x.mean()
        mean = a + b * centred + u0[codes] + u1[codes] * centred
        pm.Normal("y", mean, sigma, observed=d["Reaction"].to_numpy())
        variance = s0**2 - 2 * x.mean() * r * s0 * s1 + (x.mean() * s1) ** 2
        pm.Deterministic("Intercept", a - b * x.mean())
        pm.Deterministic("sd0", pt.sqrt(variance))
        pm.Deterministic("cor", (r * s0 - x.mean() * s1) / pt.sqrt(variance))
    return model


def test_posterior_is_that_of_explicit_random_effects():
    import nutpie

    compiled = nutpie.compile_pymc_model(explicit_model(sleepstudy()), backend="jax", gradient_backend="jax")
    other = nutpie.sample(compiled, draws=2000, tune=800, chains=2, seed=2, progress_bar=False)["posterior"]
    ours = sleep().idata["posterior"]
    pairs = {
        "Intercept": ours["beta"].sel(term="Intercept"),
        "b": ours["beta"].sel(term="Days"),
        "sd0": ours["sd"].sel(component="Subject.Intercept"),
        "s1": ours["sd"].sel(component="Subject.Days"),
        "cor": ours["cor"].sel(pair="Subject.Intercept.Days"),
        "sigma": ours["sigma"],
    }
    for name, values in pairs.items():
        same_posterior(np.asarray(values), np.asarray(other[name]))


def test_a_seed_gives_the_same_draws():
    d = nested()
    one, same, new = (
        pmwmix.fit("y ~ x + (1 | school)", d, draws=60, tune=100, chains=2, **{**SHORT, "random_seed": seed})
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one.draws(), same.draws()) and not np.array_equal(one.draws(), new.draws())
    assert one.how["random_seed"] == 1
    assert not one.corrected and "posterior_uncorrected" not in one.idata.children


# -- a survey: weights, plausible values, the correction ---------------------------------------------------------------


@functools.cache
def school_survey():
    return pmwmix.simulate_survey(300, 10, n_pv=2, random_seed=11)


@functools.cache
def school_fit(vcov=None):
    s = school_survey()
    formula = "math ~ escs + female + (1 + escs | SCHOOLID)"
    more = {"weights": s.weights, "scaling": "size", "pv": s.pv, "vcov": vcov, **SHORT}
    return pmwmix.fit(formula, s.data, draws=1000, tune=400, **more)


def test_posterior_means_are_near_ml():
    """With 300 schools the default priors are flat. MCSE of a mean is 1/sqrt(2500) = 0.02 of a standard deviation."""
    for fit in school_fit().fits:
        assert (abs(fit.coef - fit.ml.coef) / fit.se).max() < 0.1
        sd = fit.varcorr["se"]
        assert (abs(fit.varcorr["vcov"] - fit.ml.varcorr["vcov"]) / sd).max() < 0.4  # skewed: mean above mode


def test_corrected_spread_is_the_robust_standard_error():
    """MCSE of a standard deviation is 1/sqrt(2 * 2500) = 1.4 %; 5 % is what the issue asks for."""
    assert school_fit().corrected
    for fit in school_fit().fits:
        ratio = fit.se / fit.ml.se
        assert abs(ratio - 1).max() < 0.05, ratio
        raw = fit.idata["posterior_uncorrected"]["beta"]
        assert abs(np.asarray(raw.std(("chain", "draw"))) / fit.ml.se - 1).max() > 0.1


def test_uncorrected_draws_are_those_of_vcov_model():
    plain = school_fit("model")
    assert not plain.corrected and "posterior_uncorrected" not in plain.idata.children
    kept, without = school_fit().idata["posterior_uncorrected"], plain.idata["posterior"]
    assert set(kept.data_vars) == set(without.data_vars)
    for name in kept.data_vars:
        close(kept[name], without[name], rtol=1e-12)
    close(school_fit().idata["posterior"]["beta"].mean(), without["beta"].mean(), rtol=1e-6)


def test_pooling_is_rubins():
    fit = school_fit()
    each = np.array([one.draws() for one in fit.fits])
    K = len(each)
    within, means = each.var(axis=1, ddof=1).mean(axis=0), each.mean(axis=1)
    between = means.var(axis=0, ddof=1)
    table = fit.tidy()
    close(table["estimate"], means.mean(axis=0))
    close(table["std_error"], np.sqrt(within + (1 + 1 / K) * between))
    close(table["within_var"], within)
    close(table["between_var"], between)
    close(table["fmi"], (1 + 1 / K) * between / (within + (1 + 1 / K) * between))
    close(fit.pooled_draws().mean(axis=0), means.mean(axis=0))
    n = each.shape[1]
    close(fit.pooled_draws().var(axis=0, ddof=0), within * (n - 1) / n + (1 + 1 / K) * between)
    assert list(table.columns[-3:]) == ["fmi", "within_var", "between_var"]
    for column, pick in (("r_hat", max), ("ess_bulk", min), ("ess_tail", min)):
        close(table[column], [pick(one.tidy()[column][j] for one in fit.fits) for j in range(len(table))])


def test_mixture_is_the_chains_of_all_plausible_values():
    fit = school_fit()
    post = fit.idata["posterior"]
    assert np.asarray(post["pv"]).tolist() == [1] * 4 + [2] * 4
    for group in ("posterior", "posterior_uncorrected", "sample_stats"):
        for name, values in fit.idata[group].data_vars.items():
            parts = [np.asarray(one.idata[group][name]) for one in fit.fits]
            assert np.array_equal(np.asarray(values), np.concatenate(parts)), name
    assert fit.n_pv == 2 and fit.fits[0].n_pv == 1 and fit.fits[0].fits == (fit.fits[0],)
    assert np.asarray(fit.idata["observed_data"]["y"]).shape == (2, fit.nobs)


def test_identical_plausible_values_pool_to_one():
    d = nested().assign(same=lambda t: t["y"])
    short = {"draws": 500, "tune": 300, "chains": 2, **SHORT}
    both = pmwmix.fit("out ~ x + (1 | school)", d, pv={"out": ["y", "same"]}, **short)
    one = both.fits[0]
    table = both.tidy()
    for name in ("beta", "sd"):
        for j in range(one.draws(name).shape[1]):
            a, b = (np.asarray(f.idata["posterior"][name])[..., j] for f in both.fits)
            same_posterior(a, b)
    # what is left between the values is Monte-Carlo error: fmi below 1.5 * 2 * (4 / sqrt(ESS))²
    assert (table["fmi"] < 3 * 16 / table["ess_bulk"]).all()


@pytest.mark.reference
def test_corrected_spread_on_pisa(shared):
    """PISA 2012, New Zealand: within 5 % of the robust standard errors, but for the error of the draws themselves.

    Sixteen runs of 2,000 draws are 4.5 % above on average (OPENPS), each standard deviation has an error of 1.2 %.
    """
    d = pd.read_csv(shared / "data" / "pisa2012_nzl.csv.gz")
    weights = {"obs": "W_FSTUWT", "SCHOOLID": "W_FSCHWT"}
    pv = {"math": [f"PV{k}MATH" for k in (1, 2)]}
    fit = pmwmix.fit("math ~ OPENPS + (1 + OPENPS | SCHOOLID)", d, weights=weights, scaling="size", pv=pv, **SHORT)
    assert fit.corrected and not any("diverged" in text or "R-hat" in text for text in fit.diagnostics)
    for one in fit.fits:
        error = 3 * az.mcse(one.idata["posterior"], var_names="beta", method="sd")["beta"].to_numpy() / one.se
        assert (abs(one.se / one.ml.se - 1) < 0.05 + error).all() and error.max() < 0.05
        assert not (
            abs(np.asarray(one.idata["posterior_uncorrected"]["beta"]).std((0, 1)) / one.ml.se - 1) < 0.05 + error
        ).all()
        assert (abs(one.coef - one.ml.coef) / one.se).max() < 0.1
        assert one.tidy()["ess_bulk"].min() > 1000
        # the correlation is 0.92 and more at the maximum, where its curvature is no measure: its draws stay as they are
        cor = [np.asarray(one.idata[group]["cor"]).std() for group in ("posterior", "posterior_uncorrected")]
        assert abs(cor[0] / cor[1] - 1) < 0.2
    assert any("correlation near one" in note for note in fit.notes)


# -- generalised models ------------------------------------------------------------------------------------------------


@functools.cache
def many_groups():
    """80 groups of 12 with outcomes of several families."""
    rng = np.random.default_rng(21)
    g = np.repeat(np.arange(80), 12)
    x = rng.normal(1.0, 1.0, len(g))
    eta = -0.3 + 0.6 * (x - 1) + rng.normal(0, 0.7, 80)[g] + rng.normal(0, 0.4, 80)[g] * (x - 1)
    return pd.DataFrame(
        {
            "g": g, "x": x, "exposure": rng.uniform(-0.5, 0.5, len(g)),
            "z": (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(float),
            "count": rng.poisson(np.exp(eta)),
            "visits": rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, len(g))),
            "mark": pd.Categorical(np.digitize(eta + rng.logistic(size=len(g)), [-1.0, 0.3, 1.5]) + 1, ordered=True),
        }
    )  # fmt: skip


SAMPLED = {
    "binomial slope": ("z ~ x + (1 + x | g)", "binomial"),
    "cumulative": ("mark ~ x + (1 | g)", "cumulative"),
    "negbinomial": ("visits ~ x + offset(exposure) + (1 | g)", "negbinomial"),
}


@functools.cache
def general_fit(case):
    formula, family = SAMPLED[case]
    how = {"draws": 400, "tune": 300, "chains": 2, "n_agq": 3, **SHORT}
    return pmwmix.fit(formula, many_groups(), family=family, **how)


@pytest.mark.parametrize("case", SAMPLED)
def test_generalised_posteriors_are_near_ml(case):
    """ESS is above 300, so that the MCSE of a mean is below 0.06 and of a standard deviation below 4 %."""
    fit = general_fit(case)
    table = fit.tidy()
    assert list(table["term"]) == list(fit.ml.coef.index)
    assert table["ess_bulk"].min() > 300
    assert (abs(fit.coef - fit.ml.coef) / fit.se).max() < 0.1 + 3 * 0.06
    assert abs(fit.se / fit.ml.se - 1).max() < 0.2
    known = fit.ml.family_parameters
    for name in known.index:
        assert abs(fit.family_parameters.loc[name, "estimate"] - known.loc[name, "estimate"]) < known.loc[name, "se"]
    assert "Generalised multilevel model" in str(fit)


def test_a_model_without_random_terms_is_a_regression():
    """Against the conjugate answer under flat priors: t with n - p degrees of freedom around least squares."""
    d = nested()
    fit = pmwmix.fit("y ~ x", d, draws=1000, tune=300, **SHORT)
    X = columns(d, ["Intercept", "x"])
    b, *_ = np.linalg.lstsq(X, d["y"], rcond=None)
    df = len(d) - 2
    s2 = float(((d["y"] - X @ b) ** 2).sum()) / df
    sd = np.sqrt(s2 * df / (df - 2) * np.diag(np.linalg.inv(X.T @ X)))
    error = 1 / np.sqrt(fit.tidy()["ess_bulk"].to_numpy())
    assert (abs(fit.coef - b) < (4 * error + 0.02) * sd).all()  # the default priors pull by less than 0.02 SD
    assert (abs(fit.se / sd - 1) < 4 * error / np.sqrt(2) + 0.02).all()
    assert "sd" not in fit.idata["posterior"] and len(fit.n_groups) == 0 and "without random effects" in str(fit)


# -- the tree, its tables and files ------------------------------------------------------------------------------------


def test_the_tree_has_the_groups_and_names_of_the_contract():
    fit = school_fit()
    groups = {"posterior", "posterior_uncorrected", "sample_stats", "prior", "observed_data", "constant_data"}
    assert set(fit.idata.children) - {"random_effects", "posterior_predictive"} == groups
    dims = {
        "beta": ("term",), "sd": ("component",), "cor": ("pair",), "vcov": ("covariance",), "sigma": (),
        "icc": ("level",),
    }  # fmt: skip
    for group in ("posterior", "posterior_uncorrected", "prior"):
        found = fit.idata[group]
        assert {name: v.dims[2:] for name, v in found.data_vars.items()} == dims
        assert found["term"].values.tolist() == ["Intercept", "escs", "female"]
        assert found["component"].values.tolist() == ["SCHOOLID.Intercept", "SCHOOLID.escs"]
        assert found["pair"].values.tolist() == ["SCHOOLID.Intercept.escs"]
        assert found["covariance"].values.tolist() == list(fit.theta.index)
        assert found["level"].values.tolist() == ["SCHOOLID"]
    stats_ = {"diverging", "energy", "n_steps", "step_size", "lp", "tree_depth", "reached_max_treedepth"}
    assert stats_ <= set(fit.idata["sample_stats"].data_vars)
    constant = fit.idata["constant_data"]
    assert set(constant.data_vars) == {"weight_obs", "group_SCHOOLID", "weight_SCHOOLID"}
    assert constant["group_SCHOOLID"].dims == ("obs",) and constant.sizes["SCHOOLID"] == 300
    post = fit.idata["posterior"]
    sd, vcov = np.asarray(post["sd"]), np.asarray(post["vcov"])
    close(sd[..., 0] ** 2, vcov[..., 0], rtol=1e-9)
    close(np.asarray(post["cor"])[..., 0], vcov[..., 1] / (sd[..., 0] * sd[..., 1]), rtol=1e-9)
    rows = fit.fits[0].rows
    (square,) = mean_squares(rows.frame, rows.design)  # mean of z z' over the rows
    random = vcov @ np.array([square[0, 0], 2.0 * square[1, 0], square[1, 1]])
    close(np.asarray(post["icc"])[..., 0], random / (random + np.asarray(post["sigma"]) ** 2), rtol=1e-9)


def test_tables_are_arviz_and_ml_shaped():
    import arviz as az

    fit = sleep()
    table = fit.tidy(0.9)
    close(table["r_hat"], az.rhat(fit.idata, var_names=["beta"])["beta"], rtol=1e-12)
    for column, how in (("ess_bulk", {}), ("ess_tail", {"method": "tail", "prob": (0.05, 0.95)})):
        close(table[column], az.ess(fit.idata, var_names=["beta"], **how)["beta"], rtol=1e-12)
    close(table["mcse_mean"], az.mcse(fit.idata, var_names=["beta"], method="mean")["beta"], rtol=1e-12)
    flat = fit.draws()
    close(table["ci_low"], np.quantile(flat, 0.05, axis=0))
    close(table["p_direction"], np.maximum((flat > 0).mean(0), (flat < 0).mean(0)))
    close(fit.coef, flat.mean(axis=0))
    close(fit.vcov, np.cov(flat.T))
    close(fit.se, flat.std(axis=0, ddof=1))
    assert list(fit.varcorr.columns) == list(fit.ml.varcorr.columns)
    assert fit.varcorr[["grp", "var1", "var2"]].equals(fit.ml.varcorr[["grp", "var1", "var2"]])
    close(fit.varcorr["vcov"].iloc[-1], (fit.draws("sigma") ** 2).mean())
    close(fit.varcorr["se"].iloc[-1], (fit.draws("sigma") ** 2).std(ddof=1))
    close(fit.confint(0.9)["ci_high"], table["ci_high"])
    sds = fit.confint_varcorr(0.9)
    close(sds["estimate"], fit.varcorr["sdcor"])
    close(sds["ci_low"].iloc[-1], np.quantile(fit.draws("sigma"), 0.05))
    Psi = fit.varcorr.set_index(["var1", "var2"], drop=False)["vcov"].to_numpy()
    a, b, c = fit.theta * np.sqrt(fit.varcorr["vcov"].iloc[-1])  # Cholesky factor, column-major
    close([a * a, b * b + c * c, a * b], Psi[:3], rtol=1e-9)
    for text in ("pseudo-posterior", "corrected"):
        assert text not in str(fit)
    assert fit.converged and fit.diagnostics == ()
    assert "<table" in fit._repr_html_()


def test_arviz_reads_the_tree():
    import arviz as az

    table = az.summary(sleep().idata)
    assert "beta[Days]" in table.index and "sigma" in table.index
    az.plot_trace_dist(sleep().idata, backend="none")


def same_result(a, b):
    pd.testing.assert_frame_equal(a.tidy(), b.tidy(), rtol=1e-12)
    pd.testing.assert_frame_equal(a.varcorr, b.varcorr, rtol=1e-12)
    pd.testing.assert_frame_equal(a.priors, b.priors)
    pd.testing.assert_series_equal(a.theta, b.theta)
    assert a.notes == b.notes and a.how == b.how and a.corrected == b.corrected and a.icc == b.icc
    assert str(a) == str(b)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_files_keep_everything_but_the_data(tmp_path, suffix):
    fit = school_fit()
    fit.random_effects(draws=30)
    path = fit.save(tmp_path / f"fit{suffix}")
    loaded = pmwmix.load(path)
    same_result(fit, loaded)
    assert len(loaded.fits) == 2
    for one, other in zip(fit.fits, loaded.fits, strict=True):
        same_result(one, other)
        assert set(other.idata.children) == set(one.idata.children) | {"random_effects"}
        for name, values in one.idata["posterior"].data_vars.items():
            assert np.array_equal(np.asarray(values), np.asarray(other.idata["posterior"][name]))
    mine, theirs = fit.ranef(), loaded.ranef()
    close(mine.to_numpy(), theirs.loc[[str(label) for label in mine.index]].to_numpy())
    again = pmwmix.load(loaded.save(tmp_path / f"again{suffix}"))
    same_result(fit, again)


def test_generalised_fits_are_kept_too(tmp_path):
    fit = general_fit("cumulative")
    loaded = pmwmix.load(fit.save(tmp_path / "fit.nc"))
    same_result(fit, loaded)
    assert loaded.categories == fit.categories and loaded.family == "cumulative"


def test_asking_for_a_posterior_later_does_not_load_pymc():
    import subprocess
    import sys

    code = (
        "import sys, pmwmix, pmwmix.api;"
        "heavy = {'pymc', 'arviz', 'arviz_stats', 'arviz_plots', 'nutpie', 'numba', 'matplotlib'};"
        "found = heavy & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
