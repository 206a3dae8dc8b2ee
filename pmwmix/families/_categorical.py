"""What families of outcomes that are categories share, ordered or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.errors import some
from pmwmix.families._base import FAMILIES, Family
from pmwmix.links._curves import softplus
from pmwmix.spec.outcome import Outcome


class Categorical(Family):
    """A family whose outcome is the number of a category, from 0, and whose mean is a probability per category."""

    is_categorical = True

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give the variance of the category's number, from the probabilities (n, C)."""
        k = np.arange(mean.shape[1])
        return mean @ k**2 - (mean @ k) ** 2

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give minus twice the log-probability of the category, from the probabilities (n, C)."""
        return -2.0 * np.log(mean[np.arange(len(y)), y.astype(np.int64)])


class Labelled(Categorical):
    """A family that knows its categories by name; they stand behind its own, ``'multinomial["a", "b", "c"]'``.

    Parameters
    ----------
    labels : tuple of str
        Categories; empty as long as no outcome has been seen.
    """

    stem: ClassVar[str]  # its name without categories
    shown: ClassVar[str]  # as the caller writes it

    def __init__(self, labels: tuple[str, ...] = ()) -> None:
        self.labels = labels
        self.name = self.stem + (json.dumps(labels, ensure_ascii=False) if labels else "")

    def __reduce__(self) -> Any:
        return FAMILIES.__getitem__, (self.name,)

    @property
    def distribution_name(self) -> str:
        """The same whatever the categories are."""
        return self.shown

    @property
    def shown_name(self) -> str:
        """As the caller writes it."""
        return self.shown

    @property
    def is_open(self) -> bool:
        """Whether the categories are not known yet."""
        return not self.labels


def labels_in(name: str, stem: str) -> tuple[str, ...] | None:
    """Read the categories that stand behind ``stem`` in the name of a family; None if it is no such name."""
    if not name.startswith(stem):
        return None
    try:
        labels = json.loads(name[len(stem) :] or "[]")
    except ValueError:
        return None
    known = isinstance(labels, list) and len(labels) != 1 and all(isinstance(one, str) for one in labels)
    return tuple(labels) if known and len(set(labels)) == len(labels) else None


def log_share(y: Any, scores: Sequence[Any]) -> Any:
    """Log-probability of category y where probabilities are proportional to exp(score), that of category 0 being 1.

    Symbolic: -log(1 + sum of exp(score_k - score_y)) over the others k, which does not cancel. Category 0 takes the
    place of the row's own among the others.
    """
    masks = [pt.eq(y, float(k)) for k in range(1, len(scores) + 1)]
    own: Any = sum(pt.switch(mask, score, 0.0) for mask, score in zip(masks, scores, strict=True))
    total: Any = None
    for mask, score in zip(masks, scores, strict=True):
        other = pt.switch(mask, 0.0, score) - own
        total = softplus(other) if total is None else total + softplus(other - total)
    return -total


def drawn(rng: np.random.Generator, below: Array) -> Array:
    """Draw category codes (n,) from the probabilities of all categories up to each but the last (n, C - 1)."""
    return (rng.random((len(below), 1)) > below).sum(axis=1).astype(float)


def notes_on_unused(outcome: Outcome, labels: Sequence[str]) -> list[str]:
    """Say which categories that the table declares do not occur."""
    unused = [label for label in outcome.categories or () if label not in labels]
    return [f"Categories of {outcome.name!r} that do not occur are left out: {some(unused)}"] if unused else []
