"""Groups: Trends of countries, with the error of linking"""

# %% data
import pmwmix
from pmwmix import plots

fits = {}
for year, moved in ((2012, 0.0), (2015, 15.0), (2018, 25.0)):
    one = {}
    for number, country in enumerate(("A", "B", "C")):
        survey = pmwmix.simulate_survey(60, 15, n_pv=3, random_seed=year + 10 * number)
        survey.data[[f"PV{k}MATH" for k in (1, 2, 3)]] += moved * (number - 1)
        one[country] = pmwmix.fit(
            "math ~ escs + (1 | SCHOOLID)", survey.data, weights=survey.weights, scaling="size", pv=survey.pv
        )
    fits[year] = one

# %% plot
plot = plots.trend(fits, linking={2015: 3.5, 2018: 4.0})
