"""Variance components of a frame by name, and which of them are held at values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.frame.modelframe import ModelFrame, correlated
from pmwmix.spec.fixed import RESIDUAL
from pmwmix.spec.random import check_random


def component_names(frame: ModelFrame) -> list[tuple[str, str, str | None]]:
    """Name the entries of Λ in the order of theta: (group, row term, column term or None on the diagonal)."""
    seen: dict[tuple[str, int], int] = {}
    out: list[tuple[str, str, str | None]] = []
    for blocks in correlated(frame.designs[0].blocks):
        name, predictor = frame.hierarchy.levels[blocks[0].level].name, blocks[0].predictor
        again = seen.get((name, predictor), 0)
        for block in blocks:
            seen[name, block.predictor] = again + 1
        label = name if not again else f"{name}.{again}"
        terms = [term for block in blocks for term in block.names]
        for j, second in enumerate(terms):
            out.append((label, second, None))
            out.extend((label, terms[i], second) for i in range(j + 1, len(terms)))
    return out


def name_of(group: str, term: str, other: str | None = None) -> str:
    """Join the parts of a component's name: ``"school.Intercept"``, of a covariance ``"school.escs.Intercept"``."""
    return f"{group}.{term}" if other is None else f"{group}.{term}.{other}"


def with_fixed(frame: ModelFrame, fixed: Mapping[str, float]) -> ModelFrame:
    """Hold variances of a frame at values.

    Raises
    ------
    OptionError
        If a name is none of a variance.
    NotSupportedError
        If its term has correlated effects or a covariance structure, or any term of the model has one.
    """
    if not fixed:
        return frame
    check_random(frame.random, "ml", "fixed", dict(fixed))
    if frame.formula.outcomes:
        raise NotSupportedError(
            f"Variances are not held in models of several outcomes. Got fixed={dict(fixed)!r} with "
            f"{', '.join(frame.formula.outcomes)}. Leave it out, or fit the outcomes one at a time."
        )
    names = component_names(frame)
    variances = [name_of(g, a) for g, a, b in names if b is None] + [RESIDUAL] * frame.has_closed_form
    for name in fixed:
        if name in [name_of(*one) for one in names if one[2] is not None]:
            raise OptionError(
                f"Variances are held at values, covariances are not. Got {name!r} in fixed=. Write terms without a "
                f"correlation, (x || g)."
            )
        if name not in variances:
            raise OptionError(
                f"There is no variance {name!r} to hold.{near(name, variances)} The model has "
                f"{', '.join(map(repr, variances)) or 'none'}. Names are those of fit.varcorr, group and effect "
                f"with a dot between them."
            )
    _check_terms(frame, fixed)
    return replace(frame, fixed=dict(fixed))


def _check_terms(frame: ModelFrame, fixed: Mapping[str, float]) -> None:
    for g, a, b in component_names(frame):
        if b is not None and {name_of(g, a), name_of(g, b)} & fixed.keys():
            raise NotSupportedError(
                f"Variances of correlated effects are not held at values. {name_of(g, b)!r} and {name_of(g, a)!r} are "
                f"correlated, and fixed= names one. Write them without correlation, (x || {g})."
            )
    for block in frame.designs[0].blocks:
        if block.term.structure != "us":
            raise NotSupportedError(
                f"Variances are not held beside structured covariances. The term {block.term.text} has one, and fixed= "
                f"was given. Write plain terms."
            )
