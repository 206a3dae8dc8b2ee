"""Several outcomes at once at the size of an assessment: seconds of a fit, and of its parts.

Three outcomes with ten plausible values each, correlated random intercepts and residuals, weights of students and
schools, robust errors: 616,000 students in 22,000 schools, as in PISA 2018. Data in memory; importing and making them
do not count.

    .venv/bin/python benchmarks/outcomes.py
    .venv/bin/python benchmarks/outcomes.py --rows 61600 --schools 2200
"""

from __future__ import annotations

import os
import time
from typing import Any

from _harness import Record, is_child, parser_of, run_child

NAMES, K = ("math", "read", "science"), 10


def main() -> None:
    """Fit in a fresh process and print the seconds."""
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--rows", type=int, default=616_000)
    parser.add_argument("--schools", type=int, default=22_000)
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    found = run_child("fit", {"rows": options.rows, "schools": options.schools})
    print(f"{options.rows:,} students, {options.schools:,} schools, {len(NAMES)} outcomes x {K} plausible values")
    for name, seconds in found.items():
        print(f"{name:32} {seconds:8.1f} s")


def make(n: int, G: int) -> Any:
    """Simulate scores with plausible values."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(1)
    school = np.sort(np.concatenate([np.arange(G), rng.integers(0, G, n - G)]))
    escs = rng.normal(size=n)
    between = np.linalg.cholesky([[30.0, 25.0, 26.0], [25.0, 32.0, 27.0], [26.0, 27.0, 31.0]])
    within = np.linalg.cholesky([[60.0, 45.0, 48.0], [45.0, 65.0, 47.0], [48.0, 47.0, 62.0]])
    effects, rest = 10 * rng.normal(size=(G, 3)) @ between.T, 10 * rng.normal(size=(n, 3)) @ within.T
    table = {"school": school, "escs": escs}
    table |= {"w_student": rng.uniform(10, 300, n), "w_school": rng.uniform(1, 10, G)[school]}
    for j, name in enumerate(NAMES):
        score = 500 + 20 * escs + effects[school, j] + rest[:, j]
        table |= {f"{name}{k}": score + 30 * rng.normal(size=n) for k in range(1, K + 1)}
    return pd.DataFrame(table)


def fit(spec: Record) -> Record:
    """Fit once, and say how long that took."""
    import pmwmix

    data = make(spec["rows"], spec["schools"])
    formulas = [f"{name} ~ escs + (1 | p | school)" for name in NAMES]
    pv = {name: name + "{}" for name in NAMES}
    _ = pmwmix.fit  # imports
    wall, cpu = time.perf_counter(), time.process_time()
    found = pmwmix.fit(formulas, data, pv=pv, weights=["w_student", "w_school"], scaling="size", progress=False)
    out = {"fit, wall": time.perf_counter() - wall, "fit, CPU of all threads": time.process_time() - cpu}
    wall = time.perf_counter()
    str(found.summary())
    found.wald("math.escs = read.escs")
    assert found.converged
    return {**out, "summary and a test": time.perf_counter() - wall, "cores": float(os.cpu_count() or 1)}


CHILDREN = {"fit": fit}

if __name__ == "__main__":
    main()
