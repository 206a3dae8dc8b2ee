"""Do 95 % intervals cover in 95 % of samples: pooled over several sources, of trends, of the bootstrap."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit

import pmwmix
from pmwmix.pooling import pool

pytestmark = pytest.mark.slow
LINK = 3.0
SIZES, PARTS = ((5, 5), (5, 10), (10, 10)), ((0.3, 0.3, 0.1), (0.1, 0.6, 0.1), (0.05, 0.3, 0.0))
POOLED = [(*sizes, *parts) for sizes in SIZES for parts in PARTS]


def pooled_coverage(M: int, K: int, a: float, b: float, ab: float, rule: str, n: int = 2000) -> float:
    """Share of samples whose interval covers; sources have variances a, b, ab where one fit has variance 1."""
    rng, hits = np.random.default_rng(4), 0
    nests = {
        "crossed": [(f"imputation {m}", f"PV {k}") for m in range(M) for k in range(K)],
        "nested": [(f"imputation {m}",) for m in range(M) for _ in range(K)],
        "rubin": (),
    }[rule]
    for _ in range(n):
        parts = (rng.normal(size=shape) * np.sqrt(v) for shape, v in (((M, 1), a), ((1, K), b), ((M, K), ab)))
        values = rng.normal() * np.sqrt(1 + a + b + ab) + sum(parts)
        found = pool(values.reshape(-1, 1), np.ones((M * K, 1)), np.inf, nests)
        half = stdtrit(min(found.df[0], 1e9), 0.975) * np.sqrt(found.vcov[0])
        hits += abs(found.estimate[0]) <= half
    return hits / n


@pytest.mark.parametrize("cell", POOLED, ids=str)
def test_pooled_intervals_cover(cell):
    M, K, a, b, ab = cell
    assert 0.93 <= pooled_coverage(M, K, a, b, ab, "crossed") <= 0.97
    assert 0.93 <= pooled_coverage(M, K, a, 0.0, b + ab, "nested") <= 0.97


def trend_coverage(n: int = 400) -> dict[str, float]:
    """Cycles without a change, the second one's scale moved by a normal error of linking."""
    rng, hits = np.random.default_rng(5), {"Intercept": 0, "escs": 0}
    for r in range(n):
        fits, link = {}, rng.normal() * LINK
        for cycle in (1, 2):
            s = pmwmix.simulate_survey(40, 15, n_pv=3, random_seed=10_000 + 2 * r + cycle)
            data = s.data.copy()
            data[[f"PV{k}MATH" for k in (1, 2, 3)]] += link * (cycle - 1)
            options = {"weights": s.weights, "scaling": "size", "pv": s.pv, "engine": "numpy"}
            fits[cycle] = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", data, **options)
        table = pmwmix.trend(fits, linking=LINK).set_index("term")
        for term in hits:
            hits[term] += table.loc[term, "ci_low"] <= 0 <= table.loc[term, "ci_high"]
    return {term: count / n for term, count in hits.items()}


def test_trends_cover():
    found = trend_coverage()
    assert all(0.915 <= share <= 0.985 for share in found.values()), found  # three binomial standard errors


def bootstrap_coverage(n: int = 300) -> pd.Series:
    """30 groups of 10, random intercept; 200 refits per interval; by kind, interval and parameter."""
    rng, truth = np.random.default_rng(11), {"Intercept": 1.0, "x": 0.5, "g Intercept": 0.7, "Residual": 1.0}
    hits: dict[tuple[str, str, str], list[bool]] = {}
    for r in range(n):
        g = np.repeat(np.arange(30), 10)
        x = rng.normal(size=300) + 0.5 * rng.normal(size=30)[g]
        y = 1 + 0.5 * x + 0.7 * rng.normal(size=30)[g] + rng.normal(size=300)
        fit = pmwmix.fit("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}), method="reml", engine="numpy")
        for kind in ("parametric", "residual", "cases", "rao-wu"):
            boot = fit.bootstrap(200, kind=kind, random_seed=r)
            for method in ("percentile", "basic", "bca", "t"):
                ends = boot.confint(method=method)
                for term, value in truth.items():
                    inside = ends.loc[term, "ci_low"] <= value <= ends.loc[term, "ci_high"]
                    hits.setdefault((kind, method, term), []).append(bool(inside))
    return pd.Series({key: np.mean(one) for key, one in hits.items()})


def test_bootstrap_intervals_cover():
    """With 30 groups intervals without a t distribution are a little short; those with it keep their level."""
    found = bootstrap_coverage(100).groupby(level=[0, 1]).mean()
    assert (found > 0.88).all(), found
    assert found.xs("t", level=1).between(0.93, 0.985).all(), found


def difference_coverage(n: int = 400) -> dict[str, float]:
    """Two countries in two cycles, 30 schools of 12 each, no change but one error of linking for both."""
    rng, hits = np.random.default_rng(6), {"Intercept": 0, "escs": 0}
    for r in range(n):
        fits, link = {}, rng.normal() * LINK
        for cycle in (1, 2):
            fits[cycle] = {}
            for country in (1, 2):
                s = pmwmix.simulate_survey(30, 12, n_pv=3, random_seed=50_000 + 4 * r + 2 * cycle + country)
                data = s.data.copy()
                data[[f"PV{k}MATH" for k in (1, 2, 3)]] += link * (cycle - 1)
                options = {"weights": s.weights, "scaling": "size", "pv": s.pv, "engine": "numpy"}
                fits[cycle][country] = pmwmix.fit("math ~ escs + (1 | SCHOOLID)", data, **options)
        table = pmwmix.trend_differences(pmwmix.trend(fits, linking=LINK)).set_index("term")
        for term in hits:
            hits[term] += table.loc[term, "ci_low"] <= 0 <= table.loc[term, "ci_high"]
    return {term: count / n for term, count in hits.items()}


def test_differences_between_trends_cover():
    found = difference_coverage()
    assert all(0.915 <= share <= 0.985 for share in found.values()), found


if __name__ == "__main__":
    for M, K, a, b, ab in POOLED:
        crossed = [f"{rule} {pooled_coverage(M, K, a, b, ab, rule):.3f}" for rule in ("crossed", "nested", "rubin")]
        print(M, K, a, b, ab, *crossed, f"nested data {pooled_coverage(M, K, a, 0.0, b + ab, 'nested'):.3f}")
    print(trend_coverage(), difference_coverage())
    print(bootstrap_coverage().unstack().round(3).to_string())
