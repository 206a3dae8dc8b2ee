"""Sandwiches against formulas written out, strata and PSU."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested

import pmwmix
from pmwmix.errors import DataError, DesignError
from pmwmix.variance import meat


def test_meat_with_strata_by_hand():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(9, 2))
    psu = np.array([0, 0, 1, 2, 2, 3, 4, 4, 5])
    stratum = np.array([0, 0, 0, 1, 1, 1])
    expected = np.zeros((2, 2))
    for members in ([0, 1, 2], [3, 4, 5]):
        totals = np.array([scores[psu == k].sum(0) for k in members])
        centred = totals - totals.mean(0)
        expected += 3 / 2 * centred.T @ centred
    close(meat(scores, psu, stratum), expected)


@pytest.mark.parametrize("vcov", ["robust", "robust-block"])
def test_sandwich_of_a_random_intercept_model_in_full_matrices(vcov):
    """Scores and observed information of (beta, psi, sigma²) by finite differences of the log-likelihood per group."""
    d = nested()
    fit = pmwmix.fit("y ~ x + (1 | school)", d, vcov=vcov)
    start = np.array([*fit.coef, *fit.varcorr["vcov"]])

    def per_group(parameters):
        b0, b1, psi, s2 = parameters
        out = []
        for _, part in d.groupby("school"):
            r = (part["y"] - b0 - b1 * part["x"]).to_numpy()
            V = psi + s2 * np.eye(len(r))
            out.append(-0.5 * (len(r) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)))
        return np.array(out)

    steps = 1e-4 * np.diag(np.maximum(np.abs(start), 0.1))
    scores = np.array([(per_group(start + s) - per_group(start - s)) / (2 * s.max()) for s in steps]).T
    A = np.array([
        [
            -(per_group(start + s + t) - per_group(start + s - t) - per_group(start - s + t)
                + per_group(start - s - t)).sum()
            / (4 * s.max() * t.max())
            for s in steps
        ]
        for t in steps
    ])  # fmt: skip
    if vcov == "robust-block":
        A[:2, 2:] = A[2:, :2] = 0
    B = 14 / 13 * (scores - scores.mean(0)).T @ (scores - scores.mean(0))
    V = np.linalg.inv(A) @ B @ np.linalg.inv(A)
    close(fit.se, np.sqrt(np.diag(V)[:2]), rtol=2e-5)
    close(fit.varcorr["se"], np.sqrt(np.diag(V)[2:]), rtol=2e-4)


def test_psu_and_strata_change_the_variance_and_its_degrees_of_freedom():
    d = nested().assign(psu=lambda t: t["school"] // 2, stratum=lambda t: t["school"] // 8)
    options = {"weights": ["t1", "w3"]}
    plain = pmwmix.fit("y ~ x + (1 | school)", d, **options)
    by_psu = pmwmix.fit("y ~ x + (1 | school)", d, design=pmwmix.Design(psu="psu"), **options)
    both = pmwmix.fit("y ~ x + (1 | school)", d, design=pmwmix.Design(psu="psu", strata="stratum"), **options)
    close(plain.coef, both.coef)
    assert (plain.df() == 13).all() and (by_psu.df() == 6).all() and (both.df() == 5).all()
    assert not np.allclose(plain.se, by_psu.se) and not np.allclose(by_psu.se, both.se)
    one_each = pmwmix.fit("y ~ x + (1 | school)", d, design=pmwmix.Design(psu="school"), **options)
    close(one_each.se, plain.se)
    assert "7 clusters (psu) in 2 strata (stratum)" in " ".join(str(both.summary()).split())


def test_model_based_standard_errors_are_generalised_least_squares():
    d = nested()
    fit = pmwmix.fit("y ~ x + (1 | school)", d, method="reml")
    same = d["school"].to_numpy()[:, None] == d["school"].to_numpy()[None, :]
    V = fit.varcorr["vcov"].iloc[0] * same + fit.sigma**2 * np.eye(len(d))
    X = np.column_stack([np.ones(len(d)), d["x"]])
    close(fit.vcov, np.linalg.inv(X.T @ np.linalg.solve(V, X)), rtol=1e-7, atol=1e-12)


def test_lonely_psus_and_finite_populations_by_hand():
    scores = np.array([[1.0], [3.0], [7.0], [5.0]])
    psu, stratum = np.arange(4), np.array([0, 0, 1, 1])
    alone = np.array([0, 0, 0, 1])
    first = 3 / 2 * ((np.array([1, 3, 7]) - 11 / 3) ** 2).sum()
    close(meat(scores, psu, alone, lonely="certainty"), first)
    close(meat(scores, psu, alone, lonely="average"), 2 * first)
    close(meat(scores, psu, alone, lonely="centre"), first + (5 - 4) ** 2)
    whole = 2 * ((1 - 2) ** 2 + (3 - 2) ** 2) * 0.75 + 2 * (1 + 1) * 0.5
    close(meat(scores, psu, stratum, np.array([0.25, 0.5])), whole)


def test_lonely_psus_and_fpc_in_a_fit():
    d = nested().assign(stratum=lambda t: np.minimum(t["school"] // 5, 2), share=0.36)
    d.loc[d["school"] == 13, "stratum"] = 9
    design = {"strata": "stratum"}
    with pytest.raises(DesignError, match=r"stratum.*lonely_psu"):
        pmwmix.fit("y ~ x + (1 | school)", d, vcov="robust", design=design)
    fits = {
        rule: pmwmix.fit("y ~ x + (1 | school)", d, vcov="robust", design={**design, "lonely_psu": rule})
        for rule in ("certainty", "centre", "average")
    }
    assert (fits["certainty"].se < fits["centre"].se).all() and (fits["certainty"].se < fits["average"].se).all()
    base = pmwmix.fit("y ~ x + (1 | school)", d, vcov="robust")
    by_share = pmwmix.fit("y ~ x + (1 | school)", d, vcov="robust", design={"fpc": "share"})
    close(by_share.se, np.sqrt(1 - 0.36) * base.se)
    by_count = pmwmix.fit("y ~ x + (1 | school)", d.assign(share=14 / 0.36), vcov="robust", design={"fpc": "share"})
    close(by_count.se, by_share.se)
    with pytest.raises(DesignError, match="share"):
        pmwmix.fit("y ~ x + (1 | school)", d.assign(share=5.0), vcov="robust", design={"fpc": "share"})
    with pytest.raises(DesignError, match="midle"):
        pmwmix.fit("y ~ x + (1 | school)", d, vcov="robust", design={"lonely_psu": "midle"})


def test_a_subset_keeps_all_clusters_in_the_variance():
    """Estimates are those of the filtered table; the variance counts clusters without such rows with scores of zero."""
    d = nested().assign(girl=lambda t: (t["x"] > 1) & (t["school"] > 3), stratum=lambda t: t["school"] // 7)
    options = {"weights": ["w1", "w3"], "conditional": True}
    part = pmwmix.fit("y ~ x + (1 | school)", d, subset="girl", **options)
    filtered = pmwmix.fit("y ~ x + (1 | school)", d[d["girl"]], **options)
    close(part.coef, filtered.coef, rtol=1e-9)
    close(part.se, np.sqrt((14 / 13) / (10 / 9)) * filtered.se, rtol=1e-8)  # scores sum to zero: only J/(J-1) differs
    assert (part.df() == 13).all() and (filtered.df() == 9).all()
    by_mask = pmwmix.fit(
        "y ~ x + (1 | school)", d, subset=d["girl"].to_numpy(), design={"strata": "stratum"}, **options
    )
    assert (by_mask.df() == 12).all() and by_mask.nobs == part.nobs
    scores = part.rows.problem.objective.scores(part.rows.problem.objective.at(part.rows.fit.point.theta))
    whole = np.zeros((14, scores.shape[1]))
    whole[4:] = scores
    strata = np.arange(14) // 7
    B = sum(7 / 6 * (s - s.mean(0)).T @ (s - s.mean(0)) for s in (whole[strata == 0], whole[strata == 1]))
    close(meat(scores, np.arange(4, 14), strata), B, rtol=1e-8)
    everything = pmwmix.fit("y ~ x + (1 | school)", d, subset=np.ones(len(d), dtype=bool), **options)
    close(everything.se, pmwmix.fit("y ~ x + (1 | school)", d, **options).se)
    assert any("A subset was fitted" in note for note in part.notes)
    for wrong in (np.ones(3, dtype=bool), "x"):
        with pytest.raises(DataError, match="true or false"):
            pmwmix.fit("y ~ x + (1 | school)", d, subset=wrong)


# Standard errors of svyglm(y ~ x, svydesign(~psu, strata = ~st, weights = ~w)) with survey.lonely.psu = "certainty",
# "adjust", "average"; then with fpc = ~N; then of subset(design, dom). R survey 4.1-1.
SURVEY = {
    ("certainty", "all"): (0.0944207031, 0.1456318243),
    ("certainty", "fpc"): (0.0750934072, 0.1150782648),
    ("certainty", "domain"): (0.1788867159, 0.2447727986),
    ("centre", "all"): (0.1073178874, 0.1517698452),
    ("centre", "fpc"): (0.0893347279, 0.1220078643),
    ("centre", "domain"): (0.1789778751, 0.2454025599),
    ("average", "all"): (0.1090276367, 0.1681611459),
    ("average", "fpc"): (0.0867103977, 0.1328809343),
    ("average", "domain"): (0.2065605872, 0.2826392823),
}


@pytest.mark.parametrize(("lonely", "part"), SURVEY)
def test_design_based_errors_are_those_of_survey(lonely, part):
    i = np.arange(1, 61)
    psu = (i - 1) // 5 + 1
    stratum = np.array([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4])[psu - 1]
    y = 2 + 0.5 * np.sin(i) + np.cos(1.7 * i) + 0.1 * psu
    data = pd.DataFrame({"y": y, "x": np.sin(i), "w": 1.0 + i % 4, "psu": psu, "st": stratum, "N": 10})
    design = pmwmix.Design(strata="st", psu="psu", lonely_psu=lonely, fpc="N" if part == "fpc" else None)
    subset = (i % 3 == 0) if part == "domain" else None
    fit = pmwmix.fit("y ~ x", data, weights="w", design=design, subset=subset)
    np.testing.assert_allclose(fit.se, SURVEY[lonely, part], rtol=1e-8)
