"""Simulation-based calibration: parameters from the prior, data from the parameters, ranks of the former uniform.

Talts, Betancourt, Simpson, Vehtari & Gelman (2018). Outcomes of many replications are passed as plausible values: they
share predictors, priors and compiled code, and each has a posterior of its own.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pmwmix

BATCH, BATCHES = 60, 5
THIN, RANKS = 15, 20  # of 300 draws of a chain every 15th: ranks 0, ..., 20; their autocorrelation is below 0.02
HOW = {"method": "bayes", "chains": 1, "draws": 300, "tune": 300, "progress": False}


def groups_and_x(n_groups, size, rng):
    g = np.repeat(np.arange(n_groups), size)
    x = rng.normal(size=len(g))
    return g, x - x.mean()  # centred, so that priors hold for the parameters as they are reported


def draw_linear(rng, g, x):
    truth = {
        "Intercept": rng.normal(2, 1), "x": rng.normal(0, 1), "sd0": abs(rng.normal(0, 1)), "sd1": rng.gamma(3, 1 / 5),
        "cor": 2 * rng.beta(2, 2) - 1, "sigma": rng.gamma(5, 1 / 5),
    }  # fmt: skip
    z = rng.normal(size=(2, g.max() + 1))
    u0 = truth["sd0"] * z[0]
    u1 = truth["sd1"] * (truth["cor"] * z[0] + np.sqrt(1 - truth["cor"] ** 2) * z[1])
    y = truth["Intercept"] + u0[g] + (truth["x"] + u1[g]) * x + truth["sigma"] * rng.normal(size=len(g))
    return truth, y


def draw_binomial(rng, g, x):
    truth = {"Intercept": rng.normal(0, 1), "x": rng.normal(0, 1), "sd0": abs(rng.normal(0, 1))}
    eta = truth["Intercept"] + truth["x"] * x + truth["sd0"] * rng.normal(size=g.max() + 1)[g]
    return truth, (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(float)


MODELS = {
    "linear": (
        draw_linear, (15, 6), "y ~ x + (1 + x | g)", {},
        {"Intercept": "Normal(2, 1)", "x": "Normal(0, 1)", "g.Intercept": "HalfNormal(1)", "g.x": "Gamma(3, 5)",
         "g": "LKJ(2)", "sigma": "Gamma(5, 5)"},
    ),
    "binomial": (
        draw_binomial, (15, 8), "y ~ x + (1 | g)", {"family": "binomial", "n_agq": 9},
        {"Intercept": "Normal(0, 1)", "x": "Normal(0, 1)", "g.Intercept": "HalfNormal(1)"},
    ),
}  # fmt: skip


def draws_of(fit):
    """Draws of one replication under the names of the truth."""
    beta, sd = fit.draws("beta"), fit.draws("sd")
    out = {"Intercept": beta[:, 0], "x": beta[:, 1], "sd0": sd[:, 0]}
    if sd.shape[1] > 1:
        out |= {"sd1": sd[:, 1], "cor": fit.draws("cor")[:, 0], "sigma": fit.draws("sigma")}
    return out


def ranks(model, seed):
    """Ranks of the true values among thinned draws (BATCH, parameters), parameter -> array."""
    draw, (n_groups, size), formula, options, priors = MODELS[model]
    rng = np.random.default_rng(seed)
    g, x = groups_and_x(n_groups, size, rng)
    truths, outcomes = zip(*(draw(rng, g, x) for _ in range(BATCH)), strict=True)
    names = [f"y{k}" for k in range(BATCH)]
    d = pd.DataFrame({"g": g, "x": x, **dict(zip(names, outcomes, strict=True))})
    fit = pmwmix.fit(formula, d, pv={"y": names}, priors=priors, random_seed=seed, **options, **HOW)
    out = {name: [] for name in truths[0]}
    for one, truth in zip(fit.fits, truths, strict=True):
        for name, values in draws_of(one).items():
            out[name].append(int((values[THIN - 1 :: THIN] < truth[name]).sum()))
    return out


def run(model, batches=BATCHES, log=print):
    """P-values of the chi-square test of uniformity in 7 bins of 3 ranks by parameter."""
    found = {}
    for seed in range(batches):
        for name, values in ranks(model, 100 + seed).items():
            found.setdefault(name, []).extend(values)
    out = {}
    for name, values in found.items():
        counts = np.bincount(np.array(values) // 3, minlength=(RANKS + 1) // 3)
        out[name] = float(stats.chisquare(counts).pvalue)
        log(f"{model} {name}: {counts.tolist()} p = {out[name]:.3f}")
    return out


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_ranks_of_true_values_are_uniform(model):
    """Bonferroni: the smallest p-value times the number of parameters is above 0.01."""
    found = run(model)
    assert min(found.values()) * len(found) > 0.01, found
