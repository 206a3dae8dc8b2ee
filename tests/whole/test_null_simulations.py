"""Null simulations: the tests of the package reject a true null hypothesis at 5 % about 5 % of the time.

``python -m pytest -m slow tests/whole/test_null_simulations.py`` asserts; the file run as a script prints the table of
docs/simulations.md, with cells that are beyond what the tests promise. Settings and seeds were
fixed before the first run (seed ``100000 * cell + repetition``); a cell that missed its level is a strict xfail with
the rate that was measured, so that a remedy shows.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pmwmix
from pmwmix.errors import PmwmixWarning

LEVEL = 0.05
NO_SLOPE = ((2025.0, 0.0), (0.0, 0.0))
Rates = dict[str, float]


def tolerance(n_sim: int, level: float = LEVEL) -> float:
    """Three standard errors of a rejection rate."""
    return 3 * float(np.sqrt(level * (1 - level) / n_sim))


def surveys(cell: int, n_sim: int, n_schools: int, n_pv: int) -> Iterator[tuple[pmwmix.simulate.SimulatedSurvey, dict]]:
    """Informative samples of 15 students per school with noise at the student (n1) and at the school level (n2)."""
    for seed in range(100_000 * cell, 100_000 * cell + n_sim):
        s = pmwmix.simulate_survey(
            n_schools, 15, n_pv=n_pv, n_covariates=1, psi=NO_SLOPE, reliability=1.0 if n_pv == 1 else 0.9,
            random_seed=seed,
        )  # fmt: skip
        rng = np.random.default_rng([seed, 1])
        s.data["n1"] = rng.standard_normal(len(s.data))
        s.data["n2"] = rng.standard_normal(n_schools)[s.data["SCHOOLID"].to_numpy() - 1]
        yield s, {"weights": s.weights, "scaling": "size", "progress": False}


def rates(rejections: list[dict[str, float]]) -> Rates:
    """Share of p-values below 5 %, by name; one that is missing or not a number is an error, not an acceptance."""
    table = pd.DataFrame(rejections)
    if table.isna().any(axis=None):
        raise ValueError(f"p-values are missing: {table.isna().sum().to_dict()}")
    return (table < LEVEL).mean().to_dict()


def scaled_lrt(cell: int, n_sim: int, n_schools: int, noise: str) -> Rates:
    """Scaled likelihood-ratio test of a fixed effect; ``unscaled`` only standardises the school weights to mean one."""
    out = []
    for s, options in surveys(cell, n_sim, n_schools, 1):
        small = pmwmix.fit("PV1MATH ~ escs + (1 | SCHOOLID)", s.data, **options)
        large = pmwmix.fit(f"PV1MATH ~ escs + {noise} + (1 | SCHOOLID)", s.data, **options)
        mean_weight = s.data.drop_duplicates("SCHOOLID")["W_FSCHWT"].mean()
        out.append(
            {
                "scaled LRT": pmwmix.lrt(small, large)["p_value"].iloc[1],
                "robust t (tidy)": large.wald([noise])["p_value"],
                "unscaled LRT": stats.chi2.sf(2 * (large.loglik - small.loglik) / mean_weight, 1),
            }
        )
    return rates(out)


def pooled_wald(cell: int, n_sim: int, n_schools: int) -> Rates:
    """D1 over 5 plausible values, a student and a school predictor together; D2 of the scaled LRT beside it."""
    out = []
    for s, options in surveys(cell, n_sim, n_schools, 5):
        small = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", s.data, pv=s.pv, **options)
        large = pmwmix.fit("math ~ escs + n1 + n2 + (1 | SCHOOLID)", s.data, pv=s.pv, **options)
        wald = large.wald(["n1", "n2"])
        assert wald["df1"] == 2
        pooled = pmwmix.lrt(small, large)["p_value"].iloc[1]
        out.append({"pooled Wald (D1)": wald["p_value"], "pooled LRT (D2)": pooled})
    return rates(out)


def boundary(cell: int, n_sim: int, smaller: str, larger: str, intercept_sd: float) -> Rates:
    """Test of a variance that is zero; 40 groups of 15, ML, no weights."""
    g, out = np.repeat(np.arange(40), 15), []
    for seed in range(100_000 * cell, 100_000 * cell + n_sim):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(600)
        y = 1 + 0.5 * x + intercept_sd * rng.standard_normal(40)[g] + rng.standard_normal(600)
        d = pd.DataFrame({"y": y, "x": x, "g": g})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PmwmixWarning)  # variances at zero are what is simulated
            row = pmwmix.lrt(pmwmix.fit(smaller, d), pmwmix.fit(larger, d)).iloc[1]
        assert row["p_boundary"] <= row["p_value"] + 1e-12
        out.append({"p_boundary": row["p_boundary"], "naive p_value": row["p_value"]})
    return rates(out)


ONE = "y ~ x + (1 | g)"
# zero variance: smaller model, larger model, SD of the intercept, and the level of the naive test in large samples:
# half of P(chi2_1 > q) + half of P(chi2_2 > q) at q = 5.99, or half of P(chi2_1 > 3.84)
NAIVE_TWO = 0.5 * float(stats.chi2.sf(stats.chi2.isf(LEVEL, 2), 1)) + 0.5 * LEVEL
BOUNDARY = {
    "correlated slope": (ONE, "y ~ x + (1 + x | g)", 1.0, NAIVE_TWO),
    "uncorrelated slope": (ONE, "y ~ x + (1 | g) + (0 + x | g)", 1.0, 0.5 * LEVEL),
    "intercept": ("y ~ x", ONE, 0.0, 0.5 * LEVEL),
}
TOO_SELDOM = pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="2.6 % (3.6 % with fresh seeds): with 40 groups the estimate is zero in 58 % of samples, not in half",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "noise"),
    [pytest.param(1, "n1", id="student"), pytest.param(2, "n2", id="school")],
)
def test_scaled_lrt_keeps_its_level_under_informative_weights(cell: int, noise: str):
    """100 schools: their weights leave an effective number near 70, at which a chi-square reference costs < 1 point."""
    n_sim = 1000
    found = scaled_lrt(cell, n_sim, 100, noise)
    if found["unscaled LRT"] <= LEVEL + tolerance(n_sim):
        raise RuntimeError(f"The simulation would not notice a missing scale: {found}")
    assert abs(found["scaled LRT"] - LEVEL) < tolerance(n_sim), found


@pytest.mark.slow
def test_pooled_wald_keeps_its_level_under_informative_weights():
    n_sim = 1000
    found = pooled_wald(3, n_sim, 100)
    assert abs(found["pooled Wald (D1)"] - LEVEL) < tolerance(n_sim), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (4, "correlated slope"),
        pytest.param(5, "uncorrelated slope", marks=TOO_SELDOM),
        (6, "intercept"),
    ],
)
def test_boundary_test_keeps_its_level_and_the_naive_test_is_conservative(cell: int, name: str):
    n_sim = 2000
    *models, naive = BOUNDARY[name]
    found = boundary(cell, n_sim, *models)
    assert abs(found["p_boundary"] - LEVEL) < tolerance(n_sim), found
    assert abs(found["naive p_value"] - naive) < tolerance(n_sim, naive), found
    assert found["naive p_value"] < LEVEL - tolerance(n_sim) / 3, found


def main(wanted: list[int]) -> None:
    """Print a row per cell and test: all cells, or those named."""
    cells = {
        1: ("student noise, 100 schools", 1000, lambda c, n: scaled_lrt(c, n, 100, "n1")),
        2: ("school noise, 100 schools", 1000, lambda c, n: scaled_lrt(c, n, 100, "n2")),
        3: ("student and school noise, 5 PVs, 100 schools", 1000, lambda c, n: pooled_wald(c, n, 100)),
        **{
            c: (f"zero variance: {name}", 2000, lambda c, n, name=name: boundary(c, n, *BOUNDARY[name][:3]))
            for c, name in enumerate(BOUNDARY, start=4)
        },
        7: ("student noise, 30 schools", 1000, lambda c, n: scaled_lrt(c, n, 30, "n1")),
        8: ("school noise, 30 schools", 1000, lambda c, n: scaled_lrt(c, n, 30, "n2")),
        9: ("student and school noise, 5 PVs, 30 schools", 1000, lambda c, n: pooled_wald(c, n, 30)),
        10: ("school noise, 60 schools", 1000, lambda c, n: scaled_lrt(c, n, 60, "n2")),
        11: ("school noise, 300 schools", 1000, lambda c, n: scaled_lrt(c, n, 300, "n2")),
    }
    for cell in wanted or cells:
        text, n_sim, run = cells[cell]
        start = time.perf_counter()
        found = run(cell, n_sim)
        for name, rate in found.items():
            se = np.sqrt(rate * (1 - rate) / n_sim)
            row = f"| {cell} | {text} | {n_sim} | {name} | {100 * rate:.1f} | {100 * se:.2f} |"
            print(row, f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]])
