"""Kenward-Roger against R's pbkrtest, CR0-CR3 against R's clubSandwich and against full matrices; identities."""

import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.stats
from helpers import SHARED, close, nested

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.fitting import fewclusters as module
from pmwmix.fitting.clusterrows import weigh_by_model
from pmwmix.fitting.fewclusters import KINDS, hotelling_df, small_sample
from pmwmix.inference.kenward import kenward_roger

R_RTOL = 1e-5  # both optimisers stop with about six digits of theta; degrees of freedom lose the last one


def cr(fit, kind, **changed):
    r = fit.rows
    return small_sample(r.problem, changed.get("frame", r.frame), r.design, r.k, r.fit, kind)


def kr(fit):
    return kenward_roger(fit.rows.problem, fit.rows.fit)


@functools.cache
def table(name):
    if not SHARED.exists():
        pytest.skip("the shared folder is not beside the checkout")
    d = pd.read_csv(SHARED / "data" / f"{name}.csv.gz")
    if name == "hsb82":
        d["sector"] = pd.Categorical(d["sector"], categories=["Catholic", "Public"])
    return d


@functools.cache
def reml(key):
    formula, choose = FITS[key]
    return pmwmix.fit(formula, choose(), method="reml")


# R 4.2.2, lme4 1.1-31, lmerTest 3.1-3, pbkrtest 0.5.2, clubSandwich 0.5.8. Throughout:
#   ctl <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
#   s <- read.csv("sleepstudy.csv.gz"); h <- read.csv("hsb82.csv.gz"); k <- read.csv("classroom.csv.gz")
#   u <- s[-c(seq(1, 180, 4), 50:70), ]; h2 <- h[h$school %in% unique(h$school)[seq(1, 160, 10)], ]
#   k2 <- k[k$schoolid <= 25, ]
FITS = {
    "sleep": ("Reaction ~ Days + (Days | Subject)", lambda: table("sleepstudy")),
    "sleep_part": (
        "Reaction ~ Days + (Days || Subject)",
        lambda: table("sleepstudy").drop(index=sorted({*range(0, 180, 4), *range(49, 70)})),
    ),
    "hsb": ("mathach ~ meanses + sector*cses + (cses | school)", lambda: table("hsb82")),
    "hsb_part": (
        "mathach ~ meanses + sector*cses + (1 | school)",
        lambda: table("hsb82")[lambda d: d["school"].isin(d["school"].unique()[::10])],
    ),
    "class": ("mathgain ~ ses + mathkind + (1 | schoolid) + (1 | classid)", lambda: table("classroom")),
    "class_part": (
        "mathgain ~ ses + mathkind + (1 | schoolid) + (1 | classid)",
        lambda: table("classroom")[lambda d: d["schoolid"] <= 25],
    ),
}

# m <- lmer(<formula>, <data>, control = ctl)          # REML
# coef(summary(m, ddf = "Kenward-Roger"))[, c("Std. Error", "df")]; KRmodcomp(m, L)$test["Ftest", ]
KR = {
    "sleep": (
        [6.82455577626, 1.54578893243], [17, 17],
        np.eye(2), (705.844446866, 2, 16, 2.48823395736e-16),
    ),
    "sleep_part": (
        [7.88820159648, 1.80882576308], [16.0817606223, 16.0869548049],
        [0, 1], (33.2538420157, 1, 16.0869548049, 2.82894588116e-05),
    ),
    "hsb": (
        [0.219578085185, 0.370529722342, 0.306477346121, 0.175776175094, 0.235174552383],
        [146.184076889, 155.805220650, 154.509409223, 152.480676157, 145.340958565],
        np.eye(5)[1:3], (148.059921726, 2, 155.1446066, 1.07190011402e-36),
    ),
    "class": (
        [10.4084094483668, 1.2350650257325, 0.0221534927558], [1150.67962923, 1163.25381347, 1163.84700704],
        np.eye(3)[1:], (213.960734788, 2, 1148.62904837, 1.03661333484e-79),
    ),
}  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("key", KR)
def test_kenward_roger_is_that_of_pbkrtest(key):
    se, df, L, test = KR[key]
    got = kr(reml(key))
    close(np.sqrt(np.diag(got.vcov_adjusted)), se, rtol=R_RTOL)
    close(got.df, df, rtol=R_RTOL)
    tested = got.kr_test(L)
    close(tested[:3], test[:3], rtol=R_RTOL)
    close(np.log(tested.p_value), np.log(test[3]), rtol=R_RTOL)


# V <- vcovCR(m, cluster = <top level>, type = "CR2")
# coef_test(m, vcov = V, test = "Satterthwaite")[, c("SE", "df_Satt")]
CLUB = {
    ("sleep", "CR2"): ([6.824556532, 1.545788896], [17, 17]),
    ("sleep", "CR3"): ([7.022410737, 1.590603652], [17, 17]),
    ("sleep_part", "CR0"): ([7.681329596, 1.761463787], [14.95815449, 14.96131775]),
    ("sleep_part", "CR2"): ([7.933793474, 1.818877331], [14.95261036, 14.95655761]),
    ("sleep_part", "CR3"): ([8.195714363, 1.877970159], [14.94673878, 14.95155563]),
    ("hsb_part", "CR0"): (
        [0.4713465981, 0.9788268290, 0.6646988359, 0.9471274537, 1.1317877868],
        [6.360703880, 5.903849542, 10.441357224, 6.540283319, 12.818050107],
    ),
    ("hsb_part", "CR1"): (
        [0.4868046733, 1.0109280020, 0.6864980058, 0.9781890280, 1.1689053999],
        [6.360703880, 5.903849542, 10.441357224, 6.540283319, 12.818050107],
    ),
    ("hsb_part", "CR2"): (
        [0.5221658994, 1.1149801901, 0.7291741324, 1.0264179372, 1.2239888308],
        [6.392069260, 5.204676944, 9.463850885, 6.428692195, 12.382936701],
    ),
    ("hsb_part", "CR3"): (
        [0.5796417645, 1.2713399205, 0.8021256287, 1.1129423698, 1.3247897568],
        [6.295605541, 4.533165211, 8.205566436, 6.310863160, 11.866139288],
    ),
    ("class_part", "CR1"): (
        [22.92392918787, 1.78292814244, 0.04762868556],
        [16.21778828, 16.41560254, 15.71142442],
    ),
    ("class_part", "CR2"): (
        [23.05494919801, 1.81054865405, 0.04790527298],
        [15.47899659, 15.60269028, 14.89617248],
    ),
    ("class_part", "CR3"): (
        [23.79587493422, 1.87069877100, 0.04948418754],
        [14.70121896, 14.73802357, 14.04296668],
    ),
}


@pytest.mark.reference
@pytest.mark.parametrize(("key", "kind"), CLUB, ids=lambda v: v)
def test_cluster_robust_is_that_of_clubsandwich(key, kind):
    se, df = CLUB[key, kind]
    V, got = cr(reml(key), kind)
    close(np.sqrt(np.diag(V)), se, rtol=R_RTOL)
    close(got, df, rtol=R_RTOL)


# Wald_test(m, constraints = L, vcov = V, test = "HTZ")[, c("Fstat", "df_denom")]
THREE = np.array([[0.0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, -1]])
HTZ = [
    ("hsb_part", "CR1", np.eye(5)[1:3], 11.7754576897, 6.79321637356),
    ("hsb_part", "CR1", THREE, 10.8340519724, 7.29514984376),
    ("hsb_part", "CR2", np.eye(5)[1:3], 9.59407954182, 6.15084843764),
    ("hsb_part", "CR2", THREE, 9.02863700651, 6.71625545916),
    ("hsb_part", "CR3", np.eye(5)[1:3], 7.2848065671, 5.51047660648),
    ("hsb_part", "CR3", THREE, 7.00566143303, 6.1241148951),
    ("class_part", "CR2", np.eye(3)[1:], 50.1695431187, 14.6414021675),
]


@pytest.mark.reference
@pytest.mark.parametrize(("key", "kind", "L", "F", "df2"), HTZ)
def test_hotelling_is_wald_test_of_clubsandwich(key, kind, L, F, df2):
    formula, choose = FITS[key]
    fit = pmwmix.fit(formula, choose(), method="reml", vcov=kind)
    found = fit.wald(L)
    close(found[["statistic", "df1", "df2"]], [F, len(L), df2], rtol=R_RTOL)
    close(found["p_value"], scipy.stats.f.sf(F, len(L), df2), rtol=1e-4)


# -- Kenward-Roger: identities and refusals ---------------------------------------------------------------------


def test_kenward_roger_without_random_terms_is_the_f_test():
    """OLS: exact t and F tests with n - p degrees of freedom, covariance untouched."""
    d = nested()
    fit = pmwmix.fit("y ~ x + I(x**2)", d, method="reml")
    got = kr(fit)
    close(got.df, np.full(3, len(d) - 3.0))
    close(got.vcov_adjusted, fit.vcov, rtol=1e-7)
    X = np.column_stack([np.ones(len(d)), d["x"], d["x"] ** 2])
    rss, null = (float(np.linalg.lstsq(x, d["y"], rcond=None)[1][0]) for x in (X, X[:, :1]))
    F, df1, df2, _ = got.kr_test(np.eye(3)[1:])
    close([F, df1, df2], [(null - rss) / 2 / (rss / (len(d) - 3)), 2, len(d) - 3], rtol=1e-7)


def test_kenward_roger_by_full_matrices():
    """Three levels with a slope: the definitions with V (n, n), its derivatives and traces.

    They hold at any variance components, so that those of an ML fit do: its graph is compiled for other tests already.
    """
    d = nested()
    fit = pmwmix.fit("y ~ x + (1 | classroom) + (1 + x | school)", d)
    X = np.column_stack([np.ones(len(d)), d["x"]])
    values = fit.parameters[0]
    same = [np.equal.outer(d[g].to_numpy(), d[g].to_numpy()) for g in ("classroom", "school")]
    x, one = d["x"].to_numpy(), np.ones(len(d))
    G = [
        same[0] * 1.0,
        same[1] * 1.0,
        same[1] * (np.outer(x, one) + np.outer(one, x)),
        same[1] * np.outer(x, x),
        np.eye(len(d)),
    ]
    V = sum(v * g for v, g in zip(values[2:], G, strict=True))
    Vi = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ Vi @ X)
    P = [-X.T @ Vi @ g @ Vi @ X for g in G]
    Q = [[X.T @ Vi @ g @ Vi @ h @ Vi @ X for h in G] for g in G]
    information = np.array([
        [np.trace(Vi @ g @ Vi @ h) - 2 * np.trace(Phi @ Q[r][s]) + np.trace(Phi @ P[r] @ Phi @ P[s])
         for s, h in enumerate(G)] for r, g in enumerate(G)
    ])  # fmt: skip
    W = 2 * np.linalg.inv(information)
    U = sum(W[r, s] * (Q[r][s] - P[r] @ Phi @ P[s]) for r in range(5) for s in range(5))
    got = kenward_roger(replace(fit.rows.problem, reml=True), fit.rows.fit)
    close(got.vcov_adjusted, Phi + 2 * Phi @ U @ Phi, rtol=1e-6)


def test_kenward_roger_test_ignores_how_a_hypothesis_is_written():
    got = kr(pmwmix.fit("y ~ x + I(x**2) + (1 | school)", nested(), method="reml"))
    plain = got.kr_test([[0, 1, 0], [0, 0, 1]])
    close(got.kr_test([[0, 2, 1], [0, 1, -3], [0, 1, 0]]), plain, rtol=1e-9)
    one = got.kr_test([0, 5, 0])
    close([one.df2, one.F], [got.df[1], got.beta[1] ** 2 / got.vcov_adjusted[1, 1]], rtol=1e-9)


def test_kenward_roger_refuses_what_it_is_not_defined_for():
    d = nested()
    with pytest.raises(NotSupportedError, match=r"method='ml'.*method='reml'"):
        kr(pmwmix.fit("y ~ x + (1 | school)", d))
    with pytest.raises(NotSupportedError, match="weights of this fit are not all 1"):
        kr(pmwmix.fit("y ~ x + (1 | school)", d, method="reml", weights={"school": "w3"}))
    with pytest.raises(OptionError, match=r"shape \(1, 3\) for 2 coefficients"):
        kr(pmwmix.fit("y ~ x + (1 | school)", d, method="reml")).kr_test([0, 1, 0])


# -- cluster-robust: full matrices and identities ---------------------------------------------------------------

WEIGHTS = {"weights": ["w1", "w2", "w3"], "conditional": True}
MODELS = {
    "three levels, weights": ("y ~ x + (1 | classroom) + (1 + x | school)", WEIGHTS),
    "two levels, weights": ("y ~ x + (1 + x | school)", {"weights": ["w1", "w3"], "conditional": True}),
    "two levels, size": ("y ~ x + (1 | school)", {"weights": ["t1", "w3"], "scaling": "size"}),
    "two levels": ("y ~ x + (1 | school)", {}),
    "rows": ("y ~ x", {"weights": ["w1"]}),
}


@functools.cache
def weighted(name, **changed):
    formula, options = MODELS[name]
    return pmwmix.fit(formula, nested(), **{"vcov": "robust-block", **options, **changed})


def full(fit):
    """X, Ω, Φ, residuals and cluster of every row from the definitions, unit by unit, raw scale."""
    frame, design = fit.rows.frame, fit.rows.design
    n, levels = frame.n, frame.hierarchy.levels
    X = np.column_stack(design.x.columns)
    Omega, Phi = np.diag(frame.w[0]), np.eye(n)
    for level, Psi in enumerate(fit.rows.fit.Psi):
        index = levels[level].index
        Z = np.column_stack([c for b in design.blocks if b.level == level for c in b.matrix.columns])
        for unit in range(levels[level].n):
            at = np.ix_(*[np.flatnonzero(index == unit)] * 2)
            part = Z[index == unit] @ Psi @ Z[index == unit].T / fit.sigma**2
            Phi[at] += part
            # (Ω⁻¹ + ZΛΛ'Z')⁻¹ is Ω - ΩZΛM⁻¹Λ'Z'Ω
            Omega[at] = frame.w[level + 1][unit] * np.linalg.inv(np.linalg.inv(Omega[at]) + part)
    cluster = levels[-1].index if levels else np.arange(n)
    return X, Omega, Phi, design.y[0] - X @ fit.coef.to_numpy(), cluster


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_cluster_robust_by_full_matrices(name, kind):
    fit = weighted(name)
    X, Omega, Phi, e, cluster = full(fit)
    M = np.linalg.inv(X.T @ Omega @ X)
    rest = np.eye(len(X)) - X @ M @ X.T @ Omega
    noise = rest @ Phi @ rest.T
    J, G, V = cluster.max() + 1, [], 0
    for j in range(J):
        at = np.flatnonzero(cluster == j)
        square = np.ix_(at, at)
        A = np.eye(len(at))
        if kind == "CR2":
            D = np.linalg.cholesky(Phi[square]).T
            A = D.T @ np.linalg.inv(scipy.linalg.sqrtm(D @ noise[square] @ D.T).real) @ D
        if kind == "CR3":
            A = np.linalg.inv(rest[square])
        factor = np.sqrt(J / (J - 1)) if kind == "CR1" else 1.0
        g = np.zeros(X.shape)
        g[at] = factor * A.T @ Omega[square] @ X[at] @ M
        G.append(g)
        V = V + np.outer(g.T @ e, g.T @ e)
    G = np.array(G)
    got, df = cr(fit, kind)
    close(got, V, rtol=1e-7)
    for c in range(X.shape[1]):
        terms = G[:, :, c] @ noise @ G[:, :, c].T
        close(df[c], np.trace(terms) ** 2 / (terms**2).sum(), rtol=1e-7)


@pytest.fixture(scope="module")
def stratified():
    """Schools in three strata of 5, 5 and 4, weights at two levels."""
    d = nested()
    return pmwmix.fit(
        "y ~ x + (1 | school)", d.assign(third=d["school"] % 3), weights=["t1", "w3"], vcov="robust-block",
        design={"strata": "third"},
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["CR1", "CR2"])
def test_strata_by_full_matrices(stratified, kind):
    X, Omega, Phi, e, cluster = full(stratified)
    M = np.linalg.inv(X.T @ Omega @ X)
    rest = np.eye(len(X)) - X @ M @ X.T @ Omega
    noise = rest @ Phi @ rest.T
    J = cluster.max() + 1
    G = np.zeros((J, *X.shape))
    for j in range(J):
        at = np.flatnonzero(cluster == j)
        square = np.ix_(at, at)
        D = np.linalg.cholesky(Phi[square]).T
        A = D.T @ np.linalg.inv(scipy.linalg.sqrtm(D @ noise[square] @ D.T).real) @ D
        G[j, at] = (A.T if kind == "CR2" else np.eye(len(at))) @ Omega[square] @ X[at] @ M
    same = (np.arange(J) % 3)[:, None] == np.arange(J) % 3
    n = same.sum(axis=1)
    compare = np.diag(n / (n - 1.0)) @ (np.eye(J) - same / n)
    sums = np.einsum("jnp,n->jp", G, e)
    got, df = cr(stratified, kind)
    close(got, sums.T @ compare @ sums, rtol=1e-7)
    for c in range(X.shape[1]):
        terms = compare @ G[:, :, c] @ noise @ G[:, :, c].T
        close(df[c], np.trace(terms) ** 2 / np.trace(terms @ terms), rtol=1e-7)
        assert 1.0 < df[c] < J - 3 + 1e-9
    if kind == "CR1":
        close(got, stratified.vcov, rtol=1e-6)  # the block sandwich with strata


def test_strata_in_a_fit(stratified):
    d = nested()
    fit = pmwmix.fit(
        "y ~ x + (1 | school)", d.assign(third=d["school"] % 3), weights=["t1", "w3"], vcov="CR2",
        design={"strata": "third"},
    )  # fmt: skip
    V, df = cr(stratified, "CR2")
    close(fit.vcov, V, rtol=1e-6)
    close(fit.df(), df, rtol=1e-6)
    close(fit.wald(["x"]).df2, df[1], rtol=1e-6)


def test_joint_tests_with_strata_by_full_matrices(stratified):
    """Var(V_st) = tr(C P^tt C P^ss) + tr(C P^ts C P^ts), C comparing schools of a stratum, by matrices of all rows."""
    X, Omega, Phi, _, cluster = full(stratified)
    M = np.linalg.inv(X.T @ Omega @ X)
    rest = np.eye(len(X)) - X @ M @ X.T @ Omega
    noise, J = rest @ Phi @ rest.T, cluster.max() + 1
    G = np.zeros((J, *X.shape))
    for j in range(J):
        at = np.flatnonzero(cluster == j)
        square = np.ix_(at, at)
        D = np.linalg.cholesky(Phi[square]).T
        A = D.T @ np.linalg.inv(scipy.linalg.sqrtm(D @ noise[square] @ D.T).real) @ D
        G[j, at] = A.T @ Omega[square] @ X[at] @ M
    same = (np.arange(J) % 3)[:, None] == np.arange(J) % 3
    n = same.sum(axis=1)
    compare = np.diag(n / (n - 1.0)) @ (np.eye(J) - same / n)
    P = np.einsum("jas,ab,kbt->stjk", G, noise, G)
    expected = np.einsum("jk,stjk->st", compare, P)
    root = scipy.linalg.inv(scipy.linalg.sqrtm(expected).real)
    P = np.einsum("su,tv,uvjk->stjk", root, root, P)
    total = 0.0
    for s in range(2):
        for t in range(2):
            total += np.trace(compare @ P[t, t] @ compare @ P[s, s]) + np.trace(compare @ P[t, s] @ compare @ P[t, s])
    r = stratified.rows
    close(hotelling_df(r.problem, r.frame, r.design, r.k, r.fit, "CR2", np.eye(2)), 6.0 / total, rtol=1e-7)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "rows"])
def test_cr1_is_the_block_sandwich(name):
    fit = weighted(name)
    close(cr(fit, "CR1")[0], fit.vcov, rtol=1e-6)


def test_cr2_is_unbiased_under_the_working_model():
    """E(V) = MΓM, whatever the weights: the residuals' covariance σ²R_j is mapped to σ²Φ_j by A_j."""
    fit = weighted("three levels, weights")
    r = fit.rows
    rows = module.standardised_rows(r.problem, r.frame, r.design, r.k, r.fit)
    M, Gamma = np.linalg.inv(rows.X.T @ rows.OX), rows.OX.T @ rows.POX
    parts = module._ingredients(rows, M, Gamma, np.eye(2), "CR2")
    own = np.einsum("juc,uv,jvb->cb", parts.a, M @ Gamma @ M, parts.a)
    across = np.einsum("juc,uv,jvb->cb", parts.a, M, parts.b)
    close(parts.d.sum(axis=0) + own - across - across.T, M @ Gamma @ M, rtol=1e-9, atol=1e-12)


def test_cr3_is_the_jackknife_at_fixed_variance_components():
    fit = weighted("two levels, weights")
    X, Omega, _, _, cluster = full(fit)
    y, V = fit.rows.design.y[0], 0
    for j in range(cluster.max() + 1):
        kept = cluster != j
        x, O = X[kept], Omega[np.ix_(kept, kept)]  # noqa: E741
        change = np.linalg.solve(x.T @ O @ x, x.T @ O @ y[kept]) - fit.coef.to_numpy()
        V = V + np.outer(change, change)
    close(cr(fit, "CR3")[0], V, rtol=1e-7)


def test_balanced_intercept_has_j_minus_1_degrees_of_freedom():
    """A mean of J equal clusters: CR2 = CR1 and df = J - 1, exactly."""
    rng = np.random.default_rng(2)
    d = pd.DataFrame({"g": np.repeat(np.arange(9), 5), "y": np.repeat(rng.normal(size=9), 5) + rng.normal(size=45)})
    fit = pmwmix.fit("y ~ 1 + (1 | g)", d, method="reml")
    V, df = cr(fit, "CR2")
    close(V, cr(fit, "CR1")[0], rtol=1e-9)
    close(df, [8.0])
    close(kr(fit).df, [8.0], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_cluster_robust_ignores_the_size_of_weights_and_the_order_of_rows(kind):
    formula, options = MODELS["three levels, weights"]
    d = nested()
    d["w3"] *= 50.0
    d = d.sample(frac=1, random_state=1)
    d["school"] = 100 - d["school"]
    for one, other in zip(cr(pmwmix.fit(formula, d, **options), kind), cr(weighted("three levels, weights"), kind),
                          strict=True):  # fmt: skip
        close(one, other, rtol=1e-5)  # the climb ends where the gradient is small, not at the same last digit


def test_clusters_above_the_top_level():
    """With regions as PSU the sums run over regions: CR1 equals the block sandwich over them."""
    d = nested()
    d["region"] = d["school"] // 2
    fit = pmwmix.fit("y ~ x + (1 | school)", d, vcov="robust-block", design=pmwmix.Design(psu="region"))
    close(cr(fit, "CR1")[0], fit.vcov, rtol=1e-6)
    assert (cr(fit, "CR2")[1] < cr(weighted("two levels"), "CR2")[1]).all()


def test_a_cluster_that_alone_identifies_a_coefficient_adds_nothing():
    """Its residual in that direction is zero, and so is its part of the variance; nothing overflows."""
    d = nested()
    d["first"] = (d["school"] == 0).astype(float)
    fit = pmwmix.fit("y ~ x + first + (1 | school)", d, method="reml")
    for kind in KINDS:
        V, _ = cr(fit, kind)
        assert np.isfinite(V).all()
        assert (np.diag(V)[:2] < 4 * np.diag(fit.vcov)[:2]).all()


def test_model_weighting_of_one_cluster_is_its_inverse_covariance():
    rng = np.random.default_rng(0)
    X, Z, unit = rng.normal(size=(7, 2)), rng.normal(size=(7, 3)), np.zeros(7, dtype=int)
    got = weigh_by_model(X, [Z], [unit], (np.ones(7), np.ones(1)))
    close(got, np.linalg.solve(np.eye(7) + Z @ Z.T, X), rtol=1e-10)


def test_cluster_robust_refuses_designs_without_such_variances_and_unknown_kinds(stratified):
    with pytest.raises(NotSupportedError, match="'CR3' and 3 strata in column 'third'"):
        cr(stratified, "CR3")
    with pytest.raises(OptionError, match=r"'CR4'.*Use one of 'CR0'"):
        cr(stratified, "CR4")
    d = nested().assign(share=0.5, early=lambda t: t["school"] < 8, alone=lambda t: t["school"] // 13)
    for design, subset, match in (
        ({"fpc": "share"}, None, "finite population"),
        ({"psu": "school"}, "early", "without rows"),
        ({"strata": "alone", "lonely_psu": "centre"}, None, "one PSU"),
    ):
        with pytest.raises(NotSupportedError, match=match):
            pmwmix.fit("y ~ x + (1 | school)", d, vcov="CR2", design=design, subset=subset)
        robust = pmwmix.fit("y ~ x + w1 + (1 | school)", d, vcov="robust", design=design, subset=subset)
        assert 0 < robust.wald(["x", "w1"]).p_value < 1  # which take CR2 of few clusters where there is one


@pytest.mark.slow
def test_cr2_t_tests_with_twelve_clusters_keep_their_level():
    """A school variable without effect, 12 unequal clusters, weights at both levels: 5 % of t tests reject.

    Half of the clusters have the variable, which leaves about 6 degrees of freedom. With 4 of them and these weights
    2.9 are left, and the t tests become conservative (docs/small-sample.md): Satterthwaite's rule is no good below 4.
    """
    rng = np.random.default_rng(11)
    n_sim, sizes = 1000, rng.integers(6, 25, 12)
    g = np.repeat(np.arange(12), sizes)
    z = (np.arange(12) < 6).astype(float)
    w2, w1 = rng.uniform(1, 4, 12), rng.uniform(1, 3, len(g))
    rejected = {"CR0": 0, "CR2": 0}
    for _ in range(n_sim):
        y = 0.6 * rng.normal(size=12)[g] + rng.normal(size=len(g))
        d = pd.DataFrame({"y": y, "z": z[g], "g": g, "w1": w1, "w2": w2[g]})
        fit = pmwmix.fit("y ~ z + (1 | g)", d, weights=["w1", "w2"], conditional=True, scaling="size")
        for kind in rejected:
            V, df = cr(fit, kind)
            freedom = df[1] if kind == "CR2" else 1e6
            rejected[kind] += 2 * scipy.stats.t.sf(abs(fit.coef["z"]) / np.sqrt(V[1, 1]), freedom) < 0.05
    error = np.sqrt(0.05 * 0.95 / n_sim)
    assert abs(rejected["CR2"] / n_sim - 0.05) < 3 * error, rejected
    assert rejected["CR0"] / n_sim > 0.09, rejected  # the test would notice a variance that is too small
