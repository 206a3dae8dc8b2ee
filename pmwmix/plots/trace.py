"""Draws of every chain along the iterations, with their densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import arviz_plots as azp
import numpy as np
import xarray as xr
from arviz_base.labels import BaseLabeller
from arviz_plots import PlotCollection, visuals

from pmwmix.plots._base import COLOURS, labels_of, write_legend
from pmwmix.plots._draws import arviz_plot, chains_of, check_posterior, labelled, parameter_draws


def trace(
    fit: Any,
    *,
    terms: str | Sequence[str] | None = None,
    pv: int | None = 1,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw the chains of every parameter: densities at the left, draws by iteration at the right.

    Chains should lie on top of each other, densities and traces alike, without drifts or flat stretches; R-hat and
    effective sample sizes of ``fit.tidy()`` are the numbers for it. Black ticks are divergences. Colours are chains, or
    plausible values where all are shown.

    Parameters
    ----------
    fit : BayesResult
    terms : str or list of str, optional
        Parameters, as `compare` names them. None: all coefficients and components.
    pv : int or None
        Plausible value, each of which has its own posterior. None: the chains of all of them, which differ by more than
        chance.
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
        If the fit has no draws.
    OptionError
        If an argument is not among the legal ones.

    Examples
    --------
    >>> import pmwmix  # doctest: +SKIP
    >>> fit = pmwmix.fit("math ~ escs + (1 | school)", data, method="bayes")  # doctest: +SKIP
    >>> plot = pmwmix.plots.trace(fit)  # doctest: +SKIP
    """
    draws = labelled(parameter_draws(check_posterior(fit, "trace"), terms, pv), labels_of(fit, labels))
    which = np.asarray(fit.idata["posterior"]["pv"]) - 1 if pv is None and fit.n_pv > 1 else None
    pc = arviz_plot(
        azp.plot_trace_dist,
        tree_of(fit, draws, pv),
        backend,
        (8.0, 0.6 + 1.25 * len(draws.data_vars)),
        figure_kwargs,
        compact=False,
        color=list(COLOURS) if which is None else [COLOURS[k % len(COLOURS)] for k in which],
        visuals={
            "trace": {"width": 0.5, "alpha": 0.7},
            "dist": {"width": 1.2},
            "label": False,
            "xlabel_trace": False,
        },
    )
    _write_names(pc)
    if which is not None and fit.n_pv <= len(COLOURS):
        write_legend(pc, [(f"PV {k + 1}", {"color": COLOURS[k]}) for k in range(fit.n_pv)], ncols=fit.n_pv)
    return pc


def _write_names(pc: PlotCollection) -> None:
    """Write the parameter over its density, where long names have room, and plain axes."""
    names = {"coords": {"column": "dist"}, "subset_info": True, "labeller": BaseLabeller(), "ignore_aes": "all"}
    pc.map(visuals.labelled_title, "title", store_artist=pc.backend == "none", size=9, **names)
    if pc.backend != "matplotlib":
        return
    axes = [ax for node in pc.viz["plot"].data_vars.values() for ax in node.to_numpy().ravel()]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    axes[-1].set_xlabel("Draw", size=9)


def tree_of(fit: Any, draws: xr.Dataset, pv: int | None) -> xr.DataTree:
    """Give draws as a tree, with the divergences of the same chains."""
    groups = {"posterior": draws}
    if "sample_stats" in fit.idata.children and "diverging" in fit.idata["sample_stats"]:
        diverging = fit.idata["sample_stats"].dataset[["diverging"]].drop_vars("pv", errors="ignore")
        if pv is not None and diverging.sizes["chain"] == fit.idata["posterior"].sizes["chain"]:
            diverging = diverging.isel(chain=chains_of(fit, pv))
        if diverging.sizes == draws.sizes:
            groups["sample_stats"] = diverging.assign_coords(chain=draws["chain"].values, draw=draws["draw"].values)
    return xr.DataTree.from_dict(groups)
