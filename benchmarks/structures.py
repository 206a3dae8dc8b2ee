"""Residual correlation, many zeros and unordered categories: later fits beside simpler models, nlme and glmmTMB.

Seconds are those of the processor, all threads together, which other programs disturb less, then wall-clock ones.

    python benchmarks/structures.py

AR(1): 100,000 rows in 10,000 groups with a random slope, with and without the correlation. Zeros: 56,000 rows in 2,000
groups, Poisson and zero-inflated Poisson by Laplace's approximation. Categories: four, 56,000 rows in 2,000 groups,
a random intercept per category and their covariance, Laplace. R's fits are optional: ``--no-r``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _harness import Record, has_r, is_child, machine, parser_of, print_table, run_child, run_r, timed, write_json

AR1 = {"residual": {"correlation": "ar1", "time": "t", "group": "g"}}
ZEROS = "y ~ x1 + x2 + x3 + (1 | g)"
LAPLACE = {"n_agq": 1}
MODELS = {  # data, formula, options
    "random slope": ("growth", "y ~ x + t + (1 + t | g)", {}),
    "random slope, AR(1)": ("growth", "y ~ x + t + (1 + t | g)", AR1),
    "Poisson": ("zeros", ZEROS, {"family": "poisson", **LAPLACE}),
    "zero-inflated Poisson": ("zeros", [ZEROS, "zi ~ x1"], {"family": "zero-inflated-poisson", **LAPLACE}),
    "multinomial, 4 categories": ("choices", ZEROS, {"family": "multinomial", **LAPLACE}),
}


def table(name: str):
    """Simulate a table."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(1)
    groups, size = (10_000, 10) if name == "growth" else (2_000, 28)
    g, n = np.repeat(np.arange(groups), size), groups * size
    if name == "growth":
        t, e = np.tile(np.arange(size), groups), rng.normal(size=(groups, size))
        for k in range(1, size):
            e[:, k] = 0.5 * e[:, k - 1] + np.sqrt(0.75) * e[:, k]
        x, u = rng.normal(size=n), rng.normal(size=(groups, 2)) * [0.8, 0.2]
        return pd.DataFrame({"g": g, "t": t, "x": x, "y": 1 + 0.5 * x + 0.3 * t + u[g, 0] + u[g, 1] * t + e.ravel()})
    X, u = rng.normal(size=(n, 3)), rng.normal(size=(groups, 3)) @ [[0.8, 0.4, 0.2], [0.0, 0.6, 0.2], [0.0, 0.0, 0.5]]
    eta = [0.3, -0.2, 0.0] + X @ [[0.4, 0.1, -0.3], [-0.2, 0.3, 0.2], [0.1, 0.2, 0.5]] + u[g]
    d = pd.DataFrame(X, columns=["x1", "x2", "x3"]).assign(g=g)
    if name == "zeros":
        extra = rng.random(n) < 1 / (1 + np.exp(1.0 - 0.5 * X[:, 0]))
        return d.assign(y=np.where(extra, 0, rng.poisson(np.exp(eta[:, 0]))))
    p = np.exp(np.column_stack([np.zeros(n), eta]))
    codes = (rng.random(n)[:, None] > (p / p.sum(axis=1, keepdims=True)).cumsum(axis=1)).sum(axis=1)
    return d.assign(y=pd.Categorical.from_codes(codes, list("abcd")))


def fit_one(spec: Record) -> Record:
    """Fit a model as the first of its process, and again."""
    import pmwmix

    name, formula, options = MODELS[spec["model"]]
    data = table(name)
    first, fit = both(lambda: pmwmix.fit(formula, data, **options))
    times = [both(lambda: pmwmix.fit(formula, data, **options))[0] for _ in range(spec["later"])]
    return {"first": first, "later": min(times), "loglik": fit.loglik}


def write(spec: Record) -> Record:
    """Write the tables that R reads."""
    for name in ("growth", "zeros"):
        table(name).to_csv(Path(spec["folder"]) / f"{name}.csv", index=False)
    return {}


def both(run: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Give processor's and wall-clock seconds of ``run``, and its value."""
    begin = time.process_time()
    wall, value = timed(run)
    return (time.process_time() - begin, wall), value


CHILDREN = {"one": fit_one, "write": write}


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--no-r", action="store_true", help="leave nlme and glmmTMB out")
    parser.add_argument("--later", type=int, default=3, help="fits after the first, of which the best counts")
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    beside: Record = {}
    if has_r() and not options.no_r:
        with tempfile.TemporaryDirectory() as folder:
            run_child("write", {"folder": folder})
            beside = run_r(folder) or {}
    rows, found = [], {}
    for model in MODELS:
        one = found[model] = run_child("one", {"model": model, "later": options.later})
        theirs = beside.get(model, {})
        rows.append([model, "{:.2f} / {:.2f}".format(*one["first"]), "{:.2f} / {:.2f}".format(*one["later"]),
                     "{seconds:.2f} / {wall:.2f}".format(**theirs) if theirs else "", f"{one['loglik']:.4f}",
                     f"{theirs['loglik']:.4f}" if theirs else ""])  # fmt: skip
    print_table(["model", "first fit", "later fit", "R", "log-likelihood", "R's"], rows)
    print(f"\n{machine()}")
    write_json(options, {"pmwmix": found, "R": beside, "machine": machine()})


if __name__ == "__main__":
    main()
