"""Ctrl-C is heard at once: what stays long in compiled code runs beside the main thread, which waits and can be woken.

Python looks for signals between its own instructions and in the main thread alone. A compiler that takes ten seconds,
or a reader that takes a minute, is one instruction; and an import that is broken off halfway leaves modules that no
later import mends. So the main thread lends such calls to another and waits; when it is interrupted it leaves at
once, and what was lent comes to its end unseen.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import contextvars
import gc
import importlib
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

_HOME = __file__[: -len("interrupt.py")]
PATIENCE = 20.0  # seconds that the end of a process waits for what an interruption left
LATER = 0.01  # seconds until an interruption that was swallowed is sent again
_idle: list[_Worker] = []
_running: set[Lent] = set()
_here = threading.local()
_prepared: list[bool] = []


class Lent:
    """A call that another thread runs.

    Parameters
    ----------
    call : callable
    given : tuple
        Its arguments.
    """

    def __init__(self, call: Callable[..., Any], given: tuple[Any, ...]) -> None:
        self.call, self.given = call, given
        self.context = contextvars.copy_context()
        self.ended = threading.Lock()
        self.ended.acquire()
        self.left = False  # nobody waits any more
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do it, in the thread that it was lent to."""
        _here.lent = self
        try:
            self.value = self.context.run(self.call, *self.given)
        except BaseException as error:  # handed to the thread that waits
            self.error = error
        finally:
            _here.lent = None
            _running.discard(self)
            self.ended.release()

    def result(self) -> Any:
        """Wait for it, give its value or raise its error."""
        try:
            self.ended.acquire()
        except BaseException:
            leave_all()
            raise
        self.ended.release()
        if self.error is None:
            return self.value
        try:
            raise self.error
        finally:
            self.error = None  # its traceback holds this frame


class _Worker:
    """A thread that takes one call after the other."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Lent] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="pmwmix", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while True:
            self.calls.get().run()
            _idle.append(self)


def lend(call: Callable[..., Any], *given: Any) -> Lent:
    """Let another thread run ``call(*given)``, and go on."""
    lent = Lent(call, given)
    _running.add(lent)
    try:
        try:
            worker = _idle.pop()
        except IndexError:
            worker = _Worker()
        (worker if worker.thread.is_alive() else _Worker()).calls.put(lent)  # none is alive after a fork
    except BaseException:  # interrupted before a thread had it: nobody will end it
        _running.discard(lent)
        raise
    return lent


def interruptible(call: Callable[..., Any], *given: Any) -> Any:
    """Give ``call(*given)``; an interruption of the main thread does not wait for it.

    Parameters
    ----------
    call : callable
        Something that stays long in compiled code and leaves nothing half done that others see: it goes on to its end
        after an interruption, unless it asks `was_left`.
    """
    if threading.current_thread() is not threading.main_thread():
        return call(*given)
    return lend(call, *given).result()


def side_by_side(call: Callable[[Any], Any], items: Iterable[Any], n: int = 2) -> list[Any]:
    """Give ``call`` of every item, ``n`` at a time; after an interruption or an error no other is begun."""
    waiting = deque(enumerate(items))
    out: list[Any] = [None] * len(waiting)

    def take() -> None:
        while not was_left():
            try:
                place, item = waiting.popleft()
            except IndexError:
                return
            try:
                out[place] = call(item)
            except BaseException:
                waiting.clear()
                raise

    for one in [lend(take) for _ in range(min(n, len(waiting)))]:
        one.result()
    return out


class OwnFrames:
    """An interruption inside is heard, and told with the frames of this package alone, not with those below it.

    What JAX has the collector of garbage call would swallow it: Python prints what is raised there, and goes on.
    """

    def __enter__(self) -> None:
        """Listen for what is swallowed, in the thread that hears interruptions."""
        self._hook = None
        if threading.current_thread() is threading.main_thread():
            self._hook = sys.unraisablehook
            sys.unraisablehook = self._heard

    def _heard(self, swallowed: Any) -> None:
        if issubclass(swallowed.exc_type, KeyboardInterrupt):
            again = threading.Timer(LATER, _interrupt_again)
            again.daemon = True
            again.start()
        elif self._hook is not None:
            self._hook(swallowed)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, frames: Any) -> None:
        """Cut an interruption's frames before the first one that is not ours; a compiler may call us again below it."""
        if self._hook is not None:
            sys.unraisablehook = self._hook
        if error is None or isinstance(error, Exception):
            return
        error.__suppress_context__ = True  # whatever was being handled when it came
        while frames.tb_next is not None and frames.tb_next.tb_frame.f_code.co_filename.startswith(_HOME):
            frames = frames.tb_next
        frames.tb_next = None


def _interrupt_again() -> None:
    """Interrupt the main thread, also where it waits."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def was_left() -> bool:
    """Whether nobody waits any more for the call that runs in this thread."""
    lent = getattr(_here, "lent", None)
    return lent is not None and lent.left


def whole_import(name: str) -> Any:
    """Import a module to its end, even if the main thread is interrupted meanwhile."""
    there = sys.modules.get(name)
    if there is not None and not getattr(there.__spec__, "_initializing", False):
        return there
    return interruptible(_imported, name)


def _imported(name: str) -> Any:
    """Import without looking for garbage meanwhile: modules are many objects that stay."""
    if not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()


def leave_all() -> None:
    """Note that nobody waits for what runs, and that the end of the process shall not wait for it either."""
    for lent in tuple(_running):
        lent.left = True
    if not _prepared:
        _prepared.append(True)
        atexit.register(_end)  # the last one registered is called first


def _end() -> None:
    """End a process that was interrupted, though a compiler still runs in it and would be waited for.

    A script that went on after the interruption has an end of its own: compiled code that came back after it, to an
    interpreter that is gone, would abort the process, so it is waited for.
    """
    _prepared.clear()
    if not isinstance(getattr(sys, "last_exc", None), KeyboardInterrupt):
        until = time.monotonic() + PATIENCE
        for lent in tuple(_running):
            lent.ended.acquire(timeout=max(until - time.monotonic(), 0.0))
        return
    if not _running:
        return
    for room, function in (("jax._src.api", "clean_up"), ("jax._src.dispatch", "wait_for_tokens")):  # they wait
        atexit.unregister(getattr(sys.modules.get(room), function, _end))
    atexit.unregister(_end)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as Python itself ends after an interruption
    os.kill(os.getpid(), signal.SIGINT)
