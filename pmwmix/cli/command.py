"""The command: reads what was typed, runs the verb, turns errors into sentences."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
import warnings
from collections.abc import Sequence

from pmwmix.cli.arguments import parser
from pmwmix.cli.completion import print_completion
from pmwmix.cli.demo import run_demo
from pmwmix.cli.describing import describe_variables
from pmwmix.cli.files import convert_files, search_codebook, show_surveys
from pmwmix.cli.fitting import fit_models, table_of_files

VERBS = {
    "fit": fit_models,
    "describe": describe_variables,
    "table": table_of_files,
    "surveys": show_surveys,
    "codebook": search_codebook,
    "convert": convert_files,
    "demo": run_demo,
    "completion": print_completion,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        Exit status: 0, 2 after an error that the user can mend, 1 after one of the package, 130 after Ctrl-C.
    """
    from pmwmix.spec.call import COMMAND

    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a sign gets another one, and no error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    chosen = parser().parse_args(arguments)
    if chosen.version:
        from importlib.metadata import version

        print(version("pmwmix"))
        return 0
    if chosen.verb is None:
        parser().print_help()
        return 2
    said = COMMAND.set(shlex.join(["pmwmix", *(sys.argv[1:] if arguments is None else arguments)]))
    try:
        return _run(chosen)
    finally:
        COMMAND.reset(said)


def _run(chosen: argparse.Namespace) -> int:
    from pmwmix.errors import PmwmixError, PmwmixWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", PmwmixWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            VERBS[chosen.verb](chosen)
        sys.stdout.flush()
        return 0
    except PmwmixError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt as error:
        print("Interrupted.", file=sys.stderr)
        sys.last_exc = error  # so that the end does not wait for a compiler
        return 130
    except Exception as error:
        if os.environ.get("PMWMIX_TRACEBACK"):
            raise
        print(
            f"{type(error).__name__}: {error}\nThis is a fault of pmwmix and not of yours. Please report it with the "
            f"command. With PMWMIX_TRACEBACK=1 in the environment the command shows where it happened.",
            file=sys.stderr,
        )
        return 1


def _show_warning(message: Warning | str, *rest: object, **options: object) -> None:
    print(f"Warning: {message}", file=sys.stderr)
