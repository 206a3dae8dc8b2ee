"""Linear hypotheses about coefficients, as text or numbers: ``"x1 = x2"``, ``"immig"``, ``"2 * a - b = 0.5"``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, near

NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Hypotheses:
    """Combinations of coefficients and what they are compared with.

    Parameters
    ----------
    L : ndarray, shape (r, p)
    value : ndarray, shape (r,)
        What the combinations are under the hypothesis.
    labels : list of str, length r
    """

    L: Array
    value: Array
    labels: list[str]

    def shift(self) -> Array:
        """Give coefficients (p,) for which all of them hold.

        Raises
        ------
        OptionError
            If there are none.
        """
        out = np.linalg.pinv(self.L) @ self.value
        if not np.allclose(self.L @ out, self.value, rtol=1e-9, atol=1e-9 * max(np.abs(self.value).max(), 1.0)):
            raise OptionError(
                f"The hypotheses contradict each other. Together they are {', '.join(map(repr, self.labels))}. Test "
                f"them one by one, or leave one of them out."
            )
        return out


def factor_terms(asked: str, names: Sequence[str]) -> list[str]:
    """Coefficients of a whole factor, ``immig[T.first]`` of ``"immig"``, or of an interaction ``"immig:escs"``."""
    wanted = sorted(_parts(asked))
    return [name for name in names if name != asked and sorted(map(_bare, _parts(name))) == wanted]


def _parts(name: str) -> list[str]:
    """Split a term at the colons outside its brackets."""
    out, depth = [""], 0
    for sign in name:
        depth += (sign in "[(") - (sign in "])")
        if sign == ":" and not depth:
            out.append("")
        else:
            out[-1] += sign
    return [part.strip() for part in out]


def _bare(part: str) -> str:
    """Take the category off, ``immig[T.first]``, and the coding, ``C(immig)[T.2]``."""
    plain = re.sub(r"\[[^\[\]]*\]$", "", part)
    coded = re.fullmatch(r"(?:C|factor|as_factor)\(\s*`?([^,`)]+?)`?\s*(?:,.*)?\)", plain)
    return coded[1] if coded and plain != part else plain


def read_hypotheses(asked: Any, names: Sequence[str], formula: str) -> Hypotheses:
    """Read terms, whole factors, equations or a contrast matrix.

    Parameters
    ----------
    asked : str, list of str or ndarray (r, p)
    names : sequence of str, length p
        Coefficients.
    formula : str
        For messages.

    Raises
    ------
    OptionError, NotSupportedError
    """
    if not len(names):
        raise NotSupportedError(
            f"A Wald test is about fixed coefficients. This fit, {formula!r}, has none. Test its variance "
            f"components with pmwmix.lrt or pmwmix.ranova."
        )
    texts = [asked] if isinstance(asked, str) else list(asked) if isinstance(asked, Sequence) else None
    if texts and all(isinstance(text, str) for text in texts):
        rows = [row for text in texts for row in _rows_of(text, names)]
        labels, L, values = (list(part) for part in zip(*rows, strict=True))
        return Hypotheses(np.array(L), np.array(values), labels)
    return _matrix(asked, names)


def _rows_of(text: str, names: Sequence[str]) -> Iterator[tuple[str, Array, float]]:
    place, one = {name: j for j, name in enumerate(names)}, np.eye(len(names))
    if text in place:
        yield text, one[place[text]], 0.0
        return
    if members := factor_terms(text, names):
        yield from ((name, one[place[name]], 0.0) for name in members)
        return
    sides = _Reader(text, names).sides()
    for left, right in pairwise(sides):
        combination = left[:-1] - right[:-1]
        if not combination.any():
            raise OptionError(
                f"A hypothesis is about coefficients. In {text!r} none is left. The terms are {', '.join(names)}."
            )
        yield text, combination, float(right[-1] - left[-1])


class _Reader:
    """Reads sums of terms times numbers; a value is (coefficients, constant)."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text, self.names = text, names
        self.longest = sorted(names, key=len, reverse=True)
        self.at = 0

    def sides(self) -> list[Array]:
        """Give what stands between equals signs; zero on the right where there is none."""
        out = [self._sum()]
        while self._take("="):
            self._take("=")
            out.append(self._sum())
        if self.at < len(self.text):
            raise self._error()
        return out if len(out) > 1 else [*out, np.zeros(len(self.names) + 1)]

    def _sum(self) -> Array:
        sign = -1.0 if self._take("-") else 1.0
        if sign > 0:
            self._take("+")
        out = sign * self._product()
        while True:
            if self._take("+"):
                out = out + self._product()
            elif self._take("-"):
                out = out - self._product()
            else:
                return out

    def _product(self) -> Array:
        out = self._atom()
        while True:
            if self._take("*"):
                other = self._atom()
                if out[:-1].any() and other[:-1].any():
                    raise self._error("products of two coefficients are not linear")
                out = out * other[-1] if out[:-1].any() else other * out[-1]
            elif self._take("/"):
                other = self._atom()
                if other[:-1].any() or other[-1] == 0.0:
                    raise self._error("only numbers other than zero divide")
                out = out / other[-1]
            else:
                return out

    def _atom(self) -> Array:
        out = np.zeros(len(self.names) + 1)
        for name in self.longest:
            quoted = f"`{name}`"
            for written in (quoted, name):
                if self._rest().startswith(written) and not self._goes_on(written):
                    self.at = self._start() + len(written)
                    out[list(self.names).index(name)] = 1.0
                    return out
        if found := NUMBER.match(self._rest()):
            self.at = self._start() + found.end()
            out[-1] = float(found[0])
            return out
        if self._take("("):
            inner = self._sum()
            if not self._take(")"):
                raise self._error("a bracket is not closed")
            return inner
        raise self._error()

    def _goes_on(self, written: str) -> bool:
        """Whether a name is only the beginning of another word."""
        behind = self._rest()[len(written) :][:1]
        return bool(re.match(r"[\w\[.:]", behind)) and bool(re.match(r"[\w\])`]", written[-1]))

    def _start(self) -> int:
        return len(self.text) - len(self._rest())

    def _rest(self) -> str:
        return self.text[self.at :].lstrip()

    def _take(self, sign: str) -> bool:
        found = self._rest().startswith(sign)
        if found:
            self.at = self._start() + len(sign)
        if not self._rest():
            self.at = len(self.text)
        return found

    def _error(self, why: str = "") -> OptionError:
        word = re.match(r"[^\s=+*/,-]*", self._rest())[0]  # type: ignore[index]
        known = list(dict.fromkeys([*self.names, *(_bare(part) for name in self.names for part in _parts(name))]))
        what = why or (f"there is no term {word!r}" if word else f"it ends or goes on at {self._rest()[:10]!r}")
        return OptionError(
            f"A hypothesis is made of terms, numbers and + - * / =. In {self.text!r} {what}."
            f"{near(word, known) if word and not why else ''} The terms are {', '.join(self.names)}."
        )


def _matrix(asked: Any, names: Sequence[str]) -> Hypotheses:
    try:
        L = np.atleast_2d(np.asarray(asked, dtype=float))
    except (TypeError, ValueError):
        L = np.full((1, len(names)), np.nan)
    if not (L.size and np.isfinite(L).all() and L.any(axis=1).all()):
        raise OptionError(
            f"A Wald test takes terms or a contrast matrix of numbers without zero rows. Got {asked!r}. "
            f"The terms are {', '.join(names)}."
        )
    if L.ndim != 2 or L.shape[1] != len(names):
        raise OptionError(
            f"A contrast matrix has one column per coefficient. This has {L.shape[-1]} for {len(names)}. "
            f"The columns are {', '.join(names)}."
        )
    return Hypotheses(L, np.zeros(len(L)), [_written(row, names) for row in L])


def _written(row: Array, names: Sequence[str]) -> str:
    """Write a combination as text: ``"T3 - 2 * T2"``."""
    signs = {True: "- ", False: "+ "}
    parts = [
        f"{signs[bool(c < 0)]}{'' if abs(c) == 1 else f'{abs(c):g} * '}{name}"
        for c, name in zip(row, names, strict=True)
        if c
    ]
    return re.sub(r"^- ", "-", " ".join(parts).removeprefix("+ "))


def pairs_of(factor: str, names: Sequence[str], categories: Mapping[str, Sequence[str]]) -> Hypotheses | None:
    """Differences between all categories of a factor that has a reference; None if it is no such factor."""
    members = factor_terms(factor, names)
    labels = [found[1] for name in members if (found := re.search(r"\[T\.(.*)\]$", name))]
    if not members or len(labels) < len(members) or ":" in factor:
        return None
    known = list(categories.get(factor, ()))
    missing = [label for label in known if label not in labels]
    reference = missing[0] if len(missing) == 1 else "reference"
    one, every = np.eye(len(names)), {reference: np.zeros(len(names))}
    every |= {label: one[list(names).index(name)] for label, name in zip(labels, members, strict=True)}
    pairs = list(combinations(every, 2))
    L = np.array([every[b] - every[a] for a, b in pairs])
    return Hypotheses(L, np.zeros(len(L)), [f"{b} - {a}" for a, b in pairs])
