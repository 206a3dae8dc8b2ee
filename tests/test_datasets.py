"""The data that come with the package are those that were published."""

import pandas as pd
from helpers import close

import pmwmix


def test_new_zealand_in_pisa_2012_is_that_of_the_published_report():
    data = pmwmix.datasets.pisa2012_nzl()
    assert data.shape == (4291, 17) and data["SCHOOLID"].nunique() == 177
    values = [f"PV{k}MATH" for k in range(1, 6)]
    table = pmwmix.describe("math", data, weights="W_FSTUWT", pv={"math": values}, design={"psu": "SCHOOLID"})
    shown = table.set_index("statistic")["estimate"] if "statistic" in table else table.iloc[0]
    # OECD (2014), PISA 2012 Results, vol. I, table I.2.3a: mean 500, standard deviation 100
    assert (round(float(shown["mean"])), round(float(shown["sd"]))) == (500, 100)
    assert "OECD" in data.attrs["source"]


def test_the_preset_finds_its_columns_in_the_extract():
    data = pmwmix.datasets.pisa2012_nzl()
    fit = pmwmix.fit("math ~ ST04Q01 + (1 | school)", data, design="pisa-2012")
    own = pmwmix.fit(
        "math ~ ST04Q01 + (1 | SCHOOLID)", data, weights=["W_FSTUWT", "W_FSCHWT"], scaling="size",
        pv={"math": "PV{}MATH"},
    )  # fmt: skip
    close(fit.coef, own.coef, 1e-8)
    assert fit.nobs == 4291 and isinstance(fit.coef, pd.Series)
