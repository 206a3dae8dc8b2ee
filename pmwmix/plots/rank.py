"""Ranks of the draws of every chain among all chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import arviz_plots as azp
from arviz_plots import PlotCollection

from pmwmix.errors import NotSupportedError
from pmwmix.plots._base import COLOURS, labels_of
from pmwmix.plots._draws import arviz_plot, check_posterior, labelled, parameter_draws


def rank(
    fit: Any,
    *,
    terms: str | Sequence[str] | None = None,
    pv: int = 1,
    labels: Mapping[str, str] | None = None,
    backend: str | None = None,
    figure_kwargs: Mapping[str, Any] | None = None,
) -> PlotCollection:
    """Draw how evenly the draws of every chain are spread over the ranks of all chains together.

    A line per chain: the share of its draws up to a rank, minus what it would be if all chains drew from one
    distribution (ArviZ's ``plot_rank``). Lines that stay near zero are chains that agree; marked points are where they
    do not, beyond chance. The p-value is of the test that all chains draw from one distribution.

    Parameters
    ----------
    fit : BayesResult
    terms : str or list of str, optional
        Parameters, as `compare` names them. None: all coefficients and components.
    pv : int
        Plausible value, each of which has its own posterior.
    labels : dict, optional
        What to write for a parameter; default: the label in the survey's files, where there is one.
    backend : str, optional
        Of arviz_plots.
    figure_kwargs : dict, optional
        For the figure, such as ``figsize``.

    Returns
    -------
    arviz_plots.PlotCollection

    Raises
    ------
    NotSupportedError
        If the fit has no draws, or a single chain.
    OptionError
        If an argument is not among the legal ones.

    Examples
    --------
    >>> import pmwmix  # doctest: +SKIP
    >>> fit = pmwmix.fit("math ~ escs + (1 | school)", data, method="bayes")  # doctest: +SKIP
    >>> plot = pmwmix.plots.rank(fit)  # doctest: +SKIP
    """
    draws = labelled(parameter_draws(check_posterior(fit, "rank"), terms, pv), labels_of(fit, labels))
    if draws.sizes["chain"] < 2:
        raise NotSupportedError(
            f"rank() compares chains with each other. Plausible value {pv} has a single one. Fit with chains=4."
        )
    n_cols = min(4, len(draws.data_vars))
    n_rows = -(-len(draws.data_vars) // n_cols)
    return arviz_plot(
        azp.plot_rank,
        draws,
        backend,
        (2.9 * n_cols + 0.5, 2.2 * n_rows + 0.5),
        figure_kwargs,
        col_wrap=n_cols,
        color=list(COLOURS),
        visuals={"title": {"size": 9}, "xlabel": {"size": 8}},
    )
