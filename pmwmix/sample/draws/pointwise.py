"""Log-likelihood of every top-level unit or row, and log-prior, at the draws: what ArviZ's loo and psense read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pymc.stats import compute_log_prior

from pmwmix._types import Array
from pmwmix.data.codes import printed
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.likelihood.engine import ENGINES, compiled
from pmwmix.likelihood.linear.recursion import UnitTree, factor, stack_Lambdas, unpack_symmetric
from pmwmix.sample.draws.conditional_rows import density_graph
from pmwmix.sample.draws.datatree import stacked
from pmwmix.sample.draws.randomeffects import check_seed, effects_of, need_live
from pmwmix.sample.draws.rowdraws import Drawn, blocks, drawn_of, fit_columns

BY = ("unit", "row")
CELLS = 65_536  # draws x units worked on at once


def log_likelihood(fit: Any, by: str = "unit", draws: int | None = None, random_seed: int | None = None) -> Any:
    """Compute the log-likelihood of every unit of the top level, or of every row, at the draws.

    Parameters
    ----------
    by : {"unit", "row"}
        What is left out by ``arviz.loo``: a unit of the top level with all its rows, its random effects integrated out
        (an unseen school); or a row, given random effects that are drawn for every draw (another student of a seen
        school). Without random terms they are the same.
    draws : int, optional
        Draws per chain, evenly spread. None: all. Generalised models evaluate their quadrature at each.
    random_seed : int, optional
        Of the random effects, for rows. Default: that of the fit.

    Returns
    -------
    xarray.Dataset
        ``y`` (chain, draw, <top level> or obs). It becomes the group ``log_likelihood`` of ``idata``; with plausible
        values of that of every single fit, ``fit.fits[0].idata``: they have different outcomes. The chains of all stand
        one after the other in what is returned, with coordinate ``pv``.

    Raises
    ------
    OptionError
        If the result was read from a file, or an argument is none of the above.
    NotSupportedError
        For units of crossed factors.

    Notes
    -----
    Terms are those of the pseudo-likelihood, weights included: of a unit its weight (relative to the mean of all) times
    its log-density, so that they add to what was sampled; of a row its conditional weight times the density given the
    random effects. They are computed at the draws as they were sampled, before a correction to the sandwich covariance:
    only these follow the posterior that importance weights start from (bayes, "Leaving out schools"). Densities are
    complete, with all constants, in units of the outcome.
    """
    if by not in BY:
        raise OptionError(
            f"A log-likelihood is that of units or rows. Got by={by!r}.{near(str(by), BY)} Use 'unit' or 'row'."
        )
    if draws is not None and (isinstance(draws, bool) or not isinstance(draws, int) or draws < 1):
        raise OptionError(f"The number of draws is whole and positive. Got draws={draws!r}. Write for example 200.")
    given, parts = check_seed(random_seed), []
    for number, one in enumerate(fit.fits):
        live = need_live(one)
        chains, every = live.raw.shape[:2]
        kept = np.linspace(0, every - 1, min(draws or every, every)).round().astype(int)
        psi = live.raw[:, kept].reshape(-1, live.raw.shape[-1])
        seed = (live.seed if given is None else given) + number
        values = _of_rows(one, live, psi, seed) if by == "row" or not live.target.layout.q else _of_units(live, psi)
        found = _laid_out(live, values.reshape(chains, len(kept), -1), kept, by)
        one.idata["log_likelihood"] = xr.DataTree(found)
        parts.append(found)
    return stacked([{"log_likelihood": xr.DataTree(part)} for part in parts], "log_likelihood")


def _laid_out(live: Any, values: Array, kept: Array, by: str) -> Any:
    levels = live.rows.frame.hierarchy.levels
    coords: dict[str, Any] = {"chain": np.arange(len(values)), "draw": kept}
    if by == "row" or not levels:
        return xr.Dataset({"y": (("chain", "draw", "obs"), values)}, {**coords, "obs": np.arange(values.shape[-1])})
    top = levels[-1]
    labels = [str(label) for label in printed(top.labels)]
    return xr.Dataset({"y": (("chain", "draw", top.name), values)}, {**coords, top.name: labels})


def _of_units(live: Any, psi: Array) -> Array:
    """Weighted log-densities of the top-level units at draws (S, P), (S, J)."""
    if live.target.crossed:
        raise NotSupportedError(
            "A unit can be left out where it holds its rows alone. The grouping factors of this model are crossed. Use "
            "log_likelihood(by='row')."
        )
    return _integrated_units(live, psi) if live.general is not None else _linear_units(live, psi)


def _linear_units(live: Any, psi: Array) -> Array:
    """In closed form, from the cross-products (theory, eqs. 6-9)."""
    problem, k, target = live.rows.problem, live.rows.k, live.target
    data, p, t = problem.blocks, target.p, target.n_theta
    tree = UnitTree(data.parents, data.w)
    C = unpack_symmetric(data.zz, sum(problem.layout.q))[:, :, None]
    lowest, w = len(data.w[0]), data.w[-1]
    out = np.empty((len(psi), len(w)))
    step = max(CELLS // lowest, 1)
    for first in range(0, len(psi), step):
        part = psi[first : first + step]
        beta, log_sigma = part[:, :p], part[:, p + t]
        square = data.yy[k] - 2.0 * beta @ data.xy[k] + data.xx_squares(beta)
        rhs = data.zy[k][:, None] - np.matmul(beta, data.zx)
        logdet = np.zeros((len(part), lowest))
        taken = np.zeros((len(part), lowest))
        for level, one in enumerate(factor(tree, stack_Lambdas(problem.layout, part[:, p : p + t]), C, rhs)):
            q = len(one.R)
            logdet = logdet + 2.0 * np.log(one.R[range(q), range(q)]).sum(axis=0)
            taken = taken + (one.B**2).sum(axis=0)
            if level < len(tree.parents):
                logdet, taken = tree.lift(logdet, level), tree.lift(taken, level)
        variance = np.exp(2.0 * log_sigma)[:, None]
        scale = np.log(2.0 * np.pi) + 2.0 * log_sigma[:, None] + 2.0 * np.log(target.y_scale)
        out[first : first + step] = -0.5 * w * (data.n_w * scale + logdet + (square - taken) / variance)
    return out


def _integrated_units(live: Any, psi: Array) -> Array:
    """By the quadrature of the fit, with what densities leave out as constants."""
    problem, k = live.general
    objective, frame = problem.objective, live.rows.frame
    w = [*frame.w[:-1], frame.w[-1] / problem.top_scale]
    total, parents = w[0], frame.hierarchy.levels
    for level, weight in zip(parents[:-1], w[1:-1], strict=True):
        total = total * weight[level.index]
    constant = np.bincount(parents[-1].index, total * live.rows.response.constant, minlength=parents[-1].n)
    units = np.array([objective.units(objective.at(one, k)) for one in psi])
    return w[-1] * (units + constant)


def _of_rows(fit: Any, live: Any, psi: Array, seed: int) -> Array:
    """Weighted log-densities of the rows given random effects (S, n)."""
    effects: Sequence[Array] = effects_of(live, psi, seed) if live.target.layout.q else ()
    drawn, columns, w = drawn_of(live, psi, effects), fit_columns(fit, live), live.rows.frame.w[0]
    density = _normal_rows(live, drawn) if live.general is None else _general_rows(live, drawn)
    n = live.rows.frame.n
    if not live.rows.frame.hierarchy.levels:  # rows are the units: their weights relative to the mean of all
        w = w / live.rows.problem.top_scale
    out = np.empty((len(psi), n))
    for part in blocks(n, len(psi)):
        out[:, part] = w[part] * density(drawn.linear_predictor(columns, part), part)
    return out


def _normal_rows(live: Any, drawn: Drawn) -> Any:
    assert drawn.sigma is not None
    y, sigma = live.rows.y, drawn.sigma[:, None]

    def density(eta: Array, part: slice) -> Array:
        return -0.5 * (np.log(2.0 * np.pi) + 2.0 * np.log(sigma) + ((y[part] - eta) / sigma) ** 2)

    return density


def _general_rows(live: Any, drawn: Drawn) -> Any:
    problem, k = live.general
    rows, n_phi = problem.objective.rows, problem.structure.n_phi
    function = compiled(density_graph, ((problem.family, problem.link), n_phi), "python")
    outcome = [rows.y[k], *rows.extra[k]]
    constant = live.rows.response.constant

    def density(eta: Array, part: slice) -> Array:
        put = function.put([values[part][None] for values in outcome])
        each = [function(row[None], [phi, *put])["density"][0] for row, phi in zip(eta, drawn.phi, strict=True)]
        return np.array(each) + constant[part]

    return density


def log_prior(fit: Any) -> Any:
    """Compute the log-density of the priors at the draws as they were sampled.

    Returns
    -------
    xarray.Dataset
        A variable per random variable of ``pymc_model()`` (chain, draw, ...), on its own scale. It becomes the group
        ``log_prior`` of ``idata``, with plausible values of that of every single fit.

    Raises
    ------
    OptionError
        If the result was read from a file.
    """
    parts = []
    for one in fit.fits:
        live = need_live(one)
        model, coords = (
            live.sampled.model,
            {"chain": np.arange(live.raw.shape[0]), "draw": np.arange(live.raw.shape[1])},
        )
        data = {
            name: (("chain", "draw", *(f"{name}_{i}" for i in range(values.ndim - 2))), values)
            for name, values in live.variables.items()
        }
        tree = xr.DataTree.from_dict({"posterior": xr.Dataset(data, coords=coords)})
        plain = {"mode": ENGINES["python"]()}
        found = compute_log_prior(
            tree,
            var_names=[name for name in live.variables if name not in live.sampled.effects],  # theirs is no prior
            model=model,
            extend_inferencedata=False,
            progressbar=False,
            compile_kwargs=plain,
        )
        one.idata["log_prior"] = xr.DataTree(found)
        parts.append(found)
    return stacked([{"log_prior": xr.DataTree(part)} for part in parts], "log_prior")


def prior_sensitivity(fit: Any) -> pd.DataFrame:
    """Say how far the posterior would move if the prior, or the likelihood, weighed a little more or less.

    ArviZ's ``psense_summary`` [1]_ of the draws as they were sampled, with `log_prior` and `log_likelihood` of units,
    which are computed where they are not there yet.

    Returns
    -------
    DataFrame
        By quantity: ``prior`` and ``likelihood``, sensitivities of its distribution to power-scaling (above 0.05 they
        matter), and ArviZ's ``diagnosis``. With plausible values the index has ``pv`` first.

    References
    ----------
    .. [1] Kallioinen, N., Paananen, T., Bürkner, P.-C. & Vehtari, A. (2024). Detecting and diagnosing prior and
       likelihood sensitivity with power-scaling. Statistics and Computing, 34, 57. doi:10.1007/s11222-023-10366-5
    """
    from arviz_stats import psense_summary

    tables = []
    for one in fit.fits:
        live = need_live(one)
        group = "posterior_uncorrected" if "posterior_uncorrected" in one.idata.children else "posterior"
        names = ("log_prior", "log_likelihood")
        whole = {name: one.idata[name].to_dataset() for name in names if name in one.idata.children}
        whole.setdefault("log_prior", log_prior(one))
        if whole.get("log_likelihood", xr.Dataset()).sizes.get("draw") != live.raw.shape[1]:
            rows = live.target.crossed
            whole["log_likelihood"] = log_likelihood(one, "row" if rows else "unit")
        posterior = one.idata[group].to_dataset().drop_vars(["vcov", "icc"], errors="ignore")
        renamed = posterior.rename({"component": "effect"} if "component" in posterior.dims else {})  # ArviZ's own name
        with xr.set_options(use_new_combine_kwarg_defaults=True):
            tables.append(psense_summary(xr.DataTree.from_dict({"posterior": renamed, **whole})))
    return tables[0] if len(tables) == 1 else pd.concat(tables, keys=range(1, len(tables) + 1), names=["pv", None])


__all__ = ["log_likelihood", "log_prior", "prior_sensitivity"]
