"""Predictions with standard errors and intervals."""

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested, outcomes, sleepstudy, survey

import pmwmix
from pmwmix.errors import NotSupportedError, OptionError

NEW = pd.DataFrame({"Days": [0.0, 5.0, np.nan]})
COLUMNS = ["predicted", "std_error", "ci_low", "ci_high"]


def test_errors_of_least_squares_are_rs():
    """R: predict(lm(Reaction ~ Days, sleepstudy), data.frame(Days = c(0, 5)), se.fit = TRUE)."""
    fit = pmwmix.fit("Reaction ~ Days", sleepstudy(), method="reml")
    found = fit.predict(NEW, interval="confidence")
    assert list(found.columns) == COLUMNS and found.iloc[2].isna().all()
    close(found["predicted"].iloc[:2], [251.405104848, 303.741534646], rtol=1e-9)
    close(found["std_error"].iloc[:2], [6.61015404429, 3.60992860968], rtol=1e-8)
    wide = fit.predict(NEW, interval="prediction")["std_error"].iloc[:2]
    close(wide, np.hypot(found["std_error"].iloc[:2], 47.7147197438), rtol=1e-8)


def test_errors_of_a_generalised_model_are_rs():
    """R: predict(glm(I(Reaction > 300) ~ Days, binomial, epsilon = 1e-15), ..., type = "link" and "response")."""
    data = sleepstudy().assign(slow=lambda t: (t["Reaction"] > 300).astype(int))
    fit = pmwmix.fit("slow ~ Days", data, family="binomial")
    link, found = (fit.predict(NEW.iloc[:2], interval="confidence", type=kind) for kind in ("link", "response"))
    close(link["predicted"], [-2.189320742400, -0.150337973473], rtol=1e-7)
    close(link["std_error"], [0.375623591156, 0.172694750148], rtol=1e-7)
    close(found["std_error"], [0.0340203671706, 0.0429306559415], rtol=1e-7)
    close(found[["ci_low", "ci_high"]], 1 / (1 + np.exp(-link[["ci_low", "ci_high"]])))


def test_new_groups_add_their_variance():
    fit = pmwmix.fit("Reaction ~ Days + (Days | Subject)", sleepstudy(), method="reml")
    found = fit.predict(NEW, conditional=False, interval="prediction").iloc[:2]
    mean = fit.predict(NEW, conditional=False, interval="confidence").iloc[:2]
    v = fit.varcorr["vcov"].to_numpy()
    for row, days in enumerate((0.0, 5.0)):
        x = np.array([1.0, days])
        close(mean["std_error"][row] ** 2, x @ fit.vcov.to_numpy() @ x)
        added = v[0] + 2 * days * v[2] + days**2 * v[1] + v[3]
        close(found["std_error"][row] ** 2 - mean["std_error"][row] ** 2, added)
    close(found["predicted"], fit.predict(NEW, conditional=False).iloc[:2])


def test_rows_of_the_fit_and_plausible_values():
    s = survey()
    fit = pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="size", pv=s.pv)
    found = fit.predict(conditional=False, interval="confidence")
    assert found.index.equals(fit.index)
    close(found["predicted"], fit.fitted(conditional=False))
    x = np.array([1.0, *s.data.loc[fit.index[7], ["escs", "female"]].astype(float)])
    close(found["std_error"].iloc[7] ** 2, x @ fit.vcov.to_numpy() @ x)  # Rubin's rules are linear
    close(fit.predict(s.data, conditional=False, interval="confidence")["std_error"], found["std_error"])


def test_population_averages_count_the_variances():
    fit = pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=3)
    new = outcomes().head(4)
    found = fit.predict(new, averaged=True, interval="confidence")
    each = [pmwmix.predictions(fit, newdata=new.iloc[[k]], weighted=False).iloc[0] for k in range(4)]
    close(found["predicted"], [one["estimate"] for one in each])
    close(found["std_error"], [one["std_error"] for one in each])
    close(found["predicted"], fit.predict(new, averaged=True), rtol=1e-8)


def test_what_has_no_interval_says_so():
    fit = pmwmix.fit("y ~ x + (1 | school)", nested())
    with pytest.raises(NotSupportedError, match="conditional=False"):
        fit.predict(interval="confidence")
    with pytest.raises(OptionError, match=r"'confidnce'.*Did you mean 'confidence'"):
        fit.predict(conditional=False, interval="confidnce")
    odds = pmwmix.fit("z ~ x", outcomes(), family="binomial")
    with pytest.raises(NotSupportedError, match="linear models"):
        odds.predict(interval="prediction")
    marks = pmwmix.fit("mark ~ x", outcomes(), family="cumulative")
    with pytest.raises(NotSupportedError, match="predictions"):
        marks.predict(interval="confidence")
