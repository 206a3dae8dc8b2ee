"""Ids and categories as whole numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix._types import Array


def label_text(value: object) -> str:
    """Spell a label the same whether the id was a whole number, a float or text; a combination with colons."""
    if isinstance(value, tuple):
        return ":".join(label_text(part) for part in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def key(label: object) -> object:
    """Give a label as a key that does not depend on how ids are stored: text, or a tuple of texts."""
    return tuple(label_text(part) for part in label) if isinstance(label, tuple) else label_text(label)


def printed(labels: Sequence[Any]) -> list[Any]:
    """Give labels to print: combinations as text, ``"7:3"``, quoted where two would read the same."""
    if not any(isinstance(label, tuple) for label in labels[:1]):
        return list(labels)
    texts = [label_text(label) for label in labels]
    counts = Counter(texts)
    return [
        text if counts[text] == 1 else ":".join(repr(label_text(part)) for part in label)
        for text, label in zip(texts, labels, strict=True)
    ]


def code(columns: Sequence[pd.Series]) -> tuple[Array, list[Any]]:
    """Code the combinations of columns 0, 1, ... in sorted order and label them; labels of combinations are tuples."""
    codes, labels = _code_one(columns[0])
    if len(columns) == 1:
        return codes, labels
    parts = [(codes, labels), *(_code_one(column) for column in columns[1:])]
    mixed = np.zeros(len(codes), dtype=np.int64)
    for part, names in parts:
        mixed = mixed * len(names) + part
    joint, unique = pd.factorize(mixed, sort=True)
    keys = []
    for value in unique:
        words: list[str] = []
        rest = int(value)
        for _, names in reversed(parts):
            rest, digit = divmod(rest, len(names))
            words.insert(0, label_text(names[digit]))
        keys.append(tuple(words))
    return joint.astype(np.int64), keys


def _code_one(column: pd.Series) -> tuple[Array, list[object]]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy().astype(np.int64), list(column.cat.categories)
    codes, unique = pd.factorize(column.to_numpy(), sort=True)
    whole = bool(np.all(unique == np.round(unique)))
    return codes.astype(np.int64), [int(value) if whole else float(value) for value in unique]
