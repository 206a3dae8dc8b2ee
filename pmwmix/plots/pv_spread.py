"""Estimates of the single plausible values beside the pooled one."""

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
    backend_of,
    check_ci_prob,
    check_fit,
    draw,
    each_panel,
    labels_of,
    panels,
    shortened,
    text_of,
    write_axes,
    write_titles,
    xy,
)
from pmwmix.plots.forest import interval_label, laid_out, write_rows
from pmwmix.studies.comparison import compared

POOLED = "pooled"


def pv_spread(
    fit: Any,
    *,
    terms: str | Sequence[str] | None = None,
    varcorr: bool = False,
    ci_prob: float = 0.95,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw the estimates of every plausible value with their intervals, and the pooled one.

    One panel per term. Blue points are single plausible values, the orange one with its band is pooled over them. Its
    interval is wider than theirs by the spread between them: measurement error of the outcome, which a single plausible
    value leaves out. The title has the share of the pooled variance that comes from it.

    Parameters
    ----------
    fit : FitResult or BayesResult
        With plausible values, or pooled over imputed data.
    terms : str or list of str, optional
        Terms to show, as `compare` names them. None: all fixed effects.
    varcorr : bool
        Whether the variance components follow.
    ci_prob : float
        Probability of the intervals.
    labels : dict, optional
        What to write for a term; default: the label in the survey's files, where there is one.
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
        If the fit has no plausible values.
    OptionError
        If an argument is not among the legal ones.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(40, 12, n_pv=5, random_seed=3)
    >>> fit = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", survey.data, pv=survey.pv)
    >>> plot = pmwmix.plots.pv_spread(fit, backend="none")
    """
    data = pv_data(check_fit(fit, "pv_spread"), terms, varcorr, check_ci_prob(ci_prob))
    labels = labels_of(fit, labels)
    n_rows = data.sizes["slot"]
    pc = panels(data, backend, figure_kwargs, size=(2.5, max(0.6 + 0.17 * n_rows, 1.5)))
    module = backend_of(pc)
    for target, low, high in zip(each_panel(pc), data["band"].values[:, 0], data["band"].values[:, 1], strict=True):
        if np.isfinite(low):
            module.vspan(low, high, target, color=ORANGE, alpha=0.15)
    for name, places, colour in (("pv", slice(0, -1), BLUE), (POOLED, slice(-1, None), ORANGE)):
        _draw_rows(pc, data.isel(series=0, slot=places), name, colour)
    write_rows(pc, data, labels)
    write_titles(pc, [_title(*one, labels) for one in zip(data["panel"].values, data["share"].values, strict=True)])
    write_axes(pc, interval_label(ci_prob), "", outer=True)
    return pc


def pv_data(fit: Any, terms: str | Sequence[str] | None, varcorr: bool, ci_prob: float) -> xr.Dataset:
    """Estimates and ends (panel, series = 1, slot): a slot per plausible value, the pooled one last."""
    if fit.n_pv < 2:
        raise NotSupportedError(
            f"pv_spread() shows plausible values beside each other. This fit of {fit.formula!r} has none. "
            f"Fit with pv={{...}}, or pool fits by pmwmix.pool."
        )
    names = [", ".join(nest) or f"PV {k}" for k, nest in enumerate(fit.nests, start=1)]
    given = dict(zip(names, fit.fits, strict=True)) | {POOLED: fit}
    long = compared(given, ci_prob=ci_prob, terms=terms, varcorr=varcorr or terms is not None)
    data = laid_out(long, "term", "fit", None)
    last, table = data.isel(slot=-1, series=0), fit.tidy(ci_prob=ci_prob).set_index("term")
    share = 1.0 - table["within_var"] / table["std_error"] ** 2
    data["share"] = "panel", share.reindex(data["panel"].values).to_numpy()  # of components only intervals are pooled
    data["band"] = xr.concat([last["ci_low"], last["ci_high"]], dim="end").transpose("panel", "end")
    return data


def _draw_rows(pc: PlotCollection, part: xr.Dataset, name: str, colour: str) -> None:
    ends = np.stack([part["ci_low"], part["ci_high"], np.full(part["ci_low"].shape, np.nan)], axis=-1)
    heights = np.repeat(part["height"].to_numpy()[..., None], 3, axis=-1)
    lines = xy(ends.reshape(len(ends), -1), heights.reshape(len(ends), -1))
    draw(pc, "line_xy", f"{name} interval", lines, color=colour, width=1.5)
    draw(pc, "scatter_xy", f"{name} estimate", xy(part["estimate"], part["height"]), color=colour, marker="C0", size=22)


def _title(term: str, share: float, labels: Mapping[str, str] | None) -> str:
    between = f"\n{100 * min(share, 1.0):.0f} % of variance between PVs" if np.isfinite(share) else ""
    return shortened(text_of(term, labels), 32) + between
