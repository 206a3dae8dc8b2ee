"""The same generalised model with other numbers of quadrature nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import NotSupportedError, OptionError
from pmwmix.prediction.rows import live_rows
from pmwmix.results.build import refit
from pmwmix.spec.checks import check_fitted
from pmwmix.spec.random import is_discrete, refuse_random
from pmwmix.studies.comparison import fixed_rows, random_rows

NODES = (1, 3, 5, 7, 11, 15)


def quadrature_check(fit: Any, nodes: Sequence[int] = NODES) -> pd.DataFrame:
    """Fit a generalised model again with other numbers of quadrature nodes.

    Parameters
    ----------
    fit : FitResult
        Of a generalised model, with its data.
    nodes : sequence of int
        Nodes per random effect, the same at every level; 1 is Laplace's approximation.

    Returns
    -------
    DataFrame
        ``n_agq, term, estimate, std_error, shift, loglik``: ``shift`` is the distance from the estimate under the
        largest number of nodes, in standard errors of that fit; terms are those of `compare`. With plausible values
        the pooled estimates.

    Raises
    ------
    OptionError, NotSupportedError
        If there is no quadrature to check, or the numbers are no numbers of nodes.

    Notes
    -----
    Estimates have settled where ``shift`` stays below 0.1, the criterion of the automatic choice of ``n_agq``.
    """
    check_fitted(fit, "quadrature_check()")
    many = _node_list(nodes)
    _check_quadrature(fit)
    tables = []
    for n in many:
        again = refit(fit, n_agq=n)
        part = pd.concat([fixed_rows(again, 0.95), random_rows(again, 0.95)], ignore_index=True)
        part.insert(0, "n_agq", n)
        tables.append(part[["n_agq", "term", "estimate", "std_error"]].assign(loglik=again.loglik))
    finest = tables[-1].set_index("term")
    for table in tables:
        last = finest.loc[table["term"]]
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = (table["estimate"].to_numpy() - last["estimate"].to_numpy()) / last["std_error"].to_numpy()
        table.insert(4, "shift", shift)
    return pd.concat(tables, ignore_index=True)


def _node_list(nodes: Any) -> list[int]:
    given = list(nodes) if isinstance(nodes, Sequence) and not isinstance(nodes, str) else [nodes]
    legal = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0 for n in given)
    if not legal or len(set(given)) < 2:
        raise OptionError(
            f"Quadrature is checked with at least two different numbers of nodes. Got nodes={nodes!r}. "
            f"Write for example nodes={NODES!r}."
        )
    return sorted({int(n) for n in given})


def _check_quadrature(fit: Any) -> None:
    if getattr(fit, "idata", None) is not None:
        raise NotSupportedError(
            "Quadrature is checked by fits of maximum likelihood. This one has draws of a posterior. "
            "Check fit.ml, the same model by maximum likelihood."
        )
    if fit.has_closed_form:
        raise NotSupportedError(
            "A linear model has a likelihood in closed form, without quadrature. This fit has family='gaussian' and "
            "link='identity'. There is nothing to check."
        )
    if is_discrete(fit.random):
        refuse_random(fit.random, "A check of the quadrature", "Mass points are summed over, without quadrature")
    if fit.quadrature is None:
        raise NotSupportedError(
            f"Without a random term nothing is integrated out, and there is no quadrature. The formula is "
            f"{fit.formula!r}. There is nothing to check."
        )
    if any(rows.frame.hierarchy.crossed for rows in live_rows(fit)):
        raise NotSupportedError(
            "Crossed random effects are integrated out by Laplace's approximation alone. The formula is "
            f"{fit.formula!r}. Quadrature is checked for nested groups."
        )
