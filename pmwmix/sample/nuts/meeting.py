"""One evaluation for many chains: small models cost as much for twenty parameter vectors as for one.

Chains run in nutpie's threads and meet here: each leaves its point and sleeps; when all have asked, the main thread
has one compiled function compute all log-densities. Chains never touch Python, so that no lock of the interpreter is
handed around: their side is a C function made by numba.

Every number has one writer: a chain its point and how often it asked, the main thread the answer and how often it
answered. Naps are system calls, behind which memory is read anew.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from pmwmix._types import Array

HEAD, OWN = 8, 8  # places before the first chain, and of each chain before its point
STOP, NAP = 2, 3  # places of the head; 0 and 1 hold the number of chains and of parameters, 4 the size
OWNER, ASKED, ANSWERED, COUNTED = 0, 1, 2, 3  # places of a chain
POLL = 20  # microseconds between two looks
PATIENCE = 2_000  # looks of the main thread before it sees to interruptions


def is_possible() -> bool:
    """Whether this system and this nutpie have what chains need; otherwise they are evaluated one by one."""
    library = nutpie_library()
    needed = all(hasattr(library, name) for name in ("LogpFunc", "ExpandFunc", "PyMcModel", "PyVariable"))
    return sys.platform != "win32" and needed and hasattr(getattr(library, "PySampler", None), "from_pymc")


def nutpie_library() -> Any:
    """Give nutpie's compiled part, whose classes take C functions; the only place that knows where it is."""
    from nutpie import _lib  # type: ignore[attr-defined]

    return _lib


class Meeting:
    """Where chains meet.

    Parameters
    ----------
    chains, dim : int
    total : int
        Draws of each chain, warm-up included: one that has made them is not waited for.
    evaluate : callable
        (chains, dim) -> (chains, 1 + dim): log-density and gradient of each chain's point.
    """

    def __init__(self, chains: int, dim: int, total: int, evaluate: Callable[[Array], Array]) -> None:
        self.dim, self.total, self._evaluate = dim, total, evaluate
        width = -(-(OWN + dim + 1 + dim) // 8) * 8  # whole cache lines
        self.cells = np.zeros(HEAD + chains * width, dtype=np.int64)
        self.cells[:2], self.cells[4] = (chains, dim), len(self.cells)
        self._table = self.cells[HEAD:].reshape(chains, width)
        floats = self._table.view(np.float64)
        self._points, self._answers = floats[:, OWN : OWN + dim], floats[:, OWN + dim : OWN + 2 * dim + 1]

    def take(self, chain: int, thread: int) -> None:
        """Say which thread runs a chain."""
        self._table[chain, OWNER] = thread

    def serve(self, is_over: Callable[[], bool]) -> None:
        """Answer until all chains have made their draws, or the sampler says that it is over."""
        wait = _functions()["wait"]
        try:
            while (found := wait(self.cells, self.total)) != 0:
                if found == 1:
                    begin = time.perf_counter()
                    self._answers[:] = self._evaluate(np.ascontiguousarray(self._points))
                    self._table[:, ANSWERED] = self._table[:, ASKED]
                    self.cells[NAP] = int(0.7e6 * min(time.perf_counter() - begin, 0.1))
                elif is_over():
                    break
        finally:
            self.cells[STOP] = 1  # chains that still ask give up

    def model(self, begin: Callable[[int], Array]) -> Any:
        """Give the model that nutpie samples: its log-density asks here.

        Parameters
        ----------
        begin : callable
            Seed of a chain -> starting point; called in the chain's thread.
        """
        from nutpie.compiled_pyfunc import PyFuncModel

        library = nutpie_library()
        meeting, functions = self, _functions()

        sizes: dict[str, int] = {}  # filled in by the next call
        variables = library.PyVariable.new_variables(["z"], ["float64"], [(self.dim,)], sizes, {})

        class MetModel(PyFuncModel):
            def _make_model(self, init_mean: Any) -> Any:
                address = meeting.cells.ctypes.data
                logp = library.LogpFunc(functions["logp"].address, address, meeting)
                expand = library.ExpandFunc(meeting.dim, meeting.dim, functions["expand"].address, address, meeting)
                return library.PyMcModel(logp, expand, variables, meeting.dim, sizes, {}, begin, None)

            def _make_sampler(self, settings: Any, init_mean: Any, cores: int, *rest: Any) -> Any:
                return library.PySampler.from_pymc(settings, cores, self._make_model(init_mean), *rest)

        return MetModel(
            _n_dim=self.dim,
            dims={},
            _coords={},
            _dim_sizes=sizes,
            _make_logp_func=lambda: None,
            _make_expand_func=lambda *seeds: None,
            _make_initial_points=begin,
            _variables=variables,
            _shared_data={},
            _raw_logp_fn=None,
            reparameterized_names=None,
        )


@lru_cache(maxsize=1)
def _functions() -> dict[str, Any]:
    """Compile the chains' side and the main thread's wait, once per process."""
    from numba import types

    nap: Any = types.ExternalFunction("usleep", types.int32(types.int64))
    thread: Any = types.ExternalFunction("pthread_self", types.int64())
    place_of = _place_of(thread)
    return {"logp": _logp(nap, place_of), "expand": _expand(place_of), "wait": _wait(nap)}


def _place_of(thread: Any) -> Any:
    """Where in the cells the chain of the running thread stands."""
    import numba

    @numba.njit(nogil=True)
    def place_of(cells: Array) -> int:
        n, me = cells[0], thread()
        width = (cells[4] - HEAD) // n
        for chain in range(n):
            if cells[HEAD + chain * width + OWNER] == me:
                return HEAD + chain * width
        return -1

    return place_of


def _logp(nap: Any, place_of: Any) -> Any:
    """Give what a chain calls for its log-density: leave the point, wait for the answer."""
    import numba
    from numba import types

    pointer = types.CPointer(types.double)

    @numba.cfunc(types.int64(types.uint64, pointer, pointer, pointer, types.voidptr))
    def logp(dim: Any, x_: Any, gradient_: Any, logp_: Any, cells_: Any) -> int:
        head = numba.carray(cells_, (HEAD,), dtype=np.int64)
        cells = numba.carray(cells_, (head[4],), dtype=np.int64)
        floats = numba.carray(cells_, (head[4],), dtype=np.float64)
        x, gradient = numba.carray(x_, (dim,)), numba.carray(gradient_, (dim,))
        at, d = place_of(cells), cells[1]
        if at < 0:
            return -1
        for j in range(d):
            floats[at + OWN + j] = x[j]
        cells[at + ASKED] += 1
        nap(cells[NAP])
        while cells[at + ANSWERED] != cells[at + ASKED]:
            if cells[STOP] != 0:
                return 4  # not finite: the sampler is being stopped, and a graver code would crash it
            nap(POLL)
        answer, finite = at + OWN + d, True
        for j in range(d):
            gradient[j] = floats[answer + 1 + j]
            finite = finite and np.isfinite(gradient[j])
        value = numba.carray(logp_, (1,))
        value[0] = floats[answer]
        if not finite:
            return 3
        return 0 if np.isfinite(value[0]) else 4

    return logp


def _expand(place_of: Any) -> Any:
    """Give what a chain calls with every draw that it keeps: copy and count it."""
    import numba
    from numba import types

    pointer = types.CPointer(types.double)

    @numba.cfunc(types.int64(types.uint64, types.uint64, pointer, pointer, types.voidptr))
    def expand(dim: Any, expanded: Any, x_: Any, out_: Any, cells_: Any) -> int:
        head = numba.carray(cells_, (HEAD,), dtype=np.int64)
        cells = numba.carray(cells_, (head[4],), dtype=np.int64)
        x, out = numba.carray(x_, (dim,)), numba.carray(out_, (dim,))
        for j in range(cells[1]):
            out[j] = x[j]
        at = place_of(cells)
        if at >= 0:
            cells[at + COUNTED] += 1
        return 0

    return expand


def _wait(nap: Any) -> Any:
    """Give what the main thread calls: 0 when all chains are done, 1 when all that run ask, 2 after a while."""
    import numba

    @numba.njit(nogil=True)
    def wait(cells: Array, total: int) -> int:
        n = cells[0]
        width = (cells[4] - HEAD) // n
        for _ in range(PATIENCE):
            running, asking = 0, 0
            for chain in range(n):
                at = HEAD + chain * width
                if cells[at + COUNTED] < total:
                    running += 1
                    if cells[at + ASKED] > cells[at + ANSWERED]:
                        asking += 1
            if running == 0:
                return 0
            if asking == running:
                return 1
            nap(POLL)
        return 2

    return wait


__all__ = ["Meeting", "is_possible"]
