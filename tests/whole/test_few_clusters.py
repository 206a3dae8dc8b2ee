"""Tests with few clusters keep their level: CR2 of generalised models, with strata, df of other sandwiches."""

import sys

import numpy as np
import pandas as pd
import pytest

import pmwmix

LEVEL = 0.05
WAYS = {"robust": ("robust", "design"), "robust, bell-mccaffrey": ("robust", "bell-mccaffrey"), "CR2": ("CR2", None)}


def clustered(rng, J=16, strata=1):
    """Schools of unequal size with weights at both levels; half of them have z, no predictor has an effect."""
    size = rng.integers(8, 25, J)
    g = np.repeat(np.arange(J), size)
    d = pd.DataFrame({"g": g, "x": rng.normal(size=len(g)), "z": (g % 2 == 0).astype(float), "stratum": g % strata})
    d["v"] = rng.normal(size=J)[g]
    d["w1"], d["w2"] = rng.uniform(1, 3, len(g)), rng.uniform(1, 4, J)[g]
    eta = 0.7 * rng.normal(size=J)[g] - 0.4
    d["pass"] = (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(float)
    d["count"], d["score"] = rng.poisson(np.exp(eta)), eta + rng.normal(size=len(g))
    return d


CELLS = {  # formula, options, strata, J, tests
    "logistic, random intercept": ("pass ~ x + z + (1 | g)", {"family": "binomial"}, 1, 16, ["x", "z", ["x", "z"]]),
    "logistic, clusters alone": ("pass ~ x + z", {"family": "binomial"}, 1, 16, ["x", "z", ["x", "z"]]),
    "poisson, random intercept": ("count ~ x + z + (1 | g)", {"family": "poisson"}, 1, 16, ["x", "z", ["x", "z"]]),
    "linear, 4 strata": ("score ~ x + v + (1 | g)", {}, 4, 16, ["x", "v", ["x", "v"]]),
    "logistic, 4 strata": ("pass ~ x + v + (1 | g)", {"family": "binomial"}, 4, 16, ["x", "v", ["x", "v"]]),
}


def rejections(cell, n, seed=1):
    """Share of samples in which every test rejects, by way and test."""
    formula, options, strata, J, tests = CELLS[cell]
    found = {way: np.zeros(len(tests)) for way in WAYS}
    rng, used = np.random.default_rng(seed), 0
    for _ in range(n):
        d = clustered(rng, J, strata)
        weights = ["w1", "w2"] if "|" in formula else "w1"
        design = {"psu": "g", **({"strata": "stratum"} if strata > 1 else {})}
        if "|" in formula:
            options = {**options, "conditional": True, "scaling": "size"}
        fits = {}
        for kind in ("robust", "CR2"):
            fits[kind] = pmwmix.fit(formula, d, weights=weights, design=design, vcov=kind, **options)
        if not all(fit.converged for fit in fits.values()):
            continue
        used += 1
        for way, (kind, df) in WAYS.items():
            p = [fits[kind].wald(test, df=df).p_value for test in tests]
            found[way] += np.array(p) < LEVEL
    return {way: share / used for way, share in found.items()}, used


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_cr2_never_rejects_too_often(cell):
    shares, used = rejections(cell, 300, seed=2)
    assert used > 290
    assert (shares["CR2"] < LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / used)).all(), shares


def main(n):
    """Print the tables of docs/simulations.md."""
    for cell in CELLS:
        shares, used = rejections(cell, n)
        print(f"\n{cell} ({used} samples): {CELLS[cell][-1]}")
        for way, share in shares.items():
            print(f"| {way} | {' | '.join(f'{100 * one:.1f}' for one in share)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
