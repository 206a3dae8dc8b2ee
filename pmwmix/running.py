"""Progress bars: in a terminal or a notebook, or where they are asked for."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pmwmix.errors import OptionError, PmwmixError, PmwmixWarning


def in_notebook() -> bool:
    """Whether this is a notebook that can show a moving bar."""
    from importlib.util import find_spec

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell" and find_spec("ipywidgets") is not None


def is_wanted(progress: bool | None) -> bool:
    """Whether to show a bar; None is in a terminal or notebook.

    Raises
    ------
    OptionError
    """
    if progress is not None and not isinstance(progress, bool):
        raise OptionError(f"The argument progress is True, False or None. Got {progress!r}. Leave it out.")
    return (sys.stderr.isatty() or in_notebook()) if progress is None else progress


@contextmanager
def bar(text: str, total: int, progress: bool | None) -> Iterator[Callable[[int], None] | None]:
    """Give a function that moves a bar forward, or None where no bar is shown.

    Parameters
    ----------
    text : str
        What is going on.
    total : int
        Steps, such as bytes or fits.
    progress : bool or None
    """
    if not is_wanted(progress) or total < 2:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    notebook = in_notebook()
    console = Console(stderr=not notebook, force_jupyter=notebook)
    with Progress(console=console, transient=True) as shown:
        task = shown.add_task(text, total=total)
        yield lambda steps: shown.advance(task, steps)


def over(text: str, progress: bool | None) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """Give a function that hands out jobs and shows a bar while they are done; the argument is checked at once."""
    is_wanted(progress)

    def jobs(listed: Sequence[Any]) -> Iterator[Any]:
        with bar(text, len(listed), progress) as tick:
            for job in listed:
                yield job
                if tick is not None:
                    tick(1)

    return jobs


def check_executor(executor: Any, engine: str) -> None:
    """Refuse what runs no tasks, and processes that would be forked after JAX has started its threads.

    Parameters
    ----------
    executor : object
        None, or anything that has ``submit``.
    engine : str
        As `likelihood.engine.choose_engine` gives it.

    Raises
    ------
    OptionError

    Notes
    -----
    A forked process inherits the locks of JAX's threads without the threads, and waits for them forever. Processes
    that run already when the executor is handed over are left to their owner.
    """
    if executor is None:
        return
    if not hasattr(executor, "submit"):
        raise OptionError(
            f"An executor runs tasks. Got {type(executor).__name__}. Pass one of concurrent.futures, a Dask client or "
            f"None."
        )
    if will_fork(executor) and engine in ("jax", "auto"):
        raise OptionError(
            f"Forked processes would wait forever, because JAX runs threads. The {type(executor).__name__} forks. Make "
            f"it with mp_context=multiprocessing.get_context('spawn'), and call it under if __name__ == '__main__'."
        )


def will_fork(executor: Any) -> bool:
    """Whether an executor will fork processes that do not run yet.

    The only place that reads an executor's private ``_mp_context`` and ``_processes``: there is no public word for how
    a ProcessPoolExecutor starts its processes.
    """
    context = getattr(executor, "_mp_context", None)
    return context is not None and context.get_start_method() == "fork" and not getattr(executor, "_processes", None)


def run_on(executor: Any, call: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], what: str) -> Iterator[Any]:
    """Give ``call(*task)`` of every task in order, run by an executor; what it loses is done here.

    Parameters
    ----------
    executor : object
        Has ``submit``; a Dask client also ``gather``.
    call : callable
    tasks : iterable of tuple
    what : str
        What the tasks are, for the warning.

    Warns
    -----
    PmwmixWarning
        If the executor lost tasks, as when one of its processes died: that says nothing of the tasks themselves.

    Notes
    -----
    After an interruption no other task is begun.
    """
    every = list(tasks)
    futures = [_submitted(executor, call, task) for task in every]
    lost: list[Exception] = []
    try:
        together = _gathered(executor, futures)
        for number, (task, future) in enumerate(zip(every, futures, strict=True)):
            try:
                if isinstance(future, Exception):
                    raise future
                value = future.result() if together is None else together[number]
            except PmwmixError:  # of the task, in our own words
                raise
            except Exception as error:
                lost.append(error)
                value = call(*task)
            yield value
    except BaseException:
        for future in futures:
            getattr(future, "cancel", bool)()
        raise
    if lost:
        reason = " ".join(str(lost[0]).split()).rstrip(".") or "nothing"
        warnings.warn(
            f"The executor lost {len(lost)} of {len(every)} {what}, which were done here. {type(executor).__name__} "
            f"says: {type(lost[0]).__name__}: {reason}. If its processes die, use fewer of them: memory may be short.",
            PmwmixWarning,
            stacklevel=4,
        )


def _submitted(executor: Any, call: Callable[..., Any], task: tuple[Any, ...]) -> Any:
    """Give the future of a task, or the error of an executor that takes no more."""
    try:
        return executor.submit(call, *task)
    except Exception as error:
        return error


def _gathered(executor: Any, futures: Sequence[Any]) -> Sequence[Any] | None:
    """Collect all results of a Dask client at once; None where they are asked for one by one."""
    if not hasattr(executor, "gather") or any(isinstance(one, Exception) for one in futures):
        return None
    try:
        return executor.gather(futures)
    except Exception:  # a worker died: keep what the others have done
        return None
