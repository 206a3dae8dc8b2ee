"""Diagnostics: Ranks of the chains"""

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
plot = plots.rank(fit)
