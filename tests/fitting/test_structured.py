"""Structured covariances of random effects: derivatives, dense matrices, identities between structures, glmmTMB."""

import numpy as np
import pandas as pd
import pytest
from helpers import close
from scipy import stats

import pmwmix
from pmwmix.errors import FormulaError, NotSupportedError, OptionError
from pmwmix.likelihood.constraint import OnSurface, constraint_of
from pmwmix.likelihood.covariances import COVARIANCES
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.spec.formula import parse

OCCASIONS = 4


def data(seed=3, n_groups=40):
    """Rows of 40 groups at 4 occasions, unbalanced; effects with correlations 0.6^lag and unequal variances."""
    rng = np.random.default_rng(seed)
    lag = np.abs(np.subtract.outer(range(OCCASIONS), range(OCCASIONS)))
    D = np.diag([1.0, 0.8, 1.2, 0.9])
    b = rng.normal(size=(n_groups, OCCASIONS)) @ np.linalg.cholesky(D @ 0.6**lag @ D).T
    g, o = (part.ravel() for part in np.meshgrid(range(n_groups), range(OCCASIONS), indexing="ij"))
    times = rng.integers(1, 4, len(g))
    g, o = np.repeat(g, times), np.repeat(o, times)
    x = rng.normal(size=len(g))
    d = pd.DataFrame({"g": g, "occ": [f"o{k}" for k in o], "x": x, "y": 1 + 0.5 * x + b[g, o]})
    d["y"] += 0.8 * rng.normal(size=len(g))
    eta = 0.3 * x + 0.6 * b[g, o]
    d["k"], d["z"] = rng.poisson(np.exp(eta)), (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int)
    d["h"], d["s"] = d["g"] // 5, d["g"] % 2
    d["w"], d["wg"] = rng.uniform(0.5, 2, len(g)), rng.uniform(1, 3, n_groups)[g]
    return d


def correlations(structure, q, tau):
    """R by its definition, from the parameters of a structure."""
    angles = tau[COVARIANCES[structure].n_sd(q) :]
    R = np.eye(q)
    lag = np.abs(np.subtract.outer(range(q), range(q)))
    if structure in ("cs", "homcs"):
        rho = (q * np.sin(angles[0]) ** 2 - 1) / (q - 1)
        R = np.where(lag == 0, 1.0, rho)
    elif structure in ("ar1", "hetar1"):
        R = np.sin(angles[0]) ** lag
    elif structure in ("toep", "homtoep"):  # each lag's correlation by regression on those between
        r = [1.0]
        for k, angle in enumerate(angles, start=1):
            if k == 1:
                r.append(np.sin(angle))
                continue
            between = np.array([[r[abs(i - j)] for j in range(k - 1)] for i in range(k - 1)])
            left = np.array(r[1:k])
            right = left[::-1]
            solved = np.linalg.solve(between, right)
            r.append(
                left @ solved
                + np.sin(angle) * np.sqrt((1 - left @ np.linalg.solve(between, left)) * (1 - right @ solved))
            )
        R = np.array(r)[lag]
    return R


def some_tau(structure, q, seed=0):
    rng, kind = np.random.default_rng(seed), COVARIANCES[structure]
    shift = 0.8 if structure in ("cs", "homcs") else 0.0
    return np.concatenate([rng.uniform(0.4, 1.5, kind.n_sd(q)), shift + rng.uniform(-0.5, 0.5, kind.n_angles(q))])


@pytest.mark.parametrize("structure", COVARIANCES)
@pytest.mark.parametrize("q", [2, 3, 5])
def test_factor_derivatives_and_way_back(structure, q):
    kind, tau = COVARIANCES[structure], some_tau(structure, q)
    found = kind.Lambda(tau, q)
    Psi, sd = found.value @ found.value.T, np.full(q, tau[0]) if kind.common else tau[:q]
    close(Psi, np.outer(sd, sd) * correlations(structure, q, tau), rtol=1e-12, atol=1e-14)
    close(np.triu(found.value, 1), 0.0)
    close(kind.tau(Psi), tau, rtol=1e-10)
    for i, step in enumerate(1e-5 * np.eye(len(tau))):
        up, down = kind.Lambda(tau + step, q), kind.Lambda(tau - step, q)
        close(found.first[i], (up.value - down.value) / 2e-5, rtol=1e-7, atol=1e-9)
        close(found.second[i], (up.first - down.first) / 2e-5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("structure", [name for name in COVARIANCES if "diag" not in name])
def test_factors_are_smooth_where_a_correlation_is_one(structure):
    """Rank one at the end of the range; derivatives are finite and right."""
    kind, q = COVARIANCES[structure], 3
    tau = np.concatenate([np.ones(kind.n_sd(q)), [np.pi / 2], np.zeros(kind.n_angles(q) - 1)])
    found = kind.Lambda(tau, q)
    close(found.value @ found.value.T, 1.0, atol=1e-12)
    step = 1e-5 * np.eye(len(tau))[kind.n_sd(q)]
    slope = (kind.Lambda(tau + step, q).value - kind.Lambda(tau - step, q).value) / 2e-5
    close(found.first[kind.n_sd(q)], slope, atol=1e-9)


def problem_of(formula, d, engine="numpy", **kwargs):
    fit = pmwmix.fit(formula, d, engine=engine, **kwargs)
    return fit.rows.problem, fit


@pytest.mark.parametrize("structure", COVARIANCES)
@pytest.mark.parametrize(
    ("y", "options"), [("y", {}), ("y", {"method": "reml"}), ("k", {"family": "poisson", "n_agq": 1})]
)
def test_derivatives_of_the_likelihood_along_the_surface(structure, y, options):
    """Central differences away from the maximum; steps of 1e-5 leave seven digits."""
    problem, _ = problem_of(f"{y} ~ x + {structure}(0 + occ | g)", data(), **options)
    along = OnSurface(problem.objective, problem.layout)
    free = along.start() + 0.1
    point = along.at(free)
    sides = [(along.at(free + h), along.at(free - h)) for h in 1e-5 * np.eye(len(free))]
    close(point.gradient, [(a.value - b.value) / 2e-5 for a, b in sides], rtol=1e-6, atol=1e-5)
    close(point.hessian, [(a.gradient - b.gradient) / 2e-5 for a, b in sides], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("structure", COVARIANCES)
def test_loglik_by_dense_matrices(structure):
    """The likelihood by hand, at its maximum over (beta, tau, log sigma)."""
    d = data(n_groups=15)
    fit = pmwmix.fit(f"y ~ x + {structure}(0 + occ | g)", d)
    kind, q = COVARIANCES[structure], OCCASIONS
    Z = pd.get_dummies(d["occ"]).to_numpy(dtype=float)
    X, y = np.column_stack([np.ones(len(d)), d["x"]]), d["y"].to_numpy()

    def loglik(psi):
        beta, tau, log_sigma = psi[:2], psi[2:-1], psi[-1]
        sd = np.full(q, tau[0]) if kind.common else tau[:q]
        Psi = np.outer(sd, sd) * correlations(structure, q, tau)
        total = 0.0
        for group in np.unique(d["g"]):
            at = (d["g"] == group).to_numpy()
            V = Z[at] @ Psi @ Z[at].T + np.exp(2 * log_sigma) * np.eye(at.sum())
            total += stats.multivariate_normal.logpdf(y[at], X[at] @ beta, V)
        return total

    Psi = fit.rows.fit.Psi[0]
    psi = np.concatenate([fit.coef, kind.tau(Psi), [np.log(fit.sigma)]])
    close(fit.loglik, loglik(psi), rtol=1e-10)
    h = 1e-4 * np.eye(len(psi))
    slopes = np.array([loglik(psi + e) - loglik(psi - e) for e in h]) / 2e-4
    close(slopes, 0.0, atol=2e-3)  # at the maximum, in units of a log-likelihood per unit of a parameter


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_identities_of_linear_models(method):
    d = data()

    def fit(term, **more):
        return pmwmix.fit(f"y ~ x + {term}", d, method=method, **more)

    split, diag = fit("(1 + x || g)"), fit("diag(1 + x | g)")
    close(diag.loglik, split.loglik, rtol=1e-10)
    close(diag.coef, split.coef, rtol=1e-6)
    close(diag.se, split.se, rtol=1e-5)
    table, other = diag.varcorr, split.varcorr
    close(table["vcov"].iloc[[0, 1, 3]], other["vcov"], rtol=1e-4, atol=1e-6)
    close(table["se"].iloc[[0, 3]], other["se"].iloc[[0, 2]], rtol=1e-3)
    nested, homcs = fit("(1 | g) + (1 | g:occ)"), fit("cs(0 + occ | g, hom = TRUE)")
    close(homcs.loglik, nested.loglik, rtol=1e-10)
    close(homcs.coef, nested.coef, rtol=1e-6)
    upper, lower = (nested.varcorr.set_index("grp")["vcov"][name] for name in ("g", "g:occ"))
    close(homcs.varcorr["vcov"].iloc[:4], upper + lower, rtol=1e-5)
    close(homcs.varcorr["vcov"].iloc[4:10], upper, rtol=1e-5)
    errors = nested.varcorr.set_index("grp")["se"]
    close(homcs.varcorr["se"].iloc[4:10], errors["g"], rtol=1e-4)
    close(homcs.tidy()["df"], nested.tidy()["df"], rtol=1e-4)


def test_two_occasions_make_structures_equal():
    """Correlations of two effects: cs, ar1, toep, and without structure where each has its variance."""
    d = data()
    d = d[d["occ"].isin(["o0", "o1"])]
    fits = {name: pmwmix.fit(f"y ~ x + {name}(0 + occ | g)", d) for name in COVARIANCES}
    plain = pmwmix.fit("y ~ x + (0 + occ | g)", d)
    for name in ("cs", "hetar1", "toep"):
        close(fits[name].loglik, plain.loglik, rtol=1e-10)
        close(fits[name].varcorr["vcov"], plain.varcorr["vcov"], rtol=1e-4)
        close(fits[name].varcorr["se"], plain.varcorr["se"], rtol=1e-4)
        close(fits[name].se, plain.se, rtol=1e-5)
    for name in ("ar1", "homtoep"):
        close(fits[name].loglik, fits["homcs"].loglik, rtol=1e-10)
        close(fits[name].varcorr["se"], fits["homcs"].varcorr["se"], rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"weights": ["w", "wg"], "conditional": True, "scaling": "size"}])
@pytest.mark.parametrize(("y", "more"), [("y", {}), ("k", {"family": "poisson", "n_agq": 1})])
def test_structures_are_nested(y, more, options):
    """The less structure, the higher the likelihood; robust errors are finite and near the unstructured ones."""
    d, found = data(), {}
    for name in ("us", *COVARIANCES):
        found[name] = pmwmix.fit(f"{y} ~ x + {name}(0 + occ | g)", d, **more, **options)
        assert found[name].converged and np.isfinite(found[name].se).all()
        close(found[name].se["x"], found["us"].se["x"], rtol=0.3)  # other models, of the same data
    for name, kind in COVARIANCES.items():
        for larger in (*kind.inside, "us"):
            assert found[name].loglik <= found[larger].loglik + 1e-6, (name, larger)


def test_numbers_of_glmmtmb():
    """glmmTMB 1.1.5 on these rows: logLik and VarCorr of y or k ~ x + <structure>(0 + occ | g)."""
    d = data()
    for y, family, name, loglik in GLMMTMB:
        fit = pmwmix.fit(f"{y} ~ x + {name}(0 + occ | g)", d, family=family, n_agq=1 if family != "gaussian" else None)
        close(fit.loglik, loglik, rtol=1e-8)


GLMMTMB = [
    # R: logLik(glmmTMB(y ~ x + cs(0 + occ | g), d)) and so on
    ("y", "gaussian", "diag", -491.574532288),
    ("y", "gaussian", "cs", -477.988630480),
    ("y", "gaussian", "ar1", -478.235610117),
    ("y", "gaussian", "toep", -472.881756127),
    ("k", "poisson", "diag", -479.352204158),
    ("k", "poisson", "cs", -469.206849650),
    ("k", "poisson", "ar1", -472.926831578),
]


def test_what_must_not_change_the_fit():
    """Shift and scale of columns under structures with variances of their own; order of rows; unit of the outcome."""
    d = data()
    base = pmwmix.fit("y ~ x + ar1(0 + occ | g)", d)
    moved = pmwmix.fit(
        "y ~ x + ar1(0 + occ | g)", d.sample(frac=1.0, random_state=1).assign(y=lambda t: 1e3 * t["y"] + 5)
    )
    close(moved.loglik + len(d) * np.log(1e3), base.loglik, rtol=1e-9)
    close(moved.varcorr["vcov"], 1e6 * base.varcorr["vcov"], rtol=1e-4)
    slopes = pmwmix.fit("y ~ x + cs(1 + x | g)", d)
    scaled = pmwmix.fit("y ~ x + cs(1 + x | g)", d.assign(x=100.0 * d["x"]))
    close(scaled.loglik, slopes.loglik, rtol=1e-9)
    common = pmwmix.fit("y ~ x + homdiag(1 + x | g)", d)
    close(common.varcorr["vcov"].iloc[0], common.varcorr["vcov"].iloc[1], rtol=1e-9)


@pytest.mark.parametrize(
    "formula", ["y ~ x + ar1(0 + occ | g) + (1 | h)", "k ~ x + ar1(0 + occ | g) + diag(1 + x | h)"]
)
def test_several_levels_and_terms(formula):
    family = {"family": "poisson", "n_agq": 1} if formula[0] == "k" else {}
    fit = pmwmix.fit(formula, data(), **family)
    assert fit.converged and list(dict.fromkeys(fit.varcorr["grp"]))[:2] == ["g", "h"]
    variances = fit.varcorr.query("grp == 'g' and var2.isna()")["vcov"]
    close(variances, variances.iloc[0], rtol=1e-9)


def test_crossed_factors_take_structures():
    d = data(n_groups=15)
    d = d[d["occ"].isin(["o0", "o1"])].copy()
    d["item"] = np.arange(len(d)) % 7
    fit = pmwmix.fit("y ~ x + homcs(0 + occ | g) + (1 | item)", d)
    other = pmwmix.fit("y ~ x + (1 | g) + (1 | g:occ) + (1 | item)", d)
    close(fit.loglik, other.loglik, rtol=1e-8)


def test_variances_of_zero():
    """No variance between groups at all: a boundary, and least squares."""
    d = data()
    d["y"] = d["y"] - d.groupby(["g", "occ"])["y"].transform("mean")
    for name in COVARIANCES:
        fit = pmwmix.fit(f"y ~ x + {name}(0 + occ | g)", d)
        assert fit.converged and fit.singular, name
        close(fit.varcorr["vcov"].iloc[0], 0.0, atol=1e-6)
        close(fit.loglik, pmwmix.fit("y ~ x", d).loglik, atol=1e-5)


def test_a_correlation_of_one():
    """Effects that are the same at all occasions: the random intercept."""
    d = data()
    d["y"] = (
        1
        + d["x"]
        + np.random.default_rng(0).normal(size=40)[d["g"]]
        + 0.3 * np.random.default_rng(1).normal(size=len(d))
    )
    intercept = pmwmix.fit("y ~ x + (1 | g)", d)
    for name in ("ar1", "homcs", "homtoep"):
        fit = pmwmix.fit(f"y ~ x + {name}(0 + occ | g)", d)
        assert fit.converged and fit.loglik >= intercept.loglik - 1e-6
        if fit.varcorr["sdcor"].iloc[4:10].min() > 1 - 1e-6:
            assert fit.singular
            close(fit.loglik, intercept.loglik, atol=1e-5)
            close(fit.varcorr["sdcor"].iloc[4], 1.0, atol=1e-4)
            close(fit.se["x"], intercept.se["x"], rtol=1e-3)


def test_tests_between_structures():
    d = data()
    table = pmwmix.lrt(*(pmwmix.fit(f"y ~ x + {name}(0 + occ | g)", d) for name in ("ar1", "hetar1", "toep", "us")))
    assert list(table["npar"]) == [5, 8, 10, 13] and list(table["df"].iloc[1:]) == [3, 2, 3]
    close(table["p_value"].iloc[1:], stats.chi2.sf(table["chisq"].iloc[1:], table["df"].iloc[1:]), rtol=1e-10)
    assert table["p_boundary"].iloc[1:].isna().all()
    small, large = pmwmix.fit("y ~ x + (1 | g)", d), pmwmix.fit("y ~ x + diag(1 + x | g)", d)
    assert pmwmix.lrt(small, large)["p_boundary"].iloc[1] < pmwmix.lrt(small, large)["p_value"].iloc[1]
    dropped = pmwmix.ranova(pmwmix.fit("y ~ x + ar1(0 + occ | g) + (1 | h)", d))
    assert list(dropped.index) == ["<none>", "ar1(0 + occ | g)", "(1 | h)"] and list(dropped["npar"]) == [6, 4, 5]
    with pytest.raises(OptionError, match="not nested"):
        pmwmix.lrt(pmwmix.fit("y ~ x + ar1(0 + occ | g)", d), pmwmix.fit("y ~ x + cs(0 + occ | g)", d))


@pytest.mark.parametrize(("y", "more"), [("y", {}), ("k", {"family": "poisson", "n_agq": 1})])
def test_replicates_and_plausible_values(y, more):
    d = data(n_groups=16)
    rng = np.random.default_rng(2)
    names = [f"R{r}" for r in range(3)]
    for r, name in enumerate(names):
        d[name] = d["wg"] * np.where(d["g"] % 3 == r, rng.choice([0.0, 2.0], 16)[d["g"]], 1.0)
    design = {"replicate_weights": names, "replicate_type": "jk2"}
    formula = f"{y} ~ x + ar1(0 + occ | g)"
    fit = pmwmix.fit(formula, d, weights={"g": "wg"}, design=design, **more)
    each = [pmwmix.fit(formula, d[d[name] > 0], weights={"g": name}, **more).coef for name in names]
    close(fit.vcov, sum(np.outer(one - fit.coef, one - fit.coef) for one in each), rtol=1e-4, atol=1e-9)
    with pytest.raises(NotSupportedError, match="ar1"):
        pmwmix.fit(formula, d, weights={"g": "wg"}, design=design, vcov="replicate-one-step", **more)
    d["PV1"], d["PV2"] = d[y], np.maximum(d[y] + np.random.default_rng(3).integers(0, 2, len(d)), 0)
    pooled = pmwmix.fit("m ~ x + ar1(0 + occ | g)", d, pv={"m": "PV{}"}, **more)
    single = [pmwmix.fit(f"PV{k} ~ x + ar1(0 + occ | g)", d, **more).coef for k in (1, 2)]
    close(pooled.coef, np.mean(single, axis=0), rtol=1e-5)


def test_what_follows_from_a_fit(tmp_path):
    d = data()
    fit = pmwmix.fit("y ~ x + ar1(0 + occ | g)", d)
    modes = fit.ranef()["g"] if isinstance(fit.ranef(), dict) else fit.ranef()
    assert [name for name in modes.columns if not name.endswith("_se")] == [f"occ[o{k}]" for k in range(4)]
    fit.save(tmp_path / "fit.npz")
    again = pmwmix.load(tmp_path / "fit.npz")
    assert str(again.summary()) == str(fit.summary()) and "ar1(0 + occ | g)" in str(fit.summary())
    close(again.predict(d), fit.predict(d), rtol=1e-12)
    intervals = fit.confint(method="profile")
    assert (intervals["ci_low"] < fit.coef).all() and (intervals["ci_high"] > fit.coef).all()
    for how in ("robust", "CR2"):
        assert np.isfinite(pmwmix.fit("y ~ x + ar1(0 + occ | g)", d, vcov=how).se).all()
    for verb in (lambda: fit.confint_varcorr(), lambda: fit.r2(), lambda: fit.ame(newdata=d), lambda: fit.residuals()):
        verb()


REFUSED = {
    "unknown argument": (lambda d: pmwmix.fit("y ~ cs(0 + occ | g, rho = 1)", d), FormulaError, "cs\\(\\) has one"),
    "argument of us": (lambda d: pmwmix.fit("y ~ us(0 + occ | g, hom = TRUE)", d), FormulaError, "no argument"),
    "two bars": (lambda d: pmwmix.fit("y ~ cs(1 + x || g)", d), FormulaError, "two bars"),
    "unknown name": (lambda d: pmwmix.fit("y ~ ar2(0 + occ | g)", d), FormulaError, "ar2"),
    "one effect": (lambda d: pmwmix.fit("y ~ x + ar1(1 | g)", d), OptionError, "'ar1' is about correlations"),
    "not joined": (lambda d: pmwmix.fit("y ~ x * cs(1 + x | g)", d), FormulaError, "not joined"),
    "posterior": (
        lambda d: pmwmix.fit("y ~ x + ar1(0 + occ | g)", d, method="bayes"),
        NotSupportedError,
        "not sampled",
    ),
    "Kenward-Roger": (
        lambda d: pmwmix.fit("y ~ x + ar1(0 + occ | g)", d, method="reml").tidy(df="kenward-roger"),
        NotSupportedError,
        "structures ar1",
    ),
    "profiles of variances": (
        lambda d: pmwmix.fit("y ~ x + ar1(0 + occ | g)", d).confint_varcorr(method="profile"),
        NotSupportedError,
        "structured",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_messages(case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call(data(n_groups=10))


def test_formulas():
    """As glmmTMB and lme4 2.0 write them; cs() without a bar stays the spline."""
    terms = {
        "ar1(0 + occ | g)": "ar1(0 + occ | g)",
        "ar1(0 + occ | g, hom = FALSE)": "hetar1(0 + occ | g)",
        "cs(1 + x | g, hom=True)": "homcs(1 + x | g)",
        "diag(1 + x | g)": "diag(1 + x | g)",
        "homtoep(0 + occ | g)": "homtoep(0 + occ | g)",
        "us(1 + x | g)": "(1 + x | g)",
    }
    for written, shown in terms.items():
        assert [term.text for term in parse(f"y ~ cs(x, df=4) + {written}").random] == [shown]
        assert "cs(x, df=4)" in parse(f"y ~ cs(x, df=4) + {written}").fixed
    assert [t.text for t in parse("y ~ diag(1 + x | a/b)").random] == ["diag(1 + x | b:a)", "diag(1 + x | a)"]


def test_layouts_without_structures_have_no_surface():
    layout = ThetaLayout(((2, 1),))
    theta = np.array([0.5, 0.1, 0.2, 0.4])
    surface = constraint_of(layout).surface(theta)
    close(surface.theta, theta)
    close(surface.first, np.eye(4))


def test_shares_of_variance_that_are_zero_have_no_error():
    """On the boundary the variance of a share of zero is zero but for rounding, which is no cause of a warning."""
    rng = np.random.default_rng(5)
    d = pd.DataFrame({"g": np.repeat(np.arange(10), 20), "occ": np.tile(np.arange(5), 40).astype(str)})
    d["x"] = rng.normal(size=200)
    d["y"] = 1.0 + 0.5 * d["x"] + 0.5 * rng.normal(size=10)[d["g"]] + rng.normal(size=200)
    table = pmwmix.fit("y ~ x + ar1(0 + occ | g)", d).r2()
    assert np.isfinite(table.to_numpy()).all() and (table["std_error"] >= 0.0).all()
