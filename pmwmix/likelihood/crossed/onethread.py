"""One thread for matrices of moderate size.

A Cholesky factor by two threads of OpenBLAS is hardly faster than by one below some thousand rows, but its threads wait
for each other a hundred times: where other programs run, fits took ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

MODERATE = 2_000  # rows of a matrix up to which one thread is enough


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController  # finds the libraries that are loaded by now

    return ThreadpoolController()


def with_threads_for(n: int, call: Callable[..., Any], *given: Any) -> Any:
    """Give ``call(*given)``, by one thread of BLAS if its matrices have ``n`` rows and that is enough.

    Threads of Python that call this side by side do not disturb each other: one of them sets the number for all.
    """
    if n > MODERATE:
        return call(*given)
    with _controller().limit(limits=1, user_api="blas"):
        return call(*given)
