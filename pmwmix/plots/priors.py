"""Prior and posterior of every parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from arviz_plots import PlotCollection

from pmwmix.errors import NotSupportedError
from pmwmix.plots._base import (
    BLUE,
    ORANGE,
    draw,
    labels_of,
    matplotlib_axes,
    panels,
    shortened,
    text_of,
    write_axes,
    write_legend,
    write_titles,
    xy,
)
from pmwmix.plots._draws import N_GRID, check_posterior, density, parameter_draws

REACH = 8.0  # posterior standard deviations to both sides that are shown of a wider prior


def priors(
    fit: Any,
    *,
    terms: str | Sequence[str] | None = None,
    pv: int | None = None,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw the prior of every parameter and, before it, the posterior.

    A posterior much narrower than its prior comes from the data; one that looks like the prior, or sits in its tail,
    owes much to it. Axes reach eight posterior standard deviations to both sides at most: of a wide prior only the part
    around the posterior is in sight, low and flat because its area is one as well.

    Parameters
    ----------
    fit : BayesResult
        With draws from the prior.
    terms : str or list of str, optional
        Parameters, as `compare` names them. None: all that have a prior.
    pv : int, optional
        Plausible value whose posterior is shown. None: all of them mixed.
    labels : dict, optional
        What to write for a parameter; default: the label in the survey's files, where there is one.
    backend : str, optional
        Of arviz_plots.
    figure_kwargs : dict, optional
        For the figure, such as ``figsize``.

    Returns
    -------
    arviz_plots.PlotCollection

    Raises
    ------
    NotSupportedError
        If the fit has no draws, or none from the prior.
    OptionError
        If an argument is not among the legal ones.

    Examples
    --------
    >>> import pmwmix  # doctest: +SKIP
    >>> fit = pmwmix.fit("math ~ escs + (1 | school)", data, method="bayes")  # doctest: +SKIP
    >>> plot = pmwmix.plots.priors(fit)  # doctest: +SKIP
    """
    data = priors_data(check_posterior(fit, "priors"), terms, pv)
    labels = labels_of(fit, labels)
    pc = panels(data, backend, figure_kwargs, size=(2.6, 1.9))
    for name, colour, width in (("prior", ORANGE, 1.4), ("posterior", BLUE, 1.8)):
        draw(pc, "line_xy", name, xy(data["x"], data[name]), color=colour, width=width)
    for ax in matplotlib_axes(pc):
        ax.set_yticks([])
        ax.set_ylim(bottom=0)
        ax.spines["left"].set_visible(False)
    write_titles(pc, [shortened(text_of(str(name), labels), 32) for name in data["panel"].values])
    write_axes(pc, "", "")
    write_legend(pc, [("prior", {"color": ORANGE}), ("posterior", {"color": BLUE})])
    return pc


def priors_data(fit: Any, terms: str | Sequence[str] | None = None, pv: int | None = None) -> xr.Dataset:
    """Densities of both by parameter: ``x, prior, posterior`` (panel, point)."""
    if "prior" not in fit.idata.children:
        raise NotSupportedError(
            f"priors() shows draws from the prior. This fit of {fit.formula!r} has none. "
            f"Fit again with method='bayes', which makes them."
        )
    before = parameter_draws(fit, None, None, "prior")
    after = parameter_draws(fit, [str(name) for name in before] if terms is None else terms, pv)
    known = [str(name) for name in after.data_vars if name in before]
    if not known:
        raise NotSupportedError(
            f"priors() shows parameters with draws from the prior. Of {', '.join(map(str, after.data_vars))} there are "
            f"none. The prior has {', '.join(map(str, before.data_vars))}."
        )
    parts = [_one(name, before[name].to_numpy().ravel(), after[name].to_numpy().ravel()) for name in known]
    arrays = {name: (("panel", "point"), np.array([part[name] for part in parts])) for name in parts[0]}
    return xr.Dataset(arrays, coords={"panel": known})


def _one(name: str, before: Any, after: Any) -> dict[str, Any]:
    bounds = (0.0, np.inf) if min(before.min(), after.min()) >= 0 else (-np.inf, np.inf)
    bounds = (-1.0, 1.0) if name.startswith("cor(") else bounds
    mean, sd = after.mean(), after.std()
    low, high = np.quantile(before, [0.005, 0.995])
    low, high = min(low, after.min()), max(high, after.max())
    low, high = max(low, mean - REACH * sd, bounds[0]), min(high, mean + REACH * sd, bounds[1])
    grid = np.linspace(low, high, N_GRID)
    return {"x": grid, "prior": density(before, grid, None, bounds), "posterior": density(after, grid, None, bounds)}
