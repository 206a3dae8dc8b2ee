"""Estimates of several fits with their intervals, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_plots import PlotCollection

from pmwmix.errors import OptionError, some
from pmwmix.plots._base import (
    BLACK,
    COLOURS,
    GREY,
    backend_of,
    check_choice,
    draw,
    each_panel,
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
from pmwmix.plots._intervals import draw_arrows, limits_of, name_rows
from pmwmix.spec.checks import check_prob
from pmwmix.studies.comparison import NUMBERS, chosen, compared, named_fits

TABLE = {"term", *NUMBERS}
MOST_COLOURS = len(COLOURS)
LONG = 12.0  # times the median half length: intervals that reach farther beyond the estimates leave the picture
FIXED, SPREAD, CORRELATION = "Fixed effects", "Standard deviations", "Correlations"
COMPONENTS, FURTHER = "Variances and covariances", "Parameters of the family"


def forest(
    fits: Any,
    *,
    names: Sequence[str] | None = None,
    terms: str | Sequence[str] | None = None,
    varcorr: bool = False,
    split: str | None = None,
    exponentiate: bool = False,
    ci_prob: float = 0.95,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw the estimates of several fits with their intervals: likelihood, posterior, unweighted, other scalings.

    Points are estimates, lines their intervals; results of the same term stand under each other in one colour per fit.
    Fits agree where points lie well inside each other's intervals. The dashed line is zero, or one of ratios. Intervals
    that are many times longer than the others leave the picture and end in an arrow.

    Parameters
    ----------
    fits : FitResult, BayesResult, list or dict of them, or DataFrame
        As in `compare`; also the long table of `sensitivity`, or what `fit_groups` gives.
    names : list of str, optional
        Of the fits, as in `compare`.
    terms : str or list of str, optional
        Terms to show, from top to bottom, as `compare` names them. None: all but intercept and thresholds, which are
        often on another scale.
    varcorr : bool
        Whether standard deviations and correlations of the random effects get panels of their own.
    split : {"part", "term"}, optional
        ``"part"``: one panel for the fixed effects, terms in rows. ``"term"``: one panel with its own axis per term,
        fits in rows, for predictors in very different units. None: ``"part"`` for up to seven fits.
    exponentiate : bool
        Draw exp(coefficient) on a logarithmic axis: odds ratios with the logit link, rate ratios with the log link,
        hazard ratios with cloglog. For fixed effects.
    ci_prob : float
        Probability of the intervals; a table has its own.
    labels : dict, optional
        What to write for a term or fit; default: the label in the survey's files, where there is one.
    backend : str, optional
        Of arviz_plots.
    figure_kwargs : dict, optional
        For the figure, such as ``figsize``.

    Returns
    -------
    arviz_plots.PlotCollection

    Raises
    ------
    OptionError
        If an argument is not among the legal ones, or fits are on different scales.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(40, 12, n_pv=2, random_seed=3)
    >>> given = {"formula": "math ~ escs + (1 | SCHOOLID)", "data": survey.data, "pv": survey.pv}
    >>> weighted = pmwmix.fit(**given, weights=survey.weights)
    >>> plot = pmwmix.plots.forest([weighted, pmwmix.fit(**given)], backend="none")
    """
    long = forest_table(fits, names=names, terms=terms, varcorr=varcorr, ci_prob=ci_prob, exponentiate=exponentiate)
    labels = labels_of(fits, labels)
    n_fits = long["fit"].nunique()
    by_part = check_choice(split or ("part" if n_fits <= MOST_COLOURS else "term"), "split", ["part", "term"]) == "part"
    data = laid_out(long, "part" if by_part else "term", "term" if by_part else "fit", "fit" if by_part else None)
    longest = max(len(shortened(text_of(row, labels), 40)) for row in data["row"].values.ravel() if row)
    n_rows = int((data["row"] != "").sum("slot").max())
    height = 0.5 + n_rows * (0.14 + 0.12 * data.sizes["series"])
    width = 3.0 + 0.065 * longest if by_part else 2.6 + (0.065 * longest if n_fits > 1 else 0.0)
    pc = panels(data, backend, figure_kwargs, n_cols=3 if by_part else 4, size=(width, max(height, 1.3)))
    _draw_series(pc, data, by_part, exponentiate)
    if exponentiate:
        _write_ratios(pc)
    write_rows(pc, data, labels)
    if by_part:
        shown = data["panel"].values.tolist() if data.sizes["panel"] > 1 else [""]
        write_axes(pc, interval_label(ci_prob, isinstance(fits, pd.DataFrame), exponentiate), "")
        series = [text_of(name, labels) for name in data["series"].values.tolist()]
        entries = [(name, _style(place)) for place, name in enumerate(series)]
        write_legend(pc, entries if len(entries) > 1 else [])
    else:
        shown = [shortened(text_of(term, labels), 36) for term in data["panel"].values.tolist()]
        write_axes(pc, interval_label(ci_prob, isinstance(fits, pd.DataFrame), exponentiate), "", outer=True)
        for ax in matplotlib_axes(pc):
            ax.locator_params(axis="x", nbins=5)
    write_titles(pc, shown)
    return pc


def forest_table(
    fits: Any,
    *,
    names: Sequence[str] | None = None,
    terms: str | Sequence[str] | None = None,
    varcorr: bool = False,
    ci_prob: float = 0.95,
    exponentiate: bool = False,
) -> pd.DataFrame:
    """Give what `forest` draws: ``fit, part, term, estimate, std_error, ci_low, ci_high``, parts by their titles."""
    if exponentiate:
        _check_ratios(fits, names, varcorr)
    if isinstance(fits, pd.DataFrame):
        long = _from_table(fits, ci_prob)
        constants = {"Intercept"}
    else:
        given = named_fits(fits, names)
        long = compared(given, ci_prob=ci_prob, varcorr=varcorr or terms is not None)
        constants = {"Intercept"}.union(*(_thresholds(fit) for fit in given.values()))
    long = long.assign(part=[_part(*row) for row in long[["part", "term"]].itertuples(index=False)])
    if terms is not None:
        shown = chosen(long, terms)
    else:
        kept = long[~long["term"].isin(constants) & (varcorr | (long["part"] == FIXED))]
        known = kept.groupby(["part", "term"])["estimate"].transform("count") > 0  # no correlation with a variance of 0
        shown = (kept[known] if known.any() else long).reset_index(drop=True)
    return _ratios(shown) if exponentiate else shown


def _check_ratios(fits: Any, names: Sequence[str] | None, varcorr: bool) -> None:
    """Refuse ratios where there are none."""
    if varcorr or isinstance(fits, pd.DataFrame):
        what = "varcorr=True" if varcorr else "a table, whose links nobody knows"
        raise OptionError(
            f"Exponentiated coefficients are ratios of the fixed part. Got {what} with exponentiate=True. Pass fits, "
            f"and leave varcorr out."
        )
    for name, fit in named_fits(fits, names).items():
        if (other := fit.link_without_ratios) is not None:
            raise OptionError(
                f"Exponentiated coefficients are ratios only under a log link. {name} has link={other!r}. Leave "
                f"exponentiate out."
            )


def _ratios(long: pd.DataFrame) -> pd.DataFrame:
    """Exponentiate estimates and ends of the fixed effects."""
    others = long.loc[long["part"] != FIXED, "term"].tolist()
    if others:
        raise OptionError(
            f"Exponentiated coefficients are ratios of the fixed part. terms names {some(others)} with "
            f"exponentiate=True. Draw the others by themselves."
        )
    columns = ["estimate", "ci_low", "ci_high"]
    with np.errstate(over="ignore"):
        return long.assign(**{name: np.exp(long[name]) for name in columns})


def _from_table(table: pd.DataFrame, ci_prob: float) -> pd.DataFrame:
    check_prob(ci_prob)
    series = next((name for name in ("variant", "fit") if name in table.columns), None)
    if series is None or not TABLE <= set(map(str, table.columns)):
        raise OptionError(
            f"A table for forest() is long: a row per fit and term. This one has the columns "
            f"{', '.join(map(str, table.columns))}. Pass the fits themselves, or pmwmix.sensitivity(fit)."
        )
    out = table.rename(columns={series: "fit"})
    return out if "part" in out else out.assign(part="fixed")


def _thresholds(fit: Any) -> set[str]:
    """Give the thresholds of an ordinal model."""
    return set(fit.coef.index[: max(len(fit.categories) - 1, 0)]) if fit.has_thresholds else set()


def _part(part: str, term: str) -> str:
    if part == "fixed":
        return FIXED
    if term.startswith("sd(") or term == "sigma":
        return SPREAD
    if term.startswith("cor("):
        return CORRELATION
    return COMPONENTS if " " in term or term == "Residual" else FURTHER


def laid_out(long: pd.DataFrame, panel: str, row: str, series: str | None) -> xr.Dataset:
    """Arrays (panel, series, slot) of estimates, ends and heights; ``row`` (panel, slot) is what a slot stands for."""
    names = list(dict.fromkeys(long[panel]))
    each = {name: list(dict.fromkeys(long.loc[long[panel] == name, row])) for name in names}
    lines = list(dict.fromkeys(long[series])) if series else [""]
    shape = (len(names), len(lines), max(map(len, each.values())))
    numbers = {name: np.full(shape, np.nan) for name in ("estimate", "ci_low", "ci_high", "height")}
    rows = np.full((shape[0], shape[2]), "", dtype=object)
    for p, name in enumerate(names):
        rows[p, : len(each[name])] = each[name]
    for _, one in long.iterrows():
        p = names.index(one[panel])
        place = p, lines.index(one[series]) if series else 0, each[one[panel]].index(one[row])
        for number in ("estimate", "ci_low", "ci_high"):
            numbers[number][place] = one[number]
        offset = 0.7 * ((place[1] + 0.5) / shape[1] - 0.5)
        numbers["height"][place] = -(place[2] + offset)
    data: dict[str, Any] = {name: (("panel", "series", "slot"), values) for name, values in numbers.items()}
    data["row"] = ("panel", "slot"), rows
    parts = long.groupby(panel)["part"].first()
    data["zero"] = (
        "panel",
        [_zero_belongs(parts[name], values) for name, values in zip(names, _ends(numbers), strict=True)],
    )
    return xr.Dataset(data, coords={"panel": names, "series": lines})


def _ends(numbers: Mapping[str, Any]) -> Any:
    """Everything that a panel shows: (panel, 3, series, slot)."""
    return np.stack([numbers[name] for name in ("estimate", "ci_low", "ci_high")], axis=1)


def _zero_belongs(part: str, ends: Any) -> bool:
    """Whether zero lies within the intervals or not far outside, so that showing it does not squeeze them together."""
    if part not in (FIXED, CORRELATION):
        return False
    low, high = np.nanmin(ends), np.nanmax(ends)
    return bool(low <= high - low and high >= low - high)


def interval_label(ci_prob: float, plain: bool = False, ratios: bool = False) -> str:
    """Write under an axis of estimates what their lines are; ``plain`` where nobody knows."""
    if ratios:
        return f"exp(estimate) and {100 * ci_prob:g} % interval (log scale)"
    return "Estimate and interval" if plain else f"Estimate and {100 * ci_prob:g} % interval"


def _style(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % MOST_COLOURS], "marker": "o", "linestyle": "-"}


def _draw_series(pc: PlotCollection, data: xr.Dataset, by_part: bool, ratios: bool) -> None:
    """Draw intervals and points of every series, and the line at zero, or one, where it is in or near the picture."""
    limits = _limits(data, ratios)
    ends = zip(limits, data["zero"].values | ratios, strict=True)
    limits = [(min(a, float(ratios)), max(b, float(ratios))) if zero else (a, b) for (a, b), zero in ends]
    for has_zero, target in zip(data["zero"].values | ratios, each_panel(pc), strict=True):
        if has_zero:
            backend_of(pc).vline(float(ratios), target, color=GREY, linestyle="C1", width=0.8)
    left, right = (np.array([pair[side] for pair in limits])[:, None] for side in (0, 1))
    for place in range(data.sizes["series"]):
        one = data.isel(series=place)
        colour = COLOURS[place % MOST_COLOURS] if by_part else COLOURS[0]
        low, high = (one[name].to_numpy() for name in ("ci_low", "ci_high"))
        shown = np.stack([np.maximum(low, left), np.minimum(high, right), np.full(low.shape, np.nan)], axis=-1)
        heights = np.repeat(one["height"].to_numpy()[..., None], 3, axis=-1)
        lines = xy(shown.reshape(len(shown), -1), heights.reshape(len(shown), -1))
        draw(pc, "line_xy", f"interval {place}", lines, color=colour, width=1.5)
        points = xy(one["estimate"], one["height"])
        draw(pc, "scatter_xy", f"estimate {place}", points, color=colour, marker="C0", size=22)
        draw_arrows(pc, (low, high), one["height"].to_numpy(), limits, color=colour, name=f"{place}")
    beyond = (data["ci_low"].to_numpy() < left[:, :, None]) | (data["ci_high"].to_numpy() > right[:, :, None])
    for target, pair, is_beyond in zip(each_panel(pc), limits, beyond.any(axis=(1, 2)), strict=True):
        if ratios:
            backend_of(pc).xscale(target, "log")
        if is_beyond:
            backend_of(pc).xlim(pair, target)


def _write_ratios(pc: PlotCollection) -> None:
    """Mark round ratios as plain numbers: 1, 1.5, 2, 3, ... on a short axis; 1, 2, 5, 10; powers of 10 on a long."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for ax in matplotlib_axes(pc):
        low, high = ax.get_xlim()
        steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high < 10 * low else (1.0, 2.0, 5.0) if high < 500 * low else (1.0,)
        ax.xaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())


def _limits(data: xr.Dataset, ratios: bool) -> list[tuple[float, float]]:
    """Range of every panel; of ratios it is found on the scale of their logarithms."""
    n = data.sizes["panel"]
    with np.errstate(divide="ignore", over="ignore"):
        low, b, high = (data[name].to_numpy().reshape(n, -1) for name in ("ci_low", "estimate", "ci_high"))
        low, b, high = (np.log(one) for one in (low, b, high)) if ratios else (low, b, high)
        ends = limits_of(low, b, high, LONG)
        return [(float(np.exp(a)), float(np.exp(b))) for a, b in ends] if ratios else ends


def write_rows(pc: PlotCollection, data: xr.Dataset, labels: Mapping[str, str] | None) -> None:
    """Name the rows at the left axis, inside the grid only where they differ from those of the panel to the left."""
    module, n_cols = backend_of(pc), int(pc.viz["col_index"].max()) + 1
    places, shown = [], []
    for p, target in enumerate(each_panel(pc)):
        rows = [str(name) for name in data["row"].values[p] if name != ""]
        same = p % n_cols > 0 and bool((data["row"].values[p] == data["row"].values[p - 1]).all())
        places.append([float(-k) for k in range(len(rows))])
        shown.append([""] * len(rows) if same else [shortened(text_of(name, labels), 40) for name in rows])
        module.ylim((-len(rows) + 0.4, 0.6), target)
    name_rows(pc, places, shown, size=8, color=BLACK)
