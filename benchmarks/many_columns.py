"""A factor of 400 categories beside 20,000 groups: processor seconds and peak memory of a first fit.

    python benchmarks/many_columns.py

Every fit runs in a process of its own; imports are counted.
"""

from __future__ import annotations

import os
from typing import Any

from _harness import Children, Record, is_child, machine, parser_of, peak_mib, print_table, run_child, write_json

SIZE = {"n": 600_000, "groups": 20_000, "categories": 400}
FITS: dict[str, Record] = {
    "maximum likelihood": {},
    "REML": {"method": "reml"},
    "weights at both levels, robust errors": {"weights": ["w1", "w2"], "vcov": "robust"},
}


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = parser_of(__doc__, CHILDREN)
    for name, default in SIZE.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    size = {name: getattr(options, name) for name in SIZE}
    rows = [{"fit": name, **run_child("fit", size | {"options": more})} for name, more in FITS.items()]
    print("y ~ x + f + (1 | g), {n:,} rows, {groups:,} groups, {categories} categories".format(**size))
    heads = ["fit", "processor seconds", "peak MiB", "log-likelihood"]
    print_table(heads, [[r["fit"], f"{r['cpu']:.1f}", f"{r['peak_mib']:.0f}", f"{r['loglik']:.4f}"] for r in rows])
    write_json(options, {"machine": machine(), "rows": rows})


def child_fit(spec: Record) -> Record:
    """Make the table and fit it once."""
    data = simulated(spec["n"], spec["groups"], spec["categories"])
    before = os.times()
    import pmwmix

    fit = pmwmix.fit("y ~ x + f + (1 | g)", data, progress=False, **spec["options"])
    after = os.times()
    cpu = after.user + after.system - before.user - before.system
    return {"cpu": cpu, "peak_mib": peak_mib(), "loglik": float(fit.loglik), "converged": bool(fit.converged)}


def simulated(n: int, groups: int, categories: int) -> Any:
    """Simulate rows whose groups stand together."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    g, f = np.sort(rng.integers(0, groups, n)), rng.integers(0, categories, n)
    x = rng.normal(size=n)
    y = 0.3 * x + rng.normal(size=categories)[f] + 0.5 * rng.normal(size=groups)[g] + rng.normal(size=n)
    labels = [f"c{i:03d}" for i in range(categories)]
    table = {"y": y, "x": x, "f": pd.Categorical.from_codes(f, labels), "g": g}
    return pd.DataFrame(table | {"w1": rng.uniform(1, 3, n), "w2": rng.uniform(1, 5, groups)[g]})


CHILDREN: Children = {"fit": child_fit}


if __name__ == "__main__":
    main()
