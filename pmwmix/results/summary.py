"""Numbers and names -> DataFrames of text, and the account made of them. Computes nothing, knows no result class."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pmwmix.results.rendering import (
    STYLE,
    html_table,
    latex_table,
    printed,
    screen_width,
    text_facts,
    text_notes,
    text_table,
)

PAGE = "<style>:root{color-scheme:light dark}.pmwmix-page{margin:2rem auto;max-width:62rem;padding:0 1rem}</style>"
DIGITS = 3  # of a standard error; what it belongs to gets as many decimals


@dataclass(frozen=True)
class Section:
    """One titled table of a summary; cells are text already."""

    title: str
    table: pd.DataFrame


@dataclass(frozen=True)
class Summary:
    """A printable account of a fit: facts, tables, notes.

    ``str()`` gives text as wide as the terminal, notebooks show HTML, and `to_text`, `to_latex` and `to_html` export.

    Parameters
    ----------
    title : str
    facts : list of (str, str)
    sections : list of Section
    notes : list of str
    """

    title: str
    facts: list[tuple[str, str]]
    sections: list[Section]
    notes: list[str] = field(default_factory=list)

    def to_text(self, width: int | None = None) -> str:
        """Give the account as text.

        Parameters
        ----------
        width : int, optional
            Columns. Default: those of the terminal, between 40 and 120, and 80 without one. Tables that need more
            are continued below; a number is never broken.

        Returns
        -------
        str
        """
        columns = screen_width() if width is None else width
        pieces = [printed(self.title, columns)]
        if self.facts:
            pieces[0] += "\n" + text_facts(self.facts, columns)
        pieces += [
            f"{printed(section.title, columns)}\n{text_table(section.table, columns)}" for section in self.sections
        ]
        if self.notes:
            pieces.append("Notes\n" + text_notes(self.notes, columns))
        return "\n\n".join(pieces)

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in self.facts)
        pieces = [f"<style>{STYLE}</style><div class='pmwmix'><h2>{html.escape(self.title)}</h2><dl>{facts}</dl>"]
        for section in self.sections:
            pieces.append(f"<h3>{html.escape(section.title)}</h3>{html_table(section.table)}")
        if self.notes:
            notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
            pieces.append(f"<h3>Notes</h3><ul>{notes}</ul>")
        return "".join(pieces) + "</div>"

    def to_html(self, title: str | None = None) -> str:
        """Give a whole HTML page as text, light or dark as the reader's browser is.

        Parameters
        ----------
        title : str, optional
            Of the page.

        Returns
        -------
        str
        """
        head = f"<meta charset='utf-8'><title>{html.escape(title or self.title)}</title>{PAGE}"
        body = f"<main class='pmwmix-page'>{self._repr_html_()}</main>"
        return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n"

    def to_latex(self) -> str:
        """Give the tables in LaTeX (booktabs), one after the other.

        Returns
        -------
        str
        """
        return "\n".join(f"% {section.title}\n{latex_table(section.table)}" for section in self.sections)


def number(value: object, digits: int = 4) -> str:
    """Write a number with about ``digits`` significant digits and no exponent unless it is extreme.

    Examples
    --------
    >>> [number(x) for x in (490.5485, -3.4161, 0.000123, 1234567.8, float("nan"))]
    ['490.5', '-3.416', '0.0001230', '1234568', '']
    """
    if value is None or not isinstance(value, int | float | np.number):
        return "" if value is None else str(value)
    x = float(value)
    if np.isnan(x):
        return ""
    if np.isinf(x):
        return "Inf" if x > 0 else "-Inf"
    if x == 0:
        return "0"
    magnitude = int(np.floor(np.log10(abs(x))))
    if magnitude >= 9 or magnitude < -5:
        return f"{x:.{digits - 1}e}"
    return f"{x:.{max(digits - 1 - magnitude, 0)}f}"


def fixed(value: float, decimals: int) -> str:
    """Write a number with a set number of decimals; nothing for NaN."""
    return "" if np.isnan(value) else "Inf" if np.isinf(value) else f"{value:.{decimals}f}"


def decimals_for(standard_errors: Sequence[float]) -> int:
    """Decimals that show two significant digits of the smallest standard error, between 2 and 6."""
    finite = [s for s in standard_errors if np.isfinite(s) and s > 0]
    if not finite:
        return 3
    return int(np.clip(1 - np.floor(np.log10(min(finite))), 2, 6))


def p_value(value: float) -> str:
    """Write a p-value as journals do.

    Examples
    --------
    >>> p_value(0.00001), p_value(0.0312)
    ('<0.001', '0.031')
    """
    return "" if np.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def precise(error: float, *values: float) -> list[str]:
    """Write numbers with as many decimals as show three digits of their standard error.

    Without one, or with more than seven decimals, four significant digits are shown.

    Examples
    --------
    >>> precise(7.2831, 501.8055), precise(0.0312, -1.2), precise(float("nan"), 0.12345)
    (['501.81'], ['-1.2000'], ['0.1235'])
    """
    places = DIGITS - 1 - int(np.floor(np.log10(error))) if np.isfinite(error) and error > 0 else None
    if places is None or places > 7:
        return [number(value) for value in values]
    return [fixed(float(value), max(places, 0)) for value in values]


def columns_of(table: pd.DataFrame, error: str, headings: Mapping[str, str]) -> dict[str, list[str]]:
    """Write columns of numbers by their headings, each row with the decimals of its standard error in ``error``."""
    rows = [precise(*row) for row in table[[error, *headings]].to_numpy(dtype=float)]
    return {heading: [row[j] for row in rows] for j, heading in enumerate(headings.values())}


def ends(ci_prob: float) -> dict[str, str]:
    """Headings of the ends of an interval by their columns."""
    return {"ci_low": f"{100 * ci_prob:g} % low", "ci_high": f"{100 * ci_prob:g} % high"}


def coefficient_table(tidy: pd.DataFrame, ci_prob: float, statistic: str) -> pd.DataFrame:
    """Format the fixed effects of a tidy table as text cells, each row with decimals of its own."""
    shown = {"estimate": "Estimate", "std_error": "Std. error"}
    out = pd.DataFrame(columns_of(tidy, "std_error", shown), index=list(tidy["term"]))
    out[statistic] = [fixed(x, 2) for x in tidy["statistic"]]
    out["df"] = [fixed(x, 1) if x < 1e6 else "Inf" for x in tidy["df"]]
    out["p"] = [p_value(x) for x in tidy["p_value"]]
    out = out.assign(**columns_of(tidy, "std_error", ends(ci_prob)))
    if "fmi" in tidy:
        out["FMI"] = [fixed(x, 3) for x in tidy["fmi"]]
    return out


def variance_table(varcorr: pd.DataFrame) -> pd.DataFrame:
    """Format variance components as text cells: variance, its standard error, SD, correlations in a triangle."""
    variances = varcorr[varcorr["var2"].isna()]
    covariances = varcorr[varcorr["var2"].notna()]
    rows, index = [], []
    for _, row in variances.iterrows():
        mine = covariances[(covariances["grp"] == row["grp"]) & (covariances["var2"] == row["var1"])]
        index.append(f"{row['grp']} {row['var1']}" if isinstance(row["var1"], str) else str(row["grp"]))
        size, error = float(row["vcov"]), float(row["se"])
        of_sd = error / (2.0 * float(row["sdcor"])) if row["sdcor"] > 0 else np.nan
        rows.append(
            [*precise(error, size, error), *precise(of_sd, row["sdcor"]), *(fixed(float(r), 3) for r in mine["sdcor"])]
        )
    most = max((len(row) for row in rows), default=4)
    corr = ["Corr."] if most <= 4 else [f"Corr. {j}" for j in range(1, most - 2)]
    filled = [[*row, *[""] * (3 + len(corr) - len(row))] for row in rows]
    return pd.DataFrame(filled, columns=["Variance", "Std. error", "Std. dev.", *corr], index=index)
