"""Executors that run tasks side by side: which are usable. Starts none."""

from __future__ import annotations

from typing import Any

from pmwmix.errors import OptionError


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
    context = getattr(executor, "_mp_context", None)
    if context is None or context.get_start_method() != "fork" or getattr(executor, "_processes", None):
        return
    if engine == "jax":
        raise OptionError(
            f"Forked processes would wait forever, because JAX runs threads. The {type(executor).__name__} forks. Make "
            f"it with mp_context=multiprocessing.get_context('spawn'), and call it under if __name__ == '__main__'."
        )
