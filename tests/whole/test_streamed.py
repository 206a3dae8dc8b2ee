"""Fits of data that are read piece by piece: the numbers of the same fit in memory, faults, budgets."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from helpers import close, nested, survey

import pmwmix
from pmwmix.data.pieces import Stream, read_memory, stream_of
from pmwmix.errors import (
    DataError,
    DesignError,
    FileError,
    MemoryBudgetError,
    MissingPackageError,
    NotSupportedError,
    OptionError,
    PmwmixWarning,
)
from pmwmix.fitting import streamed
from pmwmix.frame.buildstreamed import build_streamed
from pmwmix.frame.kinds import Kinds
from pmwmix.spec.design import Design
from pmwmix.spec.formula import parse

RTOL = 1e-9  # the promise of the documentation; what differs is the order of sums
THREE = "y ~ x + c + (1 + x | school) + (1 | classroom)"


@functools.cache
def levels() -> pd.DataFrame:
    """Three levels in random order, with missing values, a factor of which most pieces lack a level, strata, PSUs."""
    rng = np.random.default_rng(4)
    table = nested()
    table["c"] = rng.choice(["p", "q"], len(table))
    table.loc[[1, 50, 51], "c"] = "r"
    table["stratum"] = np.where(table["school"] % 2, "odd", "even")
    table["psu"] = table["school"] // 2 * 2 + table["school"] % 2
    table.loc[[3, 20], "x"] = np.nan
    table.loc[7, "c"] = None
    table["rowzero"] = table["w1"].where(table.index % 13 > 0, 0.0)
    return table.iloc[rng.permutation(len(table))].reset_index(drop=True)


@functools.cache
def pisa() -> pd.DataFrame:
    """Two levels with plausible values of two subjects."""
    table = pd.DataFrame(survey(3).data)
    noise = np.random.default_rng(1).normal(0, 60, (len(table), 3))
    for k in range(3):
        table[f"PV{k + 1}READ"] = 0.6 * table[f"PV{k + 1}MATH"] + noise[:, k]
    return table


def in_pieces(table: pd.DataFrame, folder: Path, n: int = 3) -> Path:
    for number, rows in enumerate(np.array_split(np.arange(len(table)), n)):
        table.iloc[rows].to_parquet(folder / f"{number}.parquet")
    return folder


def same(mine: Any, theirs: Any, words: bool = True) -> None:
    close(mine.coef, theirs.coef, RTOL)
    close(mine.vcov, theirs.vcov, RTOL, 1e-12 * float(np.nanmax(np.abs(theirs.vcov.to_numpy()))))
    close(mine.varcorr[["vcov", "sdcor", "se"]], theirs.varcorr[["vcov", "sdcor", "se"]], RTOL, 1e-12)
    close([mine.loglik, mine.nobs, mine.sigma], [theirs.loglik, theirs.nobs, theirs.sigma], RTOL)
    close(mine.tidy().set_index("term"), theirs.tidy().set_index("term"), 1e-8)
    close(mine.icc, theirs.icc, RTOL)
    close(mine.weight_stats, theirs.weight_stats, RTOL, 1e-12)
    assert mine.n_groups.to_dict() == theirs.n_groups.to_dict()
    assert mine.settings.dropped == theirs.settings.dropped
    if words:
        assert str(mine.summary()) == str(theirs.summary())


VARIANTS = {
    "plain": {},
    "reml": {"method": "reml"},
    "none": {"weights": ["t1", "t2", "w3"]},
    "size": {"weights": ["t1", "t2", "w3"], "scaling": "size", "vcov": "robust-block"},
    "size-lowest": {"weights": ["t1", "t2", "w3"], "scaling": "size-lowest"},
    "effective": {"weights": ["w1", "w2", "w3"], "conditional": True, "scaling": "effective"},
    "gk": {"weights": ["w1", "w2", "w3"], "conditional": True, "scaling": "gk"},
    "gk-sum": {"weights": {"obs": "t1", "school": "w3"}, "scaling": "gk-sum"},
    "no weight of the rows": {"weights": {"school": "w3"}, "center": {"x": "grand"}},
    "means": {"weights": {"obs": "t1", "school": "w3"}, "center": {"x": "school+mean"}},
    "means of classes": {"weights": ["w1", "w2", "w3"], "conditional": True, "center": {"x": "classroom"}},
    "strata": {"weights": ["t1", "t2", "w3"], "design": pmwmix.Design(strata="stratum", psu="psu")},
    "rows without weight": {"weights": ["rowzero", "w2", "w3"], "conditional": True, "vcov": "model"},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_it_is_the_fit_in_memory(options, tmp_path):
    table = levels()
    same(pmwmix.fit(THREE, in_pieces(table, tmp_path), **options), pmwmix.fit(THREE, table, **options))


@pytest.mark.parametrize("by", ["school", "-school"])
def test_units_stand_in_files_in_another_order_than_their_ids(by, tmp_path):
    """Each school in one run of rows, 12 before 2: cross-products belong to their own top-level unit."""
    table = levels().dropna().sort_values("school", ascending=by == "school", ignore_index=True)
    table["school"] = "s" + table["school"].astype(str)
    for formula, options in [
        ("y ~ x + (1 | school)", {"weights": {"obs": "t1", "school": "w3"}}),
        (THREE, {"weights": ["t1", "t2", "w3"], "scaling": "size"}),
    ]:
        same(*(pmwmix.fit(formula, data, **options) for data in (in_pieces(table, tmp_path), table)))


@pytest.mark.parametrize("variant", ["size", "strata", "means", "rows without weight"])
def test_files_are_read_side_by_side(variant, tmp_path, monkeypatch):
    """Parts of the files are counted and added up by an executor; a unit stands in several of them."""
    parts, own = [], streamed.added_up
    monkeypatch.setattr(streamed, "added_up", lambda *of: parts.append(of[3]) or own(*of))
    table, options = levels(), VARIANTS[variant]
    source = in_pieces(table, tmp_path, 5)
    with ThreadPoolExecutor(2) as executor:
        mine = pmwmix.fit(THREE, source, executor=executor, **options)
        close(mine.coef, pmwmix.fit(THREE, source, **options).coef, 1e-11)
        same(mine, pmwmix.fit(THREE, table, **options))
        assert len(parts) == 4 and sum(one.n for one in parts) == mine.nobs
        assert len(np.unique(np.concatenate([one.units for one in parts]))) < sum(len(one.units) for one in parts)
        alone = ds.dataset(source).filter(ds.field("school") < 9)  # gives its files to nobody: read by this process
        same(pmwmix.fit(THREE, alone, executor=executor), pmwmix.fit(THREE, table[table["school"] < 9]))
        assert len(parts) == 4
        table.assign(x="one").iloc[:40].to_parquet(source / "1.parquet")
        with pytest.raises(DataError, match=r"one kind.*'x' is text in .*1\.parquet"):
            pmwmix.fit(THREE, source, executor=executor, **options)


def test_kinds_of_columns_in_parts_of_the_rows():
    one, other = Kinds(), Kinds()
    for kinds, values, number in ((one, ["q", "p"], 1.0), (other, ["r", "p"], 2.0)):
        kinds.categories["c"], kinds.declared["c"], kinds.ordered["c"] = list(values), sorted(values), False
        kinds.values["k"] = {number}
    one.join(other)
    assert one.categories["c"] == ["q", "p", "r"] and one.values["k"] == {1.0, 2.0}
    assert list(one.settle()["c"].categories) == ["p", "q", "r"]  # declared in two ways: sorted
    wrong = Kinds()
    wrong.numbers.add("c")
    with pytest.raises(DataError, match="'c' holds numbers in some and text"):
        one.join(wrong)


def tables(found: Any) -> list[pd.DataFrame]:
    return [found] if isinstance(found, pd.DataFrame) else list(found.values())


FORMULAS = [
    "y ~ 0 + C(k) + x + (1 | school)",
    "log(y + 40) ~ I(x ** 2) + x * c + offset(w1) + (0 + x | school/k)",
    "y ~ x + twice + (1 + x || school)",
    "y ~ x + (c | text)",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_are_evaluated_alike_in_every_piece(formula, tmp_path):
    table = levels().assign(k=lambda d: d["classroom"] % 3, twice=lambda d: 2 * d["x"] + 1)
    table["text"] = "s" + table["school"].astype(str)
    table = table.sort_values("k", ignore_index=True)  # no piece has every value of k
    mine, theirs = (
        pmwmix.fit(formula, in_pieces(table, tmp_path), vcov="robust"),
        pmwmix.fit(formula, table, vcov="robust"),
    )
    same(mine, theirs)
    for one, other in zip(tables(mine.ranef()), tables(theirs.ranef()), strict=True):
        close(one, other, 1e-7, 1e-9)
        assert list(map(str, one.index)) == list(map(str, other.index))


def test_plausible_values_on_both_sides(tmp_path):
    options = {
        "weights": ["W_FSTUWT", "W_FSCHWT"],
        "scaling": "effective",
        "pv": {"math": "PV{}MATH", "read": "PV{}READ"},
        "center": {"read": "SCHOOLID"},
    }
    source = in_pieces(pisa(), tmp_path)
    for formula in ("math ~ escs + (1 + escs | SCHOOLID)", "math ~ read + escs + (1 + read | SCHOOLID)"):
        chosen = options if "read" in formula else {k: v for k, v in options.items() if k != "center"}
        mine, theirs = (pmwmix.fit(formula, data, **chosen) for data in (source, pisa()))
        same(mine, theirs)
        assert mine.n_pv == 3


def test_plausible_values_of_one_side_share_the_passes(tmp_path, monkeypatch):
    passes = []
    read = Stream.pieces
    monkeypatch.setattr(Stream, "pieces", lambda self, *of: passes.append(of) or read(self, *of))
    pmwmix.fit("math ~ escs + (1 | SCHOOLID)", in_pieces(pisa(), tmp_path), pv={"math": "PV{}MATH"})
    assert len(passes) == 2
    assert "female" not in passes[0][0]  # columns that are not used are not read


def test_every_kind_of_source_gives_the_same(tmp_path):
    table = levels()
    folder = in_pieces(table, tmp_path, 2)
    table.to_parquet(tmp_path.parent / f"{tmp_path.name}.parquet", row_group_size=50)
    theirs = pmwmix.fit(THREE, table, weights={"school": "w3"})
    sources = [
        (ds.dataset(folder), None),
        (ds.dataset(pa.Table.from_pandas(table)), None),
        (pl.scan_parquet(folder / "*.parquet"), "1 GiB"),
        (tmp_path.parent / f"{tmp_path.name}.parquet", 2**30),
    ]
    for source, memory in sources:
        same(pmwmix.fit(THREE, source, weights={"school": "w3"}, memory=memory), theirs)
    parted = tmp_path.parent / f"{tmp_path.name} parted"
    for school, rows in table.groupby("school"):
        (parted / f"school={school}").mkdir(parents=True)
        rows.drop(columns="school").to_parquet(parted / f"school={school}" / "rows.parquet")
    (parted / "README.txt").write_text("not data")
    same(pmwmix.fit(THREE, parted, weights={"school": "w3"}), theirs)
    chosen = ds.dataset(folder).filter(ds.field("school") < 9)
    same(pmwmix.fit(THREE, chosen), pmwmix.fit(THREE, table[table["school"] < 9]))


def test_duckdb_gives_the_same(tmp_path):
    import duckdb

    table, folder = levels(), in_pieces(levels(), tmp_path)
    theirs, sql = pmwmix.fit(THREE, table), f"SELECT * FROM '{folder}/*.parquet'"
    same(pmwmix.fit(THREE, sql), theirs)
    same(pmwmix.fit(THREE, duckdb.sql(sql)), theirs)
    with pytest.raises(FileError, match=r"DuckDB failed with .*nowhere"):
        pmwmix.fit(THREE, duckdb.sql(sql).filter("school < 5 and error('nowhere') is null"))


def test_dask_gives_the_same(tmp_path):
    import dask.dataframe as dd

    same(pmwmix.fit(THREE, dd.from_pandas(levels(), npartitions=3)), pmwmix.fit(THREE, levels()))


def sources(table: pd.DataFrame, folder: Path) -> dict[str, tuple[Any, str | None]]:
    """Every kind of source with the same rows."""
    import dask.dataframe as dd
    import duckdb

    sql = f"SELECT * FROM '{in_pieces(table, folder, 2)}/*.parquet'"
    return {
        "folder": (folder, None),
        "file": (folder / "0.parquet", "1 GiB"),
        "pyarrow": (ds.dataset(folder), None),
        "polars": (pl.scan_parquet(folder / "*.parquet"), "1 GiB"),
        "sql": (sql, None),
        "duckdb": (duckdb.sql(sql), None),
        "dask": (dd.from_pandas(table, npartitions=2), None),
    }


@pytest.mark.parametrize("kind", ["folder", "file", "pyarrow", "polars", "sql", "duckdb", "dask"])
def test_every_kind_of_source_with_all_that_a_design_can_have(kind, tmp_path):
    """Plausible values on both sides, a centred one, a factor, missing values, scaled weights, replicates."""
    table = pisa().copy()
    school = pd.factorize(table["SCHOOLID"], sort=True)[0]
    table = table[school < 12].reset_index(drop=True)
    table["kind"], table.loc[[3, 90], "escs"] = np.where(table.index < 60, "a", "b"), np.nan
    table.loc[[5, 70], "kind"] = "c", None
    rng = np.random.default_rng(6)
    for r in range(1, 5):
        table[f"R{r}"] = table["W_FSTUWT"] * np.where(rng.random(12) < 0.5, 1.5, 0.5)[school[school < 12]]
    whole = table.iloc[: len(table) // 2].reset_index(drop=True) if kind == "file" else table
    options: dict[str, Any] = {
        "weights": ["W_FSTUWT", "W_FSCHWT"],
        "scaling": "size",
        "pv": {"math": "PV{}MATH", "read": "PV{}READ"},
        "center": {"read": "SCHOOLID"},
        "design": pmwmix.Design(replicate_weights="R{}", replicate_type="fay", fay=0.5),
        "vcov": "replicate-one-step",
    }
    data, memory = sources(table, tmp_path)[kind]
    formula = "math ~ read + escs + kind + (1 | SCHOOLID)"
    mine = pmwmix.fit(formula, data, memory=memory, **options)
    same(mine, pmwmix.fit(formula, whole, **options), words=False)  # which print degrees of freedom of 2e11 in full
    assert mine.n_pv == 3 and mine.settings.dropped["escs"] > 0


def test_results_of_a_streamed_fit(tmp_path):
    table = levels().dropna()
    source = in_pieces(table, tmp_path)
    options = {"weights": ["t1", "t2", "w3"], "scaling": "size"}
    small, large = "y ~ x + (1 + x | school) + (1 | classroom)", THREE
    mine, theirs = ([pmwmix.fit(f, data, **options) for f in (small, large)] for data in (source, table))
    close(pmwmix.lrt(*mine).dropna(axis=1), pmwmix.lrt(*theirs).dropna(axis=1), 1e-7)
    close(mine[1].wald(["x"]), theirs[1].wald(["x"]), 1e-8)
    new = table.head(9)
    close(mine[1].predict(new), theirs[1].predict(new), 1e-8)
    close(pmwmix.icc_se(mine[1]), pmwmix.icc_se(theirs[1]), 1e-7)
    for verb in ("fitted", "residuals", "augment", "r2"):
        one, other = (getattr(fits[1], verb)() for fits in (mine, theirs))
        close(one, other, 1e-8, 1e-10)
        assert verb == "r2" or list(one.index) == list(range(len(table)))
    mine[1].save(tmp_path / "fit.pmwmix")
    close(pmwmix.load(tmp_path / "fit.pmwmix").residuals().sort_index(), mine[1].residuals(), 1e-12)
    plain = [pmwmix.fit("y ~ x + (1 + x | school)", data) for data in (source, table)]
    verbs = [(pmwmix.ranova, plain), (lambda fit: fit.bootstrap(5, kind="cases", random_seed=1).tidy(), plain)]
    for verb, pair in [*verbs, (pmwmix.sensitivity, [mine[0], theirs[0]])]:
        close(*(verb(one).select_dtypes(float) for one in pair), 1e-5, 1e-9)
    restricted = [[pmwmix.fit(f, data, method="reml") for f in (small, large)] for data in (source, table)]
    with pytest.warns(PmwmixWarning, match="refitted by ML"):
        close(*(pmwmix.lrt(*fits).dropna(axis=1) for fits in restricted), 1e-7)
    with pytest.raises(OptionError, match="not nested"):
        pmwmix.lrt(pmwmix.fit("y ~ log(x + 9) + (1 + x | school) + (1 | classroom)", source, **options), mine[1])
    other = pmwmix.fit(small, in_pieces(table.iloc[:-1], tmp_path), **options)
    with pytest.raises(OptionError, match="same rows only"):
        pmwmix.lrt(other, mine[1])


def test_verbs_that_look_at_rows_sort_them_on_disk(tmp_path):
    table = levels().dropna().sort_values("x", ignore_index=True)
    options = {"weights": ["t1", "t2", "w3"], "scaling": "size"}
    mine, theirs = (pmwmix.fit(THREE, data, **options) for data in (in_pieces(table, tmp_path), table))
    for verb in (pmwmix.influence, pmwmix.informativeness, pmwmix.weight_diagnostics, pmwmix.extreme_weights):
        close(*(verb(one).select_dtypes(float) for one in (mine, theirs)), 1e-7, 1e-9)
    lines = [pmwmix.group_regressions(one, "y ~ x", by="school").select_dtypes(float) for one in (mine, theirs)]
    close(*lines, 1e-8, 1e-9)
    one, other = (pmwmix.plots.check(fit, backend="none").data for fit in (mine, theirs))
    assert list(one["panel"].to_numpy()) == list(other["panel"].to_numpy())
    assert one.attrs["left_out"] == other.attrs["left_out"]


@pytest.mark.parametrize("formula", ["y ~ x * c + C(k) + I(x ** 2) + (1 | school)", "ordinal"])
def test_averages_over_rows_by_further_passes(formula, tmp_path):
    table = levels().assign(k=lambda d: d["classroom"] % 3).sort_values("k", ignore_index=True)
    size = pd.cut(table["x"].where(table["k"] > 0, -1.0), [-9.0, -0.5, 0.5, 9.0], labels=["small", "mid", "big"])
    table["size"] = size.cat.add_categories("none")  # not sorted, and most of them not in the first of the files
    grades = pd.CategoricalDtype(["low", "mid", "top"], ordered=True)
    table["grade"] = pd.cut(table["y"], [-np.inf, 10.0, 12.5, np.inf], labels=grades.categories)
    options: dict[str, Any] = {"weights": {"obs": "t1", "school": "w3"}}
    if formula == "ordinal":
        formula, options = "grade ~ x + c + (1 | school)", {**options, "family": "cumulative", "n_agq": 1}
    mine, theirs = (pmwmix.fit(formula, data, **options) for data in (in_pieces(table, tmp_path), table))
    cases = [
        {},
        {"by": "stratum"},
        {"by": "size"},
        {"by": "k", "variables": "x"},
        {"at": {"c": ["p", "q"]}, "variables": "x"},
    ]
    for how in [*cases, {"weighted": False, "contrasts": {"x": 1.0, "c": "pairwise"}}]:
        alike(mine.ame(**how), theirs.ame(**how))
    for how in ({}, {"at": {"x": [-1, 0]}}, {"by": "c"}, {"by": "k", "type": "link"}):
        alike(pmwmix.predictions(mine, **how), pmwmix.predictions(theirs, **how))
    with pytest.raises(DataError, match=r"Missing \(by=\): 'nowhere'"):
        mine.ame(by="nowhere")
    with pytest.raises(OptionError, match=r"rows to look at, such as a random part"):
        pmwmix.plots.effects(mine, "x", backend="none")


def test_averages_with_plausible_values_of_a_centred_predictor(tmp_path):
    options = {"pv": {"math": "PV{}MATH", "read": "PV{}READ"}, "center": {"read": "SCHOOLID"}, "weights": ["W_FSTUWT"]}
    formula = "math ~ read * escs + (1 | SCHOOLID)"
    alike(*(pmwmix.fit(formula, data, **options).ame(by="female") for data in (in_pieces(pisa(), tmp_path), pisa())))


def alike(mine: pd.DataFrame, theirs: pd.DataFrame) -> None:
    names = list(theirs.select_dtypes(float))
    close(mine[names], theirs[names], 1e-8, 1e-10)
    pd.testing.assert_frame_equal(mine.drop(columns=names), theirs.drop(columns=names))


@pytest.mark.parametrize(
    ("formula", "options", "said"),
    [
        ("y ~ x", {}, "without random terms"),
        ("y ~ x + (1 | school) + (1 | c)", {}, "crossed"),
        ("y ~ scale(x) + (1 | school)", {}, r"learns from the whole column.*scale\(x\)"),
        ("y ~ bs(x, df=4) + (1 | school)", {}, "learns from the whole column"),
        ("scale(y) ~ x + (1 | school)", {}, r"learns from the whole column.*scale\(y\)"),
        ("y ~ x + offset(center(w1)) + (1 | school)", {}, r"learns from the whole column.*center\(w1\)"),
        ("y ~ x + (0 + scale(x) | school)", {}, "learns from the whole column"),
        ("y ~ x + (1 | school)", {"method": "pairwise"}, "method='pairwise'"),
        ("y ~ x + (1 | school)", {"random": "t(8)"}, "random='t"),
        ("y ~ x + (1 | school)", {"subset": "c"}, "subset="),
        ("y ~ x + (1 | school)", {"scaling": lambda w, parents: w}, "function as scaling="),
        ("y ~ x + (1 | school)", {"residual": {"variance": "ident(stratum)"}}, "residual="),
        ("y ~ x + (1 | school)", {"method": "bayes"}, "method='bayes'"),
        ("y ~ x + (1 | school)", {"imputation": "c"}, "imputation='c'"),
        ("y ~ x + (1 | school)", {"vcov": "CR2"}, "vcov=.CR2. for data read in pieces"),
        ("math ~ x + (1 | school)", {"design": "pisa-2018"}, "streamed"),
    ],
)
def test_what_needs_rows_is_refused(formula, options, said, tmp_path):
    with pytest.raises(NotSupportedError, match=said):
        pmwmix.fit(formula, in_pieces(levels(), tmp_path), **options)


def test_damaged_sources(tmp_path):
    folder = in_pieces(levels(), tmp_path)
    whole = (folder / "1.parquet").read_bytes()
    for cut in (len(whole) // 2, 0):
        (folder / "1.parquet").write_bytes(whole[:cut])
        with pytest.raises(FileError, match="cannot be read"):
            pmwmix.fit(THREE, folder)
    damaged = bytearray(whole)
    damaged[200:1200] = bytes(1000)  # the columns, not the footer
    (folder / "1.parquet").write_bytes(damaged)
    with pytest.raises(FileError, match=r"cannot be read.*nothing was fitted"):
        pmwmix.fit(THREE, folder)
    levels().drop(columns="x").to_parquet(folder / "1.parquet")
    with pytest.raises(DataError, match=r"same columns.*1\.parquet lacks 'x'"):
        pmwmix.fit(THREE, folder)
    levels().assign(x="one").to_parquet(folder / "1.parquet")
    with pytest.raises(DataError, match=r"one kind.*'x' is text in .*1\.parquet and numbers"):
        pmwmix.fit(THREE, folder)


def test_errors_are_those_of_a_table(tmp_path):
    table = levels()
    bad = table.assign(w3=table["w3"] + (table.index == 9))
    inf = table.assign(x=table["x"].mask(table.index == 100, np.inf))
    for wrong, options, said in [
        (bad, {"weights": {"school": "w3"}}, "must be constant within a school"),
        (inf, {}, "must be finite. Column 'x'"),
        (table.assign(w3=-1.0), {"weights": {"school": "w3"}}, "negative"),
        (table.assign(y=1.0), {}, "outcome does not vary"),
        (table.assign(y=table["x"]), {}, "without any error"),
        (table.assign(x=np.nan), {}, "No row is left"),
        (table, {"weights": {"school": "w4"}}, "Missing .*'w4'"),
        (table, {"center": {"c": "school"}}, "Only numbers can be centred"),
        (table.assign(x=-1.0 - table["x"].abs()).assign(c="p"), {}, "two categories"),
    ]:
        with pytest.raises(DataError, match=said):
            pmwmix.fit(THREE, in_pieces(wrong, tmp_path), **options)
    with pytest.raises(DataError, match="missing or infinite values"):
        pmwmix.fit("y ~ log(x - 100) + (1 | school)", in_pieces(table, tmp_path))


@pytest.mark.parametrize(
    ("change", "said"), [({"school": 99}, "units that it did not have"), ({"x": np.nan}, "0 rows where")]
)
def test_a_source_that_changes_between_the_passes(change, said):
    table, calls = levels(), []

    def read(names: list[str], rows: int) -> Any:
        calls.append(rows)
        yield table[names] if len(calls) < 2 else table[names].assign(**change)

    frame = build_streamed(parse("y ~ x + (1 | school)"), Stream(table.columns, read, 1e9, "test"), Design(), [])
    with pytest.raises(DataError, match=said):
        list(frame.stream.columns_of())


def test_memory_is_bounded(tmp_path):
    n = 60_000
    table = pd.DataFrame(
        {"y": np.random.default_rng(0).normal(size=n), "x": np.arange(n) % 7.0, "g": np.arange(n) // 2}
    )
    pq.write_table(pa.Table.from_pandas(table), tmp_path / "one.parquet")
    with pytest.raises(
        MemoryBudgetError, match=r"cross-products would not fit.*30000 lowest units with 7 fixed columns"
    ):
        pmwmix.fit("y ~ C(x) + (1 | g)", tmp_path, memory="16 MiB")
    with pytest.raises(MemoryBudgetError, match=r"table of units would not fit.*Columns g have 30000"):
        pmwmix.fit("y ~ x + (1 | g)", tmp_path, memory="2 MiB")
    assert read_memory("2GiB") == 2 * 2**30 and read_memory("1.5 gb") == 1.5e9 and read_memory(2**21) == 2**21
    for wrong in ("much", "2 GX", -1, "1 kB", True):
        with pytest.raises(OptionError, match="memory="):
            read_memory(wrong)
    with pytest.raises(OptionError, match=r"in pieces. Got DataFrame"):
        pmwmix.fit("y ~ x + (1 | g)", table, memory="1GiB")


def test_ids_of_another_kind_in_one_piece():
    table = pd.DataFrame({"y": [1.0, 2, 3, 5], "g": ["1", "1", "2", "2"]})

    def read(names: list[str], rows: int) -> Any:
        yield table[names]
        yield table[names].assign(g=[3, 3, 4, 4])

    with pytest.raises(DataError, match=r"one kind in all pieces\. 'g' holds numbers in some and text"):
        build_streamed(parse("y ~ 1 + (1 | g)"), Stream(table.columns, read, 1e9, "test"), Design(), [])


def test_optional_packages_are_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'pmwmix\[scale\]'"):
        stream_of("SELECT * FROM nowhere")
    with pytest.raises(FileError, match="has none"):
        stream_of(Path(__file__).parent)


def with_replicates(schools_alone: bool = True) -> pd.DataFrame:
    table, rng = pisa().copy(), np.random.default_rng(2)
    codes = pd.factorize(table["SCHOOLID"])[0] if schools_alone else np.arange(len(table))
    for r in range(1, 9):
        table[f"R{r}"] = table["W_FSTUWT"] * rng.choice([0.5, 1.5], codes.max() + 1)[codes]
    table["R9"] = np.nan
    table.loc[5, "escs"] = np.nan
    return table


@pytest.mark.parametrize("vcov", ["replicate", "replicate-one-step"])
def test_replicates_of_whole_schools(vcov, tmp_path):
    table = with_replicates()
    options = {
        "weights": ["W_FSTUWT", "W_FSCHWT"],
        "scaling": "size",
        "pv": {"math": "PV{}MATH"},
        "design": pmwmix.Design(replicate_weights="R{}", replicate_type="fay", fay=0.5),
        "vcov": vcov,
    }
    formula = "math ~ escs + (1 + escs | SCHOOLID)"
    same(pmwmix.fit(formula, in_pieces(table, tmp_path), **options), pmwmix.fit(formula, table, **options))
    inside = in_pieces(with_replicates(schools_alone=False), tmp_path)
    with pytest.raises(NotSupportedError, match="'R1' changes them inside 40 of 40 units"):
        pmwmix.fit(formula, inside, **options)
    wrong = [
        ({"R3": -1.0}, "not negative"),
        ({"R3": table["R3"].mask(table.index == 8)}, "'R3' is missing in 1 of 479"),
    ]
    foreign = {f"R{r}": table[f"R{r}"] * 9 for r in range(1, 9)}
    for change, said in [
        *wrong,
        (foreign, "belong to another weight"),
        ({f"R{r}": 0.0 for r in range(1, 9)}, "empty|no rep"),
    ]:
        with pytest.raises(DesignError, match=said):
            pmwmix.fit(formula, in_pieces(table.assign(**change), tmp_path), **options)


@pytest.mark.parametrize("kind", ["jk2", "jk2-two-sided", "brr", "jkn"])
def test_replicates_from_zones(kind, tmp_path):
    table = pisa().copy()
    school = pd.factorize(table["SCHOOLID"], sort=True)[0]
    table["zone"], table["half"] = [f"z{one // 4}" for one in school], school // 2 % 2
    table.loc[school == 3, "escs"] = np.nan  # a school without rows in the fit
    options = {
        "weights": ["W_FSTUWT", "W_FSCHWT"],
        "design": pmwmix.Design(zone="zone", rep="half", replicate_type=kind),
        "vcov": "replicate-one-step",
    }
    formula = "PV1MATH ~ escs + (1 | SCHOOLID)"
    same(pmwmix.fit(formula, in_pieces(table, tmp_path), **options), pmwmix.fit(formula, table, **options))
    with pytest.raises(NotSupportedError, match="change inside units of 'SCHOOLID'"):
        pmwmix.fit(formula, in_pieces(table.assign(half=table.index % 2), tmp_path), **options)
    with pytest.raises(DesignError, match="Zones must be complete"):
        pmwmix.fit(formula, in_pieces(table.assign(zone=table["zone"].mask(school == 5)), tmp_path), **options)


def test_variances_held_at_values(tmp_path):
    options = {"fixed": {"school.Intercept": 1.5}, "vcov": "model"}
    formula, table = "y ~ x + (1 | school)", levels()
    same(pmwmix.fit(formula, in_pieces(table, tmp_path), **options), pmwmix.fit(formula, table, **options))


def test_files_that_store_the_same_columns_differently(tmp_path):
    table = levels().dropna().reset_index(drop=True)
    table.loc[:59, "x"], table.loc[:59, "c"] = np.arange(60) % 7, "p"
    whole = pa.Table.from_pandas(table, preserve_index=False)
    first, rest = whole.slice(0, 60), whole.slice(60)
    for name, column in {
        "x": pa.array(table["x"][:60].astype(int)),
        "y": first["y"].cast(pa.decimal128(20, 15), safe=False),
        "c": first["c"].dictionary_encode(),
        "w1": pa.nulls(60),
        "school": first["school"].cast(pa.int8()),
    }.items():
        first = first.set_column(first.schema.get_field_index(name), name, column)
    for number, part in enumerate((first, rest, rest.slice(0, 0))):
        pq.write_table(part, tmp_path / f"{number}.parquet")
    same(pmwmix.fit(THREE, tmp_path), pmwmix.fit(THREE, table))
    table.loc[:59, "w1"] = np.nan
    same(pmwmix.fit("y ~ x + w1 + (1 | school)", tmp_path), pmwmix.fit("y ~ x + w1 + (1 | school)", table))
