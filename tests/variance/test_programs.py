"""Standard errors under the names of programs."""

import numpy as np
import pytest
from helpers import close, nested

import pmwmix
from pmwmix.errors import OptionError
from pmwmix.variance import VARIANCES

LINEAR = {"stata": ("robust-block", True), "hlm": ("robust-block", False), "mplus": ("robust", False),
          "wemix": ("robust-block", True), "gllamm": ("robust", True)}  # fmt: skip
BINARY = {**LINEAR, "stata": ("robust", True), "wemix": ("robust", True)}


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_names_of_programs(family):
    d = nested()
    d["z"] = d["y"] > d["y"].median()
    call = ("y ~ x + (1 | school)", {}) if family == "gaussian" else ("z ~ x + (1 | school)", {"n_agq": 5})

    def fitted(vcov):
        return pmwmix.fit(call[0], d, weights=["t1", "w3"], vcov=vcov, family=family, **call[1])

    J = d["school"].nunique()
    for program, (same, corrected) in (LINEAR if family == "gaussian" else BINARY).items():
        fit, expected = fitted(program), fitted(same)
        close(fit.se, expected.se * (1.0 if corrected else np.sqrt((J - 1) / J)))
        close(fit.df(), expected.df())
        assert program.lower() in str(fit.summary()).lower()


def test_strata_without_the_factor():
    d = nested().assign(stratum=lambda t: t["school"] // 7)
    options = {"weights": ["t1", "w3"], "design": pmwmix.Design(strata="stratum")}
    with_it = pmwmix.fit("y ~ x + (1 | school)", d, vcov="gllamm", **options)
    without = pmwmix.fit("y ~ x + (1 | school)", d, vcov="mplus", **options)
    assert (without.se < with_it.se).all()


def test_a_program_that_is_not_there():
    assert set(LINEAR) <= set(VARIANCES)
    with pytest.raises(OptionError, match="Did you mean 'stata'"):
        pmwmix.fit("y ~ x + (1 | school)", nested(), vcov="stat")


@pytest.mark.parametrize(
    ("name", "cure"),
    [("observed", "vcov='model'"), ("OIM", "vcov='model'"), ("cluster", "'robust' or 'CR2'"), ("brr", "'replicate'")],
)
def test_names_of_other_programs_are_told_what_is_here(name, cure):
    with pytest.raises(OptionError, match=rf"no variance method '{name}'.*{cure}"):
        pmwmix.fit("y ~ x + (1 | school)", nested(), vcov=name)
