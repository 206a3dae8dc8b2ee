"""Coefficients: Maximum likelihood beside the posterior

The same model, weights and plausible values twice. Intervals of the two should hardly differ where there is much data;
those of variance components lean towards larger values in the posterior when there are few groups.
"""

# %% data
import pmwmix
from pmwmix import plots

survey = pmwmix.simulate_survey(n_schools=150, n_students=20, n_pv=2, random_seed=1)
fit = pmwmix.fit(
    "math ~ escs + female + (1 + escs | SCHOOLID)",
    survey.data,
    weights=survey.weights,
    scaling="size",
    pv=survey.pv,
    method="bayes",
    draws=500,
    tune=500,
    random_seed=1,
)

# %% plot
plot = plots.forest({"maximum likelihood": fit.ml, "posterior": fit}, varcorr=True, figure_kwargs={"figsize": (11, 3)})
