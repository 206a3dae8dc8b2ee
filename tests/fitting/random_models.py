"""Fit random small models and compare with dense algebra or dense quadrature, from many starts.

``python tests/fitting/random_models.py 1000`` prints how many agreed, were flagged, refused, wrong in silence, crashed.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, gammaln, logsumexp

import pmwmix
from pmwmix.fitting.optimise import Status
from pmwmix.results.words import SWAY

TOLERANCE = {"gaussian": 1e-4, "binomial": 1e-2, "poisson": 1e-2}  # in the log-likelihood
COARSE = np.linspace(-40.0, 40.0, 321)  # standard deviations of the intercept: where dense quadrature looks
DEPTH = 40.0  # in logarithms below the peak of an integrand: less is nothing
FINE = np.linspace(0.0, 1.0, 301)
RADII, ANGLES = np.geomspace(0.05, 200.0, 14), np.pi * (np.arange(12) - 5) / 12  # first column of Lambda


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Make a model: groups of 1 to 8 rows, predictors constant in groups, wide weights, near-collinear columns."""
    n_groups = int(rng.integers(4, 14))
    sizes = rng.integers(1, 9, n_groups)
    sizes[: rng.integers(0, 3)] = 1
    g = np.repeat(np.arange(n_groups), sizes)
    n = len(g)
    x = rng.normal(size=n)
    if rng.random() < 0.3:
        x = np.where(g % 2 == 0, rng.normal(size=n_groups)[g], x)  # constant in some groups
    columns = [x]
    if rng.random() < 0.3:
        columns.append(x + 10.0 ** -rng.integers(1, 5) * rng.normal(size=n))
    family = str(rng.choice(["gaussian", "gaussian", "gaussian", "binomial", "poisson"]))
    slope = family == "gaussian" and rng.random() < 0.25
    eta = 0.5 * x + rng.choice([0.0, 0.5, 2.0]) * rng.normal(size=n_groups)[g]
    if slope:
        eta = eta + (rng.choice([0.0, 1.0]) * rng.normal(size=n_groups))[g] * x
    y = eta + rng.normal(size=n) if family == "gaussian" else 1.0 * (rng.random(n) < expit(eta))
    if family == "poisson":
        y = rng.poisson(np.exp(np.clip(eta, -3, 3))).astype(float)
    W = np.exp(rng.choice([0.0, 0.0, 2.0]) * rng.normal(size=n_groups))
    return {"g": g, "X": np.column_stack([np.ones(n), *columns]), "y": y, "W": W, "family": family, "slope": slope}


def table_of(model: dict[str, Any], shift: float = 0.0, scale: float = 1.0) -> pd.DataFrame:
    """Give its table, the outcome of a linear model and the first predictor moved and stretched."""
    X, g = model["X"], model["g"]
    table = pd.DataFrame({f"x{j}": X[:, j] for j in range(1, X.shape[1])})
    table["x1"] = table["x1"] * scale + shift
    y = model["y"] * scale + shift if model["family"] == "gaussian" else model["y"]
    return table.assign(y=y, g=g, one=1.0, W=model["W"][g])


def fitted(model: dict[str, Any], shift: float, scale: float) -> Any:
    """Fit it."""
    right = " + ".join(f"x{j}" for j in range(1, model["X"].shape[1]))
    weights = {"weights": ["one", "W"], "conditional": True, "vcov": "model"} if np.ptp(model["W"]) else {}
    random = "(1 + x1 | g)" if model["slope"] else "(1 | g)"
    return pmwmix.fit(f"y ~ {right} + {random}", table_of(model, shift, scale), family=model["family"], **weights)


def dense_gaussian(model: dict[str, Any]) -> float:
    """Highest log-likelihood over theta by matrices of each group, beta and sigma profiled out."""
    X, y, g, W = (model[name] for name in ("X", "y", "g", "W"))
    Z = X[:, :2] if model["slope"] else X[:, :1]
    q, rows = Z.shape[1], [np.flatnonzero(g == j) for j in range(len(W))]
    Q = np.linalg.qr(X)[0]
    total = sum(w * len(at) for w, at in zip(W, rows, strict=True))

    def value(theta: np.ndarray) -> float:
        Lambda = np.zeros((q, q))
        Lambda[np.tril_indices(q)] = theta
        A, logdet = np.zeros((Q.shape[1] + 1, Q.shape[1] + 1)), 0.0
        for w, at in zip(W, rows, strict=True):
            V = np.eye(len(at)) + (Z[at] @ Lambda) @ (Z[at] @ Lambda).T
            try:
                L = np.linalg.cholesky(V)
            except np.linalg.LinAlgError:  # far out, where 1 is nothing beside the random part
                return np.inf
            half = np.linalg.solve(L, np.column_stack([Q[at], y[at]]))
            A += w * half.T @ half
            logdet += 2.0 * w * np.log(np.diag(L)).sum()
        rss = A[-1, -1] - A[-1, :-1] @ np.linalg.solve(A[:-1, :-1], A[:-1, -1])
        return 0.5 * (total * (1.0 + np.log(2 * np.pi * rss / total)) + logdet)

    if q == 1:
        grid = np.append(0.0, np.geomspace(1e-2, 1e2, 60))
        values = [value(np.array([t])) for t in grid]
        starts = [np.array([grid[i]]) for i in np.argsort(values)[:2]]
    else:
        grid = [np.array([r * np.cos(a), r * np.sin(a), c * r]) for r in RADII for a in ANGLES for c in (0.0, 0.1, 1.0)]
        values = np.array([value(theta) for theta in grid])
        cube = values.reshape(len(RADII), len(ANGLES), 3)
        around = [np.roll(cube, step, axis) for axis in (1, 2) for step in (-1, 1)]
        padded = np.pad(cube, [(1, 1), (0, 0), (0, 0)], constant_values=np.inf)
        lowest = np.all([cube <= other for other in (*around, padded[:-2], padded[2:])], axis=0).ravel()
        order = np.argsort(np.where(lowest, values, np.inf))[: min(lowest.sum(), 8)]
        starts = [np.zeros(3), *(grid[i] for i in order)]
    options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 600}
    return -min([*values, *(minimize(value, start, method="Nelder-Mead", options=options).fun for start in starts)])


def dense_general(model: dict[str, Any], start: np.ndarray) -> float:
    """Highest log-likelihood by a trapezoid rule that covers each unit's integrand, climbed from several starts.

    Integrands are log-concave, so that the coarse grid's highest point stands beside the peak.
    """
    X, y, g, W = (model[name] for name in ("X", "y", "g", "W"))
    scale = np.maximum(np.abs(start[:-1]), 1.0)
    edges = np.flatnonzero(np.diff(g, prepend=-1))

    def units(eta: np.ndarray, z: np.ndarray) -> np.ndarray:
        if model["family"] == "binomial":
            rows = y[:, None] * eta - np.logaddexp(0.0, eta)
        else:
            rows = y[:, None] * eta - np.exp(np.minimum(eta, 700.0)) - gammaln(y + 1.0)[:, None]
        return np.add.reduceat(rows, edges, axis=0) - 0.5 * z**2 - 0.5 * np.log(2 * np.pi)

    def value(psi: np.ndarray) -> float:
        fixed = (X @ (psi[:-1] * scale))[:, None]
        coarse = units(fixed + psi[-1] * COARSE, COARSE)
        above = coarse > coarse.max(axis=1, keepdims=True) - DEPTH
        low = COARSE[np.maximum(above.argmax(axis=1) - 1, 0)]
        high = COARSE[np.minimum(len(COARSE) - above[:, ::-1].argmax(axis=1), len(COARSE) - 1)]
        z = low[:, None] + (high - low)[:, None] * FINE
        fine = units(fixed + psi[-1] * z[g], z) + np.log((high - low) * FINE[1])[:, None]
        return float(-(W * logsumexp(fine, axis=1)).sum())

    first = np.append(start[:-1] / scale, start[-1])
    starts = [first, *(np.append(first[:-1] * 0.1, sd) for sd in (0.0, 1.0, 3.0, 10.0))]
    return -min(minimize(value, one, method="BFGS").fun for one in starts)


def check(seed: int) -> tuple[str, str]:
    """Give the outcome of one random model and, unless it agreed, what it says."""
    rng = np.random.default_rng(seed)
    model = draw(rng)
    shift, scale = rng.choice([0.0, 0.0, 1e4, 1e8]), rng.choice([1.0, 1.0, 1e-8, 1e8])
    if shift > 0:
        scale = 1.0  # sixteen digits hold one or the other
    try:
        fit = fitted(model, shift, scale)
    except pmwmix.PmwmixError as error:
        return "refused", str(error)
    except Exception as error:
        return "crashed", repr(error)
    if "dropped" in " ".join(fit.notes):
        return "flagged", "column dropped"
    if model["family"] == "gaussian":
        total = model["W"][model["g"]].sum()
        best, found = dense_gaussian(model), fit.loglik + total * np.log(scale)
    else:
        coef = fit.coef.to_numpy().copy()
        coef[1] *= scale
        coef[0] += coef[1] * shift / scale
        best, found = dense_general(model, np.append(coef, np.sqrt(fit.varcorr["vcov"].iloc[0]))), fit.loglik
    allowed = TOLERANCE[model["family"]] * max(1.0, float(model["W"].max())) + 1e-9 * shift
    if abs(best - found) <= allowed:
        return "agreed", ""
    reached = np.nan if fit.quadrature is None else fit.quadrature["loglik_error"]  # the summary says so
    silent = fit.status in (Status.CONVERGED.value, Status.SINGULAR.value)
    told = not fit.converged or not silent or abs(best - found) <= SWAY * reached
    text = f"seed {seed}, {model['family']}: {found:.6f}, dense {best:.6f}; {fit.status}"
    if found > best:
        return ("higher" if model["family"] == "gaussian" else "flagged" if told else "wrong"), text
    return ("flagged" if told else "wrong"), text


def main(n: int, first: int = 0) -> Counter[str]:
    """Check n models and print what became of them."""
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    for seed in range(first, first + n):
        kind, text = check(seed)
        counts[kind] += 1
        if kind in ("wrong", "crashed", "higher"):
            print(kind, text, flush=True)
    print(dict(counts))
    return counts


if __name__ == "__main__":
    found = main(*map(int, sys.argv[1:]))
    sys.exit(bool(found["wrong"] or found["crashed"]))
