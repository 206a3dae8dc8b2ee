"""Numbers and names -> DataFrames, text and HTML. Computes nothing statistical, knows no result class."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

WIDTH = 100
STYLE = """
body{font-family:system-ui,sans-serif;margin:2rem auto;max-width:62rem;color:#1a1a2e}
.pmwmix h2{font-size:1.25rem;margin:.2rem 0}.pmwmix h3{font-size:1rem;margin:1.1rem 0 .3rem}
.pmwmix table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.pmwmix th,.pmwmix td{padding:.2rem .7rem;text-align:right;border:0}
.pmwmix th:first-child,.pmwmix td:first-child{text-align:left}
.pmwmix thead th{border-bottom:1.5px solid #1a1a2e}.pmwmix tbody tr:nth-child(even){background:#f4f5f9}
.pmwmix dl{display:grid;grid-template-columns:max-content auto;gap:.15rem 1rem;margin:.4rem 0}
.pmwmix dt{color:#555}.pmwmix dd{margin:0}.pmwmix ul{margin:.3rem 0}
"""


@dataclass(frozen=True)
class Section:
    """One titled table of a summary; cells are text already."""

    title: str
    table: pd.DataFrame


@dataclass(frozen=True)
class Summary:
    """A printable account of a fit: facts, tables, notes.

    ``str()`` gives text for a terminal, notebooks show HTML, and `to_latex` and `to_html` export.

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

    def __str__(self) -> str:
        buffer = io.StringIO()
        console = Console(
            file=buffer, width=WIDTH, no_color=True, force_terminal=False, force_jupyter=False, highlight=False
        )
        console.print(Text(self.title, style="bold"))
        grid = RichTable.grid(padding=(0, 2))
        for name, value in self.facts:
            grid.add_row(Text(name), Text(value))
        console.print(grid)
        for section in self.sections:
            console.print()
            console.print(Text(section.title))
            console.print(_rich(section.table))
        for number, note in enumerate(self.notes):
            console.print("\nNotes" if number == 0 else "", end="\n" if number == 0 else "")
            console.print(Text(f"* {note}"))
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in self.facts)
        pieces = [f"<style>{STYLE}</style><div class='pmwmix'><h2>{html.escape(self.title)}</h2><dl>{facts}</dl>"]
        for section in self.sections:
            pieces.append(f"<h3>{html.escape(section.title)}</h3>")
            pieces.append(section.table.to_html(border=0, escape=True, index_names=False))
        if self.notes:
            pieces.append("<h3>Notes</h3><ul>")
            pieces.extend(f"<li>{html.escape(note)}</li>" for note in self.notes)
            pieces.append("</ul>")
        return "".join(pieces) + "</div>"

    def to_html(self, title: str | None = None) -> str:
        """Give a whole HTML page as text.

        Parameters
        ----------
        title : str, optional
            Of the page.

        Returns
        -------
        str
        """
        head = f"<meta charset='utf-8'><title>{html.escape(title or self.title)}</title>"
        return f"<!doctype html><html lang='en'><head>{head}</head><body>{self._repr_html_()}</body></html>\n"

    def to_latex(self) -> str:
        """Give the tables in LaTeX (booktabs), one after the other.

        Returns
        -------
        str
        """
        pieces = []
        for section in self.sections:
            table = section.table.map(_tex).rename(index=_tex, columns=_tex)
            body = table.style.to_latex(hrules=True, column_format="l" + "r" * table.shape[1])
            pieces.append(f"% {section.title}\n{body}")
        return "\n".join(pieces)


def _tex(text: object) -> str:
    out = str(text).replace("\\", r"\textbackslash{}")
    for sign in "&%$#_{}":
        out = out.replace(sign, "\\" + sign)
    return out.replace("|", r"\textbar{}").replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}")


def _rich(table: pd.DataFrame) -> RichTable:
    out = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    out.add_column(Text(str(table.index.name or "")), overflow="fold")
    for name in table.columns:
        out.add_column(Text(str(name)), justify="right", no_wrap=True)
    for label, row in zip(table.index, table.itertuples(index=False), strict=True):
        out.add_row(Text(str(label)), *(Text(str(cell)) for cell in row))
    return out


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


def coefficient_table(tidy: pd.DataFrame, ci_prob: float, statistic: str) -> pd.DataFrame:
    """Format the fixed effects of a tidy table as text cells."""
    places = decimals_for(list(tidy["std_error"]))
    out = pd.DataFrame(index=pd.Index(tidy["term"]))
    out.index.name = None
    out["Estimate"] = [fixed(x, places) for x in tidy["estimate"]]
    out["Std. error"] = [fixed(x, places) for x in tidy["std_error"]]
    out[statistic] = [fixed(x, 2) for x in tidy["statistic"]]
    out["df"] = [fixed(x, 1) if x < 1e6 else "Inf" for x in tidy["df"]]
    out["p"] = [p_value(x) for x in tidy["p_value"]]
    percent = f"{100 * ci_prob:g} %"
    out[f"{percent} low"] = [fixed(x, places) for x in tidy["ci_low"]]
    out["high"] = [fixed(x, places) for x in tidy["ci_high"]]
    if "fmi" in tidy:
        out["FMI"] = [fixed(x, 3) for x in tidy["fmi"]]
    return out


def variance_table(varcorr: pd.DataFrame) -> pd.DataFrame:
    """Format variance components as text cells: variance, its standard error, SD, correlation."""
    variances = varcorr[varcorr["var2"].isna()]
    covariances = varcorr[varcorr["var2"].notna()]
    rows, index = [], []
    for _, row in variances.iterrows():
        corr = [
            fixed(float(c["sdcor"]), 3)
            for _, c in covariances.iterrows()
            if c["grp"] == row["grp"] and c["var2"] == row["var1"]
        ]
        index.append(f"{row['grp']} {row['var1']}" if isinstance(row["var1"], str) else str(row["grp"]))
        rows.append([number(row["vcov"], 5), number(row["se"], 5), number(row["sdcor"], 5), "  ".join(corr)])
    return pd.DataFrame(rows, columns=["Variance", "Std. error", "Std. dev.", "Corr."], index=index)
