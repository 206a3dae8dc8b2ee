"""What plots of a posterior share: draws by parameter, one plausible value or all, and densities of draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from arviz_base import rc_context
from arviz_plots import PlotCollection

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.plots._base import check_backend, check_count, check_fit, chosen_terms, shortened, text_of
from pmwmix.studies.comparison import component_name

N_GRID = 256


def check_posterior(fit: Any, plot: str) -> Any:
    """Refuse a fit without draws.

    Raises
    ------
    OptionError, NotSupportedError
    """
    check_fit(fit, plot)
    if getattr(fit, "idata", None) is None:
        raise NotSupportedError(
            f"{plot}() shows draws of a posterior. This fit is by method={fit.method!r}, which makes none. "
            f"Fit with method='bayes'."
        )
    return fit


def parameter_draws(
    fit: Any, terms: str | Sequence[str] | None = None, pv: int | None = 1, group: str = "posterior"
) -> xr.Dataset:
    """Give the draws of every parameter under the names of `compare`.

    Parameters
    ----------
    fit : BayesResult
    terms : str or list of str, optional
    pv : int or None
        Plausible value; None keeps them all, one after the other along ``chain``.
    group : str
        Of the tree: ``posterior``, ``posterior_uncorrected`` or ``prior``.

    Returns
    -------
    Dataset
        A variable (chain, draw) per parameter.
    """
    draws = fit.idata[group].dataset
    if pv is not None:
        draws = draws.isel(chain=chains_of(fit, pv, group))
    draws = draws.drop_vars("pv", errors="ignore").assign_coords(chain=np.arange(draws.sizes["chain"]))
    every = {}
    if "beta" in draws:
        every = {str(term): draws["beta"].sel(term=term, drop=True) for term in draws["term"].values}
    every |= _component_draws(fit, draws)
    return xr.Dataset({name: every[name].transpose("chain", "draw") for name in chosen_terms(list(every), terms)})


def _component_draws(fit: Any, draws: xr.Dataset) -> dict[str, xr.DataArray]:
    """Draws (chain, draw) of the variance components and further parameters that a group of the tree has."""
    out = {}
    for row in fit.varcorr.itertuples(index=False):
        name = component_name(row.grp, row.var1, row.var2)
        if name == "sigma" and "sigma" in draws:
            out[name] = draws["sigma"]
        elif name.startswith("sd(") and "sd" in draws:
            out[name] = draws["sd"].sel(component=f"{row.grp}.{row.var1}", drop=True)
        elif name.startswith("cor(") and "cor" in draws:
            out[name] = draws["cor"].sel(pair=f"{row.grp}.{row.var1}.{row.var2}", drop=True)
    further = [str(name) for name, x in draws.data_vars.items() if set(x.dims) == {"chain", "draw"}]
    return out | {name: draws[name] for name in further if name not in ("sigma", "icc")}


def chains_of(fit: Any, pv: int, group: str = "posterior") -> Array:
    """Places of the chains of a plausible value, counted from 1; all of them where draws do not depend on it."""
    check_count(pv, "pv")
    draws = fit.idata[group]
    if pv > fit.n_pv:
        raise OptionError(
            f"There is no such plausible value. Got pv={pv} for a fit with {fit.n_pv}. "
            f"Use a number from 1 to {fit.n_pv}."
        )
    every = np.arange(draws.sizes["chain"])
    return every[np.asarray(draws["pv"]) == pv] if "pv" in draws.coords else every


def labelled(draws: xr.Dataset, labels: Mapping[str, str] | None) -> xr.Dataset:
    """Name the variables as they are to be written; those that would be written alike keep their names."""
    texts = {str(name): shortened(text_of(str(name), labels), 34) for name in draws.data_vars}
    written = list(texts.values())
    return draws.rename({name: text if written.count(text) == 1 else name for name, text in texts.items()})


def arviz_plot(
    plot: Callable[..., PlotCollection],
    draws: Any,
    backend: str | None,
    size: tuple[float, float],
    figure_kwargs: Mapping[str, Any] | None,
    **options: Any,
) -> PlotCollection:
    """Draw with a function of arviz_plots on a figure of ``size`` inches, however many panels there are."""
    name = check_backend(backend)
    kwargs: dict[str, Any] = {"figsize": size, "figsize_units": "inches"}
    kwargs |= {"layout": "constrained"} if name == "matplotlib" else {}
    try:
        kwargs |= dict(figure_kwargs or {})
        with rc_context(rc={"plot.max_subplots": None}):
            return plot(draws, backend=name, figure_kwargs=kwargs, **options)
    except (TypeError, ValueError, AttributeError) as error:
        if not figure_kwargs:
            raise
        raise OptionError(
            f"The backend cannot use figure_kwargs. Got {figure_kwargs!r}: {str(error).rstrip('.')}. "
            f"Pass a dict such as {{'figsize': (8, 5)}}."
        ) from error


def density(x: Array, grid: Array, w: Array | None = None, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Array:
    """Estimate a density on an even grid: counts in narrow bins, smoothed by a normal curve, reflected at bounds.

    Parameters
    ----------
    x : ndarray, shape (n,)
    grid : ndarray, shape (m,)
        Draws outside count for the total and for their neighbours inside.
    w : ndarray, shape (n,), optional
        Weights.
    bounds : (float, float)
        Of what x can be.

    Returns
    -------
    ndarray, shape (m,)
    """
    x = np.asarray(x, dtype=float)
    w = np.full(len(x), 1.0 / len(x)) if w is None else w / w.sum()
    low, high = np.quantile(x, [0.25, 0.75])
    spread = min(float(np.std(x)), (high - low) / 1.349) or float(np.std(x))
    step = float(grid[1] - grid[0])
    width = max(0.9 * spread * (1.0 / np.sum(w**2)) ** -0.2, step)
    margin = int(np.ceil(4 * width / step))
    centres = grid[0] + step * np.arange(-margin, len(grid) + margin)
    edges = np.append(centres - step / 2, centres[-1] + step / 2)
    counts = np.histogram(x, edges, weights=w)[0]
    for bound in bounds:
        if np.isfinite(bound):
            counts = counts + np.histogram(2 * bound - x, edges, weights=w)[0]
    kernel = np.exp(-0.5 * ((centres - centres[len(centres) // 2]) / width) ** 2)
    smooth = np.convolve(counts, kernel / (kernel.sum() * step), mode="full")
    start = len(centres) // 2 + margin
    inside = (grid >= bounds[0]) & (grid <= bounds[1])
    return np.where(inside, smooth[start : start + len(grid)], 0.0)
