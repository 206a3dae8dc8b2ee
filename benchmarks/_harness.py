"""What the benchmarks share: options, children without compilation caches, seconds, peak memory, R, tables.

This file imports nothing heavy: on Linux a child's ``ru_maxrss`` starts at what its parent held.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Children = Mapping[str, Callable[[Record], Record]]


def parser_of(doc: str | None, children: Children | None = None) -> argparse.ArgumentParser:
    """Make a command line that shows a script's docstring; scripts with children get ``--json`` and hidden options."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if children is not None:
        parser.add_argument("--json", type=Path, metavar="OUT", help="write every number here as well")
        parser.add_argument("--child", choices=list(children), help=argparse.SUPPRESS)
        parser.add_argument("--spec", default="{}", help=argparse.SUPPRESS)
    return parser


def add_r_options(parser: argparse.ArgumentParser) -> None:
    """Add what scripts share that time lme4 beside pmwmix and the growth of the time with the data."""
    parser.add_argument("--no-r", action="store_true", help="leave lme4 out")
    parser.add_argument("--no-growth", action="store_true", help="leave the growth tables out")


def is_child(options: argparse.Namespace, children: Children) -> bool:
    """Run the step that a parent asked for and print what it reports; say whether there was one."""
    if options.child:
        print(json.dumps(children[options.child](json.loads(options.spec))))
    return bool(options.child)


def run_child(kind: str, spec: Record) -> Record:
    """Run one step of this script in a fresh interpreter without compilation caches and return what it reports."""
    script = str(Path(sys.argv[0]).resolve())
    with tempfile.TemporaryDirectory(prefix="pmwmix-cache-") as cache:
        env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        flags = [env.get("PYTENSOR_FLAGS", ""), f"base_compiledir={cache}"]
        env |= {"PYTENSOR_FLAGS": ",".join(flag for flag in flags if flag), "XDG_CACHE_HOME": cache}
        call = [sys.executable, script, "--child", kind, "--spec", json.dumps(spec)]
        done = subprocess.run(call, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"The {kind} step failed (its message is above). Spec: {spec}. Run it alone: {' '.join(call[:4])} ...")
    return json.loads(done.stdout.splitlines()[-1])


def write_json(options: argparse.Namespace, result: Record) -> None:
    """Write every number to the file of ``--json``, if there is one."""
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def read_columns(path: str | Path) -> Any:
    """Read a table from plain arrays: reading parquet needs more memory than a fit, and would hide its peak."""
    import numpy as np
    import pandas as pd

    with np.load(path, allow_pickle=True) as columns:
        return pd.DataFrame({name: columns[name] for name in columns.files}, copy=False)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that ``run`` took, and its value."""
    begin = time.perf_counter()
    value = run()
    return time.perf_counter() - begin, value


def of_processor(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor seconds of all threads, and of children that ended, that ``run`` took, and its value."""
    import resource  # not on Windows

    def spent() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    begin = spent()
    value = run()
    return spent() - begin, value


def peak_mib() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def machine() -> Record:
    """Say where the numbers come from."""
    return {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}


def has_r() -> bool:
    """Say whether R can be called."""
    return shutil.which("Rscript") is not None


def run_r(*arguments: object) -> Record | None:
    """Run the R script that lies beside this one; None, with R's message, where it fails."""
    call = ["Rscript", str(Path(sys.argv[0]).with_suffix(".R")), *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"lme4 could not be timed: {done.stderr.strip()[-500:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def print_table(heads: list[str], rows: list[list[Any]]) -> None:
    """Print aligned columns, the first to the left."""
    shown = [heads, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        pairs = enumerate(zip(row, widths, strict=True))
        print("  ".join(cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in pairs))
