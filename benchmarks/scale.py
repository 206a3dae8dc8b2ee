"""Fits of data on disk, read piece by piece: seconds, CPU seconds and memory against the number of rows.

Students in schools of 50 on average, 12 columns (ten predictors, a factor, ids and weights) and ten plausible values,
two levels of weights, a random slope; parquet files of 500,000 rows, made once in a temporary folder. "reading" is
Arrow's own reading of the same columns, in one thread. "logit" is a model of a binary outcome with the same predictors
and weights, a random intercept and 7 nodes, whose rows are sorted into files and evaluated by two Dask processes;
seconds of CPU and the peak are then those of all three processes, added up.

    .venv/bin/python benchmarks/scale.py                 # 1 and 5 million rows
    .venv/bin/python benchmarks/scale.py --rows 1 5 20   # and 20 million, some 3 GB on disk
    .venv/bin/python benchmarks/scale.py --rows 1 5 --kinds reading logit
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from _harness import Record, is_child, parser_of, run_child

PER_FILE, PER_SCHOOL, K = 500_000, 50, 10
WORKERS = 2
RIGHT = "escs + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + kind"
FORMULA = f"math ~ {RIGHT} + (1 + escs | school)"
LOGIT = f"passed ~ {RIGHT} + (1 | school)"


def main() -> None:
    """Make the data, and read and fit them in fresh processes."""
    options = _options()
    if is_child(options, CHILDREN):
        return
    print(f"{'rows':>12} {'step':10} {'wall s':>8} {'CPU s':>8} {'peak GiB':>9}")
    for millions in options.rows:
        n = int(millions * 1e6)
        folder = Path(options.folder) / f"pmwmix-scale-{n}"
        make(folder, n)
        for kind in options.kinds:
            found = run_child(kind, {"folder": str(folder), "memory": options.memory, "workers": options.workers})
            print(f"{n:12,} {kind:10} {found['wall']:8.1f} {found['cpu']:8.1f} {found['peak']:9.2f}", flush=True)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--rows", type=float, nargs="+", default=[1, 5], help="millions of rows")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the data are made, once")
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--kinds", nargs="+", default=["reading", "fit"], choices=list(CHILDREN))
    parser.add_argument("--workers", type=int, default=WORKERS, help="Dask processes of the logit; 0 is none")
    return parser.parse_args()


def make(folder: Path, n: int) -> None:
    """Write the files, unless they are there."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (folder / "_done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, n, PER_FILE)):
        rng, m = np.random.default_rng(number), min(PER_FILE, n - first)
        school = first // PER_SCHOOL + np.sort(rng.integers(0, m // PER_SCHOOL, m))
        of_school = np.random.default_rng(10_000 + number).normal(size=(m // PER_SCHOOL, 3))
        own = of_school[school - first // PER_SCHOOL]
        columns = {"school": school, "escs": rng.normal(size=m) + 0.5 * own[:, 2]}
        columns |= {f"x{j}": rng.normal(size=m) for j in range(1, 9)}
        columns["kind"] = pa.DictionaryArray.from_arrays(rng.integers(0, 4, m).astype("int8"), ["a", "b", "c", "d"])
        w_school = np.exp(0.5 * own[:, 1]) * 10
        columns |= {"w2": w_school, "w1": w_school * rng.uniform(1.0, 3.0, m)}
        mean = 500 + 30 * columns["escs"] + 2 * columns["x1"] + 40 * own[:, 0] + 8 * own[:, 1] * columns["escs"]
        score = mean + rng.normal(0, 70, m)
        columns["passed"] = (score > 500).astype("int8")
        columns |= {f"PV{k}MATH": score + rng.normal(0, 25, m) for k in range(1, K + 1)}
        pq.write_table(pa.table(columns), folder / f"{number:04}.parquet", row_group_size=PER_FILE // 4)
    (folder / "_done").touch()


def read(spec: Record) -> Record:
    """Read the columns and do nothing with them."""
    import pyarrow.dataset as ds

    begin, cpu = time.perf_counter(), time.process_time()
    data = ds.dataset(sorted(Path(spec["folder"]).glob("*.parquet")))
    for _ in data.scanner(batch_size=100_000, use_threads=False).to_batches():
        pass
    return _used(begin, cpu)


def fit(spec: Record) -> Record:
    """Fit the model to the folder."""
    import pmwmix

    begin, cpu = time.perf_counter(), time.process_time()
    found = pmwmix.fit(
        FORMULA,
        spec["folder"],
        weights=["w1", "w2"],
        scaling="size",
        pv={"math": "PV{}MATH"},
        memory=spec["memory"],
        progress=False,
    )
    out = _used(begin, cpu)
    print(found.coef["escs"], found.se["escs"], file=sys.stderr)
    return out


def _used(begin: float, cpu: float) -> Record:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"wall": time.perf_counter() - begin, "cpu": time.process_time() - cpu, "peak": peak}


def logit(spec: Record) -> Record:
    """Fit the model of a binary outcome, rows on disk, parts evaluated by Dask processes."""
    import contextlib

    import pmwmix

    begin, cpu = time.perf_counter(), time.process_time()
    with contextlib.ExitStack() as stack:
        client = None
        if spec["workers"]:
            from dask.distributed import Client, LocalCluster

            made = LocalCluster(n_workers=spec["workers"], threads_per_worker=1, dashboard_address=":0")
            client = stack.enter_context(Client(stack.enter_context(made)))
            client.wait_for_workers(spec["workers"])
        found = pmwmix.fit(
            LOGIT,
            spec["folder"],
            family="binomial",
            weights=["w1", "w2"],
            scaling="size",
            n_agq=7,
            memory=spec["memory"],
            progress=False,
            executor=client,
        )
        out = _used(begin, cpu)
        for own in client.run(_of_worker).values() if client is not None else ():
            out["cpu"] += own["cpu"]
            out["peak"] += own["peak"]
    print(found.coef["escs"], found.se["escs"], found.loglik, found.converged, file=sys.stderr)
    return out


def _of_worker() -> Record:
    return _used(0.0, 0.0)


CHILDREN = {"reading": read, "fit": fit, "logit": logit}

if __name__ == "__main__":
    main()
