"""What the data cannot estimate is missing and named, in whatever order the categories stand."""

import warnings
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix


@pytest.fixture(scope="module")
def rows():
    """Nobody is in cell c of f and q of h."""
    rng = np.random.default_rng(1)
    n = 600
    table = pd.DataFrame({"g": np.repeat(np.arange(30), 20), "x": rng.normal(size=n)})
    table["f"], table["h"] = rng.choice(list("abc"), n), rng.choice(["p", "q"], n)
    table = table[~((table["f"] == "c") & (table["h"] == "q"))].reset_index(drop=True)
    eta = (table["f"] == "b") + 2.0 * (table["f"] == "c") + (table["h"] == "q") * (table["f"] == "b")
    eta = eta + 0.4 * table["x"] + rng.normal(size=30)[table["g"]]
    table["y"] = eta + rng.normal(size=len(table))
    table["b"] = (table["y"] > 1.5).astype(int)
    table["o"] = pd.cut(table["y"], 3, labels=["l", "m", "h"])
    return table


def ordered(table, f="abc", h="pq"):
    return table.assign(f=pd.Categorical(table["f"], list(f)), h=pd.Categorical(table["h"], list(h)))


CELLS = pd.DataFrame([{"f": f, "h": h, "x": x, "g": 0} for f in "abc" for h in "pq" for x in (0.0, 1.0)])


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ f * h + x + (1 | g)", {}),
        ("y ~ f * h + x + (1 | g)", {"weights": ["x2", "w"], "conditional": True, "scaling": "size"}),
        ("b ~ f * h + x + (1 | g)", {"family": "binomial"}),
        ("o ~ 1 + f * h + x + (1 | g)", {"family": "cumulative"}),
        ("o ~ 0 + f * h + x + (1 | g)", {"family": "cumulative"}),
    ],
)
def test_the_order_of_categories_changes_nothing(rows, formula, options, tmp_path):
    found = []
    rows = rows.assign(x2=1.0 + rows["x"] ** 2, w=1.0 + rows["g"] % 3)
    for f, h in [(f, h) for f in permutations("abc") for h in ("pq", "qp")][::3]:
        fit = pmwmix.fit(formula, ordered(rows, f, h), **options)
        with pytest.warns(pmwmix.PmwmixWarning, match="Not estimable"):
            found.append(np.array(fit.predict(CELLS, conditional=False)))
        fit.save(tmp_path / "fit.npz")
        with pytest.warns(pmwmix.PmwmixWarning, match="row 10"):
            close(pmwmix.load(tmp_path / "fit.npz").predict(CELLS, conditional=False), found[-1])
    empty = ((CELLS["f"] == "c") & (CELLS["h"] == "q")).to_numpy()
    for one in found:
        assert (np.isnan(one.reshape(len(CELLS), -1)).all(axis=1) == empty).all()
        close(one, found[0], rtol=1e-5)


def test_what_can_be_estimated_is_what_lies_in_the_space_of_the_rows(rows):
    """Brute force: x is estimable if adding it to X leaves the rank as it is."""
    table = ordered(rows)
    fit = pmwmix.fit("y ~ f * h * x + (1 | g)", table)

    def columns(part):
        f = np.array([part["f"] == one for one in "abc"], dtype=float)
        h = np.array([part["h"] == one for one in "pq"], dtype=float)
        x = np.array([np.ones(len(part)), part["x"]], dtype=float)
        return np.einsum("an,bn,cn->nabc", f, h, x).reshape(len(part), -1)

    X = columns(rows)
    rank = np.linalg.matrix_rank(X)
    can = [np.linalg.matrix_rank(np.vstack([X, row])) == rank for row in columns(CELLS)]
    with pytest.warns(pmwmix.PmwmixWarning, match="Not estimable"):
        assert (np.isfinite(fit.predict(CELLS, conditional=False)).to_numpy() == can).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(fit.predict(table), fit.fitted())
        assert fit.ame(["x"], newdata=table)["estimate"].notna().all()


def test_averages(rows):
    table = ordered(rows)
    fit = pmwmix.fit("y ~ f * h + x + (1 | g)", table)
    with pytest.warns(pmwmix.PmwmixWarning, match=r"Not estimable.*'f c - a'.*'f\[T.c\]:h\[T.q\]'"):
        effects = fit.ame(newdata=table, variables=["f"]).set_index("contrast")
    assert effects.loc["c - a"].drop(["term"]).isna().all() or np.isnan(effects.loc["c - a", "estimate"])
    assert np.isnan(effects.loc["c - a", "std_error"]) and np.isfinite(effects.loc["b - a", "std_error"])
    with pytest.warns(pmwmix.PmwmixWarning, match="Not estimable"):
        by = fit.ame(newdata=table, variables=["f"], by="h").set_index(["contrast", "h"])["estimate"]
    assert list(by.index[by.isna()]) == [("c - a", "q")]
    close(by["c - a", "p"], fit.coef["f[T.c]"], rtol=1e-6)
    with pytest.warns(pmwmix.PmwmixWarning, match="Not estimable"):
        cells = pmwmix.predictions(fit, {"f": list("abc"), "h": list("pq")}, newdata=table).set_index(["f", "h"])
    assert list(cells.index[cells["estimate"].isna()]) == [("c", "q")]
    with warnings.catch_warnings():  # the slope is the same in all cells
        warnings.simplefilter("error")
        close(fit.ame("x", newdata=CELLS)["estimate"], fit.coef["x"], rtol=1e-5)


@pytest.mark.parametrize(
    ("formula", "options"),
    [("y ~ f * h + x + (1 | g)", {}), ("o ~ 1 + f * h + x + (1 | g)", {"family": "cumulative", "n_agq": 3})],
)
def test_contrasts_do_not_depend_on_the_order_of_categories(rows, formula, options, tmp_path):
    """Of the differences at h = p all can be estimated, at h = q those without c; brute force: the rank of X."""
    found = {}
    for f, h in [("abc", "pq"), ("cab", "pq"), ("abc", "qp"), ("bca", "qp")]:
        fit = pmwmix.fit(formula, ordered(rows, f, h), **options)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            table = fit.contrast("f", adjust="none")
            fit.save(tmp_path / "fit.npz")
            again = pmwmix.load(tmp_path / "fit.npz").contrast("f", adjust="none", df="inf")
        pd.testing.assert_series_equal(again["estimate"], table["estimate"])
        pairs = table["contrast"].str.split(" - ").apply(lambda one: "".join(sorted(one)))
        signs = np.where(table["contrast"].str[0] > table["contrast"].str[-1], 1, -1)
        mine = pd.Series(table["estimate"].to_numpy() * signs, index=pairs)
        assert bool(told) == (h == "qp") and sorted(mine.index[mine.isna()]) == (["ac", "bc"] if h == "qp" else [])
        close(mine.dropna(), found.setdefault(h, mine)[mine.dropna().index], rtol=1e-4)
        if h == "qp":
            with pytest.warns(pmwmix.PmwmixWarning, match="Not estimable"):
                assert np.isnan(fit.wald("f")["p_value"])
        assert fit.wald("x")["p_value"] < 1e-4 and np.isfinite(fit.wald()["statistic"])


def test_of_two_columns_alike_neither_is_estimable(rows):
    fit = pmwmix.fit("y ~ x + I(2 * x) + h + (1 | g)", rows)
    assert any("depend on which column was dropped: x." in note for note in fit.notes)
    with pytest.warns(pmwmix.PmwmixWarning, match=r"Not estimable.*'x'"):
        table = fit.contrast(["x", "h[T.q]"]).set_index("contrast")
    assert np.isnan(table.loc["x", "estimate"]) and np.isfinite(table.loc["h[T.q]", "p_adjusted"])
    close(table.loc["h[T.q]", "p_adjusted"], table.loc["h[T.q]", "p_value"])
