"""Diagnostics: Enough quadrature nodes?"""

# %% data
import pmwmix
from pmwmix import plots

survey = pmwmix.simulate_survey(n_schools=150, n_students=20, n_pv=1, random_seed=1)
fit = pmwmix.fit("(math >= 482) ~ escs + female + (1 | SCHOOLID)", survey.data, family="binomial", pv=survey.pv)

# %% plot
plot = plots.quadrature(fit)
