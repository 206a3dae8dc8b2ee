"""Time and memory of a binomial two-level model by adaptive quadrature, beside lme4's glmer on the same data.

    python benchmarks/glmm.py --json glmm.json

Every measurement runs in a process of its own with empty compilation caches. This process imports nothing heavy: on
Linux a child's ``ru_maxrss`` starts at what its parent held.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIXED = "x1 + x2 + x3 + x4"
BETA = [-0.3, 0.5, 0.2, -0.4, 0.1]
SIZES = {"medium": (2_000, 56_000), "world": (22_000, 616_000)}  # groups, rows
CASES = {  # name: size, random effects per group, nodes, weights and robust standard errors, with lme4
    "random intercept, 7 nodes": ("medium", 1, 7, False, True),
    "random slope, Laplace": ("medium", 2, 1, False, True),
    "random slope, 7 x 7 nodes": ("medium", 2, 7, False, False),
    "world: random intercept, 7 nodes, weights, robust": ("world", 1, 7, True, False),
}
GROWTH = {
    "nodes (random intercept, 56,000 rows)": [("medium", 1, n, False, False) for n in (1, 3, 7, 15, 31)],
    "effects per group (5 nodes each, 56,000 rows)": [("medium", q, 5, False, False) for q in (1, 2, 3)],
    "rows (28 per group, random intercept, 7 nodes)": [
        ((n // 28, n), 1, 7, False, False) for n in (7_000, 28_000, 112_000)
    ],
}
MIB = 2**20
Record = dict[str, Any]


def main() -> None:
    """Run what the command line asks for and print it."""
    options = read_options()
    if options.child:
        print(json.dumps(CHILDREN[options.child](json.loads(options.spec))))
        return
    with tempfile.TemporaryDirectory(prefix="pmwmix-bench-") as name:
        folder = Path(name)
        own = run_child("fit", spec_of(folder, ((30, 300), 1, 7, False, False)))
        cases = {name: measure(folder, case, options) for name, case in CASES.items() if options.only in name}
        growth = {} if options.no_growth else {a: [measure(folder, s, options) for s in g] for a, g in GROWTH.items()}
    result = {"machine": machine(), "own_mib": own["peak_mib"], "cases": cases, "growth": growth}
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--no-r", action="store_true", help="leave lme4 out")
    parser.add_argument("--no-growth", action="store_true", help="leave the growth tables out")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every number here as well")
    parser.add_argument("--child", choices=list(CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--spec", help=argparse.SUPPRESS)
    return parser.parse_args()


def spec_of(folder: Path, case: tuple[Any, ...]) -> Record:
    """Describe a case, and simulate its data in a child if that has not been done."""
    size, q, nodes, weighted, with_r = case
    groups, rows = SIZES[size] if isinstance(size, str) else size
    path = folder / f"{groups}-{rows}-{q}.npz"
    random = " + ".join(["1", "x1", "x2"][:q])
    spec = {
        "groups": groups, "rows": rows, "q": q, "nodes": nodes, "weighted": weighted, "with_r": with_r,
        "path": str(path), "formula": f"y ~ {FIXED} + ({random} | group)",
    }  # fmt: skip
    if not path.exists():
        run_child("make", spec)
    return spec


def run_child(kind: str, spec: Record) -> Record:
    """Run one step in a fresh interpreter without compilation caches and return what it reports."""
    with tempfile.TemporaryDirectory(prefix="pmwmix-cache-") as cache:
        env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
        flags = [env.get("PYTENSOR_FLAGS", ""), f"base_compiledir={cache}"]
        env |= {"PYTENSOR_FLAGS": ",".join(flag for flag in flags if flag), "XDG_CACHE_HOME": cache}
        call = [sys.executable, __file__, "--child", kind, "--spec", json.dumps(spec)]
        done = subprocess.run(call, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"The {kind} step failed (its message is above). Spec: {spec}.")
    return json.loads(done.stdout.splitlines()[-1])


def child_make(spec: Record) -> Record:
    """Simulate groups of unequal size with normal random effects, and total weights."""
    import numpy as np

    rng = np.random.default_rng(2022)
    n, groups, q = spec["rows"], spec["groups"], spec["q"]
    group = np.sort(rng.integers(0, groups, n))
    x = rng.normal(size=(4, n))
    z = np.vstack([np.ones(n), x[:2]])[:q]
    eta = BETA[0] + np.array(BETA[1:]) @ x + (z * (0.6 * rng.normal(size=(q, groups)))[:, group]).sum(axis=0)
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(float)
    w_group = rng.uniform(0.5, 2.0, groups)
    columns = {f"x{k + 1}": x[k] for k in range(4)} | {"y": y, "group": group}
    columns |= {"w_group": w_group[group], "w": w_group[group] * rng.uniform(0.5, 1.5, n)}
    np.savez(spec["path"], **columns)
    if spec["with_r"]:
        names = ["y", "group", "x1", "x2", "x3", "x4"]
        table = np.column_stack([columns[name] for name in names])
        header = ",".join(names)
        np.savetxt(
            Path(spec["path"]).with_suffix(".csv"), table, delimiter=",", header=header, comments="", fmt="%.10g"
        )
    return {}


def child_fit(spec: Record) -> Record:
    """Time the import, the first fit and two more in the same process; note the peak memory."""
    begin = time.perf_counter()
    import pmwmix

    imported = time.perf_counter() - begin
    import numpy as np
    import pandas as pd

    with np.load(spec["path"]) as columns:
        data = pd.DataFrame({name: columns[name] for name in columns.files}, copy=False)
    how: Record = {"family": "binomial", "n_agq": spec["nodes"]}
    if spec["weighted"]:
        how |= {"weights": ["w", "w_group"], "scaling": "size", "vcov": "robust"}

    def fit() -> Any:
        return pmwmix.fit(spec["formula"], data, **how)

    cold, result = timed(fit)
    first = peak_mib()
    warm = [timed(fit)[0] for _ in range(3)]
    return {
        "import_s": imported,
        "cold_s": cold,
        "warm_s": statistics.median(warm),
        "first_mib": first,
        "peak_mib": peak_mib(),
        "evaluations": int(result.rows.fit.n_steps),
        "converged": bool(result.converged),
        "x1": float(result.coef["x1"]),
        "x1_se": float(result.se["x1"]),
        "loglik": float(result.loglik),
    }


CHILDREN: dict[str, Callable[[Record], Record]] = {"make": child_make, "fit": child_fit}


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that ``run`` took, and its value."""
    begin = time.perf_counter()
    value = run()
    return time.perf_counter() - begin, value


def peak_mib() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def measure(folder: Path, case: tuple[Any, ...], options: argparse.Namespace) -> Record:
    """Measure one case: pmwmix, then lme4 on the same rows where it is asked for."""
    print(f"{case} ...", file=sys.stderr, flush=True)
    spec = spec_of(folder, case)
    row = {**spec, **run_child("fit", spec)}
    row["r"] = run_r(spec) if spec["with_r"] and not options.no_r and shutil.which("Rscript") else None
    return row


def run_r(spec: Record) -> Record | None:
    """Time lme4 on the same rows; None where R or lme4 is missing."""
    table = Path(spec["path"]).with_suffix(".csv")
    call = ["Rscript", str(Path(__file__).with_suffix(".R")), str(table), spec["formula"], str(spec["nodes"])]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"lme4 could not be timed: {done.stderr.strip()[-500:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> Record:
    """Say where the numbers come from."""
    return {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}


def show(result: Record) -> None:
    """Print the tables."""
    print(f"\ny ~ {FIXED} + (... | group), binomial, logit link")
    print("{system}, Python {python}, {cpus} CPUs; seconds; cold = first fit, empty caches".format(**result["machine"]))
    heads = ["case", "rows", "cold", "warm", "evaluations", "peak MiB", "glmer", "glmer/cold", "glmer/warm", "x1 (se)"]
    print_table(heads, [[name, *cells(row)] for name, row in result["cases"].items()])
    print(f"A process that has fitted 300 rows peaks at {result['own_mib']:.0f} MiB. The truth of x1 is {BETA[1]:g}.")
    for row in result["cases"].values():
        if row["r"]:
            print(f"log-likelihoods: {row['loglik']:.4f} here, {row['r']['loglik']:.4f} glmer ({row['r']['lme4']})")
    for along, rows in result["growth"].items():
        print(f"\nGrowth with the number of {along}")
        shown = [
            [r["q"], r["nodes"], f"{r['rows']:,}", f"{r['cold_s']:.2f}", f"{r['warm_s']:.3f}", f"{r['peak_mib']:.0f}"]
            for r in rows
        ]
        print_table(["effects", "nodes", "rows", "cold", "warm", "peak MiB"], shown)


def cells(row: Record) -> list[str]:
    """Show one case."""
    lme4 = ["-"] * 3
    if row["r"]:
        seconds = row["r"]["seconds"]
        lme4 = [f"{seconds:.2f}", f"{seconds / row['cold_s']:.1f}x", f"{seconds / row['warm_s']:.1f}x"]
    x1 = f"{row['x1']:.4f} ({row['x1_se']:.4f})" + ("" if row["converged"] else " NOT CONVERGED")
    times = [f"{row['cold_s']:.2f}", f"{row['warm_s']:.3f}", str(row["evaluations"]), f"{row['peak_mib']:.0f}"]
    return [f"{row['rows']:,}", *times, *lme4, x1]


def print_table(heads: list[str], rows: list[list[Any]]) -> None:
    """Print aligned columns, the first to the left."""
    shown = [heads, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        pairs = enumerate(zip(row, widths, strict=True))
        print("  ".join(cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in pairs))


if __name__ == "__main__":
    main()
