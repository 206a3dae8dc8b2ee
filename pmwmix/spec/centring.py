"""What the user asks of centring, before any data are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pmwmix.errors import OptionError, near
from pmwmix.spec.formula import ModelFormula


@dataclass(frozen=True)
class Centring:
    """What ``center={"escs": "school"}`` asks for, for one column.

    Parameters
    ----------
    column : str
    by : str
        ``"grand"`` or a group column.
    add_mean : bool
        Whether the group mean becomes a predictor of its own, named `mean_name`.
    factors : tuple of str
        Columns that name the group together, when ``by`` is a level whose ids start again in every unit above.
    """

    column: str
    by: str
    add_mean: bool = False
    factors: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that name the group; none for the grand mean."""
        return () if self.by == "grand" else tuple(self.factors) or (self.by,)

    @property
    def mean_name(self) -> str:
        """Name of the added column of group means, ``escs_school_mean``."""
        return f"{self.column}_{self.by}_mean"


def read_center(center: Mapping[str, str] | None) -> list[Centring]:
    """Read ``{"escs": "school"}``, ``{"escs": "grand"}`` or ``{"escs": "school+mean"}``.

    Raises
    ------
    OptionError
    """
    if center is None:
        return []
    if not isinstance(center, Mapping):
        raise OptionError(f'Centring is a dict. Got {center!r}. Write center={{"escs": "school"}}.')
    out = []
    for column, spec in center.items():
        if not isinstance(spec, str) or not spec.strip():
            raise OptionError(
                f"Centring names a group or 'grand'. That of {column!r} is {spec!r}. "
                f"Write 'school', 'school+mean' (adds the group mean as a predictor) or 'grand'."
            )
        by, plus, extra = (part.strip() for part in spec.partition("+"))
        if plus and (extra != "mean" or by == "grand"):
            raise OptionError(
                f"Only '+mean' can follow a group in centring. That of {column!r} is {spec!r}. "
                f"Write {'grand' if by == 'grand' else by + '+mean'!r}."
            )
        out.append(Centring(str(column), by, bool(plus)))
    return out


def find_groups(plans: Sequence[Centring], formula: ModelFormula) -> list[Centring]:
    """Fill in the columns of each group as the formula nests it: "class" in ``(1 | school/class)`` is class in school.

    Raises
    ------
    OptionError
        If a column is no predictor.
    """
    slopes = [name for term in formula.random for name in term.variables]
    predictors = list(dict.fromkeys([*formula.fixed_columns, *formula.further_variables, *slopes]))
    groups = {tuple(sorted(term.factors)): term.factors for term in formula.random}
    out = []
    for plan in plans:
        if plan.column not in predictors:
            raise OptionError(
                f"Only predictors of the formula can be centred. {plan.column!r} is none."
                f"{near(plan.column, predictors)} Add it to the formula or leave it out of center=."
            )
        whole = groups.get(tuple(sorted(plan.by.split(":"))))
        first = [factors for factors in groups.values() if factors[0] == plan.by]
        factors = whole or (first[0] if len(first) == 1 else (plan.by,))
        out.append(replace(plan, factors=() if plan.by == "grand" else factors))
    return out


def with_means(formula: ModelFormula, plan: Sequence[Centring]) -> ModelFormula:
    """Add the group means that centring asks for to the fixed part."""
    names = [one.mean_name for one in plan if one.add_mean and one.mean_name not in formula.fixed_variables]
    return formula.with_fixed(names)
