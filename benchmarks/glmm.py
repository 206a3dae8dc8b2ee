"""Time and memory of a binomial two-level model by adaptive quadrature, beside lme4's glmer on the same data.

    python benchmarks/glmm.py --json glmm.json

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


def main() -> None:
    """Run what the command line asks for and print it."""
    options = read_options()
    if is_child(options, CHILDREN):
        return
    with tempfile.TemporaryDirectory(prefix="pmwmix-bench-") as name:
        folder = Path(name)
        own = run_child("fit", spec_of(folder, ((30, 300), 1, 7, False, False)))
        cases = {name: measure(folder, case, options) for name, case in CASES.items() if options.only in name}
        growth = {} if options.no_growth else {a: [measure(folder, s, options) for s in g] for a, g in GROWTH.items()}
    result = {"machine": machine(), "own_mib": own["peak_mib"], "cases": cases, "growth": growth}
    show(result)
    write_json(options, result)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, CHILDREN)
    add_r_options(parser)
    parser.add_argument("--only", default="", help="cases whose name contains this")
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
    data = read_columns(spec["path"])
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


CHILDREN: Children = {"make": child_make, "fit": child_fit}


def measure(folder: Path, case: tuple[Any, ...], options: argparse.Namespace) -> Record:
    """Measure one case: pmwmix, then lme4 on the same rows where it is asked for."""
    print(f"{case} ...", file=sys.stderr, flush=True)
    spec = spec_of(folder, case)
    row = {**spec, **run_child("fit", spec)}
    with_r = spec["with_r"] and not options.no_r and has_r()
    row["r"] = run_r(Path(spec["path"]).with_suffix(".csv"), spec["formula"], spec["nodes"]) if with_r else None
    return row


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


if __name__ == "__main__":
    main()
