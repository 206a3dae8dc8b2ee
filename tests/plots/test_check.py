"""The whole-model check and the local smoother: what is drawn, read from the data of the plot."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import close, nested, outcomes, survey

import pmwmix
from pmwmix import plots
from pmwmix.errors import NotSupportedError
from pmwmix.plots._smooth import local_line

FIRST = [0.6405188570659, 0.5886006651667, 0.0949075905089, -0.7261864027886]
SECOND = [0.527912926862, 0.869188016676, 0.131572279611, -0.932362758788]


@pytest.fixture(scope="module")
def weighted():
    s = survey()
    return pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, pv=s.pv, weights=s.weights, scaling="size")


def points(plot, panel):
    found = plot.data["points"].sel(panel=panel).to_numpy()
    return found[np.isfinite(found).all(axis=1)]


def test_local_lines_are_those_of_loess():
    """R 4.5: i <- 0:59; x <- ((i*37) %% 60)/60; y <- sin(6*x) + cos(11*i)/4;
    predict(loess(y ~ x, span=.75, degree=1, surface="direct"), data.frame(x=c(.1, .33, .5, .8)));
    the second with span=.3 and weights=1+(x>.5)."""
    i = np.arange(60)
    x, grid = (i * 37 % 60) / 60, np.array([0.1, 0.33, 0.5, 0.8])
    y = np.sin(6 * x) + np.cos(11 * i) / 4
    close(local_line(x, y, grid), FIRST, 1e-9)  # printed with that many digits
    close(local_line(x, y, grid, 0.3, 1.0 + (x > 0.5)), SECOND, 1e-9)
    close(local_line(x, 3 - 2 * x, grid), 3 - 2 * grid, 1e-12)


def test_panels_of_a_weighted_fit(weighted):
    plot = plots.check(weighted, backend="none")
    names = ["quantiles", "fitted", "SCHOOLID.Intercept", "cooks_d", "dfbetas", "plausible values"]
    assert list(plot.data["panel"].to_numpy()) == [*names, "weights of obs", "weights of SCHOOLID"]
    table = pmwmix.influence(weighted)
    close(points(plot, "cooks_d"), table[["leverage", "cooks_d"]], 1e-10)
    close(points(plot, "dfbetas")[:, 1], table.filter(like="dfbetas").to_numpy().ravel(), 1e-10)
    z = [(one.coef - weighted.coef) / weighted.se for one in weighted.fits]
    close(points(plot, "plausible values")[:, 1], np.ravel(z), 1e-10)
    assert plot.data.attrs["left_out"] == {}


def test_what_a_model_cannot_have_is_left_out_and_named(weighted, tmp_path):
    d = outcomes()
    ordinal = plots.check(pmwmix.fit("mark ~ x + (1 | school)", d, family="cumulative", n_agq=1), backend="none")
    assert list(ordinal.data["panel"].to_numpy()) == ["school.Intercept", "cooks_d", "dfbetas"]
    assert "no" in ordinal.data.attrs["left_out"]["residuals"]
    crossed = pmwmix.fit("y ~ x + (1 | school) + (1 | item)", nested().assign(item=np.arange(len(d)) % 5))
    assert "crossed" in plots.check(crossed, backend="none").data.attrs["left_out"]["influence"]
    with pytest.raises(NotSupportedError, match="read from a file"):
        plots.check(pmwmix.load(weighted.save(tmp_path / "fit")))


def test_the_picture_names_the_units_and_marks_the_limits(weighted):
    plot = plots.check(weighted, named=2)
    axis = plot.get_viz("plot", sel={"panel": "cooks_d"})
    table = pmwmix.influence(weighted)
    largest = table["cooks_d"].nlargest(2)
    named = [text.get_text().strip() for text in axis.texts]
    assert named == [str(name) for name in largest.index[largest > 4 / len(table)]]
    assert f"{(table['cooks_d'] > 4 / len(table)).sum()} of 40" in axis.get_title()
