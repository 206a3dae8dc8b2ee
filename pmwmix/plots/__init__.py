"""Plots of fitted models: a function each, which returns an ``arviz_plots.PlotCollection`` and never shows it.

``plot.savefig("name.png")`` writes a picture, ``plot.data`` holds the numbers that were drawn.
"""

from pmwmix.plots.caterpillar import caterpillar
from pmwmix.plots.check import check
from pmwmix.plots.effects import effects
from pmwmix.plots.forest import forest
from pmwmix.plots.posterior_predictive import posterior_predictive
from pmwmix.plots.priors import priors
from pmwmix.plots.pv_spread import pv_spread
from pmwmix.plots.quadrature import quadrature
from pmwmix.plots.rank import rank
from pmwmix.plots.residuals import residuals
from pmwmix.plots.residuals_by_group import residuals_by_group
from pmwmix.plots.slopes import slopes
from pmwmix.plots.trace import trace
from pmwmix.plots.trellis import trellis
from pmwmix.plots.trend import trend
from pmwmix.plots.weights import weights
from pmwmix.plots.within_groups import within_groups

__all__ = [
    "caterpillar",
    "check",
    "effects",
    "forest",
    "posterior_predictive",
    "priors",
    "pv_spread",
    "quadrature",
    "rank",
    "residuals",
    "residuals_by_group",
    "slopes",
    "trace",
    "trellis",
    "trend",
    "weights",
    "within_groups",
]
