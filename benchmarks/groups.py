"""One weighted random-intercept model per country: 80 countries, 10 plausible values, 616,000 students.

    python benchmarks/groups.py --repeats 3

Every repeat runs in a process of its own, so that compiling is counted. Wall-clock and processor seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _harness import Children, Record, is_child, parser_of, run_child, write_json

COUNTRIES, SCHOOLS, STUDENTS = 80, 22_000, 28
KINDS = ("one after the other", "2 threads", "2 processes")


def main() -> None:
    """Simulate, time every executor in fresh processes, print medians."""
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    found = {}
    with tempfile.TemporaryDirectory(prefix="pmwmix-bench-") as folder:
        data = str(Path(folder) / "world.parquet")
        n = run_child("make", {"data": data})["n"]
        print(
            f"{COUNTRIES} countries, {SCHOOLS:,} schools, {n:,} students, 10 plausible values, weights at both levels"
        )
        for kind in KINDS:
            runs = found[kind] = [run_child("fit", {"kind": kind, "data": data}) for _ in range(options.repeats)]
            wall, cpu = (statistics.median(one[name] for one in runs) for name in ("wall", "cpu"))
            each = ", ".join(f"{one['wall']:.1f}" for one in runs)
            print(f"{kind:20} {wall:5.1f} s wall ({each}), {cpu:5.1f} s processor; {runs[0]['fitted']} fitted")
    write_json(options, found)


def make(spec: Record) -> Record:
    """Write the survey: countries of 150 to 400 schools, rows shuffled."""
    import numpy as np

    from pmwmix import simulate_survey

    survey = simulate_survey(SCHOOLS, STUDENTS, n_pv=10, random_seed=2022)
    rng = np.random.default_rng(0)
    sizes = rng.integers(150, 400, COUNTRIES)
    ends = np.round(sizes.cumsum() / sizes.sum() * SCHOOLS).astype(int)
    school = survey.data["SCHOOLID"].factorize()[0]
    names = np.array([f"C{k:02d}" for k in range(COUNTRIES)])
    data = survey.data.assign(CNT=names[np.searchsorted(ends, school, side="right")])
    data.sample(frac=1, random_state=1).to_parquet(spec["data"], index=False)
    return {"n": len(data)}


def fit(spec: Record) -> Record:
    """Read the table, then time fit_groups."""
    import pandas as pd

    from pmwmix import fit_groups

    data, kind = pd.read_parquet(spec["data"]), spec["kind"]
    executor: Any = None
    if kind == "2 threads":
        executor = ThreadPoolExecutor(2)
    elif kind == "2 processes":
        executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    wall, cpu = time.perf_counter(), time.process_time()
    fits = fit_groups(
        "math ~ escs + female + (1 | SCHOOLID)",
        data,
        executor=executor,
        weights=["W_FSTUWT", "W_FSCHWT"],
        scaling="size",
        pv={"math": "PV{}MATH"},
        progress=False,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if executor is not None:
        executor.shutdown()
        spent = os.times()
        cpu += spent.children_user + spent.children_system
    fits.average()
    return {"wall": wall, "cpu": cpu, "fitted": len(fits)}


CHILDREN: Children = {"make": make, "fit": fit}


if __name__ == "__main__":
    main()
