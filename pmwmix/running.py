"""Progress bars: in a terminal or a notebook, or where they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pmwmix.errors import OptionError


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
