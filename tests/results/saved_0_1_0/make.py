"""How the saved fits beside this file were made, with version 0.1.0: ``python make.py`` in this folder.

Every fit has its numbers beside it, as that version gave them: what is read today must say the same. Only the degrees
of freedom of ``no_random_term`` and what follows from them are of a later rule, which takes the slopes off.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import pmwmix

HERE = Path(__file__).parent
PV = ["PV1", "PV2", "PV3"]


def table() -> pd.DataFrame:
    """Pupils in schools and, across them, in districts; weights, replicates, outcomes of several kinds."""
    rng = np.random.default_rng(11)
    school = np.repeat(np.arange(10), rng.integers(5, 9, 10))
    n = len(school)
    x, g = rng.normal(1.0, 0.7, n), rng.choice(["city", "town", "land"], n)
    district = rng.integers(0, 6, n)
    u, v = rng.normal(0, 0.8, 10)[school], rng.normal(0, 0.6, 6)[district]
    eta = 0.3 + 0.6 * x + 0.4 * (g == "town") + u + (0.4 * rng.normal(size=10))[school] * x
    d = pd.DataFrame({"school": school, "district": district, "x": x, "g": g, "y": eta + v + rng.normal(size=n)})
    for name in PV:
        d[name] = 5 + eta + rng.normal(size=n)
    d["w1"], d["w2"] = rng.uniform(0.5, 2.0, n), rng.uniform(1.0, 4.0, 10)[school]
    d["total"] = d["w1"] * d["w2"]
    for k in range(10):
        d[f"r{k}"] = d["total"] * np.where(school == k, 0.0, 10 / 9)
    d["z"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    d["count"] = rng.poisson(np.exp(0.5 * eta) * rng.gamma(2.0, 0.5, n))
    d["mark"] = pd.Categorical(np.digitize(eta + rng.logistic(size=n), [0.0, 1.5]) + 1, ordered=True)
    d.loc[3, "x"] = np.nan
    return d


def fits(d: pd.DataFrame) -> dict[str, Any]:
    """Give small fits of every kind by the name of their file."""
    fit = pmwmix.fit
    weights = {"weights": ["total", "w2"], "scaling": "size"}
    return {
        "weighted_pv": fit("score ~ x + g + (1 | school)", d, pv={"score": PV}, center={"x": "grand"}, **weights),
        "group_means": fit("y ~ x + (1 | school)", d, center={"x": "school+mean"}),
        "slope": fit("y ~ np.log(x + 5) + C(g) + (1 + x | school)", d),
        "reml": fit("y ~ poly(x, 2) + (1 | school)", d, method="reml"),
        "small_sample": fit("y ~ x + (1 | school)", d, vcov="CR2"),
        "replicates": fit(
            "y ~ x + (1 | school)", d, weights=["total", "w2"],
            design=pmwmix.Design(replicate_weights="r{}", replicate_type="jk1"),
        ),
        "crossed": fit("y ~ x + (1 | school) + (1 | district)", d),
        "no_random_term": fit("y ~ x * g", d, weights="total", design=pmwmix.Design(psu="school")),
        "binomial": fit("z ~ x + (1 | school)", d, family="binomial", n_agq=3, **weights),
        "negbinomial": fit("count ~ x + (1 | school)", d, family="negbinomial", n_agq=3),
        "cumulative": fit("mark ~ x + (1 | school)", d, family="cumulative", n_agq=3),
    }  # fmt: skip


def posterior(d: pd.DataFrame) -> Any:
    """Give few draws of a posterior."""
    few = {"draws": 30, "tune": 100, "chains": 2, "random_seed": 1, "progress": False}
    return pmwmix.fit("y ~ x + (1 | school)", d, method="bayes", **few)


def posterior_facts(fit: Any) -> dict[str, Any]:
    """Give what is compared of a posterior."""
    return {
        "coef": dict(fit.coef),
        "se": dict(fit.se),
        "varcorr": split(fit.varcorr),
        "tidy": split(fit.tidy()),
        "components": split(fit.confint_varcorr()),
        "numbers": [fit.sigma, fit.nobs, fit.n_pv, fit.icc],
        "ml": dict(fit.ml.coef),
        "summary": str(fit.summary()),
    }


def facts(fit: Any) -> dict[str, Any]:
    """Give what is compared, as JSON can hold it."""
    new = {"x": [0.2, 1.4, 2.0], "g": ["city", "town", "land"], "school": [1, 4, 99], "district": [0, 5, 2]}
    predicted = {}
    for conditional in (False, True):
        found = fit.predict(pd.DataFrame(new), conditional=conditional, new_groups="missing")
        predicted[str(conditional)] = np.asarray(found).tolist()
    ranef = fit.ranef() if len(fit.n_groups) else {}
    levels = ranef if isinstance(ranef, dict) else {fit.n_groups.index[0]: ranef}
    return {
        "coef": dict(fit.coef),
        "se": dict(fit.se),
        "vcov": fit.vcov.to_numpy().tolist(),
        "varcorr": split(fit.varcorr),
        "tidy": split(fit.tidy()),
        "components": split(fit.confint_varcorr()),
        "numbers": [fit.sigma, fit.nobs, fit.n_pv, *np.atleast_1d(fit.icc).tolist()],
        "ranef": {name: split(one) for name, one in levels.items()},
        "residuals": fit.residuals().tolist() if fit.family != "cumulative" else [],
        "fitted": np.asarray(fit.fitted()).tolist(),
        "new": new,
        "predicted": predicted,
        "summary": str(fit.summary()),
    }


def split(frame: pd.DataFrame) -> dict[str, Any]:
    """Give a table as lists, missing entries as None."""
    return {str(name): [None if pd.isna(v) else v for v in column.tolist()] for name, column in frame.items()}


def write(name: str, found: dict[str, Any]) -> None:
    """Write the facts of a fit."""
    (HERE / f"{name}.json").write_text(json.dumps(found, indent=1, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    data = table()
    for name, one in fits(data).items():
        one.save(HERE / f"{name}.npz")
        write(name, facts(one))
    drawn = posterior(data)
    drawn.save(HERE / "posterior.nc")
    write("posterior", posterior_facts(drawn))
