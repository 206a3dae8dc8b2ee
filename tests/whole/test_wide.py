"""Many fixed columns: cross-products that are not held per group, factors that are held as codes.

Both ways of the same fit differ by rounding alone; the chosen limits are set to zero so that small data go the way of
large ones.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.data.indicator import Indicator, columns_of
from pmwmix.frame import matrices
from pmwmix.likelihood.linear import crossproducts
from pmwmix.likelihood.linear.rowproducts import RowProducts

FORMULAS = {
    "two": ("y ~ x * f + h + (1 + x | g)", {"weights": ["w1", "w2"], "vcov": "robust"}),
    "three": ("y ~ x + f + (1 | c) + (1 | g)", {"weights": ["w1", None, "w2"], "vcov": "robust"}),
    "reml": ("y ~ 0 + f + x + (1 | g)", {"method": "reml", "vcov": "robust"}),
    "flat": ("y ~ x + f:h", {"weights": "w1"}),
    "crossed": ("y ~ x + f + (1 | g) + (1 | h)", {}),
}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    n, G = 600, 40
    g = np.sort(rng.integers(0, G, n))
    found = pd.DataFrame({"g": g, "c": 3 * g + rng.integers(0, 3, n), "x": rng.normal(size=n)})
    for name, many in (("f", 10), ("h", 5)):
        labels = [f"{name}{i}" for i in range(many)]
        found[name] = pd.Categorical.from_codes(rng.integers(0, many, n), labels)
    found["y"] = 0.4 * found["x"] + rng.normal(size=10)[found["f"].cat.codes] + 0.6 * rng.normal(size=G)[g]
    found["y"] += 0.3 * rng.normal(size=3 * G)[found["c"]] + rng.normal(size=n)
    found["w1"], found["w2"] = rng.uniform(1, 3, n), rng.uniform(1, 4, G)[g]
    for k in range(6):
        found[f"r{k}"] = found["w1"] * rng.choice([0.5, 1.5], G)[g]
        found[f"s{k}"] = found["w1"] * rng.choice([0.5, 1.5], n)
    return found.sample(frac=1, random_state=1).reset_index(drop=True)


@pytest.fixture
def large(monkeypatch):
    """Give a switch that sends everything the way of large data."""

    def switch():
        monkeypatch.setattr(matrices, "WIDE", 0)
        monkeypatch.setattr(crossproducts, "WIDE", 0)

    return switch


def both(large, formula, table, **options):
    first = pmwmix.fit(formula, table, progress=False, **options)
    large()
    second = pmwmix.fit(formula, table, progress=False, **options)
    assert isinstance(second.rows.problem.blocks.xx, RowProducts)
    assert any(isinstance(column, Indicator) for column in second.rows.design.x.columns)
    return first, second


@pytest.mark.parametrize("model", FORMULAS)
def test_products_and_estimates_are_those_of_columns_that_are_held(model, table, large):
    """At one theta the same sums in another order: 1e-10; estimates inherit where the climb stops, 1e-7."""
    formula, options = FORMULAS[model]
    held, coded = both(large, formula, table, **options)
    a, b = held.rows.problem.blocks, coded.rows.problem.blocks
    for name in ("zz", "zx", "zy", "xy", "yy", "n_w", "total_xx", "each_xx"):
        close(getattr(b, name), getattr(a, name), rtol=1e-10, atol=1e-10)
    rng = np.random.default_rng(2)
    B = rng.normal(size=(3, a.zx.shape[1]))
    close(b.xx_times(B[0]), a.xx_times(B[0]), rtol=1e-10, atol=1e-10)
    close(b.xx_traces(B.T @ B), a.xx_traces(B.T @ B), rtol=1e-10, atol=1e-10)
    close(b.xx_squares(B), a.xx_squares(B), rtol=1e-10, atol=1e-10)
    close(b.part_xx([0]), a.part_xx([0]), rtol=1e-10, atol=1e-10)
    theta = held.rows.problem.layout.start(0.7)
    one, other = (fit.rows.problem.objective.at(theta) for fit in (held, coded))
    close(other.value, one.value, rtol=1e-12)
    close(other.information, one.information, rtol=1e-10, atol=1e-9)
    if not held.rows.frame.hierarchy.crossed:  # whose scores are compiled
        ends = (held, one), (coded, other)
        scores = [fit.rows.problem.objective.scores(point) for fit, point in ends]
        close(scores[1], scores[0], rtol=1e-9, atol=1e-9)
    close(coded.coef, held.coef, rtol=1e-7, atol=1e-7)
    close(coded.vcov, held.vcov, rtol=1e-6, atol=1e-9)
    assert coded.notes == held.notes


def test_cells_without_rows_take_no_place_of_others(table, large):
    """Products of factors have columns of zeros; the table has a column of few ones."""
    last = (table["f"] == "f9") & table["h"].isin(["h3", "h4"]) | (table["f"] == "f2") & (table["h"] == "h4")
    some = table[~last].reset_index(drop=True).assign(few=lambda d: (d["x"] > 1.5).astype(float))
    held, coded = both(large, "y ~ few + f:h + x:few + f:x + (1 | g)", some, vcov="robust")
    assert len(held.coef) == held.rows.problem.blocks.zx.shape[1] < len(held.rows.design.x.names)
    close(coded.rows.problem.blocks.total_xx, held.rows.problem.blocks.total_xx, rtol=1e-10, atol=1e-10)
    close(coded.coef, held.coef, rtol=1e-6, atol=1e-7)
    close(coded.vcov, held.vcov, rtol=1e-5, atol=1e-8)
    assert coded.notes == held.notes


def test_coefficients_are_those_of_generalised_least_squares(table, large):
    """At the estimated variances, from dense matrices that know nothing of this package."""
    large()
    fit = pmwmix.fit("y ~ x + f + (1 | g)", table, progress=False)
    X = pd.get_dummies(table[["x", "f"]], drop_first=True, dtype=float)
    X.insert(0, "Intercept", 1.0)
    Z = (table["g"].to_numpy()[:, None] == np.unique(table["g"])).astype(float)
    variance = fit.varcorr.set_index("grp")["vcov"]
    V = variance["g"] * Z @ Z.T + variance["Residual"] * np.eye(len(table))
    half = np.linalg.solve(V, X.to_numpy())
    information = X.to_numpy().T @ half
    close(fit.coef, np.linalg.solve(information, half.T @ table["y"]), rtol=1e-8)
    close(fit.vcov, np.linalg.inv(information), rtol=1e-8, atol=1e-12)


VERBS = {
    "ranef": lambda fit, _: fit.ranef().select_dtypes("number"),
    "fitted": lambda fit, _: fit.fitted(),
    "pearson": lambda fit, _: fit.residuals("pearson"),
    "predict": lambda fit, table: fit.predict(table.head(20)),
    "ame": lambda fit, _: fit.ame("f").select_dtypes("number"),
    "profile": lambda fit, _: fit.confint(method="profile"),
    "bootstrap": lambda fit, _: fit.bootstrap(3, random_seed=1).tidy().select_dtypes("number"),
    "pickle": lambda fit, _: pickle.loads(pickle.dumps(fit)).coef,
}


def test_verbs_after_a_fit(table, large):
    """Small fits of p = 11 go on as before; where the climb stops is between the numbers."""
    held, coded = both(large, "y ~ x + f + (1 | g)", table, method="ml")
    for name, verb in VERBS.items():
        found, expected = (np.asarray(verb(fit, table), dtype=float) for fit in (coded, held))
        assert np.isfinite(expected).any(), name
        close(found, expected, rtol=2e-6, atol=1e-7)


def test_kenward_and_roger_read_the_rows_again(table, large):
    held, coded = both(large, "y ~ x + f + (1 | g)", table, method="reml")
    expected, found = (fit.tidy(df="kenward-roger").select_dtypes("number") for fit in (held, coded))
    close(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["r", "s"])
def test_replicates_read_the_rows_again(kind, table, large):
    """Weights of groups that change, and weights of rows."""
    names = [f"{kind}{k}" for k in range(6)]
    design = pmwmix.Design(weights=["w1", "w2"], replicate_weights=names, replicate_type="fay", fay=0.5)
    held, coded = both(large, "y ~ x + f + (1 | g)", table, design=design, vcov="replicate")
    close(coded.vcov, held.vcov, rtol=1e-5, atol=1e-9)


def test_columns_of_codes():
    """An indicator is its column in every use; columns that overlap have codes of their own."""
    from scipy.sparse import csc_matrix

    rng = np.random.default_rng(1)
    dense = np.zeros((400, 6))
    dense[np.arange(400), rng.integers(0, 30, 400) % 6 * (rng.random(400) < 0.4)] = 1.0
    dense[:20, 5] = 1.0
    dense[:, 0] = rng.normal(size=400)
    columns = columns_of(csc_matrix(dense))
    assert [type(one) for one in columns] == [np.ndarray, *[Indicator] * 5]
    assert columns[1].codes is columns[2].codes
    assert columns[5].codes is not columns[1].codes
    for j, column in enumerate(columns):
        close(column, dense[:, j], rtol=0)
        close(column[3:50], dense[3:50, j], rtol=0)
        close(2.0 * column - 1.0, 2.0 * dense[:, j] - 1.0, rtol=0)
        close(column @ dense[:, 0], dense[:, j] @ dense[:, 0], rtol=1e-14)
        close(
            [column.mean(), column.std(), column.sum()], [f(dense[:, j]) for f in (np.mean, np.std, np.sum)], rtol=1e-12
        )
        close(pickle.loads(pickle.dumps(column)), dense[:, j], rtol=0)
