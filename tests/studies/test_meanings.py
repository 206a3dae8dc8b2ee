"""Averages over groups: of terms that mean the same, or none."""

import warnings

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.studies.meanings import _parts, differing

MEANS = {"English": 10.0, "French": 4.0, "Other": 0.0}


def countries(without=("BBB",), seed=3):
    """Outcomes 10, 4 and 0 by language, slope 2 in x, whose mean differs; nobody speaks English in some countries."""
    rng, parts = np.random.default_rng(seed), []
    for place, country in enumerate(["AAA", "BBB", "CCC", "DDD"]):
        lang = rng.choice(list(MEANS)[country in without :], 300)
        school, x = np.repeat(np.arange(15), 20), rng.normal(place, 1.0 + place, 300)
        y = [MEANS[one] for one in lang] + 2 * x + rng.normal(size=15)[school] + rng.normal(size=300)
        parts.append(pd.DataFrame({"CNT": country, "school": school, "lang": lang, "x": x, "y": y}))
    return pd.concat(parts, ignore_index=True)


def fits(formula, table=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return pmwmix.fit_groups(formula, countries() if table is None else table, by="CNT", progress=False, **options)


@pytest.mark.parametrize("declared", [False, True])
def test_contrasts_with_another_reference_are_left_out(declared):
    table = countries()
    if declared:
        table["lang"] = pd.Categorical(table["lang"], list(MEANS))
    found = fits("y ~ lang + x + (1 | school)", table)
    with pytest.warns(pmwmix.PmwmixWarning, match=r"lang\[T.Other\] \(3 of 4\)"):
        average = found.average().set_index("term")
    others = [found[one] for one in ("AAA", "CCC", "DDD")]
    for term, truth in (("lang[T.Other]", -10.0), ("lang[T.French]", -6.0), ("Intercept", 10.0)):
        row = average.loc[term]
        close(row["estimate"], np.mean([one.coef[term] for one in others]))
        close(row["std_error"], np.sqrt(sum(one.se[term] ** 2 for one in others)) / 3)
        assert abs(row["estimate"] - truth) < 5 * row["std_error"]
        assert row["n_groups"] + row["n_other"] == 4 - (term == "lang[T.French]")
    assert average.loc["x", "n_groups"] == 4 and average.loc["x", "n_other"] == 0
    assert "reference categories" in found.summary().to_text(1000)


@pytest.mark.parametrize(("contrast", "term"), [("Sum()", "S.French"), ("Helmert()", "H.Other"), ("Poly()", ".L")])
def test_other_contrasts_are_relative_to_all_categories(contrast, term):
    found = fits(f"y ~ x + C(lang, {contrast}) + (1 | school)")
    with pytest.warns(pmwmix.PmwmixWarning, match="mean different things"):
        average = found.average().set_index("term")
    row = average.loc[f"C(lang, {contrast})[{term}]"]
    assert (row["n_groups"], row["n_other"]) == (3, 1), "in one country nobody speaks English"
    alike = fits(f"y ~ x + C(lang, {contrast}) + (1 | school)", countries(())).average()
    assert (alike["n_groups"] == 4).all()


def test_no_average_without_a_majority():
    with pytest.warns(pmwmix.PmwmixWarning, match="mean different things"):
        average = fits("y ~ lang + x + (1 | school)", countries(("BBB", "CCC"))).average().set_index("term")
    assert np.isnan(average.loc["lang[T.Other]", "estimate"]) and average.loc["lang[T.Other]", "n_groups"] == 0
    assert np.isfinite(average.loc["x", "estimate"])


@pytest.mark.parametrize("text", ["scale(x)", "poly(x, 2)", "bs(x, df=4)", "I(scale(x) ** 2)"])
def test_bases_of_their_own_are_not_averaged(text):
    found = fits(f"y ~ {text} + (1 | school)")
    with pytest.warns(pmwmix.PmwmixWarning, match="basis, scale and origin"):
        average = found.average()
    assert average["estimate"].isna().all()  # the intercept holds at the origin of the basis
    table = countries(())
    table["z"] = (table["x"] - table["x"].mean()) / table["x"].std()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(fits("y ~ z + lang + (1 | school)", table).average()["estimate"][1], 2 * table["x"].std(), rtol=0.02)


def test_what_holds_at_an_origin():
    """Slopes and main effects hold at the reference or the mean of what they interact with; variances too."""
    table = countries()
    with pytest.warns(pmwmix.PmwmixWarning):
        grand = fits("y ~ x + (1 + x | school)", table, center={"x": "grand"})
        average = grand.average().set_index("term")["estimate"]
        assert np.isnan(average["Intercept"]) and np.isfinite(average["x"])
        variances = grand.average(of="varcorr").set_index(["grp", "var1"])["estimate"]
        assert variances["school"].isna().sum() == 2 and np.isfinite(variances["Residual"]).all()  # x's own remains
        crossed = fits("y ~ lang * x + (1 | school)", table).average().set_index("term")
    assert list(crossed["n_other"][["Intercept", "x", "lang[T.Other]", "lang[T.Other]:x"]]) == [1, 1, 1, 1]
    with warnings.catch_warnings():  # means of cells, and the mean of the school, are the same everywhere
        warnings.simplefilter("error")
        cells = fits("y ~ 0 + lang + (1 | school)", table).average().set_index("term")
        assert list(cells["n_groups"]) == [3, 4, 4]
        assert (fits("y ~ x + (1 | school)", table, center={"x": "school+mean"}).average()["n_other"] == 0).all()
    with pytest.warns(pmwmix.PmwmixWarning):
        both = fits("y ~ 0 + lang + scale(x) + (1 | school)", table).average()
    assert both["estimate"].isna().all()


def test_names_are_split_into_factors():
    assert _parts("f[T.a:b]:scale(x)") == [("f", "T.a:b"), ("scale(x)", "")]
    assert _parts("poly(x, 2)[1]:`a:b`") == [("poly(x, 2)", "1"), ("`a:b`", "")]


@pytest.mark.parametrize("formula", ["scale(y) ~ x + (1 | school)", "y ~ z + offset(center(x)) + (1 | school)"])
def test_scales_of_outcomes_and_offsets_are_not_averaged(formula, tmp_path):
    found = fits(formula, countries().assign(z=1.0 * (countries()["school"] % 2)))
    with pytest.warns(pmwmix.PmwmixWarning, match="scale and origin"):
        assert found.average()["estimate"].isna().all()
        assert found.average(of="varcorr")["estimate"].isna().all()
    for name, one in found.items():
        one.save(tmp_path / f"{name}.npz")
    loaded = [pmwmix.load(tmp_path / f"{name}.npz") for name in found]
    assert differing(loaded) == list(loaded[0].coef.index)


def values(same_y):
    """Three plausible values of y and of x, or three tables in which y is the same."""
    rng, table = np.random.default_rng(1), countries(()).query("CNT == 'AAA'")
    noise = [rng.normal(size=(2, len(table))) * k for k in (1, 2, 3)]
    tables = [table.assign(x=table["x"] + a, y=table["y"] + (0 if same_y else b)) for a, b in noise]
    wide = {f"{c.upper()}{k}": one[c] for k, one in enumerate(tables, 1) for c in ("x", "y")}
    return tables, table[["school", "lang"]].assign(z=table["x"], **wide)


@pytest.mark.parametrize(
    ("formula", "own"),
    [
        ("scale(y) ~ z + (1 | school)", True),
        ("y ~ scale(z) + (1 | school)", False),
        ("y ~ poly(x, 2) + (1 | school)", True),
        ("y ~ z + offset(scale(x)) + (1 | school)", True),
        ("y ~ z + (0 + scale(x) | school)", True),
        ("y ~ x + (1 | school)", False),
    ],
)
def test_plausible_values_with_a_basis_each_are_named(formula, own):
    sets = {name: f"{name.upper()}{{}}" for name in ("x", "y") if name in formula}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit = pmwmix.fit(formula, values(False)[1], pv=sets)
    assert [("mean different things" in str(one.message)) for one in told] == [True] * own
    assert own == any("mean different things" in note for note in fit.notes)


@pytest.mark.parametrize(
    ("formula", "own"), [("scale(y) ~ z + (1 | school)", False), ("y ~ scale(x) + (1 | school)", True)]
)
def test_imputed_tables_with_a_basis_each_are_named(formula, own):
    tables = [one.assign(z=one["school"] % 3) for one in values(True)[0]]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pmwmix.fit(formula, tables)
    assert any("mean different things" in str(one.message) for one in told) == own
