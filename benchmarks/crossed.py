"""Crossed random effects: first fit of a fresh process, later fits and peak memory; lme4 beside.

Seconds are those of the processor, all threads together, which other programs disturb less; ``--json`` has both kinds.

    python benchmarks/crossed.py --data ../shared/data

``--data`` is a folder with InstEval and VerbAgg of lme4 as compressed CSV. A million simulated ratings of 4,000 by
10,000 come last, without lme4; ``--no-large`` leaves them out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _harness import (
    Record,
    has_r,
    is_child,
    machine,
    parser_of,
    peak_mib,
    print_table,
    run_child,
    run_r,
    timed,
    write_json,
)

INSTEVAL = "y ~ service + (1 | s) + (1 | d) + (1 | dept)"
VERBAGG = "y ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)"
LAPLACE = {"family": "binomial", "n_agq": 1}
MODELS = {  # data, formula, options
    "InstEval, ML": ("insteval", INSTEVAL, {"method": "ml"}),
    "InstEval, REML": ("insteval", INSTEVAL, {"method": "reml"}),
    "VerbAgg, Laplace": ("verbagg", VERBAGG, LAPLACE),
    "InstEval above 3, Laplace": ("insteval", "I(y > 3) ~ service + (1 | s) + (1 | d)", LAPLACE),
}
LARGE = {"a million ratings, REML": ("ratings", "y ~ x + (1 | a) + (1 | b)", {"method": "reml"})}


def table(name: str, folder: str):
    """Read or simulate a table."""
    import numpy as np
    import pandas as pd

    if name == "ratings":
        rng = np.random.default_rng(1)
        n, sizes = 1_000_000, (10_000, 4_000)
        a, b = (rng.integers(0, size, n) for size in sizes)
        x, u = rng.normal(size=n), [s * rng.normal(size=size) for s, size in zip((0.6, 0.4), sizes, strict=True)]
        return pd.DataFrame({"a": a, "b": b, "x": x, "y": 0.5 * x + u[0][a] + u[1][b] + rng.normal(size=n)})
    data = pd.read_csv(Path(folder) / f"{name}.csv.gz")
    if name == "verbagg":
        return data.assign(y=(data["r2"] == "Y").astype(int))
    return data.astype({name: str for name in ("s", "d", "dept", "service")})


def fit_one(spec: Record) -> Record:
    """Fit a model as the first of its process, and again."""
    import pmwmix

    name, formula, options = (MODELS | LARGE)[spec["model"]]
    data = table(name, spec["data"])
    first, fit = both(lambda: pmwmix.fit(formula, data, **options))
    times = [both(lambda: pmwmix.fit(formula, data, **options))[0] for _ in range(spec["later"])]
    return {"first": first, "later": min(times, default=(None, None)), "loglik": fit.loglik, "peak_mib": peak_mib()}


def both(run: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Give processor's and wall-clock seconds of ``run``, and its value."""
    begin = time.process_time()
    wall, value = timed(run)
    return (time.process_time() - begin, wall), value


CHILDREN = {"one": fit_one}


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = parser_of(__doc__, CHILDREN)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data")
    parser.add_argument("--no-r", action="store_true", help="leave lme4 out")
    parser.add_argument("--no-large", action="store_true", help="leave the million ratings out")
    options = parser.parse_args()
    if is_child(options, CHILDREN):
        return
    folder = str(options.data.resolve())
    beside = (run_r(folder) if has_r() and not options.no_r else None) or {}
    rows, found = [], {}
    for model in MODELS if options.no_large else MODELS | LARGE:
        one = found[model] = run_child("one", {"model": model, "data": folder, "later": 0 if model in LARGE else 3})
        theirs = beside.get(model, {})
        times = (one["first"][0], one["later"][0], theirs.get("seconds"))
        rows.append([model, *("" if x is None else f"{x:.2f}" for x in times), f"{one['peak_mib']:.0f}",
                     f"{one['loglik']:.4f}", f"{theirs['loglik']:.4f}" if theirs else ""])  # fmt: skip
    print_table(["model", "first fit", "later fit", "lme4", "peak MiB", "log-likelihood", "lme4's"], rows)
    print(f"\n{machine()}")
    write_json(options, {"pmwmix": found, "lme4": beside, "machine": machine()})


if __name__ == "__main__":
    main()
