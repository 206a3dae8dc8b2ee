"""Plots of groups, rows and residuals: the numbers drawn, what is refused, and that every kind of fit can be drawn.

Numbers are read back from the data of the plots and compared with numpy and pandas, or with published ones.
"""

from __future__ import annotations

import functools
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, outcomes, sleepstudy, survey
from scipy import stats

import pmwmix
from pmwmix import plots
from pmwmix.errors import PmwmixError, PmwmixWarning
from pmwmix.plots._lines import split_name
from pmwmix.prediction.abilities import Abilities

PLAIN = {"backend": "none"}
EXACT = 1e-9  # the same sums in another order


def fit(formula, data, **kwargs):
    return pmwmix.fit(formula, data, **kwargs)


@functools.cache
def sleep_fit():
    return fit("Reaction ~ Days + (Days | Subject)", sleepstudy())


@functools.cache
def hsb_fit():
    return fit("mathach ~ ses * sector + meanses + (1 + ses | school)", hsb())


@functools.cache
def pv_fit():
    weights = ["W_FSTUWT", "W_FSCHWT"]
    return fit("math ~ escs + (1 + escs | SCHOOLID)", survey().data, pv={"math": "PV{}MATH"}, weights=weights)


@functools.cache
def three_levels():
    weights = ["t1", "t2", "w3"]
    return fit("y ~ x + (1 + x | school) + (1 | classroom)", nested(), weights=weights)


@functools.cache
def binary_fit():
    return fit("z ~ x + v + (1 + v | school)", outcomes(), family="binomial")


@functools.cache
def ordinal_fit():
    return fit("mark ~ x + (1 | school)", outcomes(), family="cumulative", link="logit")


@functools.cache
def no_groups():
    return fit("mathach ~ ses", hsb())


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("fits") / "fit.pmwmix"
    return pmwmix.load(pv_fit().save(path))


# -- regressions inside groups --------------------------------------------------------------------------------------


def test_regressions_of_sleepstudy_are_those_of_lmlist():
    """Bates, Mächler, Bolker & Walker (2015) and lme4's vignette: lmList(Reaction ~ Days | Subject, sleepstudy)."""
    table = pmwmix.group_regressions(sleepstudy(), "Reaction ~ Days", by="Subject")
    wide = table.pivot(index="group", columns="term", values="estimate")
    close(wide.iloc[0], [21.764702, 244.1927], 1e-6)  # printed with that many digits
    close(wide.iloc[1], [2.261785, 205.0549], 1e-6)
    assert table["n"].eq(10).all() and table["df"].eq(8).all()


def test_regressions_equal_least_squares_of_each_group():
    data = hsb()
    table = pmwmix.group_regressions(data, "mathach ~ ses", by="school", ci_prob=0.9).set_index(["group", "term"])
    for school, part in list(data.groupby("school", observed=True))[:5]:
        found = stats.linregress(part["ses"], part["mathach"])
        row = table.loc[(school, "ses")]
        close([row["estimate"], row["std_error"]], [found.slope, found.stderr], EXACT)
        close(table.loc[(school, "Intercept"), "std_error"], found.intercept_stderr, EXACT)
        half = stats.t.ppf(0.95, len(part) - 2) * found.stderr
        close([row["ci_low"], row["ci_high"]], [found.slope - half, found.slope + half], EXACT)


def test_pooled_errors_use_one_residual_variance():
    data = sleepstudy()
    single = pmwmix.group_regressions(data, "Reaction ~ Days", by="Subject")
    pooled = pmwmix.group_regressions(data, "Reaction ~ Days", by="Subject", pool=True)
    assert pooled["df"].eq(144).all()
    slopes = single["term"] == "Days"
    days = np.arange(10) - 4.5
    sigma2 = np.mean(single.loc[slopes, "std_error"] ** 2) * (days @ days)
    close(np.sqrt(sigma2), 25.59, 1e-3)  # residual standard error of summary(lmList(...)), lme4's vignette
    close(pooled.loc[slopes, "std_error"], np.sqrt(sigma2 / (days @ days)), EXACT)


def test_weighted_regressions():
    """Whole weights give the coefficients of repeated rows; errors are linearised; a factor changes nothing."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": np.repeat([1, 2, 3], 9), "x": rng.normal(size=27), "w": rng.integers(1, 5, 27)})
    data["y"] = data["x"] * data["g"] + rng.normal(size=27)
    weighted = pmwmix.group_regressions(data, "y ~ x", by="g", weights="w")
    repeated = pmwmix.group_regressions(data.loc[data.index.repeat(data["w"])], "y ~ x", by="g")
    close(weighted["estimate"], repeated["estimate"], EXACT)
    part = data[data["g"] == 2]
    X, w = np.column_stack([np.ones(9), part["x"]]), part["w"].to_numpy(float)
    bread = np.linalg.inv(X.T @ (w[:, None] * X))
    residual = part["y"].to_numpy() - X @ bread @ X.T @ (w * part["y"].to_numpy())
    score = X * (w * residual)[:, None]
    vcov = 9 / 7 * bread @ score.T @ score @ bread
    close(weighted.loc[weighted["group"] == 2, "std_error"], np.sqrt(np.diag(vcov)), EXACT)
    scaled = pmwmix.group_regressions(data.assign(w=data["w"] * data["g"] * 7), "y ~ x", by="g", weights="w")
    close(scaled["std_error"], weighted["std_error"], EXACT)


def test_regressions_of_a_fit_are_those_of_its_table():
    table = pmwmix.group_regressions(hsb(), "mathach ~ ses", by="school")
    pd.testing.assert_frame_equal(pmwmix.group_regressions(hsb_fit()), table)
    pd.testing.assert_frame_equal(pmwmix.group_regressions(hsb_fit(), "mathach ~ ses", by="school"), table)
    weighted = pmwmix.group_regressions(nested(), "y ~ x", by="school", weights="t1")
    found = pmwmix.group_regressions(three_levels(), by="school")
    close(found["estimate"], weighted["estimate"], EXACT)
    with pytest.warns(PmwmixWarning, match="groups are left out"):
        small = pmwmix.group_regressions(three_levels(), "y ~ x", by="classroom")
    counts = nested()["classroom"].value_counts()
    assert set(small["group"]) == set(counts.index[counts > 2])
    assert "left out" in small.attrs["notes"][0]


def test_regressions_are_pooled_over_plausible_values():
    every = [pmwmix.group_regressions(pv_fit(), pv=k) for k in range(1, 6)]
    pooled = pmwmix.group_regressions(pv_fit())
    estimates = np.array([one["estimate"] for one in every])
    close(pooled["estimate"], estimates.mean(axis=0), EXACT)
    total = np.mean([one["std_error"] ** 2 for one in every], axis=0) + 1.2 * estimates.var(axis=0, ddof=1)
    close(pooled["std_error"] ** 2, total, EXACT)
    assert (pooled["df"] < every[0]["df"]).all()


def test_regressions_survive_years_and_ids_of_several_columns():
    data = nested().assign(year=lambda d: 2000 + d["x"])
    found = pmwmix.group_regressions(data, "y ~ year", by="school").query("term == 'year'")
    plain = pmwmix.group_regressions(data, "y ~ x", by="school").query("term == 'x'")
    close(found["estimate"], plain["estimate"], 1e-8)  # three digits are lost to the mean of the column
    both = pmwmix.group_regressions(data, "y ~ 1", by="school:classroom")
    means = data.groupby(["school", "classroom"])["y"].agg(["mean", "size"])
    close(np.sort(both["estimate"]), np.sort(means.loc[means["size"] > 1, "mean"]), EXACT)


# -- caterpillar ----------------------------------------------------------------------------------------------------


def test_caterpillar_draws_the_modes_in_order():
    plot = plots.caterpillar(sleep_fit(), ci_prob=0.8, **PLAIN)
    modes = sleep_fit().ranef().sort_values("Days")
    panel = plot.data.sel(panel="Subject.Days")
    close(panel["estimate"], modes["Days"], EXACT)
    close(panel["ci_high"], modes["Days"] + stats.norm.ppf(0.9) * modes["Days_se"], EXACT)
    assert list(panel["label"].to_numpy()) == [str(label) for label in modes.index]
    same = plots.caterpillar(sleep_fit(), order_by="Days", **PLAIN).data
    assert (same["label"].isel(panel=0) == same["label"].isel(panel=1)).all()
    labelled = plots.caterpillar(sleep_fit(), order_by="label", terms="Days", **PLAIN).data
    close(labelled["estimate"].isel(panel=0), sleep_fit().ranef()["Days"], EXACT)


def test_caterpillar_of_levels_plausible_values_and_many_groups():
    plot = plots.caterpillar(three_levels(), **PLAIN)
    assert list(plot.data["panel"].to_numpy()) == ["classroom.Intercept", "school.Intercept", "school.x"]
    assert int(plot.data["estimate"].sel(panel="school.x").notnull().sum()) == 14
    pooled, one = (plots.caterpillar(pv_fit(), terms="escs", pv=pv, **PLAIN).data for pv in (None, 2))
    close(pooled["estimate"][0], np.sort(pv_fit().ranef()["escs"]), EXACT)
    close(one["estimate"][0], np.sort(pv_fit().fits[1].ranef()["escs"]), EXACT)
    few = plots.caterpillar(hsb_fit(), max_groups=10, terms=["ses"], **PLAIN).data
    every = np.sort(hsb_fit().ranef()["ses"])
    close(few["estimate"][0], every[np.round(np.linspace(0, 159, 10)).astype(int)], EXACT)
    assert int(few["n_groups"][0]) == 160


# -- trellis --------------------------------------------------------------------------------------------------------


def test_trellis_draws_predictions_and_own_lines():
    data, found = sleepstudy(), sleep_fit()
    plot = plots.trellis(found, "Days", groups=["308", 309], **PLAIN)
    assert list(plot.data["panel"].to_numpy()) == ["309", "308"]  # by the mean of the outcome
    panel = plot.data.sel(panel="308")
    x = panel["conditional"].sel(plot_axis="x").to_numpy()
    new = pd.DataFrame({"Days": x, "Subject": data["Subject"].iloc[0]})
    close(panel["conditional"].sel(plot_axis="y"), found.predict(new), EXACT)
    close(panel["fixed"].sel(plot_axis="y"), found.predict(new, conditional=False), EXACT)
    part = data[data["Subject"].astype(str) == "308"]
    line = stats.linregress(part["Days"], part["Reaction"])
    close(panel["own"].sel(plot_axis="y"), line.intercept + line.slope * np.array([0.0, 9.0]), EXACT)
    observed = panel["observed"].to_numpy()
    close(observed[:, 1], part["Reaction"])


@pytest.mark.parametrize(
    "formula",
    [
        "mathach ~ ses * sector + meanses + (1 + ses | school)",
        "mathach ~ ses + I(ses ** 2):sector + I(ses ** 2) + minrty + (1 | school)",
        "mathach ~ bs(ses, df=4) * meanses + sector + (1 | school)",
    ],
)
def test_trellis_averages_the_other_columns_in_the_group(formula):
    """A linear predictor at the means of its columns is the mean of predictions with only x changed."""
    data = hsb()
    found = fit(formula, data)
    school = data["school"].iloc[100]
    plot = plots.trellis(found, "ses", groups=[school], data=data, **PLAIN)
    part = data[data["school"] == school]
    for place in (0, 13, 39):
        x, y = plot.data["conditional"].to_numpy()[0, place]
        close(y, found.predict(part.assign(ses=x)).mean(), 1e-8)
        x, y = plot.data["fixed"].to_numpy()[0, place]
        close(y, found.predict(part.assign(ses=x), conditional=False).mean(), 1e-8)


def test_trellis_splits_evenly_and_chooses_evenly():
    data = hsb()
    plot = plots.trellis(hsb_fit(), "ses", groups=8, split="sector", data=data, **PLAIN)
    sector = data.drop_duplicates("school").set_index(data["school"].drop_duplicates().astype(str))["sector"]
    assert list(sector[plot.data["panel"].to_numpy()]) == ["Catholic"] * 4 + ["Public"] * 4
    mean = data.groupby(data["school"].astype(str))["mathach"].mean()
    chosen = mean[plots.trellis(hsb_fit(), "ses", groups=5, **PLAIN).data["panel"].to_numpy()]
    assert chosen.is_monotonic_increasing and chosen.iloc[0] == mean.min() and chosen.iloc[-1] == mean.max()


def test_trellis_of_levels_plausible_values_and_a_binary_outcome():
    top = plots.trellis(three_levels(), "x", group="school", groups=[3], **PLAIN).data
    b, modes = three_levels().coef, three_levels().ranef("school").loc[3]
    x, y = top["conditional"].to_numpy()[0, 5]
    close(y, b["Intercept"] + modes["Intercept"] + (b["x"] + modes["x"]) * x, EXACT)
    second = plots.trellis(pv_fit(), "escs", pv=2, groups=3, **PLAIN).data
    school = survey().data["SCHOOLID"].astype(str) == str(second["panel"].to_numpy()[1])
    close(second["observed"].to_numpy()[1, : school.sum(), 1], survey().data.loc[school, "PV2MATH"])
    binary = plots.trellis(binary_fit(), "v", groups=[5], **PLAIN).data
    part = outcomes()[outcomes()["school"] == 5]
    x, y = binary["conditional"].to_numpy()[0, 7]
    eta = np.log(y / (1 - y))
    close(eta, binary_fit().predict(part.assign(v=x), type="link").mean(), 1e-8)
    assert set(np.unique(binary["observed"].sel(plot_axis="y").dropna("observed_point"))) <= {0.0, 1.0}


def test_column_names_are_split_at_colons_outside_brackets():
    assert split_name("ses:sector[T.a:b]", "ses") == (("ses",), ("sector[T.a:b]",))
    assert split_name("bs(ses, df=3)[2]:meanses", "ses") == (("bs(ses, df=3)[2]",), ("meanses",))
    assert split_name("sex[T.ses]", "ses") == ((), ("sex[T.ses]",))


# -- coefficients of the groups -------------------------------------------------------------------------------------


def test_within_groups_draws_the_regressions():
    table = pmwmix.group_regressions(hsb(), "mathach ~ ses", by="school").pivot(index="group", columns="term")
    plot = plots.within_groups(hsb(), "mathach ~ ses", group="school", **PLAIN)
    by_mean = table.sort_values(("estimate", "Intercept"))
    for name in ("estimate", "ci_low", "ci_high"):
        close(plot.data[name].sel(panel="ses"), by_mean[(name, "ses")], EXACT)
    close(plot.data["mean"], table["estimate"].mean(), EXACT)
    single = plots.within_groups(hsb_fit(), terms="ses", order_by="estimate", max_groups=20, **PLAIN)
    close(single.data["estimate"][0, [0, -1]], [table["estimate"]["ses"].min(), table["estimate"]["ses"].max()], EXACT)


def test_within_groups_against_a_covariate():
    data = hsb()
    plot = plots.within_groups(data, "mathach ~ cses", group="school", covariate="meanses", split="sector", **PLAIN)
    slopes = pmwmix.group_regressions(data, "mathach ~ cses", by="school").query("term == 'cses'").set_index("group")
    schools = data.drop_duplicates("school").set_index("school").loc[slopes.index]
    close(plot.data["covariate"], schools["meanses"], EXACT)
    public = (schools["sector"] == "Public").to_numpy()
    cubic = np.polynomial.Polynomial.fit(schools["meanses"][public], slopes["estimate"][public], 2)
    grid = plot.data["grid"].to_numpy()
    drawn = plot.data["smooth"].sel(panel="cses", kind="Public").to_numpy()
    known = np.isfinite(drawn)
    close(drawn[known], cubic(grid[known]), 1e-8)
    assert known.sum() < len(grid)  # the curve ends with the public schools
    linear = plots.within_groups(hsb_fit(), covariate="meanses", terms="ses", smooth="linear", **PLAIN).data
    own = pmwmix.group_regressions(hsb_fit()).query("term == 'ses'").set_index("group")["estimate"]
    expected = stats.linregress(schools["meanses"].loc[own.index], own)
    close(linear["smooth"][0, 0], expected.intercept + expected.slope * linear["grid"], 1e-8)


# -- residuals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
def test_boxes_are_tukeys(conditional):
    plot = plots.residuals_by_group(hsb_fit(), type="response", conditional=conditional, **PLAIN)
    values = hsb_fit().residuals(conditional=conditional).groupby(hsb()["school"].astype(str))
    table = plot.data.isel(panel=0)
    labels = list(table["label"].to_numpy())
    assert sorted(labels) == sorted(values.groups)
    for name, q in (("q25", 0.25), ("median", 0.5), ("q75", 0.75)):
        close(table[name], values.quantile(q)[labels], EXACT)
    assert (np.diff(table["median"]) >= 0).all()
    one = values.get_group(labels[7]).to_numpy()
    q25, q75 = np.quantile(one, [0.25, 0.75])
    inside = one[(one >= q25 - 1.5 * (q75 - q25)) & (one <= q75 + 1.5 * (q75 - q25))]
    close([table["low"][7], table["high"][7]], [inside.min(), inside.max()], EXACT)
    drawn = table["outliers"].to_numpy()
    close(np.sort(drawn[drawn[:, 0] == 7, 1]), np.sort(one[~np.isin(one, inside)]), EXACT)


def test_few_of_many_boxes_keep_both_ends():
    few = plots.residuals_by_group(hsb_fit(), max_groups=12, **PLAIN).data["median"].to_numpy()[0]
    every = plots.residuals_by_group(hsb_fit(), **PLAIN).data["median"].to_numpy()[0]
    assert len(few) == 12 and len(every) == 160
    close(few[[0, -1]], every[[0, -1]], EXACT)


def test_residual_panels():
    plot = plots.residuals(sleep_fit(), random_effects=True, **PLAIN)
    assert list(plot.data["panel"].to_numpy()) == ["quantiles", "fitted", "Subject.Intercept", "Subject.Days"]
    values = sleep_fit().residuals(type="pearson").to_numpy()
    points = plot.data["points"].to_numpy()
    close(points[0, :180, 1], np.sort(values), EXACT)
    close(points[0, :180, 0], stats.norm.ppf((np.arange(180) + 0.5) / 180), 1e-8)
    close(points[1, :180], np.column_stack([sleep_fit().fitted(), values]), EXACT)
    close(points[3, :18, 1], np.sort(sleep_fit().ranef()["Days"]), EXACT)
    line = plot.data["line"].to_numpy()[0]
    line = line[np.isfinite(line[:, 0])]
    q25, q75 = np.quantile(values, [0.25, 0.75])
    slope = (q75 - q25) / (stats.norm.ppf(0.75) - stats.norm.ppf(0.25))
    close(np.diff(line[:, 1]) / np.diff(line[:, 0]), slope, 1e-6)  # differences of neighbouring numbers
    high = plot.data["band_high"].to_numpy()[0]
    smallest = stats.beta.ppf(0.975, 1, 180)
    close(high[0], (q25 + q75) / 2 + slope * stats.norm.ppf(smallest), 1e-8)


def test_trend_of_residuals_is_the_mean_in_parts_and_many_rows_are_thinned():
    plot = plots.residuals(hsb_fit(), max_points=200, smooth="means", **PLAIN)
    fitted, values = hsb_fit().fitted().to_numpy(), hsb_fit().residuals(type="pearson").to_numpy()
    first = np.argsort(fitted, kind="stable")[: -(-len(fitted) // 20)]
    line = plot.data["line"].sel(panel="fitted").to_numpy()
    close(line[0], [fitted[first].mean(), values[first].mean()], EXACT)
    assert plot.data.sizes["point"] == 200
    quantiles = plot.data["points"].sel(panel="quantiles", plot_axis="y").to_numpy()
    close(quantiles[[0, -1]], [values.min(), values.max()], EXACT)


def test_residuals_of_two_valued_outcomes_and_of_one_plausible_value():
    plot = plots.residuals(binary_fit(), random_effects=True, type="deviance", **PLAIN)
    assert list(plot.data["panel"].to_numpy()) == ["fitted", "school.Intercept", "school.v"]
    second = plots.residuals(pv_fit(), pv=2, type="response", conditional=False, **PLAIN)
    values = pv_fit().fits[1].residuals(conditional=False)
    close(second.data["points"].to_numpy()[0, :, 1], np.sort(values), EXACT)
    by_group = plots.residuals_by_group(binary_fit(), type="working", **PLAIN)
    assert by_group.data.sizes["place"] == 14


# -- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "labels"),
    [
        (lambda: plots.caterpillar(sleep_fit(), labels={"Days": "Days awake"}), ["Subject: Days awake"]),
        (lambda: plots.caterpillar(hsb_fit()), ["school (160 groups in their order)"]),
        (lambda: plots.caterpillar(hsb_fit(), max_groups=9), ["9 of 160 groups, evenly spread"]),
        (lambda: plots.caterpillar(binary_fit()), ["deviation from the average (logit scale)"]),
        (lambda: plots.trellis(hsb_fit(), "ses", split="sector", data=hsb()), ["Catholic", "Public", "least-squares"]),
        (lambda: plots.trellis(binary_fit(), "v", groups=4), ["means by parts"]),
        (lambda: plots.trellis(pv_fit(), "escs", groups=2), ["math", "escs"]),
        (lambda: plots.within_groups(sleepstudy(), "Reaction ~ Days", group="Subject"), ["mean of the groups", "308"]),
        (lambda: plots.within_groups(hsb_fit(), covariate="meanses"), ["meanses"]),
        (lambda: plots.residuals_by_group(three_levels(), group="school"), ["Pearson residual", "school"]),
        (lambda: plots.residuals_by_group(hsb_fit(), max_groups=40), ["40 of 160 groups"]),
        (lambda: plots.residuals(three_levels(), random_effects=True), ["95 % band", "normal quantile"]),
        (lambda: plots.residuals(binary_fit()), ["fitted value"]),
    ],
)  # fmt: skip
def test_pictures_say_what_they_show(draw, labels):
    import matplotlib
    from matplotlib.text import Text

    matplotlib.use("Agg")
    from matplotlib import pyplot

    try:
        plot = draw()
        figure = plot.viz["figure"].item()
        figure.canvas.draw()
        texts = " | ".join(text.get_text() for text in figure.findobj(Text))
    finally:
        pyplot.close("all")
    for label in labels:
        assert label in texts


def test_tick_labels_do_not_overlap():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    some = hsb()["school"].astype(str).unique()[:60]
    data = hsb()[hsb()["school"].astype(str).isin(some)].assign(
        school=lambda d: "A long name, " + d["school"].astype(str)
    )
    found = fit("mathach ~ ses + (1 | school)", data)
    try:
        for plot, axis in ((plots.caterpillar(found), "y"), (plots.residuals_by_group(found), "x")):
            figure = plot.viz["figure"].item()
            figure.canvas.draw()
            ax = figure.axes[0]
            boxes = [label.get_window_extent() for label in getattr(ax, f"get_{axis}ticklabels")()]
            assert len(boxes) == 60
            ends = sorted((getattr(box, f"{axis}0"), getattr(box, f"{axis}1")) for box in boxes)
            assert all(a[1] <= b[0] + 1.0 for a, b in pairwise(ends))  # a pixel of rounding
    finally:
        pyplot.close("all")


def test_the_callers_figure_size_wins():
    from matplotlib import pyplot

    try:
        plot = plots.residuals(sleep_fit(), figure_kwargs={"figsize": (5, 4)}, backend="matplotlib")
        close(plot.viz["figure"].item().get_size_inches(), [5, 4])
    finally:
        pyplot.close("all")


class Posterior(Abilities):
    """Shaped as a BayesResult, with the numbers of a fit by maximum likelihood moved."""

    def __init__(self, ml, moved, each=()):
        self.ml, self.coef, self.moved = ml, ml.coef + moved, moved
        self.fits = each or (self,)
        self.family, self.link, self.n_groups, self.settings = ml.family, ml.link, ml.n_groups, ml.settings
        self.tidy, self.residuals, self.fitted = ml.tidy, ml.residuals, ml.fitted

    def ranef(self, group=None):
        return self.ml.ranef(group) * 2.0


def test_results_of_other_methods_bring_their_own_numbers():
    each = tuple(Posterior(one, 100.0) for one in pv_fit().fits)
    bayes = Posterior(pv_fit(), 100.0, each)
    drawn, ml = (plots.trellis(one, "escs", pv=3, groups=2, **PLAIN).data for one in (bayes, pv_fit()))
    x, y = ml["fixed"].to_numpy()[..., 0], ml["fixed"].to_numpy()[..., 1]
    close(drawn["fixed"].to_numpy()[..., 1], y + 100 + 100 * x, EXACT)
    modes = pv_fit().fits[2].ranef().loc[[int(label) for label in ml["panel"].to_numpy()]]
    added = modes["Intercept"].to_numpy()[:, None] + modes["escs"].to_numpy()[:, None] * x
    close((drawn["conditional"] - drawn["fixed"]).to_numpy()[..., 1], 2 * added, 1e-7)  # a difference of large numbers
    close(plots.caterpillar(bayes, **PLAIN).data["estimate"], 2 * plots.caterpillar(pv_fit(), **PLAIN).data["estimate"])
    binary = Posterior(binary_fit(), 0.0)
    assert plots.trellis(binary, "v", groups=2, **PLAIN).data["fixed"].sel(plot_axis="y").max() < 1
    assert plots.residuals_by_group(bayes, pv=2, **PLAIN).data.sizes["place"] == 40
    pd.testing.assert_frame_equal(pmwmix.group_regressions(bayes), pmwmix.group_regressions(pv_fit()))


# -- loaded fits and refusals ---------------------------------------------------------------------------------------


def test_loaded_fits_draw_what_needs_no_columns(loaded):
    plot = plots.caterpillar(loaded, **PLAIN)
    close(plot.data["estimate"], plots.caterpillar(pv_fit(), **PLAIN).data["estimate"], EXACT)
    plot = plots.residuals(loaded, random_effects=True, **PLAIN)
    close(plot.data["points"], plots.residuals(pv_fit(), random_effects=True, **PLAIN).data["points"], EXACT)


@pytest.mark.parametrize(
    "draw",
    [
        lambda one: plots.trellis(one, "escs", **PLAIN),
        lambda one: plots.residuals_by_group(one, **PLAIN),
        lambda one: plots.within_groups(one, **PLAIN),
    ],
)
def test_loaded_fits_refuse_what_needs_columns(loaded, draw):
    with pytest.raises(PmwmixError, match="read from a file") as error:
        draw(loaded)
    assert sentences(error.value) >= 3


def sentences(error):
    return len(re.findall(r"[.?](?=\s|$)", str(error)))


def within_hsb(**kwargs):
    return plots.within_groups(hsb(), "mathach ~ ses", group="school", **kwargs)


WRONG = [
    (lambda: plots.caterpillar(sleepstudy()), "draws a fitted model"),
    (lambda: plots.caterpillar(sleep_fit(), ci_prob=95), "probability between 0 and 1"),
    (lambda: plots.caterpillar(sleep_fit(), group="Subjct"), "Did you mean 'Subject'"),
    (lambda: plots.caterpillar(sleep_fit(), terms="Day"), "Did you mean 'Days'"),
    (lambda: plots.caterpillar(sleep_fit(), terms=[]), "nothing to draw"),
    (lambda: plots.caterpillar(sleep_fit(), terms=3), "a name or a list of names"),
    (lambda: plots.caterpillar(sleep_fit(), order_by="size"), "order_by='size'"),
    (lambda: plots.caterpillar(sleep_fit(), max_groups=1), "whole number from 2"),
    (lambda: plots.caterpillar(sleep_fit(), pv=2), "no such plausible value"),
    (lambda: plots.caterpillar(sleep_fit(), backend="ggplot"), "'ggplot'"),
    (lambda: plots.caterpillar(sleep_fit(), labels=["a"]), "labels is a dict"),
    (lambda: plots.caterpillar(sleep_fit(), figure_kwargs={"size": 3}, backend="matplotlib"), "figure_kwargs"),
    (lambda: plots.caterpillar(no_groups()), "no random term"),
    (lambda: plots.trellis(sleep_fit(), "Day"), "Did you mean 'Days'"),
    (lambda: plots.trellis(hsb_fit(), "sector"), "is a factor"),
    (lambda: plots.trellis(sleep_fit(), "Days", groups=["999"]), "'999'"),
    (lambda: plots.trellis(sleep_fit(), "Days", groups=2.5), "whole number"),
    (lambda: plots.trellis(sleep_fit(), "Days", groups=0), "whole number"),
    (lambda: plots.trellis(sleep_fit(), "Days", groups=[]), "groups is empty"),
    (lambda: plots.trellis(sleep_fit(), "Days", groups=500), "too many panels"),
    (lambda: plots.trellis(hsb_fit(), "ses", split="sector"), "given without data"),
    (lambda: plots.trellis(hsb_fit(), "ses", split="sector", data=hsb().head(50)), "not the table of the fit"),
    (lambda: plots.trellis(hsb_fit(), "ses", split="minrty", data=hsb()), "varies in"),
    (lambda: plots.trellis(hsb_fit(), "ses", split="sectr", data=hsb()), "'sectr'"),
    (lambda: plots.trellis(sleep_fit(), "Days", order_by="size"), "order_by"),
    (lambda: plots.trellis(pv_fit(), "escs", pv=6), "1 to 5"),
    (lambda: plots.trellis(pv_fit(), "escs", pv="all"), "whole number"),
    (lambda: plots.trellis(ordinal_fit(), "x"), "outcome of categories"),
    (lambda: plots.trellis(no_groups(), "ses"), "no random term"),
    (lambda: plots.within_groups(hsb()), "formula is missing"),
    (lambda: plots.within_groups(hsb(), "mathach ~ ses"), "by is missing"),
    (lambda: plots.within_groups(hsb(), "mathach ~ ses", group="shool"), "Did you mean 'school'"),
    (lambda: within_hsb(smooth="loess"), "'loess'"),
    (lambda: within_hsb(split="sector"), "without one"),
    (lambda: within_hsb(order_by="x"), "order_by"),
    (lambda: plots.within_groups(hsb_fit(), covariate="sector"), "'sector' is not among them"),
    (lambda: within_hsb(covariate="meanses", split="minrty"), "varies"),
    (lambda: within_hsb(covariate="ses", split="school"), "160"),
    (lambda: plots.residuals_by_group(sleep_fit(), type="raw"), "Got 'raw'"),
    (lambda: plots.residuals_by_group(sleep_fit(), max_groups=0), "whole number"),
    (lambda: plots.residuals_by_group(sleep_fit(), group="x"), "no such group"),
    (lambda: plots.residuals_by_group(no_groups()), "no random term"),
    (lambda: plots.residuals_by_group(ordinal_fit()), "outcome of categories"),
    (lambda: plots.residuals(sleep_fit(), type="persn"), "Did you mean 'pearson'"),
    (lambda: plots.residuals(sleep_fit(), ci_prob=True), "probability"),
    (lambda: plots.residuals(sleep_fit(), max_points=-1), "whole number"),
    (lambda: plots.residuals(ordinal_fit()), "outcome of categories"),
    (lambda: pmwmix.group_regressions(hsb(), "mathach ~ ses + (1 | school)", by="school"), "nothing else"),
    (lambda: pmwmix.group_regressions(hsb(), "mathach ~ ses", by="school", pv=1), "no declared plausible values"),
    (lambda: pmwmix.group_regressions(hsb(), "mathach ~ ses", by="school", weights="sx"), "has text"),
    (lambda: pmwmix.group_regressions(hsb(), "mathach ~ ses", by="school", ci_prob=1), "probability"),
    (lambda: pmwmix.group_regressions(hsb().head(3), "mathach ~ ses + meanses", by="school"), "No group has enough"),
    (lambda: pmwmix.group_regressions(hsb_fit(), "ses ~ 1"), "has the outcome|have the outcome"),
    (lambda: pmwmix.group_regressions(hsb_fit(), "mathach ~ size"), "'size'"),
    (lambda: pmwmix.group_regressions(hsb_fit(), weights="w"), "brings its own weights"),
    (lambda: pmwmix.group_regressions(hsb_fit(), by="sector"), "no such group"),
    (lambda: pmwmix.group_regressions(pv_fit(), pool=True), "without sampling weights"),
    (lambda: pmwmix.group_regressions(pv_fit(), pv=9), "1 to 5"),
    (lambda: pmwmix.group_regressions(binary_fit()), "family='binomial'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), WRONG)
def test_refusals_are_three_sentences(call, words):
    with pytest.raises(PmwmixError, match=words) as error:
        call()
    assert sentences(error.value) >= 3, str(error.value)


def test_example_in_the_docstring_of_group_regressions():
    table = pd.DataFrame({"y": [1.0, 2.0, 3.1, 5.0, 4.0, 3.1], "x": [0, 1, 2, 0, 1, 2], "g": list("aaabbb")})
    found = pmwmix.group_regressions(table, "y ~ x", by="g")
    close(found["estimate"].round(2), [0.98, 1.05, 4.98, -0.95])
