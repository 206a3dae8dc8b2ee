"""Fields of a saved fit, each read with the type and the size that it must have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pmwmix._types import Array

LABEL = (str, int, float, bool)  # what JSON makes of labels


class AlteredError(Exception):
    """A field is not what it must be; the message says which and how."""


def as_text(value: Any) -> str:
    """Require text that can be written to a terminal or a file."""
    text = _one(value, str, "text")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise AlteredError("text with half a character")
    return text


def as_flag(value: Any) -> bool:
    """Require true or false."""
    return _one(value, bool, "true or false")


def as_whole(value: Any) -> int:
    """Require a whole number of ordinary size."""
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**53) <= value <= 2**53:
        raise AlteredError(f"{_shown(value)} instead of a whole number")
    return value


def as_count(value: Any) -> int:
    """Require a whole number from 1 up."""
    if as_whole(value) < 1:
        raise AlteredError(f"{_shown(value)} instead of a number of things")
    return int(value)


def as_number(value: Any) -> float:
    """Require a number, infinite or NaN ones among them."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise AlteredError(f"{_shown(value)} instead of a number")
    return float(value if isinstance(value, float) else as_whole(value))


def as_label(value: Any) -> Any:
    """Require text, a number or a flag."""
    if isinstance(value, str):
        return as_text(value)
    if not isinstance(value, LABEL):
        raise AlteredError(f"{_shown(value)} instead of a label")
    return as_number(value) if isinstance(value, float) else value if isinstance(value, bool) else as_whole(value)


def as_key(value: Any) -> Any:
    """Require a label, or a list of them, which was a tuple."""
    return tuple(as_label(part) for part in value) if isinstance(value, list) else as_label(value)


def as_object(value: Any) -> dict[str, Any]:
    """Require a JSON object."""
    return _one(value, dict, "an object")


def optional[T](read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """Allow null."""
    return lambda value: None if value is None else read(value)


def listed[T](read: Callable[[Any], T], length: int | None = None) -> Callable[[Any], list[T]]:
    """Require a list, of a certain length if one is given."""

    def every(value: Any) -> list[T]:
        found = _one(value, list, "a list")
        if length is not None and len(found) != length:
            raise AlteredError(f"{len(found)} entries instead of {length}")
        return [read(one) for one in found]

    return every


def mapped[T](read: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    """Require an object whose values are alike."""
    return lambda value: {as_text(key): read(one) for key, one in as_object(value).items()}


class Fields:
    """A JSON object and the arrays beside it, read field by field.

    Parameters
    ----------
    meta : object
        What must be a JSON object.
    arrays : dict
    key : str
        What the names of its arrays begin with.
    """

    def __init__(self, meta: Any, arrays: Mapping[str, Array], key: str) -> None:
        self.meta, self.arrays, self.key = self._within("fit", as_object, meta), arrays, key

    def read[T](self, name: str, read: Callable[[Any], T], default: Any = None, required: bool = True) -> T:
        """Give a field, read as it must be."""
        if name not in self.meta:
            if required:
                raise AlteredError(f"the field {name!r} is missing")
            return default
        return self._within(name, read, self.meta[name])

    def has(self, name: str) -> bool:
        """Whether there is an array of that name."""
        return f"{self.key}/{name}" in self.arrays

    def finite(self, name: str, *shape: int | None) -> Array:
        """Give an array of finite numbers as floats."""
        found = self.array(name, *shape)
        if not np.isfinite(found).all():
            raise AlteredError(f"the array {name!r} holds values that are missing or infinite")
        return found

    def array(self, name: str, *shape: int | None) -> Array:
        """Give an array of numbers as floats; None in the shape is any size."""
        found = self.arrays.get(f"{self.key}/{name}")
        if found is None:
            raise AlteredError(f"the array {name!r} is missing")
        fits = found.ndim == len(shape) and all(want in (None, n) for n, want in zip(found.shape, shape, strict=True))
        if not fits or found.dtype.kind not in "biuf":
            want = ", ".join("any" if n is None else str(n) for n in shape)
            raise AlteredError(
                f"the array {name!r} is {found.dtype} of shape {found.shape} instead of numbers ({want})"
            )
        return np.asarray(found, dtype=float)

    @staticmethod
    def _within[T](name: str, read: Callable[[Any], T], value: Any) -> T:
        try:
            return read(value)
        except AlteredError as error:
            raise AlteredError(f"the field {name!r} holds {error}") from None


def _one[T](value: Any, kind: type[T], said: str) -> T:
    if not isinstance(value, kind):
        raise AlteredError(f"{_shown(value)} instead of {said}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{type(value).__name__} {text[:30]}..."
