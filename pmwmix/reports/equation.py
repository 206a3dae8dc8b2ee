"""The equation of a model as signs with indices, and its three spellings: text, LaTeX and HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmwmix.results.rendering import tex
from pmwmix.results.words import residual_words

UNITS = "jklmnopq"  # indices of the levels above the rows, bottom-up; rows are i
EFFECTS = "uvwabcde"  # random effects of these levels
PLUS, TIMES = " + ", " × "
TERMS = 6  # on a line of LaTeX
GREEK = {
    "β": r"\beta",
    "μ": r"\mu",
    "η": r"\eta",
    "σ": r"\sigma",
    "Ψ": r"\Psi",
    "τ": r"\tau",
    "~": r"\sim",
    "×": r"\times",
}


@dataclass(frozen=True)
class Sign:
    """A letter or the name of a variable, with an index below it and perhaps a square."""

    base: str
    index: str = ""
    upright: bool = False
    squared: bool = False


Line = Sequence[Sign | str]


def as_text(line: Line) -> str:
    """Spell a line in letters: ``β1 × ses_ij``."""
    parts = []
    for one in line:
        if isinstance(one, str):
            parts.append(one)
            continue
        bar = "_" if one.index and (one.upright or not one.index[0].isdigit()) else ""
        parts.append(f"{one.base}{bar}{one.index}{'²' if one.squared else ''}")
    return "".join(parts)


def as_latex(line: Line) -> str:
    """Spell a line in LaTeX's mathematics, broken after every six terms."""
    out, terms = [], 0
    for one in line:
        terms += one == PLUS
        out.append((r" \\ {} + " if terms % TERMS == 0 else " + ") if one == PLUS else _latex(one))
    return "".join(out)


def _latex(one: Sign | str) -> str:
    if isinstance(one, str):
        return "".join(GREEK.get(letter, letter) for letter in one)
    base = rf"\mathrm{{{tex(one.base)}}}" if one.upright else GREEK.get(one.base, one.base)
    index = f"_{{{_index_in_latex(one)}}}" if one.index else ""
    return f"{base}{index}{'^2' if one.squared else ''}"


def _index_in_latex(one: Sign) -> str:
    """Set words upright."""
    return rf"\mathrm{{{tex(one.index)}}}" if one.base == "Ψ" else tex(one.index)


def as_html(line: Line) -> str:
    """Spell a line in HTML, indices below the line."""
    return "".join(_html(one) for one in line)


def _html(one: Sign | str) -> str:
    if isinstance(one, str):
        return html.escape(one)
    base = html.escape(one.base) if one.upright else f"<i>{html.escape(one.base)}</i>"
    index = f"<sub>{html.escape(one.index)}</sub>" if one.index else ""
    return f"{base}{index}{'<sup>2</sup>' if one.squared else ''}"


@dataclass(frozen=True)
class Equation:
    """Lines of a model, and which index stands for which unit."""

    lines: list[list[Sign | str]]
    indices: dict[str, str]

    @property
    def legend(self) -> str:
        """Say what the indices stand for."""
        return ", ".join(f"{letter}: {name}" for letter, name in self.indices.items())


def equation_of(fit: Any) -> Equation:
    """Write out the model of a fit.

    Parameters
    ----------
    fit : FitResult or BayesResult

    Returns
    -------
    Equation
        A line per linear predictor, one per distribution of random effects, one for the residuals. Predictors have the
        indices of the units in which they vary; of a fit read from a file, which keeps no columns, those of the rows.
    """
    names = list(fit.n_groups.index)
    letters = dict(zip(names, UNITS, strict=False))
    indices = {"i": "row"} | {letter: name for name, letter in letters.items()}
    where = places_of(fit)
    lines: list[list[Sign | str]] = []
    numbers = iter(range(1 if fit.has_thresholds else 0, len(fit.coef) + 1))
    for predictor in _predictors(fit):
        lines.append(_predictor_line(fit, predictor, letters, where, numbers))
    lines += _random_lines(fit, letters)
    if fit.residual_parameters is not None:
        said = residual_words(fit.settings.residual)
        lines.append(["e", " ~ N(0, ", Sign("σ", squared=True), f" R), R: {said}"])
    elif fit.has_residual_variance:
        lines.append([Sign("e", _index(letters, names)), " ~ N(0, ", Sign("σ", squared=True), ")"])
    return Equation(lines, indices)


def _predictors(fit: Any) -> list[str | None]:
    named = list(fit.named_predictors)
    thresholds_only = fit.has_thresholds and named
    own = [None] if fit.first_predictor is None or thresholds_only else []
    terms = list(fit.coef.index)
    return [*own, *(name for name in named if any(term.startswith(f"{name}.") for term in terms))]


def _own(fit: Any, term: str) -> str | None:
    """Name the linear predictor that a coefficient or random term belongs to; None is the mean's."""
    longest = sorted(fit.named_predictors, key=len, reverse=True)
    return next((name for name in longest if term.startswith(f"{name}.")), None)


def _index(letters: dict[str, str], names: Sequence[str]) -> str:
    return "i" + "".join(letters[name] for name in names)


def places_of(fit: Any) -> dict[str, str | None]:
    """Say of every fixed column the highest level in whose units it is constant; None where it varies among rows."""
    rows = fit.fits[0].rows
    if rows is None or not rows.is_live or rows.frame.stream is not None:
        return {}
    out: dict[str, str | None] = {}
    every = [column for part in rows.design.fixed for column in part.columns]
    columns = dict(zip(fit.coef.index[len(fit.coef) - len(rows.problem.kept) :],
                       (every[j] for j in rows.problem.kept), strict=True))  # fmt: skip
    for name, column in columns.items():
        out[name] = None
        for level in rows.frame.hierarchy.levels:
            first = np.zeros(level.n)
            first[level.index] = column
            if np.array_equal(first[level.index], column):
                out[name] = level.name
            elif not rows.frame.hierarchy.crossed:
                break
    return out


def factors_of(term: str) -> list[str]:
    """Split an interaction at the colons outside brackets: ``"ses:C(x)[a:b]"``."""
    parts, depth = [""], 0
    for letter in term:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == ":" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _variable(term: str, index: str) -> Sign:
    return Sign(term.replace("[T.", "["), index, upright=True)


def _predictor_line(
    fit: Any, predictor: str | None, letters: dict[str, str], where: dict[str, str | None], numbers: Any
) -> list[Sign | str]:
    names = list(letters)
    whole = _index(letters, names)
    line: list[Sign | str] = _left(fit, predictor, whole)
    first = True
    constants = fit.constants
    for term in fit.coef.index:
        if _own(fit, term) != predictor:
            continue
        if fit.has_thresholds and term in constants:
            continue
        number = next(numbers)
        line += ["" if first else PLUS, Sign("β", str(number))]
        first = False
        short = term.removeprefix(f"{predictor}.")
        if term not in constants and short != "Intercept":
            for factor in factors_of(short):
                own = term if factor == short else term.removesuffix(short) + factor
                level = where.get(own, where.get(term))
                line += [TIMES, _variable(factor, whole if level is None else _above(letters, names, level, fit))]
    line += _random_part(fit, predictor, letters, first)
    if predictor is None and fit.has_residual_variance:
        line += [PLUS, Sign("e", whole)]
    return line


def _above(letters: dict[str, str], names: Sequence[str], level: str, fit: Any) -> str:
    """Index of what is constant in the units of a level: that of the level and of those around it."""
    rows = fit.fits[0].rows
    if rows is not None and rows.is_live and rows.frame.hierarchy.crossed:
        return letters[level]
    return "".join(letters[name] for name in names[names.index(level) :])


def _left(fit: Any, predictor: str | None, whole: str) -> list[Sign | str]:
    outcome = fit.formula.split("~")[0].strip()
    if predictor is not None:
        return [Sign("η", f"{predictor},{whole}"), " = "]
    if fit.has_residual_variance:
        return [_variable(outcome, whole), " = "]
    return [Sign("η", whole), " = "]


def _terms(fit: Any) -> list[tuple[str, str]]:
    """List level and term of every random effect, in the order of ``varcorr``."""
    table = fit.varcorr
    kept = table[table["var2"].isna() & table["var1"].notna()]
    return list(zip(kept["grp"], kept["var1"], strict=True))


def _effect(fit: Any, letters: dict[str, str], group: str, term: str) -> Sign:
    level = _level_of(letters, group)
    names = list(letters)
    place = [t for g, t in _terms(fit) if _level_of(letters, g) == level].index(term)
    return Sign(EFFECTS[names.index(level)], f"{place}{_above(letters, names, level, fit)}")


def _level_of(letters: dict[str, str], group: str) -> str:
    """Name of the level of a row of ``varcorr``: several terms of one factor are numbered, ``school.1``."""
    if group in letters:
        return group
    return next(name for name in letters if group.rsplit(".", 1)[0] == name)


def _random_part(fit: Any, predictor: str | None, letters: dict[str, str], first: bool) -> list[Sign | str]:
    line: list[Sign | str] = []
    whole = _index(letters, list(letters))
    for group, term in _terms(fit):
        if _own(fit, term) != predictor:
            continue
        line += ["" if first else PLUS, _effect(fit, letters, group, term)]
        first = False
        short = term.removeprefix(f"{predictor}.")
        if short != "Intercept":
            for factor in factors_of(short):
                line += [TIMES, _variable(factor, whole)]
    return line


def _random_lines(fit: Any, letters: dict[str, str]) -> list[list[Sign | str]]:
    """Distribution of the random effects of every term: ``(u0j, u1j) ~ N(0, Ψ_school)``."""
    out: list[list[Sign | str]] = []
    groups = list(dict.fromkeys(group for group, _ in _terms(fit)))
    for group in groups:
        effects = [_effect(fit, letters, g, term) for g, term in _terms(fit) if g == group]
        line: list[Sign | str] = []
        for k, effect in enumerate(effects):
            line += [", " if k else "", effect]
        variance: Sign | str = Sign("Ψ", group)
        follows = _follows(fit.random)
        line = ["(", *line, ")", follows, variance, ")"] if len(effects) > 1 else [*line, follows, variance, ")"]
        out.append(line)
    return out


def _follows(random: str) -> str:
    """Open the name of a distribution with mean 0 and a covariance: normal, t, or discrete with so many masses."""
    name, _, number = random.rstrip(")").partition("(")
    if name == "t":
        return f" ~ t{number}(0, "
    return f" ~ discrete{number}(0, " if name == "discrete" else " ~ N(0, "
