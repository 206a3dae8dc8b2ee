"""Weights and plausible values: The spread between plausible values"""

# %% data
import pmwmix
from pmwmix import plots

survey = pmwmix.simulate_survey(n_schools=150, n_students=20, n_pv=5, random_seed=1)
given = {"formula": "math ~ escs + female + (1 + escs | SCHOOLID)", "data": survey.data, "pv": survey.pv}
fit = pmwmix.fit(**given, weights=survey.weights, scaling="size")

# %% plot
plot = plots.pv_spread(fit)
