"""Columns of zeros and ones that share codes: a factor of many categories takes one column of whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from pmwmix._types import Array

SPARSE = 0.125  # share of rows that are not zero, up to which a column of zeros and ones is held as a code
MANY = 32_000  # codes that fit into two bytes


class Indicator(NDArrayOperatorsMixin):
    """A column that is 1 where ``codes`` has one value and 0 elsewhere; as an array it is computed when looked at.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Shared by the columns of a factor; 0 belongs to none of them.
    code : int
    """

    ndim, dtype = 1, np.dtype(float)

    def __init__(self, codes: Array, code: int) -> None:
        self.codes, self.code = codes, code

    @property
    def shape(self) -> tuple[int]:
        """Number of rows."""
        return self.codes.shape

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.codes)

    def __len__(self) -> int:
        return len(self.codes)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return (self.codes == self.code).astype(float if dtype is None else dtype)

    def __getitem__(self, at: Any) -> Any:
        found = self.codes[at] == self.code
        return found.astype(float) if np.ndim(found) else float(found)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        dense = [np.asarray(one) if isinstance(one, Indicator) else one for one in inputs]
        return getattr(ufunc, method)(*dense, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "codes":  # protocols that numpy or pickle ask for
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def copy(self) -> Indicator:
        """Give the column itself, which nothing changes."""
        return self

    def sum(self, *of: Any, **options: Any) -> Any:
        """Count the ones."""
        return (
            np.asarray(self).sum(*of, **options) if of or options else float(np.count_nonzero(self.codes == self.code))
        )

    def mean(self, *of: Any, **options: Any) -> Any:
        """Give the share of the ones."""
        return np.asarray(self).mean(*of, **options) if of or options else self.sum() / len(self)

    def std(self, *of: Any, **options: Any) -> Any:
        """Take the standard deviation, that of a share."""
        if of or options:
            return np.asarray(self).std(*of, **options)
        share = self.mean()
        return float(np.sqrt(share * (1.0 - share)))


def columns_of(matrix: Any) -> list[Any]:
    """Take a sparse matrix apart: columns (n,), those of few ones and else zeros as `Indicator`.

    Parameters
    ----------
    matrix : scipy.sparse.csc_matrix, shape (n, p)

    Notes
    -----
    Columns whose ones are in different rows, such as those of a factor or of a product of factors, share codes.
    """
    n, p = matrix.shape
    out: list[Any] = []
    codes, used = np.zeros(0, dtype=np.int16), 0
    for j in range(p):
        place = slice(matrix.indptr[j], matrix.indptr[j + 1])
        rows, values = matrix.indices[place], matrix.data[place]
        if len(rows) > SPARSE * n or not np.all(values == 1.0):
            column = np.zeros(n)
            column[rows] = values
            out.append(column)
            continue
        if not len(codes) or used >= MANY or codes[rows].any():
            codes, used = np.zeros(n, dtype=np.int16), 0
        used += 1
        codes[rows] = used
        out.append(Indicator(codes, used))
    return out
