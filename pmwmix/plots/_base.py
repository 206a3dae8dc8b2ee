"""What all plots share: checks in words, the plausible value, the groups to show, panels, colours and legends.

Computes nothing about models. Draws through arviz_plots; other backends go without what is set on matplotlib's axes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from textwrap import fill
from typing import Any

import arviz_plots as azp
import numpy as np
import xarray as xr
from arviz_base import rc_context, rcParams
from arviz_plots import visuals

from pmwmix._types import Array
from pmwmix.data.codes import key, label_text, printed
from pmwmix.errors import MissingPackageError, NotSupportedError, OptionError, near, some
from pmwmix.plots._legends import bokeh_legend, in_backend, plotly_legend
from pmwmix.plots._own import is_own, own_collection, own_legend
from pmwmix.prediction.abilities import check_one_outcome
from pmwmix.prediction.rows import LiveRows, SavedRows

# Okabe & Ito's colours, told apart by colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY, BLACK = COLOURS
GREY, PALE = "#767676", "#C8C8C8"
BACKENDS = ("matplotlib", "bokeh", "plotly", "none")
DRAWN_WITH = {"plotly": ("plotly", "webcolors")}  # what ArviZ imports beside the backend
DOTS = 100  # per inch, where a backend counts in dots
MARGINS = {"plotly": 120, "bokeh": 0}  # dots above and below the panels that the backend takes from them
MOST_POINTS = 5_000  # more rows are drawn as a random part of this size


def check_ci_prob(ci_prob: Any) -> float:
    """Refuse what is not a probability strictly between 0 and 1."""
    number = isinstance(ci_prob, int | float | np.number) and not isinstance(ci_prob, bool)
    if not (number and 0 < ci_prob < 1):
        raise OptionError(f"ci_prob is a probability between 0 and 1. Got {ci_prob!r}. Write for example ci_prob=0.95.")
    return float(ci_prob)


def check_count(value: Any, name: str, least: int = 1) -> int:
    """Refuse what is not a whole number of at least ``least``."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (whole and value >= least):
        raise OptionError(f"{name} is a whole number from {least} on. Got {value!r}. Write for example {name}=16.")
    return int(value)


def check_choice(value: Any, name: str, allowed: Sequence[str]) -> str:
    """Refuse a word that is not among those allowed."""
    if value not in allowed:
        raise OptionError(
            f"Unknown value for {name}. Got {value!r}.{near(str(value), list(allowed))} "
            f"Use one of {', '.join(map(repr, allowed))}."
        )
    return str(value)


def check_fit(fit: Any, plot: str) -> Any:
    """Refuse what is not a result of `pmwmix.fit`."""
    if not (hasattr(fit, "tidy") and hasattr(fit, "fits") and hasattr(fit, "ranef")):
        raise OptionError(
            f"{plot}() draws a fitted model. Got {type(fit).__name__}. Pass what pmwmix.fit(...) returned."
        )
    return fit


def check_backend(backend: str | None) -> str:
    """Name of the backend; None is the one of ArviZ's settings, matplotlib unless they were changed."""
    name = check_choice(rcParams["plot.backend"] if backend is None else backend, "backend", BACKENDS)
    needed = () if name == "none" else DRAWN_WITH.get(name, (name,))
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        raise MissingPackageError(
            f"The plot needs a package that is not installed. backend={name!r} draws with {' and '.join(needed)}. "
            f"Install it: pip install {' '.join(missing)}."
        )
    return name


def fit_of(fit: Any, pv: Any) -> Any:
    """Give the result of plausible value ``pv``, counted from 1."""
    if check_count(pv, "pv") > len(fit.fits):
        raise OptionError(
            f"There is no such plausible value. Got pv={pv} for a fit with {len(fit.fits)}. "
            f"Use a number from 1 to {len(fit.fits)}."
        )
    return fit.fits[pv - 1]


def rows_of(fit: Any, pv: Any, plot: str) -> LiveRows:
    """Give the rows and columns behind plausible value ``pv`` of a fit by any method; of a streamed one from disk.

    Raises
    ------
    NotSupportedError
        If the fit was read from a file, which keeps no columns.
    """
    check_one_outcome(fit, f"{plot}()")
    rows: LiveRows | SavedRows = fit_of(getattr(fit, "ml", fit), pv).rows
    if not rows.is_live:
        raise NotSupportedError(
            f"{plot}() needs the columns of the fit. This one was read from a file, which does not keep them. "
            f"Fit again with {fit.settings.call}."
        )
    return rows.whole


def group_name(names: Sequence[str], group: str | None, plot: str) -> str:
    """Choose a grouping factor: the one asked for, in any order of its parts, or the lowest."""
    if not names:
        raise NotSupportedError(
            f"{plot}() shows groups. The model has no random term. Fit one such as 'y ~ x + (1 | school)'."
        )
    if group is None:
        return names[0]
    for name in names:
        if sorted(name.split(":")) == sorted(str(group).split(":")):
            return name
    short = [name for name in names if name.split(":")[0] == str(group)]
    if len(short) == 1:
        return short[0]
    raise OptionError(
        f"There is no such group in the model. Got group={group!r}.{near(str(group), list(names))} "
        f"Use one of {', '.join(map(repr, names))}."
    )


def chosen_terms(available: Sequence[str], terms: str | Sequence[str] | None) -> list[str]:
    """Terms asked for, in the order asked for; None is all of them."""
    if terms is None:
        return list(available)
    if not isinstance(terms, str | Sequence):
        raise OptionError(f"terms is a name or a list of names. Got {terms!r}. The terms are {some(available, 12)}.")
    wanted = [terms] if isinstance(terms, str) else list(terms)
    for name in wanted:
        if name not in available:
            raise OptionError(
                f"There is no term {name!r}.{near(str(name), list(available))} It was asked for with terms={terms!r}. "
                f"The terms are {some(available, 12)}."
            )
    if not wanted:
        raise OptionError(f"There is nothing to draw. terms is empty. The terms are {some(available, 12)}.")
    return list(dict.fromkeys(wanted))


def chosen_groups(available: Sequence[Any], groups: Sequence[Any]) -> list[int]:
    """Places of the group labels asked for; a label may be written as number or text."""
    place = {label_text(label): i for i, label in enumerate(printed(available))} | {
        key(label): i for i, label in enumerate(available)
    }
    unknown = [label for label in groups if key(label) not in place]
    if unknown or not len(groups):
        got = f"Unknown: {some(unknown)}" if unknown else "groups is empty"
        raise OptionError(
            f"These groups are not in the fit. {got}. "
            f"The labels are {some([label_text(a) for a in printed(available)])}."
        )
    return [place[key(label)] for label in groups]


def spread(n: int, shown: int) -> Array:
    """Places of ``shown`` of ``n`` ordered things, evenly spread, the first and the last among them."""
    if n <= shown:
        return np.arange(n)
    return np.unique(np.round(np.linspace(0, n - 1, shown)).astype(int))


def thinned(n: int, most: int = MOST_POINTS) -> Array:
    """Places of at most ``most`` of ``n`` rows, drawn at random but the same every time."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def padded(parts: Sequence[Array]) -> Array:
    """Stack arrays of different lengths (..., n_i) into one (number, ..., longest), filled up with NaN."""
    longest = max((part.shape[-1] for part in parts), default=0)
    head = parts[0].shape[:-1]
    out = np.full((len(parts), *head, max(longest, 1)), np.nan)
    for i, part in enumerate(parts):
        out[i, ..., : part.shape[-1]] = part
    return out


LONGEST = 60  # signs of a label from a survey's file in a plot


class SurveyLabels(dict[str, str]):
    """Labels that the caller gave; where there is none, those of the survey's files that fits have kept."""

    def __init__(self, fits: Sequence[Any], given: Mapping[str, str]) -> None:
        super().__init__(given)
        self._settings = [fit.settings for fit in fits if hasattr(fit, "settings")]

    def get(self, name: str, default: Any = None) -> Any:
        """Give the label of a term or column."""
        if name in self:
            return self[name]
        found = next((text for one in self._settings if (text := one.label_of(str(name)))), "")
        return found if 0 < len(found) <= LONGEST else default  # two interactions, cut, would look alike


def labels_of(fits: Any, labels: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Give the caller's labels with those that the survey's files have for the terms of some fits."""
    if labels is not None and not isinstance(labels, Mapping):
        return labels  # refused by `text_of`
    if hasattr(fits, "settings"):
        listed = [fits]
    elif isinstance(fits, Mapping):
        listed = list(fits.values())
    else:
        listed = list(fits) if isinstance(fits, list | tuple) else []
    return SurveyLabels(listed, labels or {})


def text_of(name: str, labels: Mapping[str, str] | None) -> str:
    """Give what is written for a term or column: the caller's label, or its name."""
    if labels is not None and not isinstance(labels, Mapping):
        raise OptionError(
            f"labels is a dict from names to texts. Got {type(labels).__name__}. Write labels={{'age': 'Age'}}."
        )
    return str(({} if labels is None else labels).get(name, name))


def shortened(text: Any, most: int = 24) -> str:
    """Cut a long label in its middle, where names of groups differ least."""
    text = label_text(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def xy(x: Any, y: Any, dims: Sequence[str] = ("panel", "point")) -> xr.DataArray:
    """Lay points or lines out as arviz_plots wants them: a last dimension ``plot_axis`` of x and y."""
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    return xr.DataArray(np.stack([x, y], axis=-1), dims=(*dims, "plot_axis"), coords={"plot_axis": ["x", "y"]})


def panels(
    data: xr.Dataset,
    backend: str | None,
    figure_kwargs: Mapping[str, Any] | None,
    *,
    n_cols: int = 4,
    size: tuple[float, float] = (3.2, 2.7),
    **grid: Any,
) -> azp.PlotCollection:
    """Make a grid with a plot for each ``panel`` of the data, ``size`` inches each.

    Parameters
    ----------
    data : Dataset
        With a dimension ``panel``; kept as ``.data`` of the result.
    backend : str, optional
    figure_kwargs : dict, optional
        The caller's; they win over what is chosen here. With matplotlib also ``ax``, axes of the caller's own, as many
        as there are panels, or ``figure``, a figure or subfigure to be filled.
    n_cols : int
    size : (float, float)
        Of one panel.
    **grid
        Further arguments of the backend's grid, such as ``sharex=True``.
    """
    name, n = check_backend(backend), data.sizes["panel"]
    given = dict(figure_kwargs or {}) if isinstance(figure_kwargs, Mapping) else figure_kwargs
    n_cols = min(n_cols, n)
    stub = xr.Dataset({"number": ("panel", np.arange(n))}, coords={"panel": data["panel"]})
    if isinstance(given, dict) and {"ax", "figure"} & set(given):
        pc = own_collection(stub, name, given, n_cols, grid)
    else:
        pc = _new_collection(stub, name, given, n_cols, size, grid)
    pc.data = data
    for ax in matplotlib_axes(pc):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return pc


def _new_collection(
    stub: xr.Dataset, name: str, given: Any, n_cols: int, size: tuple[float, float], grid: Mapping[str, Any]
) -> azp.PlotCollection:
    """Make a figure with a plot for every panel."""
    n_rows = -(-stub.sizes["panel"] // n_cols)
    width, height = size[0] * n_cols + 0.5, size[1] * n_rows + 0.6
    kwargs: dict[str, Any] = {"figsize": (width, height), "figsize_units": "inches"}
    if name in ("plotly", "bokeh") and "figsize" not in (given or {}):
        kwargs = {"figsize": (DOTS * width, DOTS * height + MARGINS[name]), "figsize_units": "dots"}
    if name == "matplotlib":
        kwargs["layout"] = "constrained"
    try:
        kwargs |= {**grid, **dict(given or {})}
        with rc_context(rc={"plot.max_subplots": None}):
            return azp.PlotCollection.wrap(stub, cols=["panel"], col_wrap=n_cols, backend=name, figure_kwargs=kwargs)
    except (TypeError, ValueError, AttributeError) as error:
        if not given:
            raise
        raise OptionError(
            f"The backend cannot use figure_kwargs. Got {given!r}: {str(error).rstrip('.')}. "
            f"Pass a dict such as {{'figsize': (8, 5)}}."
        ) from error


def draw(pc: azp.PlotCollection, visual: Any, name: str, data: xr.DataArray, **style: Any) -> None:
    """Draw one thing into every panel that has it: ``visual`` is a function of ``arviz_plots.visuals`` or its name."""
    visual = getattr(visuals, visual) if isinstance(visual, str) else visual
    if "panel" in data.dims and "panel" not in data.coords:
        data = data.assign_coords(panel=pc.data["panel"].to_numpy())
    pc.map(visual, name, data=data.rename(name).to_dataset(), ignore_aes="all", **in_backend(pc.backend, style))


def each_panel(pc: azp.PlotCollection) -> list[Any]:
    """List the plots of the backend in the order of the panels; those of backend "none" are lists of what was drawn."""
    return [pc.get_viz("plot", sel={"panel": label}) for label in pc.data["panel"].to_numpy()]


def matplotlib_axes(pc: azp.PlotCollection) -> list[Any]:
    """Axes of every panel for what only matplotlib can do; empty with other backends."""
    return each_panel(pc) if pc.backend == "matplotlib" else []


def picture_of(pc: azp.PlotCollection) -> bytes:
    """Give a plot drawn by matplotlib as PNG, and close it, so that notebooks do not show it too."""
    from matplotlib import pyplot

    buffer, figure = io.BytesIO(), pc.viz["figure"].item()
    figure.savefig(buffer, format="png", dpi=150)
    pyplot.close(figure)
    return buffer.getvalue()


def backend_of(pc: azp.PlotCollection) -> Any:
    """Give the module of ``arviz_plots.backend`` that draws this plot."""
    return getattr(__import__("arviz_plots.backend", fromlist=[pc.backend]), pc.backend)


def write_axes(pc: azp.PlotCollection, x: str | Sequence[str], y: str | Sequence[str], *, outer: bool = False) -> None:
    """Write axis labels: a text for all panels or one for each; ``outer`` writes them along the figure's edge."""
    module, targets = backend_of(pc), each_panel(pc)
    n_cols = int(pc.viz["col_index"].max()) + 1
    xs = [x] * len(targets) if isinstance(x, str) else list(x)
    ys = [y] * len(targets) if isinstance(y, str) else list(y)
    if outer and pc.backend == "matplotlib" and not is_own(pc):
        figure = pc.viz["figure"].item()
        figure.supxlabel(xs[0], size=9)
        figure.supylabel(ys[0], size=9)
        xs, ys = [""] * len(targets), [""] * len(targets)
    for i, target in enumerate(targets):
        if xs[i] and not (outer and i + n_cols < len(targets)):
            module.xlabel(xs[i], target, size=9)
        if ys[i] and not (outer and i % n_cols):
            module.ylabel(ys[i], target, size=9)
    for ax in matplotlib_axes(pc)[-n_cols:]:
        ax.tick_params(axis="x", labelbottom=True)


def write_titles(pc: azp.PlotCollection, texts: Sequence[str], size: float = 9, width: int = 40) -> None:
    """Write a title over every panel, broken into lines of ``width`` characters."""
    for target, text in zip(each_panel(pc), texts, strict=True):
        lines = [fill(line, width) for line in str(text).split("\n")]
        backend_of(pc).title("\n".join(lines), target, size=size)


def write_legend(pc: azp.PlotCollection, entries: Sequence[tuple[str, Mapping[str, Any]]], **kwargs: Any) -> None:
    """Put a legend beside the panels: a text and the style of a line or marker for each entry.

    Styles are matplotlib's: ``color, linestyle, marker, linewidth, alpha``. In axes of the caller's own it stands in
    the first of them; plotly has it below the panels, bokeh above the first.
    """
    if not entries:
        return
    if pc.backend == "plotly":
        plotly_legend(pc.viz["figure"].item(), entries)
    if pc.backend == "bokeh":
        bokeh_legend(each_panel(pc)[: int(pc.viz["col_index"].max()) + 1], entries)
    if pc.backend != "matplotlib":
        return
    if is_own(pc):
        own_legend(each_panel(pc)[0], entries)
        return
    styles = [dict(style) for _, style in entries]
    room = max(1, int(pc.viz["figure"].item().get_size_inches()[0] / 2.1))
    n_cols = min(len(entries), room, 4)
    options = {"loc": "outside upper center", "ncols": n_cols, "fontsize": 8, "frameon": False, **kwargs}
    backend_of(pc).legend(pc, styles, [text for text, _ in entries], title=None, **options)
