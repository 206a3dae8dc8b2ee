"""Progress bars: in a terminal or a notebook, or where they are asked for."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pmwmix.errors import ClusterError, OptionError, PmwmixError, PmwmixWarning

SMALL = (str, bytes, int, float, type(None))  # that travels with every task


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


def say(text: str, progress: bool | None) -> None:
    """Write a line about what is going on, where bars are shown."""
    if is_wanted(progress):
        from rich.console import Console

        notebook = in_notebook()
        Console(stderr=not notebook, force_jupyter=notebook, highlight=False).print(text)


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
    if will_fork(executor) and engine.startswith(("jax", "auto")):
        raise OptionError(
            f"Forked processes would wait forever, because JAX runs threads. The {type(executor).__name__} forks. Make "
            f"it with mp_context=multiprocessing.get_context('spawn'), and call it under if __name__ == '__main__'."
        )


def will_fork(executor: Any) -> bool:
    """Whether an executor will fork processes that do not run yet.

    With `processes_of` the only place that reads an executor's private ``_mp_context``, ``_processes`` and
    ``_max_workers``: there is no public word for how a ProcessPoolExecutor starts its processes, and how many.
    """
    context = getattr(executor, "_mp_context", None)
    return context is not None and context.get_start_method() == "fork" and not getattr(executor, "_processes", None)


def processes_of(executor: Any) -> int:
    """Give the number of processes that run an executor's tasks; 1 of threads, and where it does not say."""
    if _is_cluster(executor):
        return max(len(_workers_of(executor)), 1)
    return 1 if getattr(executor, "_mp_context", None) is None else int(getattr(executor, "_max_workers", 1))


def _is_cluster(executor: Any) -> bool:
    """Whether it is a client of Dask's scheduler."""
    return hasattr(executor, "scheduler_info") and hasattr(executor, "scatter")


def _workers_of(executor: Any) -> list[str]:
    """Addresses of a cluster's workers.

    Raises
    ------
    ClusterError
    """
    try:
        found = sorted(executor.scheduler_info(n_workers=-1)["workers"])
    except Exception as error:  # whatever a client says whose scheduler is gone
        raise _lost(executor, error) from error
    _check_alive(executor)
    return found


def _check_alive(executor: Any, error: Exception | None = None) -> None:
    """Refuse to go on without a scheduler: nobody wants a cluster's work on the machine that has asked for it.

    Raises
    ------
    ClusterError
    """
    if _is_cluster(executor) and executor.status != "running":
        raise _lost(executor, error) from error


def _lost(executor: Any, error: Exception | None) -> ClusterError:
    said = "" if error is None else f" It says {type(error).__name__}: {' '.join(str(error).split())[:200]}."
    return ClusterError(
        f"The scheduler of the cluster is gone. The client is {getattr(executor, 'status', 'unknown')!r}.{said} Start "
        f"a cluster again, connect a new Client to it, and repeat the call; nothing was lost but time."
    )


def _shared(executor: Any, tasks: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Send what all tasks have in common to every worker of a cluster once; give tasks that name it."""
    if not _is_cluster(executor) or len(tasks) < 2:
        return tasks
    first = tasks[0]
    common = [
        place
        for place, value in enumerate(first)
        if not isinstance(value, SMALL) and all(task[place] is value for task in tasks)
    ]
    if not common:
        return tasks
    futures = executor.scatter([first[place] for place in common], broadcast=True, hash=False)
    sent = dict(zip(common, futures, strict=True))
    return [tuple(sent.get(place, value) for place, value in enumerate(task)) for task in tasks]


def run_on(
    executor: Any, call: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], what: str, at_home: bool = False
) -> Iterator[Any]:
    """Give ``call(*task)`` of every task in order, run by an executor; what it loses is done here.

    Parameters
    ----------
    executor : object
        Has ``submit``; a Dask client also ``gather``.
    call : callable
    tasks : iterable of tuple
    what : str
        What the tasks are, for the warning.
    at_home : bool
        Whether each of these tasks should go where its number went before; Dask keeps to that while the worker lives.

    Warns
    -----
    PmwmixWarning
        If the executor lost tasks, as when one of its processes died: that says nothing of the tasks themselves.

    Raises
    ------
    ClusterError
        If the scheduler of a cluster is gone.

    Notes
    -----
    After an interruption no other task is begun.
    """
    every = list(tasks)
    homes = _workers_of(executor) if _is_cluster(executor) else []
    sent = _shared(executor, every)
    homes = homes if at_home else []
    futures = [_submitted(executor, call, task, homes, number) for number, task in enumerate(sent)]
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
                _check_alive(executor, error)
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


def _submitted(
    executor: Any, call: Callable[..., Any], task: tuple[Any, ...], homes: Sequence[str], number: int
) -> Any:
    """Give the future of a task, or the error of an executor that takes no more."""
    try:
        if homes:
            home = homes[number % len(homes)]
            return executor.submit(call, *task, workers=[home], allow_other_workers=True, pure=False)
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
