"""How a graph becomes machine code: the engines, and one compiled function per structure and process."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pmwmix._registry import Registry
from pmwmix.errors import NotSupportedError
from pmwmix.interrupt import OwnFrames, interruptible, whole_import
from pmwmix.likelihood.device import first_device, placed, split, too_large

if TYPE_CHECKING:
    from pytensor.compile.mode import Mode

    from pmwmix.likelihood.graph import Graph

ENGINES = Registry("engine")


def _plain(linker: Any, *rewrites: str) -> Mode:
    """Make a mode with few rewrites: PyTensor's own would cost seconds at the first fit."""
    from pytensor.compile.mode import Mode
    from pytensor.graph.rewriting.db import RewriteDatabaseQuery

    return Mode(linker, RewriteDatabaseQuery(include=["minimum_compile", "merge", *rewrites]))


def _jax() -> Mode:
    whole_import("pytensor.link.jax")
    from pytensor.link.jax import JAXLinker

    from pmwmix.likelihood.ops.registry import teach

    teach("jax")
    return _plain(JAXLinker(), "jax")  # XLA fuses and simplifies by itself


def _numba() -> Mode:
    from pytensor.compile.mode import get_mode

    from pmwmix.likelihood.ops.registry import teach

    teach("numba")
    return get_mode("NUMBA")


def _c() -> Mode:
    from pytensor.compile.mode import get_mode

    return get_mode("CVM")


def _python() -> Mode:
    from pmwmix.likelihood.ops.fills import TAG

    return _plain("py", TAG)  # a small graph is evaluated sooner than it would have been simplified


ENGINES.add("jax", _jax)
ENGINES.add("numba", _numba)
ENGINES.add("c", _c)
ENGINES.add("python", _python)
ENGINES.add("auto", _jax)  # numpy for small data, which is done before a compiler has started
ENGINES.add("numpy", _python)  # what has no form in numpy is interpreted


AUTO, DIRECT = "auto", "numpy"
QUICK_CALL = 0.02  # seconds that an interruption may wait for compiled code
QUICK = 0.05  # seconds that numpy may take though compiled code is at hand
_spent: dict[Any, float] = {}


def choose_engine(name: str | None, device: str | None = None, method: str = "ml") -> str:
    """Give the engine's name: the argument, else the environment's PMWMIX_ENGINE, else ``"auto"``; and the device."""
    chosen = name or os.environ.get("PMWMIX_ENGINE") or AUTO
    ENGINES[chosen]  # an unknown name fails here, before any work
    return placed(chosen, device, method)


def is_direct(engine: str, seconds: float, structure: Any, compiling: float) -> bool:
    """Whether to evaluate in numpy what would take so many seconds there.

    Parameters
    ----------
    engine : str
    seconds : float
        Predicted for the fit at hand.
    structure : hashable
        What compiled code would be shared by.
    compiling : float
        Seconds that compiling it takes.

    Notes
    -----
    Whoever fits once is done before a compiler is; whoever fits again and again soon has compiled code: it is made when
    what numpy took for the same structure comes to what the compiler takes.
    """
    if engine != AUTO or seconds < QUICK:
        return engine in (AUTO, DIRECT)
    spent = _spent.get(structure, 0.0) + seconds
    if spent > compiling:
        return False
    _spent[structure] = spent
    return True


def graph_engine(engine: str) -> str:
    """Give what compiles a graph: JAX by default, the interpreter where nothing shall be compiled."""
    return {AUTO: "jax", DIRECT: "python"}.get(engine, engine)


def jitted(function: Any) -> Any:
    """Give JAX's own function inside a PyTensor function, None if there is none.

    The only place that knows the attribute ``jit_fn`` of PyTensor's virtual machine, which it does not document.
    """
    return getattr(function.vm, "jit_fn", None)


class Compiled:
    """A graph compiled by one engine: arrays in, a dictionary of named outputs back.

    Parameters
    ----------
    graph : Graph
    engine : str
    """

    def __init__(self, graph: Graph, engine: str) -> None:
        import pytensor

        self.names = list(graph.outputs)
        self.engine, self.device = split(engine)
        self._met: set[Any] = set()
        self._many: dict[tuple[bool, ...], Callable[..., Any]] = {}
        self._timed: dict[Any, float] = {}  # seconds of the quickest call so far, by shapes
        self._lock = threading.Lock()  # a PyTensor function keeps its inputs in one place for all threads
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping Assert|.*BLAS.*|.*explicit.*dtype.*")
            self.function = pytensor.function(
                graph.inputs,
                list(graph.outputs.values()),
                mode=ENGINES[self.engine](),
                trust_input=True,
                on_unused_input="ignore",
            )
        self._direct = jitted(self.function) if self.engine == "jax" else None

    def put(self, arrays: list[np.ndarray]) -> list[Any]:
        """Move data to where the engine reads them without copying at each call."""
        if self.engine != "jax":
            return [np.ascontiguousarray(array) for array in arrays]
        return interruptible(_put, arrays, self.device)  # type: ignore[no-any-return]

    def __call__(self, theta: np.ndarray, data: list[Any]) -> dict[str, Any]:
        """Evaluate at theta."""
        if self._direct is not None:  # JAX's own function: any number of threads, no copies of inputs and outputs
            return dict(zip(self.names, self._evaluate(theta, data), strict=True))
        if self.engine == "python":
            return dict(zip(self.names, self._alone(theta, data), strict=True))
        return dict(zip(self.names, interruptible(self._alone, theta, data), strict=True))

    def _alone(self, theta: np.ndarray, data: list[Any]) -> Any:
        with self._lock, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping Assert")
            return self.function(theta, *data)

    def _evaluate(self, theta: np.ndarray, data: list[Any]) -> Any:
        """Call JAX's function beside the main thread, until it is known to be quick for inputs of these shapes."""
        assert self._direct is not None
        key = tuple(np.shape(value) for value in (theta, *data))
        quickest = self._timed.get(key, np.inf)
        if quickest < QUICK_CALL:
            with OwnFrames():
                return self._direct(theta, *data)
        start = time.perf_counter()
        out = interruptible(self._finished, theta, data)
        self._timed[key] = min(quickest, time.perf_counter() - start)
        return out

    def _finished(self, theta: np.ndarray, data: list[Any]) -> Any:
        import jax

        try:
            return jax.block_until_ready(self._direct(theta, *data))  # type: ignore[misc]
        except jax.errors.JaxRuntimeError as error:
            raise too_large(error, self.device) or error from error

    def along_first(self, many: tuple[bool, ...]) -> Callable[..., Any]:
        """Vectorise JAX's function over the first axis of those inputs that have one more; compiled once."""
        import jax

        if many not in self._many:
            assert self._direct is not None
            self._many[many] = jax.jit(jax.vmap(self._direct, in_axes=tuple(0 if one else None for one in many)))
        return self._many[many]

    def shapes(self, theta: np.ndarray, data: list[Any]) -> dict[str, Any] | None:
        """Give the shapes of the outputs for inputs that have not been met yet, without compiling; else None."""
        if self._direct is None:
            return None
        key = tuple(np.shape(value) for value in (theta, *data))
        if key in self._met:
            return None
        self._met.add(key)
        import jax

        with OwnFrames():
            return dict(zip(self.names, jax.eval_shape(self._direct, theta, *data), strict=True))

    def prepare(self, shapes: list[Any]) -> None:
        """Compile for inputs of these shapes."""
        if self._direct is not None:
            interruptible(lambda direct: direct.lower(*shapes).compile(), self._direct)


def _put(arrays: list[np.ndarray], device: str | None) -> list[Any]:
    """Give them to JAX, which compiles a copy for every new shape; what is evaluated with them is evaluated there."""
    import jax
    import jax.numpy as jnp

    if device is None:
        return [jnp.asarray(array) for array in arrays]
    try:
        return jax.device_put([np.asarray(array) for array in arrays], first_device(device))  # type: ignore[no-any-return]
    except jax.errors.JaxRuntimeError as error:
        raise too_large(error, device) or error from error


_cache: dict[tuple[Any, ...], Compiled] = {}
_compiling = threading.RLock()
TOO_DEEP = (
    "A group has too many random effects for compiled code: their derivatives nest too deeply. The model has dozens of "
    "them in a term. Drop effects, write them as groups of their own, (1 | g:f), or try engine='numpy'."
)


def without_origins() -> Any:
    """Write graphs without noting at every node which lines of source made it: a fifth of the time of writing."""
    import pytensor

    return pytensor.config.change_flags(traceback__limit=0)


def compiled(write: Callable[[Any], Graph], structure: Any, engine: str) -> Compiled:
    """Compile ``write(structure)``, once per process."""
    engine = graph_engine(engine)
    key = (write.__module__, write.__qualname__, structure, engine)

    def once() -> Compiled:
        with _compiling, without_origins():
            if key not in _cache:
                try:
                    _cache[key] = Compiled(write(structure), engine)
                except RecursionError as error:
                    raise NotSupportedError(TOO_DEEP) from error
            return _cache[key]

    return _cache[key] if key in _cache else interruptible(once)


def compiled_pair(
    write: Callable[[Any], tuple[Graph, Graph]], structure: Any, engine: str
) -> tuple[Compiled, Compiled]:
    """Compile the two graphs of ``write(structure)``, once per process."""
    engine = graph_engine(engine)
    key = (write.__module__, write.__qualname__, structure, engine)
    first, second = (*key, 1), (*key, 2)

    def once() -> None:
        with _compiling, without_origins():
            if second not in _cache:
                one, other = write(structure)
                _cache[first], _cache[second] = Compiled(one, engine), Compiled(other, engine)

    if second not in _cache:
        interruptible(once)
    return _cache[first], _cache[second]


def bucket_columns(p: int) -> int:
    """Round a number of fixed columns up, so that a model with one predictor more shares compiled code.

    Examples
    --------
    >>> [bucket_columns(p) for p in (1, 4, 11, 30)]
    [4, 4, 12, 32]
    """
    step = 4 if p <= 16 else 8 if p <= 64 else 32
    return -(-p // step) * step


def bucket(n: int) -> int:
    """Round a number of units up to one of a few sizes, so that data sets of like size share compiled code.

    Examples
    --------
    >>> [bucket(n) for n in (3, 17, 150, 22_000)]
    [16, 24, 192, 22528]
    """
    if n <= 16:
        return 16
    octave = int(np.log2(n))
    step = 2 ** (octave - 1 if n < 4096 else octave - 3)
    return -(-n // step) * step


def padded_columns(p: int) -> int:
    """Round a number of fixed columns up, so that a model with one predictor more shares compiled code.

    Examples
    --------
    >>> [padded_columns(p) for p in (0, 1, 5, 9, 21)]
    [0, 2, 6, 12, 24]
    """
    step = 2 if p <= 8 else 4 if p <= 32 else 8
    return -(-p // step) * step
