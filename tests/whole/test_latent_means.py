"""Latent group means: lavaan's numbers, identities, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import hsb

import pmwmix
from pmwmix.errors import DataError, FormulaError, NotSupportedError, OptionError

MODEL = "mathach ~ ses + latent_mean(ses, school) + (1 | school)"
SLOPES = "y ~ x + latent_mean(x, g) + z + (1 + x | g)"
WEIGHTS = {"weights": {"obs": "w1", "g": "w2"}, "conditional": True, "scaling": "none"}


@pytest.fixture(scope="module")
def lavaan_like():
    return pmwmix.fit(MODEL, hsb())


@pytest.fixture(scope="module")
def balanced() -> pd.DataFrame:
    """Sixty groups of six rows, with whole weights."""
    rng, G, n = np.random.default_rng(5), 60, 6
    X, g = rng.normal(size=G), np.repeat(np.arange(G), n)
    x = X[g] + 1.5 * rng.normal(size=len(g))
    y = 1.0 + 0.5 * x + 0.8 * X[g] + 0.7 * rng.normal(size=G)[g] + rng.normal(size=len(g))
    d = pd.DataFrame(
        {"y": y, "x": x, "g": g, "z": rng.normal(size=len(g)), "m": pd.Series(x).groupby(g).transform("mean")}
    )
    return d.assign(w1=rng.integers(1, 4, len(g)).astype(float), w2=rng.integers(1, 4, G)[g].astype(float))


@pytest.fixture(scope="module")
def weighted(balanced):
    return pmwmix.fit(SLOPES, balanced, **WEIGHTS)


def test_numbers_of_lavaan(lavaan_like):
    """lavaan 0.6-14 on the same data; its optimiser stops at 1e-5 or so of a standard error.

    sem("level: 1\n mathach ~ b*ses\n level: 2\n mathach ~ g*ses\n ctx := g - b", data, cluster = "school",
        fixed.x = FALSE, information = "observed", estimator = "ML" or "MLR")
    """
    fit = lavaan_like
    assert fit.coef.to_numpy() == pytest.approx([12.686930891, 2.191239855, 3.904113272], rel=3e-6)
    assert fit.se.iloc[1:].to_numpy() == pytest.approx([0.108664345, 0.399583274], rel=1e-5)
    assert fit.varcorr["vcov"].to_numpy() == pytest.approx([2.506612148, 37.011585182], rel=2e-5)
    found = fit.latent_means["estimate"]
    assert found.iloc[:3].to_numpy() ** [1, 2, 2] == pytest.approx([-0.006774412, 0.160550052, 0.446217498], rel=2e-4)
    assert fit.loglik == pytest.approx(-30802.560862162, abs=1e-4)
    assert fit.loglik >= -30802.560862162
    robust = pmwmix.fit(MODEL, hsb(), vcov="mplus")
    assert robust.se.iloc[1:].to_numpy() == pytest.approx([0.129403875, 0.374342879], rel=1e-5)


def test_equal_groups_divide_by_the_reliability(balanced):
    """Lüdtke et al. (2008), with n members in every group: the observed mean's effect is the latent one's times that.

    To 1e-7, as far as the two climbs have converged.
    """
    fit = pmwmix.fit("y ~ x + latent_mean(x, g) + (1 | g)", balanced)
    observed = pmwmix.fit("y ~ x + m + (1 | g)", balanced)
    share = fit.latent_means.loc["latent_mean(x, g).reliability", "estimate"]
    assert 0.5 < share < 0.9
    assert fit.coef.iloc[2] * share == pytest.approx(observed.coef["m"], abs=1e-7)
    assert fit.coef["x"] == pytest.approx(observed.coef["x"], abs=1e-7)


def test_whole_weights_are_repeated_rows(balanced, weighted):
    copies = []
    for g, rows in balanced.groupby("g"):
        rows = rows.loc[rows.index.repeat(rows["w1"].astype(int))]
        copies += [rows.assign(g=100 * g + number) for number in range(int(rows["w2"].iloc[0]))]
    plain = pmwmix.fit(SLOPES, pd.concat(copies))
    assert weighted.coef.to_numpy() == pytest.approx(plain.coef.to_numpy(), abs=1e-7)
    assert weighted.loglik == pytest.approx(plain.loglik, rel=1e-12)


def test_order_of_rows_units_and_equal_plausible_values_change_nothing(balanced, weighted, tmp_path):
    mixed = balanced.sample(frac=1.0, random_state=1).assign(
        x1=lambda d: 1000 * d["x"], x2=lambda d: d["x1"], y1=lambda d: d["y"] + 50, y2=lambda d: d["y1"]
    )
    pv = {"x": ["x1", "x2"], "y": ["y1", "y2"]}
    fit = pmwmix.fit(SLOPES, mixed.drop(columns=["x", "y"]), pv=pv, **WEIGHTS)
    scale = np.array([1.0, 1000.0, 1000.0, 1.0])
    assert fit.n_pv == 2
    assert (fit.coef * scale).to_numpy() == pytest.approx(weighted.coef.to_numpy() + np.array([50, 0, 0, 0]), abs=1e-6)
    assert (fit.se * scale).to_numpy() == pytest.approx(weighted.se.to_numpy(), abs=1e-6)
    again = pmwmix.load(fit.save(tmp_path / "fit.pmwmix"))
    assert again.latent_means.equals(fit.latent_means)
    assert "Latent group means" in str(again.summary())


def test_expected_means_and_residuals(lavaan_like):
    means, observed = lavaan_like.group_means().iloc[:, 0], hsb().groupby("school")["ses"].mean()
    assert np.corrcoef(means, observed)[0, 1] > 0.98
    assert means.std() < observed.std()
    assert lavaan_like.residuals().mean() == pytest.approx(0.0, abs=1e-7)  # the intercept's score
    new = pd.DataFrame({"ses": [0.0], "latent_mean(ses, school)": [1.0], "school": [1224]})
    assert lavaan_like.predict(new, conditional=False).iloc[0] == pytest.approx(
        lavaan_like.coef.iloc[[0, 2]].sum(), rel=1e-12
    )


BAD = [
    ("y ~ x + latent_mean(x) + (1 | g)", {}, FormulaError, "A latent mean is that of a column in a group"),
    ("y ~ x + latent_mean(log(x), g) + (1 | g)", {}, FormulaError, r"log\(x\) in latent_mean"),
    ("y ~ x + latent_mean(x, g + h) + (1 | g)", {}, FormulaError, "has one group"),
    ("y ~ x + (1 + latent_mean(x, g) | g)", {}, FormulaError, "stands among the fixed terms"),
    ("latent_mean(y, g) ~ x + (1 | g)", {}, FormulaError, "stands among the fixed terms"),
    ("y ~ latent_mean(x, g)", {}, FormulaError, "needs a random term of its own"),
    ("y ~ latent_mean(x, h) + (1 | g)", {}, FormulaError, r"about 'h', .* 'g'"),
    ("y ~ latent_mean(x, g) + (1 | g) + (1 | h)", {}, NotSupportedError, "one grouping factor"),
    ("y ~ I(latent_mean(x, g) ** 2) + (1 | g)", {}, FormulaError, "must be linear in latent means"),
    ("y ~ latent_mean(x, g) * latent_mean(z, g) + (1 | g)", {}, FormulaError, "not linear in .* and "),
    ("y ~ latent_mean(f, g) + (1 | g)", {}, DataError, "Column 'f' .* holds categories"),
    ("y ~ latent_mean(w2, g) + (1 | g)", {}, DataError, "'w2' .* does not vary among members"),
    ("y ~ latent_mean(noise, g) + (1 | g)", {}, DataError, "do not differ beyond what chance"),
    ("y ~ latent_mean(nothing, g) + (1 | g)", {}, DataError, "nothing"),
    (SLOPES, {"method": "reml"}, NotSupportedError, "REML is not built for latent group means"),
    (SLOPES, {"method": "bayes"}, NotSupportedError, "A posterior is not built for latent group means"),
    (SLOPES, {"vcov": "CR2"}, NotSupportedError, "The variance 'CR2' is not built for latent group means"),
    (SLOPES, {"vcov": "robust-block"}, NotSupportedError, "'robust-block' is not built for latent group means"),
    (SLOPES, {"fixed": {"Residual": 1.0}}, NotSupportedError, "Holding variances is not built"),
    (SLOPES, {"family": "student"}, NotSupportedError, "family='student'"),
    (SLOPES, {"residual": {"variance": "ident(f)"}}, NotSupportedError, "a residual structure"),
    (SLOPES, {"method": "pairwise"}, NotSupportedError, "pairwise likelihood"),
    (SLOPES, {"center": {"x": "g"}}, OptionError, "'x' is centred by 'g'"),
    (["y ~ x + (1 | g)", "sigma ~ latent_mean(x, g)"], {}, FormulaError, "Only the mean has latent means"),
]


@pytest.mark.parametrize(("formula", "given", "error", "said"), BAD, ids=range(len(BAD)))
def test_messages(balanced, formula, given, error, said):
    n, rng = len(balanced), np.random.default_rng(0)
    noise = pd.Series(rng.normal(size=n))
    noise -= noise.groupby(balanced["g"]).transform("mean")
    d = balanced.assign(f=np.where(np.arange(n) % 2, "a", "b"), h=balanced["g"] // 6, noise=noise)
    with pytest.raises(error, match=said) as caught:
        pmwmix.fit(formula, d, **given)
    assert str(caught.value).count(". ") + str(caught.value).count("? ") >= 2


VERBS = {
    "aic": lambda fit: fit.aic,
    "lrt": lambda fit: pmwmix.lrt(fit, fit),
    "ranova": pmwmix.ranova,
    "r2": lambda fit: fit.r2(),
    "simulate": lambda fit: fit.simulate(),
    "bootstrap": lambda fit: fit.bootstrap(5),
    "ame": lambda fit: fit.ame(),
    "satterthwaite": lambda fit: fit.tidy(df="satterthwaite"),
    "profile": lambda fit: fit.confint(method="profile"),
    "sensitivity": pmwmix.sensitivity,
    "design_effects": pmwmix.design_effects,
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_that_are_refused(lavaan_like, verb):
    with pytest.raises(NotSupportedError, match="not built for latent group means") as caught:
        VERBS[verb](lavaan_like)
    assert str(caught.value).count(". ") >= 2


def mplus_example():
    """Example 9.1, second part, of the Mplus User's Guide, by clusters: sizes, w, means and within cross-products.

    The likelihood depends on nothing else. Rows are made that have them: means plus multiples of two contrasts.
    """
    rows = []
    for j, one in pd.read_csv(Path(__file__).with_name("mplus_9_1b.csv")).iterrows():
        n = int(one["n"])
        contrasts = np.linalg.qr(np.column_stack([np.ones(n), np.arange(n), np.arange(n) ** 2]))[0][:, 1:]
        apart = contrasts @ np.linalg.cholesky([[one["yy"], one["xy"]], [one["xy"], one["xx"]]]).T
        rows.append(pd.DataFrame({"y": one["y"] + apart[:, 0], "x": one["x"] + apart[:, 1], "w": one["w"], "clus": j}))
    return pd.concat(rows, ignore_index=True)


def test_published_example_of_mplus():
    """Mplus 8.2, ESTIMATOR = MLR, as printed; its between part had stopped (chi-square 0.001 on no degrees of freedom).

    lavaan 0.6-14 on the same data (fixed.x = FALSE): 0.780, 0.412 (0.184), 0.383 (0.124), as here.
    """
    fit = pmwmix.fit("y ~ x + latent_mean(x, clus) + w + (1 | clus)", mplus_example(), vcov="mplus")
    printed = {"Intercept": (2.005, 0.078), "x": (0.780, 0.032), "latent_mean(x, clus)": (0.408, 0.181)}
    table = fit.tidy().set_index("term")
    for term, (estimate, error) in (printed | {"w": (0.385, 0.122)}).items():
        assert abs(table.loc[term, "estimate"] - estimate) < 0.025 * error + 0.0005, term
        assert table.loc[term, "std_error"] == pytest.approx(error, rel=0.02, abs=0.0005)
    assert fit.varcorr["vcov"].round(3).tolist() == [0.519, 0.975]
    assert fit.varcorr["se"].round(3).tolist() == [0.085, 0.043]
    assert fit.loglik == pytest.approx(-2971.585, abs=0.01)
    assert table.loc["latent_mean(x, clus)", ["estimate", "std_error"]].round(3).tolist() == [0.412, 0.184]


def test_joint_tests_take_the_robust_covariance_of_all_parameters():
    """Not CR2 of the rows, which knows nothing of the model of the means: eq. 55 of the theory, 60 clusters."""
    data = mplus_example()
    fit = pmwmix.fit("y ~ x + latent_mean(x, clus) + w + (1 | clus)", data[data["clus"] < 60], vcov="robust")
    b, V = fit.coef.to_numpy()[1:], fit.vcov.to_numpy()[1:, 1:]
    assert fit.wald()["statistic"] == pytest.approx(b @ np.linalg.solve(V, b) / 3 * 57 / 59, rel=1e-9)
