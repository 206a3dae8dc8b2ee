"""Every result pickles, deep-copies and travels to processes that were spawned, and says there what it says here."""

import copy
import multiprocessing
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest

import pmwmix


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    rng = np.random.default_rng(0)
    n = 160
    d = pd.DataFrame(
        {
            "x": rng.normal(size=n), "g": np.repeat(np.arange(16), 10), "f": rng.choice(list("abcd"), n),
            "w": rng.uniform(1, 3, n), "CNT": np.repeat(["A", "B"], 80),
        }
    )  # fmt: skip
    for k in (1, 2):
        d[f"pv{k}"] = 1 + 0.5 * d["x"] + rng.normal(size=16)[d["g"]] + rng.normal(size=n)
    d["y"], d["b"] = d["pv1"], (d["pv1"] > 1) * 1.0
    linear = pmwmix.fit("y ~ poly(x, 2) + f + (x | g)", d)
    sampling = {"method": "bayes", "draws": 20, "tune": 50, "chains": 2, "random_seed": 1, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # far too few draws
        bayes = pmwmix.fit("y ~ x + (1 | g)", d, priors={"x": "Normal(0, 3)"}, **sampling)
        bayes_pv = pmwmix.fit("m ~ x + (1 | g)", d, pv={"m": "pv{}"}, weights=["w"], **sampling)
    return {
        "linear": linear,
        "general": pmwmix.fit("b ~ x + (1 | g)", d, family="binomial", n_agq=3),
        "crossed": pmwmix.fit("y ~ x + (1 | g) + (1 | f)", d),
        "pooled": pmwmix.fit("m ~ x + (1 | g)", d, pv={"m": "pv{}"}, weights=["w"]),
        "small": pmwmix.fit("y ~ x + (1 | g)", d, vcov="CR2"),
        "flat": pmwmix.fit("y ~ x", d),
        "loaded": pmwmix.load(linear.save(tmp_path_factory.mktemp("fit") / "f.npz")),
        "groups": pmwmix.fit_groups("y ~ x + (1 | g)", d, progress=False),
        "bayes": bayes,
        "bayes_pv": bayes_pv,
        "bayes_loaded": pmwmix.load(bayes.save(tmp_path_factory.mktemp("fit") / "f.nc")),
    }


NAMES = "linear general crossed pooled small flat loaded groups bayes bayes_pv bayes_loaded".split()


def says(result):
    """Say all that a result says without its caller's table."""
    if isinstance(result, pmwmix.GroupFits):
        return str(result.summary()), result.tidy().to_string(), result.average().to_string()
    extra = [] if hasattr(result, "idata") else [str(result.ranef()), str(result.residuals().sum())]
    new = pd.DataFrame({"x": [0.0, 1.0], "f": ["a", "b"], "g": [1, 2]})
    try:
        predicted = str(result.predict(new, conditional=False))
    except pmwmix.PmwmixError as error:  # a posterior from a file
        predicted = str(error)
    return str(result.summary()), result.tidy().to_string(), predicted, *extra


@pytest.mark.parametrize("name", NAMES)
def test_copies_say_the_same(results, name):
    result = results[name]
    first = pickle.loads(pickle.dumps(result))  # before anything was computed on demand
    want = says(result)
    assert says(first) == want
    for number in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(result, number))
    assert says(again) == want and says(copy.deepcopy(result)) == want and says(copy.copy(result)) == want


def test_results_travel_to_spawned_processes(results):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for name, result in results.items():
            assert pool.submit(says, result).result() == says(result), name


@pytest.mark.parametrize("name", ["bayes", "bayes_pv"])
def test_a_posterior_that_was_pickled_still_draws(results, name):
    result = results[name]
    again = pickle.loads(pickle.dumps(result))
    one, other = (r.random_effects(draws=10, random_seed=3)["b_g"] for r in (result, again))
    np.testing.assert_array_equal(one, other)
    assert [v.name for v in again.pymc_model(1).free_RVs] == [v.name for v in result.pymc_model(1).free_RVs]
