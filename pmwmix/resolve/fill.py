"""What a survey preset leaves unsaid, filled in from the table: outcome, groups, weights, strata, replicates, notes.

Afterwards formula and design name columns of the table and nothing else: the rest of the package knows no presets.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.data.table import Table, WiderTable
from pmwmix.errors import (
    DesignError,
    FormulaError,
    MissingColumnsError,
    OptionError,
    PmwmixWarning,
    WeightError,
    near,
    some,
)
from pmwmix.resolve.countries import SENATE, check_weights, weigh_countries
from pmwmix.resolve.known import KINDS, Known, weight_texts
from pmwmix.resolve.units import Units, replicate_design, variance_units
from pmwmix.spec.centring import Centring
from pmwmix.spec.design import Design
from pmwmix.spec.formula import ModelFormula, parse
from pmwmix.surveys import Preset
from pmwmix.weights.replicate_types import BY_REPLICATES


@dataclass(frozen=True)
class Filled:
    """A call in which everything has the name of a column.

    Parameters
    ----------
    formula : ModelFormula
    design : Design
    table : Table
        With derived columns, where there are any.
    center : list of Centring
    notes : tuple of str
        What was filled in, and from where.
    """

    formula: ModelFormula
    design: Design
    table: Table
    center: list[Centring]
    notes: tuple[str, ...]


def fill_in(
    formula: Any,
    design: Design,
    table: Table,
    center: Sequence[Centring],
    vcov: str | None = None,
    given: Collection[str] = (),
    several: bool = False,
) -> Filled:
    """Fill in what a survey preset, the ids of a design, or products of weights leave to be looked up in the table.

    Parameters
    ----------
    formula : str
        May have a blank left side and say ``school`` for the study's column of schools.
    design : Design
    table : Table
    center : sequence of Centring
    vcov : str, optional
        Replicates are kept if it asks for them; a preset's are not the default.
    given : collection of str
        Fields of the design that the call gave itself.
    several : bool
        Whether the formulas after the first are those of further outcomes.

    Returns
    -------
    Filled

    Raises
    ------
    PmwmixError
        If the study lacks the outcome, the table lacks its weights, or the weighting is left to the user.

    Notes
    -----
    A column of the table always wins over a name of the preset: ``school`` means the column ``school`` if there is one.
    """
    texts = [text for text in weight_texts(design.weights) if "*" in text or "|" in text]
    if not (isinstance(design, Preset) or design.ids or design.country_weights or texts):
        return Filled(parse(formula, several), design, table, list(center), ())
    return _Filling(design, table, given).run(formula, center, vcov, several)


@dataclass
class _Filling(Known):
    """The steps, in order."""

    def run(self, formula: Any, center: Sequence[Centring], vcov: str | None, several: bool) -> Filled:
        """Take the steps in order."""
        if isinstance(formula, str) and formula.strip().startswith("~"):
            formula = f"{self.default_outcome()} {formula.strip()}"
        parsed = parse(formula, several)
        self.fill_sets(parsed)
        parsed = self.fill_groups(parsed)
        groups = self.kinds_of_groups(parsed)
        self.fill_weights(groups, parsed)
        self.fill_countries(groups)
        self.fill_scaling(parsed)
        if self.preset is not None:
            self.fill_units(parsed, vcov)
        center = [replace(plan, by=self.column_of(plan.by)) for plan in center]
        table = WiderTable(self.table, self.extra) if self.extra else self.table
        return Filled(parsed, self.design, table, center, (*self.summary(), *self.notes))

    # -- outcome and plausible values ----------------------------------------------------------------------------------

    def default_outcome(self) -> str:
        """Name the outcome of a formula with a blank left side."""
        said = self.preset.outcome if self.preset else None
        if said is None:
            who = f"The preset {self.preset.name!r} has no default outcome" if self.preset else "There is no preset"
            raise FormulaError(
                f"The formula names no outcome. {who} to take it from. Write the outcome's column before '~'."
            )
        sets = self.design.pv or {}
        for name in said.split("|"):
            column = self.names.find(name)
            if column or (name in sets and self.has_set(sets[name])):
                self.parts.append(f"outcome {column or name}")
                return column or name
        looked = [str(sets.get(name, name)) for name in said.split("|")]
        raise MissingColumnsError(
            f"The default outcome of {self.title} is not in the table. {self.names.missing(looked)} "
            f"Keep those columns when the file is read, or write an outcome before '~'."
        )

    def has_set(self, spec: Any) -> bool:
        return self.names.template(spec) is not None if isinstance(spec, str) else True

    def fill_sets(self, formula: ModelFormula) -> None:
        """Declare the plausible-value sets that the table has, under the names that the formula uses."""
        if self.preset is None or not self.own("pv"):
            return
        said = {variable.lower(): variable for variable in formula.variables if variable not in self.names}
        found: dict[str, Any] = {}
        for name, spec in (self.design.pv or {}).items():
            if name in self.names and name in formula.variables:
                self.notes.append(f"{name!r} is a column of the table and not the preset's plausible values.")
                continue
            template = self.names.template(str(spec))
            if template is not None:
                found[said.get(name, name)] = template
            elif name in said:
                raise MissingColumnsError(
                    f"The plausible values of {said[name]!r} are not in the table. {self.names.missing([str(spec)])} "
                    f"Keep those columns when the file is read, or write the name of a column as the outcome."
                )
        outcome = formula.response
        if outcome in formula.response_variables and outcome not in self.names and outcome not in found:
            known = list(self.design.pv or ())
            subjects = f"It has plausible values of {some(known, 9)}" if known else "It has no plausible values"
            raise MissingColumnsError(
                f"{outcome!r} is neither a column of the table nor a subject of {self.title}. {subjects}."
                f"{near(outcome, [*known, *self.names.all])} Write one of those, a column, or declare it with pv=."
            )
        used = [name for name in found if name in formula.variables]
        self.parts += [f"plausible values of {name}: {found[name]}" for name in used]
        self.change(pv=found)

    # -- units ---------------------------------------------------------------------------------------------------------

    def fill_groups(self, parsed: ModelFormula) -> ModelFormula:
        """Put the study's columns in the place of ``school``, ``class`` and ``country``."""
        factors = list(dict.fromkeys(name for term in parsed.random for name in term.factors))
        renamed: dict[str, tuple[str, ...]] = {}
        for name in factors:
            kind = name.lower()
            if name in self.names or (kind not in (self.design.ids or {}) and self.column_of(name) == name):
                continue
            if kind in (self.design.ids or {}) and kind not in self.ids:
                said = str((self.design.ids or {})[kind])
                raise MissingColumnsError(
                    f"The column of the {kind} is not in the table. {self.names.missing([said])} "
                    f"Write the column itself in the formula, or keep it when the file is read."
                )
            renamed[name] = self.unit_columns(kind) if kind in self.ids else (self.column_of(name),)
            shown = " and ".join(repr(column) for column in renamed[name])
            again = ", because its ids start again in the units above" if len(renamed[name]) > 1 else ""
            self.notes.append(f"Group {name!r} of the formula is column {shown}{again}.")
        return parsed.with_groups(renamed)

    def kinds_of_groups(self, parsed: ModelFormula) -> dict[str, str]:
        """Kind of unit of every level whose columns are all known, to the level's name."""
        kinds = {column: kind for kind, column in self.ids.items()}
        out: dict[str, str] = {}
        for term in parsed.random:
            found = [kinds[name] for name in term.factors if name in kinds]
            if len(found) == len(term.factors):
                out.setdefault(min(found, key=lambda kind: KINDS.index(kind) if kind in KINDS else 0), term.group)
        return out

    # -- weights -------------------------------------------------------------------------------------------------------

    def fill_weights(self, groups: Mapping[str, str], parsed: ModelFormula) -> None:
        """Turn weights of kinds of units into columns of the model's levels."""
        weights: Any = self.design.weights
        if weights is None:
            if self.preset is not None and self.preset.choices:
                options = [f"{name} ({what})" for name, what in self.preset.choices.items()]
                raise OptionError(
                    f"{self.title} has no recommended weighting for multilevel models. Its weights are among others "
                    f"{', '.join(options)}. Choose with weights=[...], bottom-up; weights=[None] fits without any."
                )
            return
        if self.preset is not None and self.own("weights"):
            if self.design.conditional:
                raise OptionError(
                    f"The weights of {self.title} are total weights, which are divided for you. The call says "
                    f"conditional=True. Leave it out, or give conditional weights with weights=[...]."
                )
            self.change(weights=self.preset_weights(weights, groups, parsed))
        elif isinstance(weights, str):
            self.change(weights=self.weight(weights) or weights)
        elif isinstance(weights, Mapping):
            known = {*(term.group for term in parsed.random), "obs"}
            self.change(
                weights={
                    key if key in known else groups.get(str(key).lower(), key): self.given_weight(text)
                    for key, text in weights.items()
                }
            )
        elif isinstance(weights, list | tuple):
            self.change(weights=[self.given_weight(text) for text in weights])

    def given_weight(self, text: Any) -> Any:
        return (self.weight(text) or text) if isinstance(text, str) else text

    def weight(self, text: str) -> str | None:
        """Column of a weight, derived if it is a product; None if the table lacks it."""
        factors = self.names.factors(text)
        if len(factors) < 2:
            return factors[0] if factors else None
        name = "*".join(factors)
        if name not in self.extra:
            read = self.read(factors)
            words = [factor for factor in factors if isinstance(read[factor].dtype, pd.CategoricalDtype)]
            if words:
                raise WeightError(
                    f"Factors of a weight must be numbers. Column {words[0]!r} of {name!r} holds categories. "
                    f"Convert it first."
                )
            self.extra[name] = pd.Series(np.prod([read[f].to_numpy() for f in factors], axis=0), name=name)
            self.notes.append(f"Weight {name!r} was derived: the product of {', '.join(factors)}.")
        return name

    def preset_weights(
        self, said: Mapping[str, str], groups: Mapping[str, str], parsed: ModelFormula
    ) -> dict[str, Any]:
        """Columns of the preset's weights for the levels that the model has."""
        out: dict[str, Any] = {"obs": self.needed(said["obs"], self.preset.rows if self.preset else "row", "obs")}
        for kind, group in groups.items():
            if kind not in said:
                continue
            column = self.weight(said[kind])
            if column is None and kind == "class":
                self.notes.append(
                    f"The factors of the class weight ({said[kind].split('|')[0]}) are not in the table: the class has "
                    f"conditional weight 1 within its school, and the total student weight carries both factors."
                )
                if "school" not in groups:
                    out[group] = self.needed(said["school"], "school", group)
            else:
                out[group] = column or self.needed(said[kind], kind, group)
        if "school" in said and parsed.random and not groups:
            levels = [term.group for term in parsed.random]
            warnings.warn(
                f"No level of the model has a weight from the preset {self.preset and self.preset.name!r}: "
                f"{some(dict.fromkeys(levels))} is none of its units ({self.units_said()}). If it is the school, write "
                f"design=pmwmix.surveys[...].override(ids={{'school': {levels[0]!r}}}).",
                PmwmixWarning,
                stacklevel=6,
            )
        return out

    def units_said(self) -> str:
        return ", ".join(f"{kind}: {said.replace('|', ' or ')}" for kind, said in (self.design.ids or {}).items())

    def needed(self, said: str, kind: str, level: str) -> str:
        """Column of a weight that the model cannot do without."""
        column = self.weight(said)
        if column is None:
            cure = f"Merge the {kind} file, or give all weights yourself: weights={{'obs': ..., {level!r}: ...}}."
            if level == "obs":
                cure = "Keep it when the file is read, or give the weights yourself with weights=[...]."
            raise WeightError(
                f"The {kind} weight of {self.title} is not in the table. {self.names.missing([said])} {cure}"
            )
        return column

    def fill_countries(self, groups: Mapping[str, str]) -> None:
        """Let countries count as `Design.country_weights` says."""
        how, country = self.design.country_weights, self.ids.get("country")
        if how is None:
            if self.own("weights") and (several := self.country()) is not None:
                n = self.read([several])[several].nunique()
                self.notes.append(
                    f"The table has {n} countries ({several}), weighted as in the file, so that large ones count more. "
                    f"Choose with country_weights='equal', 'population' or 'senate' in the design."
                )
            return
        if country is None:
            said = str((self.design.ids or {}).get("country", "ids={'country'}"))
            raise DesignError(
                f"Country weights need the column of the countries. {self.names.missing([said])} "
                f"Name it in the design: ids={{'country': 'CNT'}}."
            )
        keyed = check_weights(self.design.weights, self.design.conditional)
        made = weigh_countries(how, keyed, groups.get("country"), country, self.read)
        self.extra.update(made.extra)
        self.adapt = made.adapt
        self.notes.append(made.note)
        self.change(weights=made.weights)

    def fill_scaling(self, parsed: ModelFormula) -> None:
        """Keep the study's scaling at the lowest level where it says nothing of the levels above."""
        if self.preset is None or not self.own("scaling"):
            return
        levels = {tuple(sorted(term.factors)) for term in parsed.random}
        if not weight_texts(self.design.weights):
            self.change(scaling=None)
        elif self.preset.lowest_only and len(levels) > 1:
            self.change(scaling="size-lowest")

    # -- variance ------------------------------------------------------------------------------------------------------

    def fill_units(self, parsed: ModelFormula, vcov: str | None) -> None:
        """Fill in strata, PSU and replicates."""
        preset = self.design
        assert isinstance(preset, Preset)
        units = Units(self.names, self.read, self.unit_columns, self.country(), self.weight_of_rows())
        own = {name: self.own(name) for name in ("strata", "psu")}
        if "country" in self.kinds_of_groups(parsed) and any(own.values()):
            gone: dict[str, Any] = {name: None for name, mine in own.items() if mine}
            preset = replace(preset, **gone)
            self.notes.append(
                "The clusters of the robust variance are the countries, the top level; no strata are used."
            )
        preset, extra, notes = variance_units(preset, units, parsed.random, own)
        self.extra.update(extra)
        preset, made, more = replicate_design(preset, units, vcov in BY_REPLICATES)
        self.extra.update(made)
        if self.adapt is not None and preset.replicate_weights:
            changed = [self.adapt(column) for column in self.read(list(preset.replicate_weights)).values()]
            self.extra.update({str(column.name): column for column in changed})
            preset = replace(preset, replicate_weights=[str(column.name) for column in changed])
        self.design = preset
        self.notes += [*notes, *more]

    def weight_of_rows(self) -> str | None:
        """Column of the rows' weight in the file, whatever countries did to it."""
        weights: Any = self.design.weights
        first = weights.get("obs") if isinstance(weights, Mapping) else weights
        first = first[0] if isinstance(first, list | tuple) and first else first
        return first.removesuffix(SENATE) if isinstance(first, str) else None

    def summary(self) -> list[str]:
        """Say what came from the preset, and where the preset comes from."""
        if self.preset is None:
            return []
        weights, design = self.design.weights, self.design
        if self.own("weights") and isinstance(weights, Mapping):
            self.parts.append("total weights " + ", ".join(f"{level}: {column}" for level, column in weights.items()))
        if "scaling" not in self.given and design.scaling is not None:
            self.parts.append(f"scaling {design.scaling}")
        for name in ("strata", "psu"):
            if name not in self.given and getattr(design, name):
                self.parts.append(f"{name.replace('psu', 'PSU')} {getattr(design, name)}")
        if design.replicate_weights or design.zone:
            columns = design.replicate_weights or ()
            shown = f"{len(columns)} columns {columns[0]}..." if columns else f"{design.zone} and {design.rep}"
            self.parts.append(f"replicates {design.replicate_type} from {shown}")
        sources = " ".join(self.preset.sources)
        said = f"Survey preset {self.preset.name!r} filled in {'; '.join(self.parts) or 'nothing'}. "
        return [re.sub(r"\s+", " ", f"{said}Recommended weighting: {self.preset.advice} Sources: {sources}")]
