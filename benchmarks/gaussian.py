"""Time and memory of a weighted gaussian two-level model with ten plausible values, beside lme4 on the same data.

    python benchmarks/gaussian.py --sizes small,medium --json gaussian.json

Every measurement runs in a process of its own with empty compilation caches. This process imports nothing heavy: on
Linux a child's ``ru_maxrss`` starts at what its parent held.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _harness import (
    Children,
    Record,
    add_r_options,
    has_r,
    is_child,
    machine,
    parser_of,
    peak_mib,
    print_table,
    read_columns,
    run_child,
    run_r,
    timed,
    write_json,
)

SIZES = {"small": (120, 20), "medium": (240, 25), "world": (22_000, 28)}  # schools, students per school
TINY = (30, 10)
GROWTH = {  # schools, students per school, plausible values
    "students": [(240, 10, 10), (240, 40, 10), (240, 160, 10), (240, 640, 10)],
    "schools": [(120, 25, 10), (480, 25, 10), (1920, 25, 10), (7680, 25, 10)],
    "plausible values": [(240, 25, 1), (240, 25, 5), (240, 25, 10), (240, 25, 20)],
}
N_COVARIATES = 10
BETA = [500.0, 30.0, -10.0, *[5.0] * (N_COVARIATES - 2)]


def main() -> None:
    """Run what the command line asks for and print it."""
    options = read_options()
    if is_child(options, CHILDREN):
        return
    with tempfile.TemporaryDirectory(prefix="pmwmix-bench-") as name:
        folder = Path(name)
        own = run_child("fit", make(folder, *TINY, 2))  # also warms the disk cache, so that imports are comparable
        sizes = [measure(folder, size, own, options) for size in options.sizes]
        growth = {} if options.no_growth else {along: grow(folder, steps) for along, steps in GROWTH.items()}
    result = {"machine": machine(), "own_mib": own["peak_mib"], "sizes": sizes, "growth": growth}
    show(result)
    write_json(options, result)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, CHILDREN)
    add_r_options(parser)
    parser.add_argument("--sizes", default=",".join(SIZES), help="of small, medium, world (default: all)")
    parser.add_argument("--r-pvs", type=int, help="lme4 fits per size, scaled to ten (default: 10, and 2 for world)")
    options = parser.parse_args()
    options.sizes = [size for size in options.sizes.split(",") if size]
    if unknown := set(options.sizes) - set(SIZES):
        parser.error(f"unknown size {sorted(unknown)}; available: {', '.join(SIZES)}")
    if options.r_pvs is not None and not 1 <= options.r_pvs <= 10:
        parser.error("--r-pvs must be between 1 and 10")
    return options


def make(folder: Path, n_schools: int, n_students: int, n_pv: int, *, csv: bool = False) -> Record:
    """Simulate a survey into ``folder``, in a child, and return what a fit of it needs to know."""
    spec = {"folder": str(folder), "n_schools": n_schools, "n_students": n_students, "n_pv": n_pv, "csv": csv}
    return run_child("make", spec)


def child_make(spec: Record) -> Record:
    """Simulate and write the numeric columns, as CSV too for R.

    Plain arrays, because reading 108 MiB of parquet peaks at 385 MiB and would hide what the fit needs.
    """
    import numpy as np

    from pmwmix.simulate import simulate_survey

    counts = {name: spec[name] for name in ("n_schools", "n_students", "n_pv")}
    survey = simulate_survey(**counts, n_covariates=N_COVARIATES, beta=BETA, random_seed=2022)
    used = survey.data.drop(columns=["CNT", "STIDSTD"])
    path = Path(spec["folder"]) / "{n_schools}-{n_students}-{n_pv}.npz".format(**counts)
    np.savez(path, **{name: used[name].to_numpy() for name in used})
    if spec["csv"]:
        used.drop(columns=survey.weights).to_csv(path.with_suffix(".csv"), index=False)
    return counts | {
        "path": str(path),
        "n": len(used),
        "data_mib": used.memory_usage(index=False).sum() / 2**20,
        "call": {"formula": survey.formula, "weights": survey.weights, "pv": survey.pv},
    }


def child_fit(spec: Record) -> Record:
    """Time the import, the first fit and two more in the same process; note the peak memory after each stage."""
    begin = time.perf_counter()
    import pmwmix

    imported = time.perf_counter() - begin
    import numpy as np  # noqa: F401  (both loaded before the memory is read)
    import pandas as pd  # noqa: F401

    before = peak_mib()
    data = read_columns(spec["path"])
    loaded = peak_mib()
    call = dict(spec["call"])
    formula = call.pop("formula")

    def fit() -> Any:
        return pmwmix.fit(formula, data, **call, scaling="size", vcov="robust", progress=False)

    cold, result = timed(fit)
    after_cold = peak_mib()
    warm = [timed(fit)[0] for _ in range(2)]
    return {
        "import_s": imported,
        "cold_s": cold,
        "warm_s": statistics.median(warm),
        "before_data_mib": before,
        "after_data_mib": loaded,
        "after_cold_mib": after_cold,
        "peak_mib": peak_mib(),
        "converged": bool(result.converged),
        "escs": float(result.coef["escs"]),
        "escs_se": float(result.se["escs"]),
    }


CHILDREN: Children = {"make": child_make, "fit": child_fit}


def measure(folder: Path, size: str, own: Record, options: argparse.Namespace) -> Record:
    """Measure one size: pmwmix, then lme4 on the same rows."""
    print(f"{size} ...", file=sys.stderr, flush=True)
    with_r = not options.no_r and has_r()
    spec = make(folder, *SIZES[size], 10, csv=with_r)
    row = {"size": size, **spec, **run_child("fit", spec)}
    row["extra_mib"] = row["peak_mib"] - own["peak_mib"]
    row["extra_per_data"] = row["extra_mib"] / row["data_mib"]
    row["r"] = time_lme4(spec, options.r_pvs or (2 if size == "world" else 10)) if with_r else None
    return row


def time_lme4(spec: Record, n_fits: int) -> Record | None:
    """Time lme4 on the first ``n_fits`` plausible values and scale to ten; None where R or lme4 is missing."""
    covariates = spec["call"]["formula"].split("~")[1].split(" + (")[0].strip()
    record = run_r(Path(spec["path"]).with_suffix(".csv"), covariates, n_fits)
    return record and record | {"n_fits": n_fits, "ten_fits_s": sum(record["seconds"]) * 10 / n_fits}


def grow(folder: Path, steps: list[tuple[int, int, int]]) -> list[Record]:
    """Measure pmwmix along one dimension of the data."""
    rows = []
    for step in steps:
        print(f"growth {step} ...", file=sys.stderr, flush=True)
        spec = make(folder, *step)
        rows.append({**spec, **run_child("fit", spec)})
        Path(spec["path"]).unlink()
    return rows


def show(result: Record) -> None:
    """Print the tables."""
    print("\nmath ~ 10 covariates + (1 + escs | SCHOOLID), weights at both levels scaled to size, robust SE, 10 PVs")
    print("{system}, Python {python}, {cpus} CPUs; seconds; cold = first fit, empty caches".format(**result["machine"]))
    heads = ["size", "schools", "students", "import", "cold", "warm", "lme4, 10 fits", "lme4/cold", "lme4/warm"]
    heads += ["escs (se)"]
    print_table(heads, [time_cells(row) for row in result["sizes"]])
    if any(row["r"] for row in result["sizes"]):
        print("lme4: ten unweighted lmer(REML = FALSE) fits without robust errors, reading the data not counted.")
    print(f"escs is pmwmix's estimate; the truth is {BETA[1]:g}.")
    if scaled := [row for row in result["sizes"] if row["r"] and row["r"]["n_fits"] < 10]:
        fits = ", ".join(f"{row['size']} from {row['r']['n_fits']} fits" for row in scaled)
        print(f"* scaled to ten: {fits}.")

    print(
        f"\nPeak memory in MiB; own = {result['own_mib']:.0f}, a process that has fitted {TINY[0]} schools of {TINY[1]}"
    )
    heads = ["size", "data", "before data", "data read", "first fit", "third fit", "peak - own", "(peak - own) / data"]
    keys = ["data_mib", "before_data_mib", "after_data_mib", "after_cold_mib", "peak_mib", "extra_mib"]
    memory = [
        [row["size"], *(f"{row[k]:,.1f}" for k in keys), f"{row['extra_per_data']:.2f}"] for row in result["sizes"]
    ]
    print_table(heads, memory)

    for along, rows in result["growth"].items():
        print(f"\nGrowth with the number of {along}")
        cells = [[*counts(row), row["n_pv"], f"{row['cold_s']:.2f}", f"{row['warm_s']:.3f}"] for row in rows]
        print_table(["schools", "students", "PVs", "cold", "warm"], cells)


def counts(row: Record) -> list[str]:
    """Show the number of schools and of students."""
    return [f"{row['n_schools']:,}", f"{row['n']:,}"]


def time_cells(row: Record) -> list[str]:
    """Show one row of the table of times."""
    r, cold, warm = row["r"], row["cold_s"], row["warm_s"]
    lme4 = ["-"] * 3
    if r:
        star = "*" if r["n_fits"] < 10 else ""
        lme4 = [f"{r['ten_fits_s']:.2f}{star}", f"{r['ten_fits_s'] / cold:.1f}x", f"{r['ten_fits_s'] / warm:.1f}x"]
    escs = f"{row['escs']:.2f} ({row['escs_se']:.2f})" + ("" if row["converged"] else " NOT CONVERGED")
    return [row["size"], *counts(row), f"{row['import_s']:.2f}", f"{cold:.2f}", f"{warm:.3f}", *lme4, escs]


if __name__ == "__main__":
    main()
