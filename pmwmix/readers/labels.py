"""Value labels: codes to ordered or unordered categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import DataError, OptionError, some
from pmwmix.readers.report import code_text

KINDS = ("unordered", "ordered")


def read_labels(labels: Any) -> tuple[str | None, dict[str, str]]:
    """Check the argument ``labels``.

    Returns
    -------
    str or None
        What becomes of every column whose values all have labels: ``"unordered"``, ``"ordered"`` or nothing.
    dict
        Kind by column, lower case, for columns that are named.

    Raises
    ------
    OptionError
    """
    if labels is None or labels is False:
        return None, {}
    if labels is True or labels in KINDS:
        return ("unordered" if labels is True else labels), {}
    if isinstance(labels, Mapping):
        wrong = [kind for kind in labels.values() if kind not in KINDS]
        if not wrong:
            return None, {str(name).lower(): kind for name, kind in labels.items()}
    elif isinstance(labels, list | tuple | set) and all(isinstance(name, str) for name in labels):
        return None, {name.lower(): "unordered" for name in labels}
    raise OptionError(
        f"The argument labels is True, 'ordered', or columns. Got {labels!r}. Write for example "
        f"labels=['ST004D01T'] or labels={{'ST004D01T': 'unordered', 'ST001': 'ordered'}}."
    )


def categorise(column: pd.Series, name: str, values: Mapping[Any, str], ordered: bool, demanded: bool) -> pd.Series:
    """Replace codes by their labels, in the order of the codes.

    A column in which some value has no label (0 = "none", then numbers) stays as it is unless it was named.

    Raises
    ------
    DataError
        If the column was named and values without a label are in it, or none has one.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column
    codes = _matching(values, column)
    present = column.dropna().unique()
    bare = [value for value in present if value not in codes]
    if bare or not codes:
        if demanded:
            what = f"has no label for {some([code_text(v) for v in sorted(bare)])}" if codes else "has no value labels"
            raise DataError(
                f"Only labelled values can become categories. Column {name!r} {what}. "
                f"Leave it out of labels=, or recode those values first."
            )
        return column
    seen = set(present.tolist())
    used = [code for code in _sorted(codes) if code in seen]
    twice = {label for label, n in Counter(codes[code] for code in used).items() if n > 1}
    names = [f"{codes[c]} ({code_text(c)})" if codes[c] in twice else codes[c] for c in used]
    places = pd.Index(used).get_indexer(pd.Index(column))
    coded = pd.Categorical.from_codes(places, categories=pd.Index(names), ordered=ordered)
    return pd.Series(coded, index=column.index, name=column.name)


def _matching(values: Mapping[Any, str], column: pd.Series) -> dict[Any, str]:
    """Labels by codes of the column's own type."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return {float(code): text for code, text in values.items() if isinstance(code, int | float | np.number)}
    return {str(code): text for code, text in values.items()}


def _sorted(codes: Mapping[Any, str]) -> list[Any]:
    try:
        return sorted(codes)
    except TypeError:
        return list(codes)
