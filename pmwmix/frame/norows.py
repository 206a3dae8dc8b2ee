"""What stands in the place of arrays over rows that are not held in memory."""

from __future__ import annotations

from typing import Any, NoReturn

from pmwmix.errors import NotSupportedError


class NoRows:
    """Refuses to be looked at, so that nothing is computed from a part of the rows by mistake."""

    def _refuse(self, *args: Any, **options: Any) -> NoReturn:
        raise NotSupportedError(
            "This needs the rows of the fit, and a streamed fit holds none of them. Its data were read in pieces. Use "
            "fit.predict(newdata) on a piece of the data, or fit a table in memory."
        )

    __array__ = __array_ufunc__ = __getitem__ = __len__ = __iter__ = __bool__ = __float__ = __int__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __matmul__ = __rmatmul__ = __pow__ = __contains__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __reduce__(self) -> tuple[Any, ...]:
        return NoRows, ()
