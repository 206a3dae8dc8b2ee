"""A coefficient that rests on one or two clusters is named under every robust variance."""

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.errors import NotSupportedError
from pmwmix.fitting.carried import carrying


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(30), 20)
    y = rng.normal(size=30)[g] + rng.normal(size=600)
    table = pd.DataFrame({"g": g, "x": rng.normal(size=600), "y": y, "b": (y > 0) * 1, "w": rng.uniform(1, 3, 600)})
    for count in (1, 2, 3):
        table[f"t{count}"] = (g < count) * 1.0
    return table.assign(kind=np.where(g == 3, "only", "rest"), W=1.0, half=g // 2)


def carried(fit):
    numbers, _ = carrying(fit.rows.problem, fit.rows.frame, fit.rows.design)
    return dict(zip(fit.rows.problem.names, numbers, strict=True))


def said(fit):
    return " ".join(note for note in fit.notes if note.startswith("Resting"))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_effective_clusters_of_an_indicator_by_hand(rows, k):
    """Of J clusters of one size, k have 1: squares (1 - k/J)² and (k/J)²."""
    h = np.repeat([(1 - k / 30) ** 2, (k / 30) ** 2], [k, 30 - k])
    want = h.sum() ** 2 / (h**2).sum()
    close(carried(pmwmix.fit(f"y ~ t{k} + (1 | g)", rows, vcov="robust"))[f"t{k}"], want)
    close(carried(pmwmix.fit(f"b ~ t{k} + (1 | g)", rows, family="binomial", vcov="robust"))[f"t{k}"], want)


def test_cross_products_and_rows_give_the_same(rows):
    options = {"weights": ["w", "W"], "conditional": True}
    linear = pmwmix.fit("y ~ t2 + x + (1 | g)", rows, **options)
    general = pmwmix.fit("b ~ t2 + x + (1 | g)", rows, family="binomial", **options)
    close(list(carried(linear).values()), list(carried(general).values()), rtol=1e-6)


@pytest.mark.parametrize("options", [{"vcov": "robust"}, {"vcov": "CR2"}, {"weights": ["w", "W"], "scaling": "size"}])
def test_it_is_said_where_the_variance_is_robust(rows, options):
    fit = pmwmix.fit("y ~ t1 + x + (1 | g)", rows, **options)
    assert "Resting on one cluster: t1." in said(fit) and "Resting on one cluster: t1." in fit.summary().to_text(1000)
    assert "Resting on two clusters: t2." in said(pmwmix.fit("y ~ t2 + x + (1 | g)", rows, **options))
    assert said(pmwmix.fit("y ~ t3 + x + (1 | g)", rows, **options)) == ""
    assert said(pmwmix.fit("y ~ t1 + x + (1 | g)", rows)) == ""


def test_cell_means_categories_and_sampling_units(rows):
    assert "kind[only]" in said(pmwmix.fit("y ~ 0 + kind + x + (1 | g)", rows, vcov="robust"))
    binary = pmwmix.fit("b ~ kind + x + (1 | g)", rows, family="binomial", vcov="robust")
    assert "Intercept, kind[T.rest]" in said(binary)
    psu = pmwmix.Design(psu="half")
    assert "one cluster: t2" in said(pmwmix.fit("y ~ t2 + (1 | g)", rows, design=psu, vcov="robust"))
    assert "one cluster: t2" in said(pmwmix.fit("y ~ t2", rows, design=psu, vcov="robust"))


@pytest.mark.parametrize("formula", ["y ~ 0 + C(half)", "y ~ 0 + C(half) + (1 | half)"])
@pytest.mark.parametrize("vcov", ["robust", "CR2"])
def test_a_sandwich_without_spread_is_missing_not_zero(rows, formula, vcov):
    """Each cluster has a mean of its own, which its residuals sum to zero about: 1e-17, and a t of 1e16."""
    fit = pmwmix.fit(formula, rows, design=pmwmix.Design(psu="half"), vcov=vcov)
    model = pmwmix.fit(formula, rows, vcov="model")
    assert fit.se.isna().all() and fit.tidy()["p_value"].isna().all() and (model.se > 0.05).all()
    with pytest.raises(NotSupportedError, match="covariance of its terms"):
        fit.wald(["C(half)[0]", "C(half)[1]"])
    mixed = pmwmix.fit("y ~ x + C(half) + (1 | half)", rows, vcov="robust")
    assert np.isfinite(mixed.se["x"]) and "Resting on two clusters" in said(mixed)


@pytest.mark.parametrize(
    ("formula", "options", "alone"),
    [
        ("y ~ t1 + x + (1 | g)", {"vcov": "robust"}, ["t1"]),
        ("y ~ t1 + x + (1 | g)", {"vcov": "CR2"}, ["t1"]),
        ("y ~ t1 + x + (1 | g)", {"vcov": "hlm"}, ["t1"]),
        ("y ~ t1 + x + (1 | g)", {"weights": ["w", "W"], "scaling": "size"}, ["t1"]),
        ("y ~ t1 + x", {"design": pmwmix.Design(psu="half")}, []),
        ("y ~ kind + x + (1 | g)", {"vcov": "robust"}, ["Intercept", "kind[T.rest]"]),
        ("b ~ t1 + x + (1 | g)", {"family": "binomial", "vcov": "robust"}, ["t1"]),
        ("y ~ t2 + x + (1 | g)", {"vcov": "robust"}, []),
        ("y ~ few + x + (1 | four)", {"vcov": "robust"}, ["few"]),
        ("y ~ t1 + x + (1 | g)", {"vcov": "model"}, []),
    ],
)
def test_a_coefficient_of_one_cluster_has_no_robust_error(rows, formula, options, alone):
    """Brute force: without one of the clusters the columns lose rank in its direction."""
    rows = rows.assign(four=rows["g"] // 8, few=1.0 * (rows["g"] < 8))
    fit = pmwmix.fit(formula, rows, **options)
    table = fit.tidy().set_index("term")
    for column in ("std_error", "statistic", "p_value", "ci_low"):
        assert list(table.index[table[column].isna()]) == alone, column
    assert any("Missing (NaN) are the standard errors" in note for note in fit.notes) == bool(alone)
    if alone:
        group = formula.split("| ")[1].rstrip(")")
        X = np.array(list(fit.rows.columns.values())).T
        for j, term in enumerate(fit.coef.index):
            ranks = [np.linalg.matrix_rank(X[rows[group] != one]) for one in rows[group].unique()]
            lost = min(ranks) < X.shape[1] and any(
                np.linalg.matrix_rank(np.vstack([X[rows[group] != one], np.eye(X.shape[1])[j]])) > rank
                for one, rank in zip(rows[group].unique(), ranks, strict=True)
            )
            assert lost == (term in alone)


def test_the_others_keep_their_errors_tests_and_effects(rows, tmp_path):
    fit = pmwmix.fit("y ~ t1 + x + (1 | g)", rows, vcov="robust")
    close(fit.wald("x")["statistic"], fit.tidy().set_index("term").loc["x", "statistic"] ** 2)
    close(fit.ame("x", newdata=rows)["std_error"], fit.se["x"], rtol=1e-6)
    assert np.isnan(fit.ame("t1", newdata=rows)["std_error"]).all() and np.isfinite(fit.r2()["estimate"]).all()
    found = fit.contrast(["x", "x = 0.1"])
    close(found["std_error"], fit.se["x"])
    with pytest.raises(NotSupportedError, match="That of t1 is missing"):
        fit.wald()
    fit.save(tmp_path / "fit.npz")
    pd.testing.assert_series_equal(pmwmix.load(tmp_path / "fit.npz").se, fit.se)
    sets = rows.assign(P1=rows["y"], P2=rows["y"] + rows["x"], P3=rows["y"] - 0.5 * rows["x"])
    pooled = pmwmix.fit("p ~ t1 + x + (1 | g)", sets, pv={"p": "P{}"}, vcov="robust")
    assert np.isnan(pooled.se["t1"]) and np.isfinite(pooled.tidy().set_index("term").loc["x"]).all()
    assert "t1" in str(fit.summary()) and "t1" in str(pooled.summary())
