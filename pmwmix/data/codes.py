"""Ids and categories as whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pmwmix._types import Array


def label_text(value: object) -> str:
    """Spell a label the same whether the id was a whole number, a float or text."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def code(columns: Sequence[pd.Series]) -> tuple[Array, list[object]]:
    """Code the combinations of columns 0, 1, ... in sorted order and label them."""
    codes, labels = _code_one(columns[0])
    if len(columns) == 1:
        return codes, labels
    parts = [(codes, labels), *(_code_one(column) for column in columns[1:])]
    mixed = np.zeros(len(codes), dtype=np.int64)
    for part, names in parts:
        mixed = mixed * len(names) + part
    joint, unique = pd.factorize(mixed, sort=True)
    texts = []
    for value in unique:
        words: list[str] = []
        rest = int(value)
        for _, names in reversed(parts):
            rest, digit = divmod(rest, len(names))
            words.insert(0, label_text(names[digit]))
        texts.append(":".join(words))
    return joint.astype(np.int64), list(texts)


def _code_one(column: pd.Series) -> tuple[Array, list[object]]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy().astype(np.int64), list(column.cat.categories)
    codes, unique = pd.factorize(column.to_numpy(), sort=True)
    whole = bool(np.all(unique == np.round(unique)))
    return codes.astype(np.int64), [int(value) if whole else float(value) for value in unique]
