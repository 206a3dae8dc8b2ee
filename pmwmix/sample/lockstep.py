"""One evaluation for many chains: small models cost as much for twenty parameter vectors as for one.

Chains run in threads and ask for log-densities one at a time. The last one to ask has all of them computed at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

Array = np.ndarray
PATIENCE = 600.0  # seconds; longer than any compilation


class Lockstep:
    """Collect the requests of chains and answer them together.

    Parameters
    ----------
    n : int
        Number of chains.
    dim : int
    evaluate : callable
        (n, dim) -> (n, 1 + dim): log-density and gradient of each chain's point.
    """

    def __init__(self, n: int, dim: int, evaluate: Callable[[Array], Array]) -> None:
        self._points, self._evaluate = np.zeros((n, dim)), evaluate
        self._running, self._asking = n, set[int]()
        self._guard = threading.Lock()
        self._ready = [threading.Lock() for _ in range(n)]  # held while its chain waits; cheaper than semaphores
        for ready in self._ready:
            ready.acquire()
        self._answers: Array = np.zeros((n, 1 + dim))
        self._failure: BaseException | None = None

    def ask(self, chain: int, point: Array) -> Array:
        """Give log-density and gradient (1 + dim,) at a point of a chain; waits for the other chains."""
        with self._guard:
            if self._failure is not None:
                raise RuntimeError("Sampling was stopped.") from self._failure
            self._points[chain] = point
            self._asking.add(chain)
            if len(self._asking) >= self._running:
                self._answer()
        if not self._ready[chain].acquire(timeout=PATIENCE):
            raise RuntimeError("A chain waited in vain for the others.")
        if self._failure is not None:
            raise RuntimeError("The log-density could not be evaluated.") from self._failure
        return self._answers[chain].copy()

    def leave(self) -> None:
        """Say that a chain has finished and will not ask again."""
        with self._guard:
            self._running -= 1
            if self._running and len(self._asking) >= self._running:
                self._answer()

    def stop(self, reason: BaseException) -> None:
        """Let go of every chain that waits, and refuse further questions."""
        with self._guard:
            self._failure = reason
            self._let_go()

    def _answer(self) -> None:
        try:
            self._answers = self._evaluate(self._points)
        except BaseException as error:
            self._failure = error
        self._let_go()

    def _let_go(self) -> None:
        asking, self._asking = self._asking, set()
        for chain in asking:
            self._ready[chain].release()


__all__ = ["Lockstep"]
