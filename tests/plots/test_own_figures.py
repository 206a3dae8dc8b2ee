"""Plots in the caller's axes and figures, in plotly and bokeh, slopes, boxes, arrows and ratios."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, outcomes

import pmwmix
from pmwmix import plots
from pmwmix.errors import NotSupportedError, OptionError

PLAIN = {"backend": "none"}


@pytest.fixture(scope="module")
def school():
    return pmwmix.fit("mathach ~ ses * meanses * sector + (1 + ses | school)", hsb())


@pytest.fixture(scope="module")
def logistic():
    return pmwmix.fit("z ~ x * v + (1 | school)", outcomes(), family="binomial", n_agq=1)


def test_slopes_are_combinations_of_coefficients(school):
    plot = plots.slopes(school, "ses", "meanses", by="sector", n_points=9, **PLAIN)
    x = plot.data["x"].to_numpy()
    assert list(plot.data["series"].to_numpy()) == ["sector = Public", "sector = Catholic"]
    L = pd.DataFrame(0.0, index=range(9), columns=school.coef.index)
    L["ses"], L["ses:meanses"] = 1.0, x
    close(plot.data["estimate"].sel(series="sector = Public")[0], L @ school.coef, 1e-6)  # differences of columns
    L["ses:sector[T.Catholic]"], L["ses:meanses:sector[T.Catholic]"] = 1.0, x
    close(plot.data["estimate"].sel(series="sector = Catholic")[0], L @ school.coef, 1e-6)
    error = np.sqrt(np.einsum("ij,jk,ik->i", L, school.vcov, L))
    high = plot.data["ci_high"].sel(series="sector = Catholic").to_numpy()[0]
    close(high - (L @ school.coef).to_numpy(), 1.959963984540054 * error, 1e-5)
    close(x[[0, -1]], [hsb()["meanses"].min(), hsb()["meanses"].max()], 1e-12)


def test_effects_at_values_are_those_of_a_table_that_has_them(logistic):
    d = outcomes()
    at = logistic.ame("x", at={"v": [-1.0, 1.0]})
    for value, row in zip((-1.0, 1.0), at.itertuples(), strict=True):
        close(row.estimate, logistic.ame("x", newdata=d.assign(v=value))["estimate"], 1e-9)
    assert list(logistic.ame(at={"v": 0.0})["term"]) == ["x"]
    with pytest.raises(OptionError, match="'v' stands in at="):
        logistic.ame(["x", "v"], at={"v": 0.0})
    assert plots.slopes(logistic, "x", "v", n_points=7, **PLAIN).data.sizes["point"] == 7
    with pytest.raises(OptionError, match="moderated by another predictor"):
        plots.slopes(logistic, "x", "x")
    with pytest.raises(OptionError, match=r"at\['v'\] has 2"):
        plots.slopes(pmwmix.fit("y ~ x * w1 + v", d), "x", "w1", at={"v": [0, 1]})


def test_boxes_of_coefficients_by_a_factor_of_the_groups():
    plot = plots.within_groups(hsb(), "mathach ~ ses", group="school", covariate="sector", **PLAIN)
    table = pmwmix.group_regressions(hsb(), "mathach ~ ses", by="school")
    slopes = table[table["term"] == "ses"].set_index("group")["estimate"]
    sector = hsb().astype({"school": str}).groupby("school")["sector"].first()
    catholic = slopes[sector[slopes.index.astype(str)].to_numpy() == "Catholic"]
    found = plot.data.sel(panel="ses", category="Catholic")
    close([found["q25"], found["median"], found["q75"]], np.quantile(catholic, [0.25, 0.5, 0.75]), 1e-12)
    assert found["n"] == 70 and plot.data.sizes["category"] == 2


def test_residuals_of_least_squares_by_group(school):
    d = hsb()
    pooled = plots.residuals_by_group(school, pooled=True, type="response", max_groups=160, **PLAIN)
    X = np.column_stack([np.ones(len(d)), *(np.asarray(c) for n, c in school.rows.columns.items() if n != "Intercept")])
    y = d["mathach"].to_numpy()
    gap = pd.Series(y - X @ np.linalg.lstsq(X, y, rcond=None)[0]).groupby(d["school"].astype(str).to_numpy()).median()
    close(np.sort(pooled.data["median"].to_numpy()[0]), np.sort(gap), 1e-6)
    flat = pmwmix.fit("mathach ~ ses", d)
    by_column = plots.residuals_by_group(flat, group="school", type="response", **PLAIN)
    gap = flat.residuals().groupby(d["school"].astype(str).to_numpy()).median()
    close(np.sort(by_column.data["median"].to_numpy()[0]), np.sort(gap), 1e-9)
    with pytest.raises(OptionError, match=r"no random term.*'school'"):
        plots.residuals_by_group(flat, group="schol")


def test_least_squares_are_for_linear_models(logistic):
    with pytest.raises(NotSupportedError, match="family='binomial'"):
        plots.residuals_by_group(logistic, pooled=True)


def test_the_groups_own_line_may_be_local_or_none(school):
    from pmwmix.plots._smooth import curve

    plot = plots.trellis(school, "ses", groups=["1224"], smooth="local", **PLAIN)
    d = hsb()[hsb()["school"].astype(str) == "1224"]
    own = plot.data["own"].to_numpy()[0]
    close(own.T, curve(d["ses"].to_numpy(), d["mathach"].to_numpy(), 30), 1e-9)
    assert not np.isfinite(plots.trellis(school, "ses", groups=2, smooth="none", **PLAIN).data["own"]).any()


def test_ratios_are_exponentiated_coefficients(logistic):
    plot = plots.forest(logistic, exponentiate=True)
    table = logistic.tidy(exponentiate=True).set_index("term").loc[["x", "v", "x:v"]]
    for name in ("estimate", "ci_low", "ci_high"):
        close(plot.data[name].to_numpy()[0, 0], table[name], 1e-12)
    ax = plot.get_viz("plot", sel={"panel": "Fixed effects"})
    assert ax.get_xscale() == "log" and "log scale" in ax.get_xlabel()
    with pytest.raises(OptionError, match="link='identity'"):
        plots.forest(pmwmix.fit("y ~ x", nested()), exponentiate=True)
    with pytest.raises(OptionError, match="varcorr=True"):
        plots.forest(logistic, exponentiate=True, varcorr=True)


def test_intervals_that_leave_the_picture_end_in_an_arrow():
    few = hsb().groupby("school", observed=True).head(4)
    plot = plots.within_groups(few, "mathach ~ ses", group="school", terms="ses")
    ax = plot.get_viz("plot", sel={"panel": "ses"})
    left, right = ax.get_xlim()
    beyond = ((plot.data["ci_low"] < left) | (plot.data["ci_high"] > right)).to_numpy().sum()
    assert beyond
    at_the_edge = [
        offset
        for points in ax.collections
        for offset in np.ma.filled(points.get_offsets(), np.nan)
        if np.isclose(offset[0], left) or np.isclose(offset[0], right)
    ]
    assert len(at_the_edge) >= beyond


def test_plots_stand_in_axes_and_figures_of_the_caller(school):
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2)
    axes[0, 1].set_title("mine")
    plot = plots.effects(school, "ses", by="sector", figure_kwargs={"ax": axes[0, 0]})
    assert plot.viz["figure"].item() is figure and len(axes[0, 0].lines) == 2
    assert axes[0, 0].get_xlabel() == "ses" and axes[0, 0].get_legend() is not None
    assert axes[0, 1].get_title() == "mine" and not axes[0, 1].lines
    plots.residuals(school, figure_kwargs={"ax": axes[1]})
    assert axes[1, 1].get_xlabel() == "fitted value"
    left, _ = plt.figure(layout="constrained").subfigures(1, 2)
    assert plots.forest(school, figure_kwargs={"figure": left}).viz["figure"].item() is left
    with pytest.raises(OptionError, match=r"2 \(quantiles, fitted\), and ax has 1"):
        plots.residuals(school, figure_kwargs={"ax": axes[0, 1]})
    with pytest.raises(OptionError, match="ax is int"):
        plots.residuals(school, figure_kwargs={"ax": 3})
    with pytest.raises(OptionError, match="'figsize'"):
        plots.residuals(school, figure_kwargs={"figure": figure, "figsize": (3, 3)})


def drawn(fit, logistic, **options):
    yield plots.check(fit, **options), 0
    yield plots.trellis(fit, "ses", groups=4, **options), 4
    yield plots.within_groups(fit, **options), 3
    yield plots.residuals_by_group(fit, **options), 3
    yield plots.effects(fit, "ses", by="sector", **options), 2
    yield plots.forest(logistic, exponentiate=True, **options), 0


def test_plotly_draws_with_legends(school, logistic):
    pytest.importorskip("plotly"), pytest.importorskip("webcolors")
    for plot, entries in drawn(school, logistic, backend="plotly"):
        shown = [trace.name for trace in plot.viz["figure"].item().data if trace.showlegend]
        assert len(shown) == entries


def test_bokeh_draws_with_legends(school, logistic):
    pytest.importorskip("bokeh")
    from bokeh.models import Legend

    for plot, entries in drawn(school, logistic, backend="bokeh"):
        first = plot.viz["plot"].to_numpy().ravel()[0]
        legends = [item for item in first.above if isinstance(item, Legend)]
        assert sum(len(legend.items) for legend in legends) == entries


def test_labels_of_the_survey_files_stand_in_plots(tmp_path):
    pyreadstat = pytest.importorskip("pyreadstat")
    rng, n = np.random.default_rng(5), 240
    d = pd.DataFrame(
        {"IMMIG": rng.integers(1, 4, n) * 1.0, "ESCS": rng.normal(size=n), "SCH": np.repeat(np.arange(24.0), 10)}
    )
    d["Y"] = d["ESCS"] * d["IMMIG"] + rng.normal(size=n) + np.repeat(rng.normal(size=24), 10)
    native = {1.0: "Native", 2.0: "Second generation", 3.0: "First generation"}
    texts = ["Immigration background", "Status of the family", "School", "Achievement"]
    pyreadstat.write_sav(d, str(tmp_path / "d.sav"), column_labels=texts, variable_value_labels={"IMMIG": native})
    fit = pmwmix.fit("Y ~ ESCS * C(IMMIG) + (1 | SCH)", pmwmix.read_survey(tmp_path / "d.sav"))

    plot = plots.slopes(fit, "ESCS", "IMMIG")
    figure = plot.get_viz("figure")
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (
        "Immigration background",
        "Slope of Status of the family",
    )
    axes = figure.axes[0]
    assert [tick.get_text().replace("\n", " ") for tick in axes.get_xticklabels()] == list(native.values())
    lines = plots.slopes(fit, "IMMIG", "ESCS", labels={"ESCS": "SES"})
    assert list(lines.data["series"].to_numpy()) == ["Second generation - Native", "First generation - Native"]
    assert lines.get_viz("figure").get_supxlabel() == "SES"


def test_labels_of_within_group_lines_are_the_callers():
    plot = plots.within_groups(hsb(), "mathach ~ ses", group="school", terms="ses", labels={"ses": "Family's status"})
    texts = [text.get_text() for text in plot.get_viz("figure").findobj(matplotlib.text.Text)]
    assert "Family's status" in texts and "ses" not in texts


def test_trellis_of_a_model_without_random_terms_shows_the_groups_of_a_column():
    d = hsb()
    plain = pmwmix.fit("mathach ~ ses * sector", d)
    with pytest.raises(OptionError, match=r"trellis\(\) shows groups. The model has no random term.*Pass group="):
        plots.trellis(plain, "ses")
    plot = plots.trellis(plain, "ses", group="school", groups=["1224", "8367"])
    for school, panel in zip(plot.data["panel"].to_numpy(), plot.data["conditional"].to_numpy(), strict=True):
        rows = d[d["school"].astype(str) == school]
        at = pd.DataFrame({"ses": panel[:, 0], "sector": rows["sector"].iloc[0]})
        close(panel[:, 1], plain.predict(at), 1e-10)
    close(plot.data["fixed"], plot.data["conditional"], 1e-12)
    words = [text.get_text() for text in plot.get_viz("figure").legends[0].get_texts()]
    assert words[-1] == "model, this group" and "model, average group" not in words
    some = pmwmix.fit("mathach ~ ses", d.assign(school=d["school"].where(d["school"].astype(str) != "8367")))
    assert "8367" not in plots.trellis(some, "ses", group="school", groups=100, **PLAIN).data["panel"]


def test_forest_leaves_out_correlations_that_a_singular_fit_does_not_have():
    rng = np.random.default_rng(3)
    d = pd.DataFrame({"x": rng.normal(size=320), "g": np.repeat(np.arange(40), 8)})
    fit = pmwmix.fit("y ~ x + (1 + x | g)", d.assign(y=d["x"] + rng.normal(size=320) + np.tile([1.0, -1.0], 160)))
    assert np.isnan(fit.varcorr.set_index("var2")["sdcor"]["x"])
    shown = plots.forest(fit, varcorr=True, **PLAIN).data["panel"]
    assert list(shown.to_numpy()) == [
        "Fixed effects",
        "Standard deviations",
    ]


def test_columns_of_plotly_stand_apart_by_the_names_of_rows(school):
    pytest.importorskip("plotly")
    names = {"ses": "s" * 38, "sd(school.ses)": "t" * 38}
    short, long = (
        plots.forest(school, varcorr=True, labels=labels, backend="plotly").get_viz("figure")
        for labels in (dict.fromkeys(names, "s"), names)
    )
    gaps = []
    for figure in (short, long):
        first, second = list(figure.select_xaxes())[:2]
        inner = figure.layout.width - figure.layout.margin.l - figure.layout.margin.r
        gaps.append((second.domain[0] - first.domain[1]) * inner)
    assert gaps[1] > 38 * 4.5 and gaps[1] > gaps[0] and long.layout.margin.l > 38 * 4.5
