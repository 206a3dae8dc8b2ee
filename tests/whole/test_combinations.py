"""Structures together: residuals with structured covariances, these with zero inflation, lists with replicates."""

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.errors import NotSupportedError

AR1 = {"correlation": "ar1", "time": "t", "group": "g"}
WEIGHTS = {"weights": ["w", "w_group"], "conditional": True, "scaling": "size"}


@pytest.fixture(scope="module")
def data():
    """Ten rows in time of sixteen groups: a factor of two occasions with effects of its own, counts with zeros."""
    rng = np.random.default_rng(5)
    g, t = np.repeat(np.arange(16), 10), np.tile(np.arange(10.0), 16)
    n, u = len(g), rng.normal(size=(16, 2))
    d = pd.DataFrame({"g": g, "t": t, "x": rng.normal(size=n), "s": np.where(g % 2, "m", "f")})
    d["occ"] = np.where(t < 5, "a", "b")
    d["is_a"], d["is_b"] = (t < 5).astype(float), (t >= 5).astype(float)
    noise = rng.normal(size=n)
    for i in range(1, n):
        noise[i] += 0.5 * noise[i - 1] * (t[i] > 0)
    effect = np.where(t < 5, u[g, 0], 0.5 * u[g, 0] + 0.8 * u[g, 1])
    d["y"] = 2.0 + d["x"] + effect + noise
    d["count"] = np.where(rng.random(n) < 0.3, 0, rng.poisson(np.exp(0.5 + 0.3 * d["x"] + 0.4 * effect))).astype(float)
    d["w"], d["w_group"] = rng.integers(1, 4, n).astype(float), rng.integers(1, 4, 16).astype(float)[g]
    d["m1"], d["m2"] = (d["y"] + 0.3 * rng.normal(size=n) for _ in "12")
    return d


def test_structured_effects_under_correlated_residuals(data):
    """A diagonal is two terms; compound symmetry of two effects is no restriction."""
    residual = AR1 | {"variance": "ident(s)"}
    diagonal = pmwmix.fit("y ~ x + diag(0 + occ | g)", data, residual=residual)
    apart = pmwmix.fit("y ~ x + (0 + is_a | g) + (0 + is_b | g)", data, residual=residual)
    close(diagonal.loglik, apart.loglik, 1e-10)
    close(diagonal.coef, apart.coef, 1e-6)
    close(diagonal.vcov, apart.vcov, 1e-5, 1e-8)
    close(diagonal.varcorr["vcov"].iloc[:2], apart.varcorr["vcov"].iloc[:2], 1e-4, 1e-7)
    close(diagonal.residual_structure, apart.residual_structure, 1e-5, 1e-6)
    symmetric, free = (pmwmix.fit(f"y ~ x + {term}(0 + occ | g)", data, residual=AR1) for term in ("cs", ""))
    close(symmetric.loglik, free.loglik, 1e-10)
    close(symmetric.vcov, free.vcov, 1e-5, 1e-8)
    newdata = data.head(3)
    close(symmetric.predict(newdata), free.predict(newdata), 1e-5)
    close(symmetric.residuals("normalized"), free.residuals("normalized"), 1e-4, 1e-5)


def test_residuals_with_plausible_values_and_weights_of_groups(data):
    """Pooled by Rubin's rules from the fit of each value."""
    call = {"residual": AR1, "weights": {"g": "w_group"}}
    pooled = pmwmix.fit("m ~ x + (1 | g)", data, pv={"m": ["m1", "m2"]}, **call)
    each = [pmwmix.fit(f"{m} ~ x + (1 | g)", data, **call) for m in ("m1", "m2")]
    estimates, variances = np.array([one.coef for one in each]), np.array([one.se**2 for one in each])
    close(pooled.coef, estimates.mean(axis=0), 1e-7)
    close(pooled.se**2, variances.mean(axis=0) + 1.5 * estimates.var(axis=0, ddof=1), 1e-5)
    close(pooled.residual_structure, np.mean([one.residual_structure for one in each], axis=0), 1e-5)


def test_structured_effects_with_zero_inflation(data):
    """A diagonal is two terms, in the mean beside another term of the zeros."""
    call = {"family": "zero-inflated-poisson", "n_agq": 1, "engine": "python"}
    diagonal = pmwmix.fit(["count ~ x + diag(0 + occ | g)", "zi ~ 1"], data, **call)
    apart = pmwmix.fit(["count ~ x + (0 + is_a | g) + (0 + is_b | g)", "zi ~ 1"], data, **call)
    close(diagonal.loglik, apart.loglik, 1e-9)
    close(diagonal.coef, apart.coef, 1e-5, 1e-6)
    close(diagonal.se, apart.se, 1e-4)


def test_structured_effects_with_weights(data):
    symmetric, free = (pmwmix.fit(f"y ~ x + {term}(0 + occ | g)", data, **WEIGHTS) for term in ("cs", ""))
    close(symmetric.loglik, free.loglik, 1e-10)
    close(symmetric.vcov, free.vcov, 1e-6, 1e-9)


def test_lists_with_plausible_values_and_replicates(data):
    """Estimates and errors put together by hand from fits without the groups that a replicate leaves out."""
    factors = {f"r{r}": data["w_group"] * np.where(data["g"] % 4 == r, 0.0, 4 / 3) for r in range(4)}
    design = pmwmix.Design(weights="w_group", replicate_weights="r{}", replicate_type="jk1")
    formulas = ["m ~ x", "sigma ~ x"]
    fit = pmwmix.fit(formulas, data.assign(**factors), pv={"m": ["m1", "m2"]}, design=design)
    estimates, within = [], []
    for m in ("m1", "m2"):
        own = [f"{m} ~ x", "sigma ~ x"]
        whole = pmwmix.fit(own, data, weights="w_group").coef
        left = [pmwmix.fit(own, data[data["g"] % 4 != r], weights="w_group").coef for r in range(4)]
        estimates.append(whole)
        within.append(0.75 * sum(np.square(one - whole) for one in left))
    close(fit.coef, np.mean(estimates, axis=0), 1e-7, 1e-9)
    close(fit.se**2, np.mean(within, axis=0) + 1.5 * np.var(estimates, axis=0, ddof=1), 1e-5)


REFUSED = {
    "replicates and residuals": (
        {"design": {"replicate_weights": ["w", "w"], "replicate_type": "jk1"}, "weights": "w_group"},
        "Replicate weights are not built for models with a residual structure",
    ),
    "a list and residuals": ({"formula": ["y ~ x + (1 | g)", "sigma ~ x"]}, "needs a gaussian outcome"),
    "crossed groups and residuals": ({"formula": "y ~ x + (1 | g) + (1 | t)"}, "'g' and 't' are crossed"),
    "a family and residuals": ({"formula": "count ~ x + (1 | g)", "family": "poisson"}, "needs a gaussian outcome"),
    "levels below": ({"formula": "y ~ x + (1 | g / occ)"}, "'occ:g' lies within it"),
    "a posterior of residuals": ({"method": "bayes"}, "residual"),
    "small samples and residuals": ({"vcov": "CR2"}, "vcov='CR2' with residual="),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together(case, data):
    call, match = REFUSED[case]
    asked = {"formula": "y ~ x + (1 | g)", "residual": AR1, **call}
    with pytest.raises(NotSupportedError, match=match) as caught:
        pmwmix.fit(asked.pop("formula"), data, **asked)
    assert str(caught.value).count(". ") >= 2
