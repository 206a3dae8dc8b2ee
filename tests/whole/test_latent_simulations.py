"""Estimates and coverage of contextual effects by latent and by observed group means, docs/latent-means.md; slow.

python tests/whole/test_latent_simulations.py [samples] prints the table.
"""

import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import pmwmix
from pmwmix.errors import PmwmixWarning

TRUTH = 0.5
CELLS = [(weighted, G, n) for weighted in (False, True) for G, n in ((100, 5), (100, 20), (50, 10))]


def sample(rng: np.random.Generator, G: int, n: int, weighted: bool) -> pd.DataFrame:
    """Draw groups, if wanted by their own mean and random effect together, and members at random."""
    N = 4 * G if weighted else G
    X, u = 0.5 * rng.normal(size=N), 0.4 * rng.normal(size=N)
    p = np.ones(N)
    if weighted:
        p = 1 / (1 + np.exp(1.1 - u / 0.4 - 0.5 * X / 0.5))
        taken = rng.random(N) < p
        X, u, p = X[taken], u[taken], p[taken]
    g = np.repeat(np.arange(len(X)), rng.integers(max(2, n - 3), n + 4, len(X)))
    x = X[g] + rng.normal(size=len(g))
    y = 0.3 * x + TRUTH * X[g] + u[g] + 0.9 * rng.normal(size=len(g))
    d = pd.DataFrame({"y": y, "x": x, "g": g, "w": 1 / p[g]})
    return d.assign(mean=d.groupby("g")["x"].transform("mean"))


def found(cell: tuple[bool, int, int], samples: int) -> dict[str, np.ndarray]:
    """Give estimate, standard error and whether the interval covers the truth, per sample."""
    weighted, G, n = cell
    rng, out = np.random.default_rng(7), {"latent_mean(x, g)": [], "mean": []}
    given = {"weights": {"g": "w"}, "conditional": True} if weighted else {"vcov": "robust"}
    for _ in range(samples):
        d = sample(rng, G, n, weighted)
        for term, rows in out.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PmwmixWarning)
                fit = pmwmix.fit(f"y ~ x + {term} + (1 | g)", d, **given)
            t = fit.tidy().iloc[2]
            rows.append((t["estimate"], t["std_error"], t["ci_low"] <= TRUTH <= t["ci_high"]))
    return {term: np.array(rows, dtype=float) for term, rows in out.items()}


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS[:3])
def test_intervals_cover(cell):
    samples = 400
    latent, observed = found(cell, samples).values()
    assert abs(latent[:, 0].mean() - TRUTH) < 0.05
    assert abs(latent[:, 2].mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / samples)
    assert observed[:, 2].mean() < 0.85


if __name__ == "__main__":
    for cell in CELLS:
        for term, rows in found(cell, int(sys.argv[1]) if len(sys.argv) > 1 else 400).items():
            mean, error, covered = rows.mean(axis=0)
            sys.stdout.write(f"{cell} {term:18} {mean:.3f} sd {rows[:, 0].std():.3f} se {error:.3f} {covered:.1%}\n")
