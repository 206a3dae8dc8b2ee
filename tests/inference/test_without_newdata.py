"""Effects and predictions over the rows of the fit, which it finds again in its table."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from helpers import nested, outcomes, survey

import pmwmix
from pmwmix.errors import DataError, OptionError


def same(a, b):
    pd.testing.assert_frame_equal(a, b, rtol=1e-10)


def test_rows_are_those_of_the_fit():
    d = nested().assign(kind=lambda t: np.where(t["school"] % 2, "a", "b"))
    d.loc[3:9, "y"] = np.nan
    d.loc[20:25, "x"] = np.nan
    fit = pmwmix.fit("y ~ x * kind + (1 | school)", d, weights=["t1", "w3"])
    rows = d.loc[fit.index]
    same(fit.ame(), fit.ame(newdata=rows))
    same(fit.ame("x", by="kind"), fit.ame("x", newdata=rows, by="kind"))
    same(pmwmix.predictions(fit, {"x": [0, 1]}), pmwmix.predictions(fit, {"x": [0, 1]}, newdata=rows))
    assert len(pmwmix.plots.effects(fit, "x", backend="none").data) > 0


def test_plausible_values_centring_and_subsets():
    s = survey()
    data = s.data.assign(half=np.arange(len(s.data)) % 2 == 0)
    options = {"weights": s.weights, "scaling": "size", "pv": s.pv, "center": {"escs": "SCHOOLID"}, "subset": "half"}
    fit = pmwmix.fit("math ~ escs * female + (1 | SCHOOLID)", data, **options)
    same(fit.ame(), fit.ame(newdata=data[data["half"]]))


def test_tables_of_other_kinds(tmp_path):
    d = nested()
    expected = pmwmix.fit("y ~ x + (1 | school)", d).ame()
    d.to_csv(tmp_path / "d.csv", index=False)
    same(pmwmix.fit("y ~ x + (1 | school)", tmp_path / "d.csv").ame(), expected)
    polars = pytest.importorskip("polars")
    same(pmwmix.fit("y ~ x + (1 | school)", polars.DataFrame(d)).ame(), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("x", d["x"] + 1.0),
        lambda d: d.pop("x"),
        lambda d: d.__setitem__("x", d["x"].to_numpy()[::-1]),
    ],
    ids=["values", "columns", "order"],
)
def test_a_changed_table_is_noticed(change):
    d = nested()
    fit = pmwmix.fit("y ~ x + (1 | school)", d)
    change(d)
    with pytest.raises(DataError, match=r"ame\(\) reads the table of the fit, which was changed since"):
        fit.ame()


def test_changes_that_do_not_matter_are_none():
    d = nested()
    fit = pmwmix.fit("y ~ x + (1 | school)", d)
    expected = fit.ame()
    d["new"] = 1.0
    same(fit.ame(), expected)


def test_fits_without_their_table_say_so(tmp_path):
    d = nested().assign(half=lambda t: t["school"] % 2)
    fit = pmwmix.fit("z ~ x + (1 | school)", outcomes(), family="binomial", n_agq=1)
    lost = [
        pickle.loads(pickle.dumps(fit)),
        copy.deepcopy(fit),
        pmwmix.load(fit.save(tmp_path / "fit")),
        pmwmix.fit_groups("y ~ x + (1 | school)", d, by="half")[0],
    ]
    for one in lost:
        with pytest.raises(OptionError, match=r"lost sight of it.*newdata=data"):
            one.ame()
        with pytest.raises(OptionError, match=r"predictions\(\) needs the table"):
            pmwmix.predictions(one)
    size = len(pickle.dumps(pmwmix.fit("y ~ x + (1 | school)", d)))
    assert len(pickle.dumps(pmwmix.fit("y ~ x + (1 | school)", d.assign(big="x" * 1000)))) < size + 1000


def test_fits_read_in_pieces_read_them_again(tmp_path):
    d = nested()
    d.to_parquet(tmp_path / "d.parquet")
    fit = pmwmix.fit("y ~ x + (1 | school)", tmp_path / "d.parquet", memory="2 MiB")
    same(fit.ame(newdata=d), pmwmix.fit("y ~ x + (1 | school)", d).ame())
    same(fit.ame(), fit.ame(newdata=d))
    with pytest.raises(OptionError, match=rf"read its {len(d)} rows in pieces and keeps none. Pass newdata="):
        pmwmix.plots.effects(fit, "x", backend="none")
