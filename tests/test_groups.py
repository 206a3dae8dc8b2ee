"""One model per group: the same numbers as fit on each part, failures beside, averages, executors."""

import multiprocessing
import os
import pickle
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, survey

import pmwmix
from pmwmix import PmwmixError, PmwmixWarning
from pmwmix.data.bysource import source_parts
from pmwmix.data.pieces import stream_of
from pmwmix.data.table import Table

FORMULA = "math ~ escs + (1 | SCHOOLID)"


def call():
    s = survey(3)
    return {"weights": s.weights, "scaling": "size", "pv": s.pv}


@pytest.fixture(scope="module")
def countries():
    """40 schools in four countries of unlike size, rows shuffled."""
    d = survey(3).data.drop(columns="CNT")
    school = pd.factorize(d["SCHOOLID"])[0]
    d["CNT"] = np.array(["NZL", "AUT", "NOR", "ITA"])[np.digitize(school, [8, 18, 29])]
    d["IDCNTRY"] = d["CNT"].map({"NZL": 554, "AUT": 40, "NOR": 578, "ITA": 380}).astype(float)
    return d.sample(frac=1, random_state=1)


@pytest.fixture(scope="module")
def fits(countries):
    return pmwmix.fit_groups(FORMULA, countries, progress=False, **call())


def test_same_numbers_as_fit_on_each_part(countries, fits):
    assert list(fits) == ["AUT", "ITA", "NOR", "NZL"] and len(fits) == 4 and "AUT" in fits
    for name, one in fits.items():
        part = countries[countries["CNT"] == name]
        want = pmwmix.fit(FORMULA, part, **call())
        close(one.coef, want.coef, rtol=1e-9)
        close(one.se, want.se, rtol=1e-7)
        close(one.fitted()[part.index], want.fitted()[part.index], rtol=1e-7)


def test_tidy_is_long_and_average_is_the_mean(fits):
    long = fits.tidy(0.9)
    assert list(long)[:4] == ["CNT", "term", "estimate", "std_error"] and len(long) == 8
    average = fits.average(0.9).set_index("term")
    for term, part in long.groupby("term"):
        assert average.loc[term, "estimate"] == pytest.approx(part["estimate"].mean())
        assert average.loc[term, "std_error"] == pytest.approx(np.sqrt((part["std_error"] ** 2).sum()) / 4)
        assert average.loc[term, "between_sd"] == pytest.approx(part["estimate"].std())
        assert average.loc[term, "ci_low"] < average.loc[term, "estimate"] < average.loc[term, "ci_high"]
        assert average.loc[term, "df"] > part["df"].max()
    variances = fits.average(of="varcorr")
    assert variances["grp"].tolist() == ["SCHOOLID", "Residual"] and (variances["n_groups"] == 4).all()
    assert variances["estimate"].iloc[1] == pytest.approx(fits.varcorr().query("grp == 'Residual'")["vcov"].mean())


def test_glance_and_summary(fits):
    glance = fits.glance()
    assert glance["nobs"].sum() == 480 and glance["n_SCHOOLID"].sum() == 40 and glance.index.name == "CNT"
    said = fits.summary().to_text(1000)
    assert "4 of 4 fitted, by CNT" in said and "Average over groups" in said and "ITA" in said
    assert "<table" in fits._repr_html_() and repr(fits) == str(fits.summary())


class Client:
    """As much of dask.distributed.Client as is used: tasks and results travel pickled."""

    def __init__(self, broken=False):
        self.broken = broken

    def submit(self, function, *arguments):
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        future = Future()
        future.set_result(pickle.loads(pickle.dumps(function(*arguments))))
        return future

    def gather(self, futures):
        if self.broken:
            futures[0].__init__()
            futures[0].set_exception(RuntimeError("worker lost"))
        return [future.result() for future in futures]


@pytest.mark.parametrize("kind", ["threads", "dask"])
def test_executors_give_the_same(kind, countries, fits):
    if kind == "threads":
        with ThreadPoolExecutor(2) as executor:
            got = pmwmix.fit_groups(FORMULA, countries, executor=executor, progress=True, **call())
    else:
        got = pmwmix.fit_groups(FORMULA, countries, executor=Client(), **call())
    close(got.tidy()["estimate"], fits.tidy()["estimate"], rtol=1e-9)
    close(got.tidy()["std_error"], fits.tidy()["std_error"], rtol=1e-8)
    assert got["NZL"].predict(countries[countries["CNT"] == "NZL"]).notna().all()
    assert got["NZL"].fitted().index.equals(fits["NZL"].fitted().index)


@pytest.mark.parametrize("kind", ["columns", "zones"])
def test_fits_with_replicates_travel(kind, countries):
    """Fits with replicates come back from other processes, as those without do."""
    d = countries.copy()
    school = d["SCHOOLID"].to_numpy()
    d["zone"], d["half"] = school % 5, school // 5 % 2
    for r in range(4):
        d[f"R{r + 1}"] = d["W_FSTUWT"] * np.where(school // (r + 1) % 2, 1.5, 0.5)
    made = {"replicate_weights": "R{}", "replicate_type": "fay", "fay": 0.5}
    design = made if kind == "columns" else {"zone": "zone", "rep": "half", "replicate_type": "jk2"}
    formula, given = "PV1MATH ~ escs + (1 | SCHOOLID)", {**call(), "pv": None, "design": design}
    here = pmwmix.fit_groups(formula, d, **given)
    there = pmwmix.fit_groups(formula, d, executor=Client(), **given)
    close(there.tidy()["std_error"], here.tidy()["std_error"], rtol=1e-9)
    assert there["AUT"].settings.replicates == here["AUT"].settings.replicates


def test_a_task_carries_the_columns_that_are_used(countries):
    sizes = []

    class Scale(Client):
        def submit(self, function, *arguments):
            sizes.append(list(pickle.loads(pickle.dumps(arguments[1]))))
            return super().submit(function, *arguments)

    wide = countries.assign(**{f"other{k}": 0.0 for k in range(30)})
    pmwmix.fit_groups(FORMULA, wide, executor=Scale(), **call())
    assert len(sizes) == 3 and all(set(s) == {*sizes[0]} and "other3" not in s and "escs" in s for s in sizes)


@pytest.mark.slow
def test_processes_give_the_same(countries, fits):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        got = pmwmix.fit_groups(FORMULA, countries, executor=executor, **call())
    close(got.tidy()["estimate"], fits.tidy()["estimate"], rtol=1e-9)


def test_groups_of_a_lost_worker_are_fitted_here(countries, fits):
    with pytest.warns(PmwmixWarning, match=r"lost 1 of 3 groups, which were done here.*RuntimeError: worker lost"):
        got = pmwmix.fit_groups(FORMULA, countries, executor=Client(broken=True), **call())
    assert len(got) == 4 and got.failures.empty
    close(got.tidy()["estimate"], fits.tidy()["estimate"], rtol=1e-9)


def deadly(cond, parents):
    """Leave weights as they are, and end every process but that of the tests."""
    if multiprocessing.parent_process() is not None:
        os._exit(9)
    return cond


def test_groups_of_a_process_that_died_are_fitted_here(countries):
    given = {**call(), "scaling": deadly}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        with pytest.warns(PmwmixWarning, match=r"lost 3 of 3 groups, which were done here.*BrokenProcessPool"):
            got = pmwmix.fit_groups(FORMULA, countries, executor=executor, **given)
        with pytest.warns(PmwmixWarning, match="lost 3 of 3"):  # it takes no more
            pmwmix.fit_groups(FORMULA, countries, executor=executor, **given)
    here = pmwmix.fit_groups(FORMULA, countries, **given)
    assert got.failures.empty
    close(got.tidy()["estimate"], here.tidy()["estimate"], rtol=1e-9)


def test_replicates_of_a_lost_worker_are_refitted_here(countries):
    class Dying(ThreadPoolExecutor):
        def submit(self, function, *arguments):
            future = Future()
            future.set_exception(BrokenExecutor("a process was terminated abruptly"))
            return future

    d = countries[countries["CNT"] == "AUT"].copy()
    for r in range(4):
        d[f"R{r + 1}"] = d["W_FSTUWT"] * np.where(d["SCHOOLID"] // (r + 1) % 2, 1.5, 0.5)
    given = {"weights": ["W_FSTUWT"], "design": {"replicate_weights": "R{}", "replicate_type": "fay", "fay": 0.5}}
    formula = "PV1MATH ~ escs + (1 | SCHOOLID)"
    here = pmwmix.fit(formula, d, **given)
    with pytest.warns(PmwmixWarning, match="lost 4 of 4 parts of the replicates"):
        there = pmwmix.fit(formula, d, executor=Dying(1), **given)
    close(there.se, here.se, rtol=1e-9)


def test_after_an_interruption_no_other_group_is_begun(countries):
    begun = []

    class Slow(ThreadPoolExecutor):
        def submit(self, function, *arguments):
            future = Future()
            begun.append(future)
            if len(begun) == 1:
                future.set_running_or_notify_cancel()
                future.set_exception(KeyboardInterrupt())
            return future

    with pytest.raises(KeyboardInterrupt):
        pmwmix.fit_groups(FORMULA, countries, executor=Slow(1), **call())
    assert [one.cancelled() for one in begun[1:]] == [True, True]


def test_groups_that_fail_do_not_stop_the_others(countries, fits):
    d = countries.copy()
    d.loc[d["CNT"] == "AUT", "escs"] = np.nan
    d.loc[d["CNT"] == "NOR", ["PV1MATH", "PV2MATH", "PV3MATH"]] = 500.0
    with pytest.warns(PmwmixWarning, match=r"2 of 4 groups could not be fitted. They are 'AUT', 'NOR'.*No row is left"):
        got = pmwmix.fit_groups(FORMULA, d, **call())
    assert list(got) == ["ITA", "NZL"] and got.failures["group"].tolist() == ["AUT", "NOR"]
    assert "does not vary" in got.failures["message"].iloc[1]
    close(got["ITA"].coef, fits["ITA"].coef, rtol=1e-9)
    said = got.summary().to_text(1000)
    assert "2 of 4 fitted" in said and "Failures" in said and "No row is left" in said
    with pytest.raises(PmwmixError, match=r"'NOR' was not fitted.*does not vary"):
        got["NOR"]


def test_terms_that_not_all_groups_have(countries):
    d = countries.copy()
    d["kind"] = np.where((d["CNT"] == "ITA") | (np.arange(len(d)) % 2 == 0), "a", "b")
    d.loc[(d["CNT"] == "ITA") & (np.arange(len(d)) % 2 == 0), "kind"] = "c"
    got = pmwmix.fit_groups("PV1MATH ~ kind + (1 | SCHOOLID)", d)
    average = got.average().set_index("term")["n_groups"]
    assert average["Intercept"] == 4 and average["kind[T.b]"] == 3 and average["kind[T.c]"] == 1
    assert "Not in all groups" in got.summary().to_text(1000)


def test_columns_of_groups(countries, fits, tmp_path):
    by_number = pmwmix.fit_groups(FORMULA, countries, by="idcntry", **call())
    assert list(by_number) == [40, 380, 554, 578] and by_number.by == "IDCNTRY"
    close(by_number[40].coef, fits["AUT"].coef, rtol=1e-9)
    ordered = countries.assign(CNT=pd.Categorical(countries["CNT"], ["NZL", "AUT", "NOR", "ITA"]))
    assert list(pmwmix.fit_groups(FORMULA, ordered, **call())) == ["NZL", "AUT", "NOR", "ITA"]
    countries.to_parquet(tmp_path / "d.parquet")
    from_file = pmwmix.fit_groups(FORMULA, tmp_path / "d.parquet", **call())
    close(from_file.tidy()["estimate"], fits.tidy()["estimate"], rtol=1e-9)


def test_presets_name_the_country(countries):
    d = countries.rename(columns={"SCHOOLID": "CNTSCHID", "W_FSCHWT": "W_SCHGRNRABWT"})
    got = pmwmix.fit_groups("math ~ escs + (1 | school)", d, by="country", design="pisa-2018", vcov="robust")
    assert got.by == "CNT" and len(got) == 4


def test_subsets_follow_their_groups(countries):
    girls = (countries["female"] == 1).to_numpy()
    got = pmwmix.fit_groups(FORMULA, countries, subset=girls, **call())
    part = countries["CNT"] == "NOR"
    want = pmwmix.fit(FORMULA, countries[part], subset=girls[part.to_numpy()], **call())
    close(got["NOR"].se, want.se, rtol=1e-8)


def test_rows_without_a_group_are_left_out(countries, fits):
    d = countries.copy()
    d.loc[d["CNT"] == "ITA", "CNT"] = None
    with pytest.warns(PmwmixWarning, match=r"\d+ of 480 rows belong to no group. Column 'CNT'"):
        got = pmwmix.fit_groups(FORMULA, d, **call())
    assert list(got) == ["AUT", "NOR", "NZL"]
    close(got["NZL"].coef, fits["NZL"].coef, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "CNTRY"}, r"groups, by=.*'CNTRY'.*Did you mean 'IDCNTRY'|'CNT'"),
        ({"by": 3}, "by=3"),
        ({"executor": 4}, "Got int"),
        ({"scalling": "size"}, r"'scalling'\. Did you mean 'scaling'"),
        ({"scaling": "sise"}, "sise"),
        ({"weights": ["W_FSTUW", "W_FSCHWT"]}, "W_FSTUW"),
        ({"subset": [True]}, "1 values for 480 rows"),
        ({"progress": 3}, "Got 3"),
    ],
)
def test_what_is_wrong_with_the_call_is_raised_at_once(options, said, countries):
    with pytest.raises(PmwmixError, match=said):
        pmwmix.fit_groups(FORMULA, countries, **{**call(), **options})


def test_no_group_at_all(countries):
    with pytest.raises(PmwmixError, match=r"All 4 groups of 'CNT' failed, 'AUT' with .*No row is left"):
        pmwmix.fit_groups(FORMULA, countries.assign(escs=np.nan), **call())
    with pytest.raises(PmwmixError, match="missing in all 480 rows"):
        pmwmix.fit_groups(FORMULA, countries.assign(CNT=np.nan), **call())


def test_unknown_groups_and_parts(fits):
    with pytest.raises(PmwmixError, match=r"no group 'NZ'\. Did you mean 'NZL'"):
        fits["NZ"]
    with pytest.raises(PmwmixError, match="Unknown part 'random'"):
        fits.average(of="random")


def test_forked_processes_are_refused(countries):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        with pytest.raises(PmwmixError, match=r"wait forever.*get_context\('spawn'\)"):
            pmwmix.fit_groups(FORMULA, countries, executor=executor, engine="jax", **call())
        with pytest.raises(PmwmixError, match=r"wait forever.*get_context\('spawn'\)"):
            pmwmix.fit(FORMULA, countries, executor=executor, engine="jax", **call())


def test_differences_against_formulas_written_out(fits):
    one = fits.tidy().query("term == 'escs'").set_index("CNT")
    pairs = fits.differences("escs").set_index(["group", "other"])
    assert len(pairs) == 6
    a, b = one.loc["AUT"], one.loc["NZL"]
    found = pairs.loc[("AUT", "NZL")]
    assert found["estimate"] == pytest.approx(a["estimate"] - b["estimate"])
    assert found["std_error"] == pytest.approx(np.hypot(a["std_error"], b["std_error"]))
    welch = found["std_error"] ** 4 / (a["std_error"] ** 4 / a["df"] + b["std_error"] ** 4 / b["df"])
    assert found["df"] == pytest.approx(welch)
    assert pairs["p_adjusted"].min() == pytest.approx(min(1, 6 * pairs["p_value"].min()))
    single = fits.differences("escs", against="NZL", adjust="none").set_index("group").loc["AUT"]
    assert single["p_adjusted"] == pytest.approx(found["p_value"]) and single["ci_low"] == pytest.approx(
        found["ci_low"]
    )
    mean = fits.differences("escs", against="average").set_index("group")
    assert mean["estimate"].sum() == pytest.approx(0, abs=1e-9)
    others = one.drop("AUT")["std_error"]
    want = np.sqrt(9 * a["std_error"] ** 2 + (others**2).sum()) / 4  # OECD's error of a country against the average
    assert mean.loc["AUT", "std_error"] == pytest.approx(want)


def test_ranks_hold_themselves_and_open_where_nothing_is_clear(fits):
    wide, narrow = fits.ranking("escs", ci_prob=1 - 1e-12), fits.ranking("Intercept", ci_prob=0.01, adjust="none")
    assert (wide["rank_low"] == 1).all() and (wide["rank_high"] == 4).all() and wide["estimate"].is_monotonic_decreasing
    assert narrow["rank"].tolist() == narrow["rank_low"].tolist() == narrow["rank_high"].tolist() == [1, 2, 3, 4]


def test_index_of_inclusion_is_what_lies_within_schools(fits):
    index = fits.inclusion()
    for name, one in fits.items():
        v = one.varcorr.set_index("grp")["vcov"]
        assert index.loc[name, "estimate"] == pytest.approx(100 * v["Residual"] / v.sum(), rel=0.02)  # means over PVs
        assert index.loc[name, "std_error"] == pytest.approx(100 * pmwmix.icc_se(one)["std_error"].iloc[0])
        assert index.loc[name, "ci_low"] < index.loc[name, "estimate"] < index.loc[name, "ci_high"]
    ranks = fits.ranking("inclusion index")
    assert set(ranks.index) == set(fits) and (ranks["rank"] >= ranks["rank_low"]).all()


def test_index_of_inclusion_and_its_error_are_those_of_glmmtmb():
    """R 4.5, glmmTMB: m <- glmmTMB(mathach ~ 1 + (1 | school), d, REML = FALSE) for each sector, and the delta method
    by central differences of 100 v / (v + exp(2 theta)), v = exp(betad), with vcov(m, full = TRUE)."""
    found = pmwmix.fit_groups("mathach ~ 1 + (1 | school)", hsb(), by="sector", progress=False).inclusion()
    close(found.loc["Public", ["estimate", "std_error"]], [87.144261499, 2.020676862], 5e-6)  # two optimisers
    close(found.loc["Catholic", ["estimate", "std_error"]], [83.775215963, 2.587180625], 5e-6)


def test_table_of_groups_names_failures_in_full(countries):
    d = countries.assign(math=np.where(countries["CNT"] == "ITA", 500.0, countries["PV1MATH"]))
    with pytest.warns(PmwmixWarning, match="ITA"):
        found = pmwmix.fit_groups(FORMULA, d, weights=call()["weights"], scaling="size", progress=False)
    table = found.table()
    assert list(table.cells) == ["AUT", "NOR", "NZL"]
    assert f"Not fitted: ITA. {found.failures['message'].iloc[0]}" in table.notes
    assert not any("ITA" in note for note in found.table(notes=False).notes)


@pytest.mark.parametrize(
    ("verb", "call_", "said"),
    [
        ("differences", {"of": "ecss"}, "Did you mean 'escs'"),
        ("differences", {"of": "escs", "against": "NZ"}, "There is no group 'NZ'"),
        ("ranking", {"of": "escs", "adjust": "tukey"}, "Unknown adjustment 'tukey'"),
        ("differences", {"of": "escs", "adjust": "single-step"}, "Use adjust='holm'"),
        ("inclusion", {"ci_prob": 2}, "probability between 0 and 1"),
        ("differences", {"of": "escs", "ci_prob": 2}, "ci_prob"),
    ],
)
def test_comparisons_of_groups_say_what_is_wrong(fits, verb, call_, said):
    with pytest.raises(PmwmixError, match=said):
        getattr(fits, verb)(**call_)


def sources(folder, table):
    """Kinds of sources that are read in pieces, and how they are asked for."""
    import dask.dataframe as dd
    import duckdb
    import polars as pl
    import pyarrow.dataset as ds

    for number, rows in enumerate(np.array_split(np.arange(len(table)), 3)):
        table.iloc[rows].to_parquet(folder / f"{number}.parquet", index=False)
    sql = f"SELECT * FROM '{folder}/*.parquet'"
    yield from [(folder, {}), (folder, {"memory": "1GiB"}), (sql, {}), (duckdb.sql(sql), {})]
    chosen = ds.field("CNT").is_null() | (ds.field("CNT") != "ITA")
    yield from [(ds.dataset(folder), {}), (ds.dataset(folder).filter(chosen), {})]
    yield from [(pl.scan_parquet(folder / "*.parquet"), {"memory": "1GiB"}), (dd.from_pandas(table, npartitions=2), {})]


def test_groups_of_data_that_are_read_in_pieces(countries, tmp_path):
    """The same fits as of the table; parts travel as the name of their source, or as rows."""
    options = {"weights": survey(3).weights, "progress": False}
    table = countries.assign(CNT=countries["CNT"].where(countries["SCHOOLID"] != countries["SCHOOLID"].iloc[0]))
    with pytest.warns(PmwmixWarning, match="belong to no group"):
        want = pmwmix.fit_groups("PV1MATH ~ escs + (1 | SCHOOLID)", table, **options)
    for source, more in sources(tmp_path, table):
        with pytest.warns(PmwmixWarning, match="belong to no group"):
            found = pmwmix.fit_groups("PV1MATH ~ escs + (1 | SCHOOLID)", source, **options, **more)
        assert {"AUT", "NOR", "NZL"} <= set(found) <= set(want)
        for name, one in found.items():
            close(one.coef, want[name].coef, 1e-9)
            assert one.nobs == want[name].nobs
        _, parts, _ = source_parts(source, stream_of(source, more.get("memory")), "CNT")
        rows = parts[0].fetch(["escs", "SCHOOLID"])
        travelled = Table(pickle.loads(pickle.dumps(parts[0]))).columns(["escs", "SCHOOLID"])
        pd.testing.assert_frame_equal(pd.DataFrame(travelled), rows)
    with pytest.raises(PmwmixError, match=r"is a column\. Got an array"):
        pmwmix.fit_groups("PV1MATH ~ escs + (1 | SCHOOLID)", tmp_path, subset=np.ones(9, bool))


@pytest.mark.slow
def test_posteriors_in_processes_are_those_of_one():
    """About 25 s: two fresh processes start JAX."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from helpers import nested

    d = nested().assign(half=lambda t: t["school"] % 2)
    options = {"by": "half", "method": "bayes", "draws": 40, "tune": 60, "chains": 2, "random_seed": 4}
    one = pmwmix.fit_groups("y ~ x + (1 | school)", d, **options)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        other = pmwmix.fit_groups("y ~ x + (1 | school)", d, executor=executor, **options)
    np.testing.assert_allclose(other[0].draws(), one[0].draws(), rtol=1e-12)
    assert other[1].log_likelihood()["y"].sizes["school"] == 7
