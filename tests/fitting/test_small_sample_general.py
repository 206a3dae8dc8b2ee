"""CR0 to CR3 of generalised models: R's clubSandwich for glm, full matrices, and what they must not change under."""

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
from helpers import close

import pmwmix
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.clusterrows import sums_of, weigh_by_model
from pmwmix.fitting.fewclusters import _ingredients as ingredients
from pmwmix.fitting.workingrows import working_rows
from pmwmix.inference.again import influence


def clusters() -> pd.DataFrame:
    """14 clusters of 4 to 12 rows, without random numbers so that R has the same."""
    j = np.arange(14)
    g = np.repeat(j, 4 + j % 5 * 2)
    i = np.arange(len(g))
    x = np.sin(1.7 * i) + 0.3 * np.cos(g)
    eta = -0.3 + 0.5 * x + 0.8 * np.sin(2.3 * g)
    d = pd.DataFrame({"g": g, "x": x, "z": (g % 3 == 0).astype(float)})
    d["y"], d["trials"] = (np.cos(5.3 * i) < eta).astype(float), 1.0 + i % 6
    d["c"], d["p"] = np.floor(np.exp(eta) * (1.2 + np.sin(3.1 * i))), np.exp(eta) * (1.3 + np.sin(3.1 * i))
    share = 0.5 + 0.4 * np.sin(2.9 * i) + 0.1 * np.sin(g)
    d["s"], d["w"], d["W"] = np.round(d["trials"] * share), 1 + i % 3, 1.0 + g % 4
    return d


MODELS = {
    "logit": ("y ~ x + z", {"family": "binomial"}),
    "probit": ("y ~ x + z", {"family": "binomial", "link": "probit"}),
    "poisson": ("c ~ x + z", {"family": "poisson"}),
    "gamma": ("p ~ x + z", {"family": "gamma", "link": "log"}),
    "trials": ("cbind(s, trials - s) ~ x + z", {"family": "binomial"}),
}
# R 4.2.2, clubSandwich 0.5.8, glm(..., control = glm.control(epsilon = 1e-14)): sqrt(diag(vcovCR(m, d$g, kind))),
# coef_test(m, V, test = "Satterthwaite")$df_Satt, Wald_test(m, constrain_zero(2:3), V, test = "HTZ"): F and df.
CLUBSANDWICH = {
    ("logit", "CR0"): (
        [0.3371714651, 0.3239316377, 0.4965490053],
        [7.548088, 11.4369306, 8.85555841],
        (7.305933409, 9.021047837),
    ),
    ("probit", "CR0"): (
        [0.1988692929, 0.1893192051, 0.2920871109],
        [7.33348212, 11.5378243, 8.63767726],
        (7.955988601, 9.005942893),
    ),
    ("poisson", "CR0"): (
        [0.3534749988, 0.2011554247, 0.3652107698],
        [8.14384777, 8.08158953, 10.6886419],
        (12.21575521, 9.00311607),
    ),
    ("gamma", "CR0"): (
        [0.1654446488, 0.07059078929, 0.185397305],
        [7.22088569, 11.6914721, 8.21754279],
        (35.9292045, 8.926813987),
    ),
    ("trials", "CR0"): (
        [0.1251117185, 0.09351539765, 0.1606956517],
        [7.25478474, 11.4705364, 7.61274907],
        (1.339291825, 8.54294212),
    ),
    ("logit", "CR2"): (
        [0.3647490609, 0.338581424, 0.5522083038],
        [7.3656633, 11.2126946, 8.09329921],
        (6.488630791, 8.377059526),
    ),
    ("probit", "CR2"): (
        [0.2155618864, 0.1981744474, 0.3257318518],
        [7.16069743, 11.3166078, 7.85658709],
        (7.016758282, 8.357965896),
    ),
    ("poisson", "CR2"): (
        [0.3796260669, 0.2275926972, 0.397035308],
        [8.04010944, 7.4497124, 10.605487],
        (9.834176478, 8.374380389),
    ),
    ("gamma", "CR2"): (
        [0.1776872567, 0.07856998319, 0.2021664757],
        [7.05234502, 11.4704126, 7.4250332],
        (28.50180128, 8.286524907),
    ),
    ("trials", "CR2"): (
        [0.1350253867, 0.1006155587, 0.1821598929],
        [7.09091264, 11.241087, 6.81978857],
        (1.053763337, 7.876729251),
    ),
    ("logit", "CR3"): (
        [0.3953884377, 0.3533331068, 0.6198901256],
        [7.17939176, 10.9613512, 7.29884683],
        (5.790946121, 7.691409855),
    ),
    ("probit", "CR3"): (
        [0.2341602588, 0.2071141035, 0.3666855314],
        [6.98178004, 11.0635019, 7.05631367],
        (6.222598793, 7.670480018),
    ),
    ("poisson", "CR3"): (
        [0.4100917569, 0.2525413609, 0.4370276488],
        [7.95468297, 6.84462493, 10.4369337],
        (8.190357623, 7.67609144),
    ),
    ("gamma", "CR3"): (
        [0.1911856623, 0.08478566449, 0.2216372681],
        [6.87164778, 11.2274026, 6.62981679],
        (24.61695279, 7.615668915),
    ),
    ("trials", "CR3"): (
        [0.1444762155, 0.109015243, 0.2040576213],
        [6.91740993, 10.9702824, 6.01343527],
        (0.8540350088, 7.155583385),
    ),
}


@pytest.mark.parametrize(("name", "kind"), CLUBSANDWICH)
def test_against_clubsandwich(name, kind):
    formula, options = MODELS[name]
    fit = pmwmix.fit(formula, clusters(), vcov=kind, design={"psu": "g"}, **options)
    se, df, test = CLUBSANDWICH[name, kind]
    close(fit.se, se, rtol=1e-6)
    close(fit.df(), df, rtol=1e-6)
    close(fit.wald(["x", "z"])[["statistic", "df2"]], test, rtol=1e-6)


MIXED = {
    "logit": ("y ~ x + z + (1 | g)", {"family": "binomial", "weights": ["w", "W"]}),
    "slopes": ("c ~ x + z + (1 + x | g)", {"family": "poisson", "weights": ["w", "W"]}),
    "plain": ("y ~ x + offset(0.3 * x) + (1 | g)", {"family": "binomial"}),
}


def mixed(name, **more):
    formula, options = MIXED[name]
    scaled = {"conditional": True, "scaling": "size"} if "weights" in options else {}
    return pmwmix.fit(formula, clusters(), **options | scaled | more)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_models_by_full_matrices(name):
    """The working linear model from its definition; what CR2 changes there is added to the exact influence."""
    fit, d = mixed(name, vcov="CR2"), clusters()
    slope = name == "slopes"
    offset = 0.3 * d["x"].to_numpy() if name == "plain" else 0.0
    X = np.column_stack([np.ones(len(d)), d["x"], d["z"]])[:, : len(fit.coef)]
    Z, g = (X[:, :2] if slope else X[:, :1]), d["g"].to_numpy()
    moved = (Z * fit.rows.fit.modes[0][0][g]).sum(axis=1)
    eta = X @ fit.coef.to_numpy() + offset + moved
    mean = np.exp(eta) if slope else 1 / (1 + np.exp(-eta))
    noise = mean if slope else mean * (1 - mean)
    y = d["c" if slope else "y"].to_numpy()
    e, D, ZD = y - mean + noise * moved, noise[:, None] * X, noise[:, None] * Z
    Psi = fit.rows.fit.Psi[0]
    w, W = (fit.rows.frame.w[0], fit.rows.frame.w[1]) if "weights" in MIXED[name][1] else (np.ones(len(d)), np.ones(14))
    W = W / W.mean()
    Phi = [np.diag(noise[g == j]) + ZD[g == j] @ Psi @ ZD[g == j].T for j in range(14)]
    low = [np.linalg.inv(np.diag((noise / w)[g == j]) + ZD[g == j] @ Psi @ ZD[g == j].T) for j in range(14)]
    Omega = scipy.linalg.block_diag(*(W[j] * low[j] for j in range(14)))
    M = np.linalg.inv(D.T @ Omega @ D)
    rest = np.eye(len(d)) - D @ M @ D.T @ Omega
    R, whole = rest @ scipy.linalg.block_diag(*Phi) @ rest.T, scipy.linalg.block_diag(*Phi)
    rows = fit.rows
    change, G = np.zeros((14, len(fit.coef))), np.zeros((14, len(d), len(fit.coef)))
    for j in range(14):
        at = np.flatnonzero(g == j)
        square = np.ix_(at, at)
        C = np.linalg.cholesky(whole[square]).T
        A = C.T @ np.linalg.inv(scipy.linalg.sqrtm(C @ R[square] @ C.T).real) @ C
        G[j, at] = A.T @ Omega[square] @ D[at] @ M
        change[j] = M @ D[at].T @ Omega[square] @ (A - np.eye(len(at))) @ e[at]
    exact = influence(rows.problem, rows.fit, rows.k, rows.frame.clusters).scores[:, : len(fit.coef)]
    close(fit.vcov, (exact + change).T @ (exact + change), rtol=1e-5, atol=1e-9)
    for c in range(len(fit.coef)):
        P = G[:, :, c] @ rest @ whole @ rest.T @ G[:, :, c].T
        close(fit.df().iloc[c], np.trace(P) ** 2 / (P**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("name", MIXED)
def test_cr1_is_the_robust_variance(name):
    robust, cr1 = mixed(name, vcov="robust"), mixed(name, vcov="CR1")
    close(cr1.vcov, robust.vcov, rtol=1e-6)
    close(robust.df("bell-mccaffrey"), cr1.df(), rtol=1e-6)
    close(robust.wald("x", df="bell-mccaffrey"), cr1.wald("x"), rtol=1e-6)
    assert robust.df("bell-mccaffrey").iloc[0] < 13 == robust.df().iloc[0]


def test_cr2_is_unbiased_under_the_working_model():
    """A R A' = Φ in every cluster, so that E(V) = MΓM; here by the sums over clusters alone."""
    fit = mixed("slopes", vcov="CR2")
    r = fit.rows
    rows = working_rows(r.problem, r.frame, r.design, r.k, r.fit)
    white = [z / np.sqrt(rows.noise)[:, None] for z in rows.ZL]
    w = (r.frame.w[0], r.frame.w[1] / r.frame.w[1].mean())
    again = weigh_by_model(rows.X / np.sqrt(rows.noise)[:, None], white, rows.units, w)
    close(rows.OX, again / np.sqrt(rows.noise)[:, None], rtol=1e-12)
    M, Gamma = sums_of(rows)
    parts = ingredients(rows, M, Gamma, np.eye(len(M)), "CR2")
    own = np.einsum("juc,uv,jvb->cb", parts.a, M @ Gamma @ M, parts.a)
    across = np.einsum("juc,uv,jvb->cb", parts.a, M, parts.b)
    close(parts.d.sum(axis=0) + own - across - across.T, M @ Gamma @ M, rtol=1e-8, atol=1e-12)


def test_units_order_and_size_of_weights_change_nothing():
    d = clusters()
    options = {"family": "binomial", "weights": ["w", "W"], "conditional": True, "scaling": "size", "vcov": "CR2"}
    fit = pmwmix.fit("y ~ x + z + (1 | g)", d, **options)
    other = d.assign(W=10 * d["W"], x=1e3 * d["x"], g=99 - d["g"]).sample(frac=1, random_state=1)
    moved = pmwmix.fit("y ~ x + z + (1 | g)", other, **options)
    close(moved.se, fit.se / [1, 1e3, 1], rtol=1e-5)
    close(moved.df(), fit.df(), rtol=1e-5)
    assert (fit.se > mixed("logit", vcov="robust").se * np.sqrt(13 / 14)).all()


def test_pooled_saved_and_refused(tmp_path):
    d = clusters().assign(a=lambda t: t["y"], b=lambda t: t["y"])
    options = {"family": "binomial", "vcov": "CR2"}
    fit = pmwmix.fit("y ~ x + z + (1 | g)", d, **options)
    both = pmwmix.fit("v ~ x + z + (1 | g)", d, pv={"v": ["a", "b"]}, **options)
    close(both.se, fit.se, rtol=1e-6)
    close(both.wald(["x", "z"]), fit.wald(["x", "z"]), rtol=1e-6)
    back = pmwmix.load(fit.save(tmp_path / "fit"))
    close(back.df(), fit.df())
    assert "CR2 (cluster-robust, for few clusters)" in str(fit.summary())
    robust = pmwmix.load(pmwmix.fit("y ~ x + z + (1 | g)", d, family="binomial", vcov="robust").save(tmp_path / "r"))
    with pytest.raises(NotSupportedError, match="read from a file"):
        robust.df("bell-mccaffrey")
    with pytest.raises(NotSupportedError, match="vcov='model'"):
        pmwmix.fit("y ~ x + (1 | g)", d, family="binomial").tidy(df="bell-mccaffrey")
    for formula, match in (
        (["p ~ x + (1 | g)", "sigma ~ x"], r"gaussian\(sigma\)"),
        ("p ~ measured(x, 0.8) + (1 | g)", "measured"),
    ):
        with pytest.raises(NotSupportedError, match=match):
            pmwmix.fit(formula, d, vcov="robust").df("bell-mccaffrey")
