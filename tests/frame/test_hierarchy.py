"""Levels: codes, labels, nesting and order, and centring inside them."""

import numpy as np
import pandas as pd
import pytest

import pmwmix
from pmwmix.data.codes import code
from pmwmix.data.table import plain
from pmwmix.frame.hierarchy import find_levels
from pmwmix.spec.formula import parse

RTOL = 1e-9  # rows in another order: sums differ in rounding, the climb may take other steps


def levels(formula, **columns):
    return find_levels(parse(formula).random, {n: plain(pd.Series(c), n) for n, c in columns.items()})


def check(found):
    """What every hierarchy promises: sorting by the lowest level sorts by all of them, and parents agree with rows."""
    lowest = found.levels[0].index
    order = np.arange(len(lowest)) if found.order is None else found.order
    for level in found.levels:
        assert (np.diff(level.index[order]) >= 0).all()
        assert sorted(set(level.index)) == list(range(level.n))
    for low, up, parent in zip(found.levels[:-1], found.levels[1:], found.parents, strict=True):
        np.testing.assert_array_equal(parent[low.index], up.index)
        assert (np.diff(parent) >= 0).all()
    np.testing.assert_array_equal(np.diff(found.starts), np.bincount(lowest))


def test_one_level():
    found = levels("y ~ 1 + (1 | g)", g=["b", "a", "b", "c"])
    check(found)
    assert found.levels[0].labels == ["a", "b", "c"]
    assert found.levels[0].index.tolist() == [1, 0, 1, 2]
    assert found.starts.tolist() == [0, 1, 3, 4] and found.order.tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | school) + (1 | room)", "y ~ 1 + (1 | room) + (1 | school)"])
def test_more_units_means_lower(formula):
    found = levels(formula, school=[2, 2, 1, 1, 1], room=[20, 21, 12, 12, 11])
    check(found)
    assert [level.name for level in found.levels] == ["room", "school"]
    assert found.levels[0].labels == [11, 12, 20, 21] and found.parents[0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_equal_numbers(first, second):
    found = levels(f"y ~ 1 + (1 | {first}) + (1 | {second})", a=[1, 1, 2, 3], b=["z", "z", "x", "y"])
    check(found)
    assert [level.name for level in found.levels] == [first, second]
    assert found.single_child == (second,)


def test_equal_numbers_written_nested():
    found = levels("y ~ 1 + (1 | school/room)", school=[1, 1, 2, 3], room=[1, 1, 1, 1])
    check(found)
    assert [level.name for level in found.levels] == ["room:school", "school"]


def test_ids_that_start_again():
    found = levels("y ~ 1 + (1 | school/room)", school=[7, 7, 7, 9, 9], room=[1, 2, 2, 1, 3])
    check(found)
    assert found.levels[0].labels == [("1", "7"), ("2", "7"), ("1", "9"), ("3", "9")]
    assert found.position("school:room") == found.position("room:school") == 0 and found.position("school") == 1


def test_three_levels():
    country, school, room = [2, 1, 1, 2, 1, 2], [1, 1, 1, 2, 2, 2], [1, 1, 2, 1, 1, 1]
    found = levels("y ~ 1 + (1 | country/school/room)", country=country, school=school, room=room)
    check(found)
    assert [level.n for level in found.levels] == [5, 4, 2]
    assert [level.name for level in found.levels] == ["room:school:country", "school:country", "country"]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([3, 1, 2, 1], [1, 2, 3]),
        ([3.0, 1.0, 2.0, 1.0], [1, 2, 3]),
        ([0.5, 1.0, 2.0, 1.0], [0.5, 1.0, 2.0]),
        (["10", "9", "010", "9"], ["010", "10", "9"]),
        ([True, False, True, False], [0, 1]),
        (pd.Categorical(["b", "a", "b", "a"], categories=["b", "x", "a"]), ["b", "a"]),
        (["None", "nan", "None", "NA"], ["NA", "None", "nan"]),
        ([-1, 10**15, 3, 3], [-1, 3, 10**15]),
        ([2**60, 2**60 + 1, 2**60, 2**60], [2**60, 2**60 + 1]),
    ],
)
def test_labels(values, labels):
    codes, found = code([plain(pd.Series(values), "g")])
    assert found == labels
    assert codes.max() == len(labels) - 1 and codes.min() == 0


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | g) + (1 | h)", "y ~ 1 + (1 | h) + (1 | g)"])
def test_crossed(formula):
    found = levels(formula, g=[2, 1, 2, 1, 3], h=[7, 8, 8, 7, 7])
    assert [(level.name, level.n, level.labels) for level in found.levels] == [("g", 3, [1, 2, 3]), ("h", 2, [7, 8])]
    assert [level.index.tolist() for level in found.levels] == [[1, 0, 1, 0, 2], [0, 1, 1, 0, 0]]
    assert found.crossed == ("g", "h") and found.single_child == ()
    assert [len(parent) for parent in found.row_parents] == [5, 3]


def test_crossed_three_factors_names_the_pair():
    found = levels("y ~ 1 + (1 | a) + (1 | b) + (1 | c)", a=range(6), b=[1, 1, 2, 2, 3, 3], c=[1, 2, 1, 2, 1, 2])
    assert found.crossed == ("b", "c") and [level.name for level in found.levels] == ["a", "b", "c"]


# -- through the fit ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    names = {"SCHOOLID": "room", "PV1MATH": "y", "escs": "x", "W_FSTUWT": "w1", "W_FSCHWT": "w2"}
    table = pmwmix.simulate_survey(30, 10, n_pv=1, random_seed=2).data.rename(columns=names)[list(names.values())]
    return table.assign(school=(table["room"] - 1) // 3, number=(table["room"] - 1) % 3)


def test_reused_ids_equal_unique_ids(data):
    unique = pmwmix.fit("y ~ x + (1 | school) + (1 | room)", data)
    reused = pmwmix.fit("y ~ x + (1 | school/number)", data)
    np.testing.assert_allclose(reused.coef, unique.coef, rtol=RTOL)
    np.testing.assert_allclose(reused.varcorr["vcov"], unique.varcorr["vcov"], rtol=1e-7)
    assert list(reused.n_groups.index) == ["number:school", "school"]
    mine = reused.ranef("school:number")["Intercept"]
    theirs = unique.ranef("room")["Intercept"]
    for room, school, number in data[["room", "school", "number"]].drop_duplicates().to_numpy():
        np.testing.assert_allclose(mine[f"{number}:{school}"], theirs[room], rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_order_and_labels_of_rows_do_not_matter(data, seed):
    expected = pmwmix.fit("y ~ x + (1 | room)", data, weights=["w1", "w2"])
    rng = np.random.default_rng(seed)
    names = dict(zip(range(1, 31), rng.permutation([f"room {i:02d}" for i in range(30)]), strict=True))
    table = data.assign(room=data["room"].map(names)).sample(frac=1, random_state=seed)
    fit = pmwmix.fit("y ~ x + (1 | room)", table, weights=["w1", "w2"])
    np.testing.assert_allclose(fit.coef, expected.coef, rtol=RTOL)
    np.testing.assert_allclose(fit.vcov, expected.vcov, rtol=1e-6)
    modes = fit.ranef()["Intercept"]
    np.testing.assert_allclose([modes[names[i]] for i in range(1, 31)], expected.ranef()["Intercept"], rtol=1e-6)
    np.testing.assert_allclose(fit.fitted()[expected.index], expected.fitted(), rtol=1e-8)


def test_every_upper_unit_with_one_below_is_noted(data):
    table = data.assign(twin=data["room"] + 100)
    fit = pmwmix.fit("y ~ x + (1 | room) + (1 | twin)", table)
    assert "single unit below" in " ".join(fit.notes) and "twin" in " ".join(fit.notes)


def test_centring_follows_the_nesting(data):
    reused = pmwmix.fit("y ~ x + (1 | school/number)", data, center={"x": "number+mean"})
    unique = pmwmix.fit("y ~ x + (1 | school) + (1 | room)", data, center={"x": "room+mean"})
    assert list(reused.coef.index) == ["Intercept", "x", "x_number_mean"]
    np.testing.assert_allclose(reused.coef, unique.coef, rtol=1e-8)
    np.testing.assert_allclose(reused.predict(data), reused.fitted(), rtol=RTOL)
    inside = data["x"] - data.groupby("room")["x"].transform("mean")
    by_hand = pmwmix.fit("y ~ x + m + (1 | room) + (1 | school)", data.assign(x=inside, m=data["x"] - inside))
    np.testing.assert_allclose(reused.coef, by_hand.coef, rtol=1e-8)


def test_prediction_does_not_move_the_means_of_the_fit(data):
    fit = pmwmix.fit("y ~ x + (1 | room)", data, center={"x": "room"})
    part = data.groupby("room").head(2)
    np.testing.assert_allclose(fit.predict(part), fit.fitted()[part.index], rtol=RTOL)
    np.testing.assert_allclose(fit.predict(data), fit.fitted(), rtol=RTOL)


def test_means_of_the_fitted_rows_are_said_to_be_those(data):
    lost = np.random.default_rng(9).random(len(data)) < 0.3
    table = data.assign(y=data["y"].mask(lost), x=data["x"].mask(data.index == np.flatnonzero(lost)[0]))
    fit = pmwmix.fit("y ~ x + (1 | room)", table, center={"x": "room+mean"})
    assert f"{lost.sum() - 1} other rows of {len(data)} have a value of 'x'" in " ".join(fit.notes)
    means = table[~lost].groupby("room")["x"].transform("mean")
    by_hand = pmwmix.fit("y ~ c + m + (1 | room)", table[~lost].assign(c=table["x"] - means, m=means))
    np.testing.assert_allclose(fit.coef, by_hand.coef, rtol=1e-8)
    for center, complete in ({"x": "grand"}, table[~lost]), (None, table), ({"x": "room"}, data):
        assert not any("means used" in note for note in pmwmix.fit("y ~ x + (1 | room)", complete, center=center).notes)


def test_groups_whose_ids_hold_a_colon_stay_apart(tmp_path):
    """``p:q`` in ``r`` is not ``p`` in ``q:r``: codes that a merged id column would give say what is right."""
    rng = np.random.default_rng(2)
    pairs = [("p:q", "r"), ("p", "q:r"), ("a", "b"), ("a", "c"), ("b", "b"), ("b", "c")]
    place = np.repeat(np.arange(6), 15)
    x = rng.normal(size=90) + place
    y = 5.0 * rng.normal(size=6)[place] + x + rng.normal(size=90)
    table = pd.DataFrame({"y": y, "x": x, "one": place, "w": 1.0, "W": 1.0 + place})
    table["school"], table["cl"] = ([pair[k] for pair in np.array(pairs)[place]] for k in (0, 1))
    weights = {"weights": ["w", "W"], "conditional": True}
    for center in ({}, {"center": {"x": "{}+mean"}}):
        named = [{k: {"x": v["x"].format(by)} for k, v in center.items()} for by in ("school:cl", "one")]
        fit = pmwmix.fit("y ~ x + (1 | school:cl)", table, **weights, **named[0])
        right = pmwmix.fit("y ~ x + (1 | one)", table, **weights, **named[1])
        np.testing.assert_allclose(fit.coef, right.coef, rtol=1e-8)
        np.testing.assert_allclose(fit.predict(table), right.fitted(), rtol=1e-8)
        fit.save(tmp_path / "fit.npz")
        loaded = pmwmix.load(tmp_path / "fit.npz")
        np.testing.assert_allclose(loaded.predict(table), right.fitted(), rtol=1e-8)
        assert sorted(fit.ranef().index) == ["'p':'q:r'", "'p:q':'r'", "a:b", "a:c", "b:b", "b:c"]
        np.testing.assert_allclose(fit.ranef()["Intercept"]["a:b"], right.ranef()["Intercept"][2], rtol=1e-8)
    some = table["one"] != 1
    part = pmwmix.fit("y ~ x + (1 | school:cl)", table, subset=some, vcov="robust")
    np.testing.assert_allclose(
        part.se, pmwmix.fit("y ~ x + (1 | one)", table, subset=some, vcov="robust").se, rtol=1e-7
    )


def test_all_units_of_crossed_factors_are_counted():
    """The last unit of the second factor stands in no first row of a unit of the first one."""
    d = pd.DataFrame({"a": [0, 0, 1, 1, 2, 2], "b": list("xzyxxy"), "y": [1.0, 3.0, 2.0, 5.0, 4.0, 4.5]})
    fit = pmwmix.fit("y ~ 1 + (1 | a) + (1 | b)", d.assign(w=[1.0, 2.0] * 3), weights={"obs": "w"}, scaling="none")
    assert fit.weight_stats.loc[["a", "b"], "n"].tolist() == [3, 3]
    assert [len(w) for w in fit.rows.frame.w] == [6, 3, 3]
