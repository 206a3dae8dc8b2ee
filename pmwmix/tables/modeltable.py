"""`table`: several models beside each other, as journals print them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import OptionError, near
from pmwmix.results.rendering import FIGURE, STYLE, html_table, screen_width, text_notes, text_table
from pmwmix.results.summary import number, precise
from pmwmix.results.words import source_words, variance_words
from pmwmix.spec.checks import check_prob
from pmwmix.tables.export import as_gt, as_latex, write
from pmwmix.tables.numbers import FIXED, MODEL, PARTS, numbers_of

BELOW = ("std_error", "ci", "statistic", "p_value", "none")
STARS = {0.05: "*", 0.01: "**", 0.001: "***"}
COUNTS = re.compile(r"Rows|.*\(units\)|Plausible values or imputations")


@dataclass(frozen=True)
class ModelTable:
    """Several models beside each other: numbers, their text, and ways out.

    Parameters
    ----------
    data : DataFrame
        Numbers: index ``part, row, statistic``, a column per model.
    cells : DataFrame
        Text: index ``part, row``, a column per model; what stands below an estimate comes after a line break.
    notes : list of str
    """

    data: pd.DataFrame
    cells: pd.DataFrame
    notes: list[str]

    def to_text(self, width: int | None = None) -> str:
        """Give the table as text, by default as wide as the terminal."""
        columns = screen_width() if width is None else width
        text = text_table(self.printed_rows(" "), columns)
        return "\n\n".join([text, *([text_notes(self.notes, columns)] if self.notes else [])])

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        table = html_table(self.printed_rows(FIGURE))
        return f"<style>{STYLE}</style><div class='pmwmix'>{table}<ul>{notes}</ul></div>"

    def to_gt(self) -> Any:
        """Give a ``great_tables.GT``, to go on in that package; needs ``pip install pmwmix[tables]``."""
        return as_gt(self.cells, self.notes)

    def to_html(self) -> str:
        """Give HTML by great_tables, for web pages and mails; needs ``pip install pmwmix[tables]``."""
        return str(self.to_gt().as_raw_html())

    def to_latex(self) -> str:
        """Give LaTeX (booktabs), with the notes below."""
        return as_latex(self.printed_rows(), list(PARTS), self.notes)

    def save(self, path: str | Path) -> Path:
        """Write the table to a file: .docx, .xlsx, .tex, .html, .csv or .txt.

        Word is written by maketables, HTML by great_tables, Excel (with the numbers on a sheet of their own) by
        openpyxl: ``pip install pmwmix[tables]``. A .csv holds the numbers.

        Raises
        ------
        OptionError
            If the ending is none of these, or the packages are missing.
        """
        return write(self, Path(path))

    def printed_rows(self, blank: str = "") -> pd.DataFrame:
        """Lay parts and rows out below each other, estimates and what stands below them in rows of their own.

        Parameters
        ----------
        blank : str
            What pads numbers on the right until their points are in line.

        Returns
        -------
        DataFrame
            Text, by label.
        """
        labels: list[str] = []
        lines: list[list[str]] = []
        for part in dict.fromkeys(self.cells.index.get_level_values(0)):
            labels.append(part)
            lines.append([""] * self.cells.shape[1])
            for row, cells in self.cells.loc[part].iterrows():
                parts = [str(cell).split("\n") for cell in cells]
                for k in range(max(map(len, parts))):
                    labels.append(f"{blank * 2}{row}" if k == 0 else "")
                    lines.append([lines_[k] if k < len(lines_) else "" for lines_ in parts])
        table = pd.DataFrame(lines, columns=list(self.cells.columns))
        aligned = table.apply(lambda column: pd.Series(_at_points(list(column), blank)))
        return aligned.set_axis(pd.Index(labels), axis=0)


def table(
    fits: Any,
    *,
    names: Sequence[str] | None = None,
    below: str = "std_error",
    stars: bool | Mapping[float, str] = False,
    labels: Mapping[str, str] | None = None,
    exponentiate: bool = False,
    ci_prob: float = 0.95,
    parts: Sequence[str] | None = None,
    notes: bool | Sequence[str] = True,
) -> ModelTable:
    """Set several models beside each other, as papers print them.

    Parameters
    ----------
    fits : FitResult, BayesResult, GroupFits, list or dict of them
        A dict, or fits by group, name the columns.
    names : list of str, optional
        Headings of the columns. Default: (1), (2), ...
    below : {"std_error", "ci", "statistic", "p_value", "none"}
        What stands below each coefficient. Variances have their standard errors.
    stars : bool or dict
        Stars behind coefficients by p-value; True: ``{0.05: "*", 0.01: "**", 0.001: "***"}``. A note says which.
    labels : dict, optional
        Row to what is printed. Default: the survey's labels of variables where the data had them.
    exponentiate : bool
        Give odds or rate ratios (`tidy`); standard errors stay those of the coefficients.
    ci_prob : float
    parts : list of str, optional
        Among "Fixed effects", "Variance components", "Further parameters" and "Model". Default: all.
    notes : bool or list of str
        Notes on weights, plausible values, standard errors and stars, or your own.

    Returns
    -------
    ModelTable
        Printed as text, shown as HTML in notebooks; ``data`` holds the numbers, ``save("table.docx")`` writes Word,
        Excel, LaTeX, HTML, CSV or text.

    Raises
    ------
    OptionError

    Notes
    -----
    Rows of the part "Model": rows and units per level, intraclass correlation, marginal and conditional R² (effects,
    eqs. 3-4), log-likelihood, AIC and BIC, under sampling weights dAIC and dBIC (`FitResult.aic`). What a fit cannot
    give, such as one that was read from a file, is left blank.
    """
    check_prob(ci_prob)
    named = _named(fits, names)
    check_below(below)
    wanted = list(PARTS if parts is None else [parts] if isinstance(parts, str) else parts)
    for part in wanted:
        if part not in PARTS:
            raise OptionError(
                f"A table has no part {part!r}.{near(str(part), PARTS)} Its parts are {', '.join(map(repr, PARTS))}."
            )
    signs = dict(STARS if stars is True else stars or {})
    data = numbers_of(named, ci_prob, exponentiate)
    data = data[data.index.get_level_values(0).isin(wanted)]
    cells = _cells(data, below, signs, _labels(named, data, labels or {}))
    said = list(notes) if not isinstance(notes, bool) else _notes(named, below, signs, ci_prob) if notes else []
    return ModelTable(data, cells, said)


def check_below(below: str) -> None:
    """Refuse what cannot stand below a coefficient.

    Raises
    ------
    OptionError
    """
    if below not in BELOW:
        raise OptionError(
            f"Unknown choice below={below!r}.{near(str(below), BELOW)} Use one of {', '.join(map(repr, BELOW))}."
        )


def _named(fits: Any, names: Sequence[str] | None) -> dict[str, Any]:
    by_name = isinstance(fits, Mapping)
    if not by_name and (hasattr(fits, "tidy") or not isinstance(fits, Iterable)):
        fits = [fits]
    listed = list(fits.values() if by_name else fits)
    wrong = [one for one in listed if not (hasattr(one, "varcorr") and hasattr(one, "settings"))]
    if wrong or not listed:
        got = type(wrong[0]).__name__ if wrong else "none"
        raise OptionError(f"A table is made of fits. Got {got}. Pass results of pmwmix.fit, in a list or a dict.")
    heads = list(map(str, fits)) if by_name else [f"({k})" for k in range(1, len(listed) + 1)]
    heads = heads if names is None else list(map(str, names))
    if len(heads) != len(listed) or len(set(heads)) < len(heads):
        raise OptionError(
            f"Every model has a heading of its own. Got {len(heads)} names ({', '.join(map(repr, heads))}) for "
            f"{len(listed)} models. Give as many different names as models."
        )
    return dict(zip(heads, listed, strict=True))


def _labels(fits: Mapping[str, Any], data: pd.DataFrame, given: Mapping[str, str]) -> dict[str, str]:
    rows = list(dict.fromkeys(data.index.get_level_values(1)))
    unknown = [name for name in given if name not in rows]
    if unknown:
        raise OptionError(
            f"Labels are those of rows. There is no row {unknown[0]!r}.{near(str(unknown[0]), rows)} The rows are "
            f"{', '.join(map(repr, rows))}."
        )
    out = {}
    for term in dict.fromkeys(data.xs(FIXED, drop_level=False).index.get_level_values(1)) if _has(data, FIXED) else ():
        out[term] = next((text for fit in fits.values() if (text := fit.settings.label_of(term))), term)
    return {**out, **given}


def _has(data: pd.DataFrame, part: str) -> bool:
    return part in data.index.get_level_values(0)


def _cells(data: pd.DataFrame, below: str, stars: Mapping[float, str], labels: Mapping[str, str]) -> pd.DataFrame:
    keys = list(dict.fromkeys((part, row) for part, row, _ in data.index))
    out = {}
    for name in data:
        values: dict[tuple[str, str], dict[str, float]] = {key: {} for key in keys}
        for (part, row, statistic), value in zip(data.index.to_list(), data[name], strict=True):
            values[part, row][statistic] = float(value)
        out[name] = [_cell(part, row, values[part, row], below, stars) for part, row in keys]
    shown = [(part, labels.get(row, row)) for part, row in keys]
    return pd.DataFrame(out, index=pd.MultiIndex.from_tuples(shown, names=["part", "row"]))


def _cell(part: str, row: str, values: Mapping[str, float], below: str, stars: Mapping[float, str]) -> str:
    """Write the numbers of a row of one model."""
    if part == MODEL:
        value = values["value"]
        if np.isnan(value):
            return ""
        return f"{value:.0f}" if COUNTS.fullmatch(row) else f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"
    if np.isnan(values["estimate"]):
        return ""
    error = values.get("std_error", np.nan)
    estimate = precise(error, values["estimate"])[0] if np.isfinite(error) else number(values["estimate"], 3)
    p = values.get("p_value", np.nan)
    mark = next((sign for limit, sign in sorted(stars.items()) if p < limit), "")
    return "\n".join([estimate + mark, *_second(values, below if part == FIXED else "std_error", error)])


def _second(values: Mapping[str, float], below: str, error: float) -> list[str]:
    if below == "ci" and "ci_low" in values:
        return [f"[{', '.join(precise(error, values['ci_low'], values['ci_high']))}]"]
    if below in ("statistic", "p_value") and np.isfinite(values.get(below, np.nan)):
        return [f"({values[below]:.{2 if below == 'statistic' else 3}f})"]
    return [f"({precise(error, error)[0]})"] if below == "std_error" and np.isfinite(error) else []


def _notes(fits: Mapping[str, Any], below: str, stars: Mapping[float, str], ci_prob: float) -> list[str]:
    words = {
        "std_error": "Standard errors in parentheses.",
        "ci": f"{100 * ci_prob:g} % intervals in brackets; standard errors of variances in parentheses.",
        "statistic": "t statistics in parentheses; of variances standard errors.",
        "p_value": "p-values in parentheses; of variances standard errors.",
        "none": "Standard errors of variances in parentheses.",
    }
    out = [words[below]]
    for what, said in (("Standard errors", _errors_of), ("Weights", _weights_of), ("Plausible values", _values_of)):
        each = {name: said(fit) for name, fit in fits.items()}
        if len(set(each.values())) == 1:
            out += [f"{what}: {text}." for text in set(each.values()) if text]
        else:
            out += [f"{what} of {name}: {text or 'none'}." for name, text in each.items()]
    if stars:
        signs = ", ".join(f"{sign} p < {limit:g}" for limit, sign in sorted(stars.items(), reverse=True))
        out.append(f"Stars: {signs}.")
    return out


def _errors_of(fit: Any) -> str:
    return "standard deviations of the posterior" if fit.method == "bayes" else variance_words(fit)


def _weights_of(fit: Any) -> str:
    if not fit.settings.weighted:
        return ""
    columns = ", ".join(f"{level}: {column or 1}" for level, column in fit.settings.weights)
    return f"{columns}; scaling {fit.settings.scaling}"


def _values_of(fit: Any) -> str:
    if any(fit.nests):
        return f"{source_words(fit.nests)}; pooled by their sources"
    return f"{fit.n_pv}, pooled by Rubin's rules" if fit.n_pv > 1 else ""


def _at_points(cells: Sequence[str], blank: str) -> list[str]:
    """Pad cells on the right so that their points stand in one line; intervals stay as they are."""
    tails = [_tail(cell) for cell in cells]
    longest = max((tail for tail in tails if tail is not None), default=0)
    return [
        cell + blank * (longest - tail) if tail is not None else cell for cell, tail in zip(cells, tails, strict=True)
    ]


def _tail(cell: str) -> int | None:
    found = re.fullmatch(r"\(?-?\d+(\.?\d*(?:e[+-]?\d+)?\)?[^\d\s]*)", cell)
    return len(found[1]) if found else None
