"""What a sampler's diagnostics mean, one sentence each with what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from arviz_stats.base import array_stats

from pmwmix._types import Array

R_HAT = 1.01
ESS_PER_CHAIN = 100.0
SMALL_SHARE = 0.05  # of an interval of a standard deviation that lies below a tenth of its median


def convergence(values: Array) -> dict[str, Array]:
    """R-hat, effective sample sizes and Monte-Carlo error of draws (chain, draw, n).

    Returns
    -------
    dict
        ``r_hat``, ``ess_bulk``, ``ess_tail``, ``mcse_mean``, each (n,). Rank-normalised R-hat of Vehtari et al. (2021).
    """
    how = {"chain_axis": 0, "draw_axis": 1}
    with np.errstate(all="ignore"):
        return {
            "r_hat": np.atleast_1d(array_stats.rhat(values, method="rank", **how)),
            "ess_bulk": np.atleast_1d(array_stats.ess(values, method="bulk", **how)),
            "ess_tail": np.atleast_1d(array_stats.ess(values, method="tail", prob=(0.05, 0.95), **how)),
            "mcse_mean": np.atleast_1d(array_stats.mcse(values, method="mean", **how)),
        }


def sentences(trees: Sequence[Any]) -> tuple[str, ...]:
    """Say what is wrong with a sample; nothing if all is well.

    Parameters
    ----------
    trees : sequence of DataTree
        One per plausible value.
    """
    out = [*_divergences(trees), *_depth(trees)]
    r_hat, ess, chains = (
        _worst(trees, "r_hat", max),
        _worst(trees, "ess_bulk", min),
        trees[0]["posterior"].sizes["chain"],
    )
    tail = _worst(trees, "ess_tail", min)
    if r_hat[1] > R_HAT:
        out.append(
            f"The chains have not mixed: R-hat of {r_hat[0]} is {r_hat[1]:.3f} and should be below {R_HAT}. "
            f"Sample longer (tune=2000, draws=2000), and look at plots.trace."
        )
    low = ess if ess[1] < tail[1] else tail
    if low[1] < ESS_PER_CHAIN * chains:
        out.append(
            f"The effective sample size of {low[0]} is {low[1]:.0f}, below {ESS_PER_CHAIN:.0f} per chain, so that "
            f"means and quantiles are rough. Sample more draws."
        )
    return (*out, *_boundary(trees))


def _divergences(trees: Sequence[Any]) -> list[str]:
    counts = [int(tree["sample_stats"]["diverging"].sum()) for tree in trees if "diverging" in tree["sample_stats"]]
    if not sum(counts):
        return []
    where = ", ".join(str(k) for k, n in enumerate(counts, 1) if n)
    of = f" (plausible value {where})" if len(trees) > 1 else ""
    return [
        f"{sum(counts)} transitions diverged{of}: parts of the posterior, mostly near a variance of zero, may be "
        f"missed. "
        f'Raise the acceptance rate (sampler={{"target_accept": 0.95}}), or give the standard deviation a prior that '
        f"keeps it from zero."
    ]


def _depth(trees: Sequence[Any]) -> list[str]:
    hit = [
        tree["sample_stats"]["reached_max_treedepth"]
        for tree in trees
        if "reached_max_treedepth" in tree["sample_stats"]
    ]
    n = int(sum(float(part.sum()) for part in hit))
    total = sum(part.size for part in hit)
    if n <= 0.01 * total:
        return []
    return [
        f"{n} of {total} transitions reached the largest tree depth, so that the chains move slowly. Sample more "
        f"draws, or give vague priors of weakly identified parameters a smaller scale."
    ]


def _worst(trees: Sequence[Any], kind: str, pick: Any) -> tuple[str, float]:
    found = []
    for tree in trees:
        for name, label, values in named_draws(tree["posterior"]):
            if float(values.std()) > 0:
                found.append((label or name, float(convergence(values[..., None])[kind][0])))
    return pick(found, key=lambda pair: pair[1]) if found else ("nothing", 1.0 if kind == "r_hat" else np.inf)


def named_draws(group: Any) -> list[tuple[str, str, Array]]:
    """List (variable, label, draws (chain, draw)) of the parameters proper."""
    out = []
    skip = ("vcov", "icc")
    for name, variable in group.data_vars.items():
        if name in skip:
            continue
        extra = [dim for dim in variable.dims if dim not in ("chain", "draw")]
        values = np.asarray(variable)
        if not extra:
            out.append((name, str(name), values))
            continue
        for j, label in enumerate(np.asarray(variable[extra[0]])):
            out.append((name, str(label) if name == "beta" else f"{name}[{label}]", values[..., j]))
    return out


def _boundary(trees: Sequence[Any]) -> list[str]:
    out: list[str] = []
    if "sd" not in trees[0]["posterior"]:
        return out
    for j, label in enumerate(np.asarray(trees[0]["posterior"]["component"])):
        draws = np.concatenate([np.asarray(tree["posterior"]["sd"])[..., j].ravel() for tree in trees])
        if float(np.mean(draws < 0.1 * np.median(draws))) > SMALL_SHARE / 2:
            out.append(
                f"The standard deviation of {label} piles up at zero: the data hardly tell whether this effect varies. "
                f"Its posterior depends on its prior; compare with another prior or with a model without it."
            )
    if "cor" in trees[0]["posterior"]:
        for j, label in enumerate(np.asarray(trees[0]["posterior"]["pair"])):
            draws = np.concatenate([np.asarray(tree["posterior"]["cor"])[..., j].ravel() for tree in trees])
            if float(np.mean(np.abs(draws) > 0.99)) > SMALL_SHARE:
                out.append(
                    f"The correlation {label} piles up at one: the covariance of the random effects is nearly "
                    f"singular. Write the slopes without correlations, (x || group), or give cor a stronger "
                    f'prior such as "LKJ(4)".'
                )
    return out


__all__ = ["convergence", "named_draws", "sentences"]
