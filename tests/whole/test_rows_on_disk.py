"""Generalised models of data read in pieces: rows sorted into files, evaluated in parts; a cluster of two processes."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cloudpickle import dumps
from helpers import close
from test_streamed import RTOL, in_pieces, levels, pisa, same

import pmwmix
from pmwmix.data import ondisk
from pmwmix.errors import ClusterError, DataError, FileError, MemoryBudgetError, NotSupportedError
from pmwmix.fitting import general
from pmwmix.likelihood.general import partitioned

WEIGHTS = {"weights": ["t1", "t2", "w3"], "scaling": "size"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng, out = np.random.default_rng(7), levels().copy()
    out["passed"] = np.where(out["y"] + rng.normal(0, 3, len(out)) > out["y"].median(), "yes", "no")
    out["count"] = rng.poisson(np.exp(0.3 * out["x"].fillna(0)))
    grades = pd.CategoricalDtype(["low", "mid", "top", "best"], ordered=True)
    out["grade"] = np.clip(out["count"], 0, 2).map({0: "low", 1: "mid", 2: "top"}).astype(grades)
    out["n"] = 4
    out["share"] = np.minimum(out["count"], 4) / 4
    out["kind"] = (out["classroom"] % 3).map({0: "a", 1: "b", 2: "d"})
    return out.sort_values("kind", kind="stable", ignore_index=True)  # no piece has every kind


@pytest.fixture
def small_chunks(monkeypatch):
    """Several chunks of a few rows, so that there are several parts."""
    monkeypatch.setattr(general, "MIN_ROWS", 60)
    return {"chunk_size": 100}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder for what is sorted into files, which must be empty when nothing uses them any more."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


VARIANTS = {
    "three levels": ("passed ~ x + (1 | school) + (1 | classroom)", {"family": "binomial", "n_agq": 1, **WEIGHTS}),
    "slope, automatic nodes": ("passed ~ x + kind + (1 + x | school)", {"family": "binomial", "vcov": "model"}),
    "trials": ("share ~ x + (1 | school)", {"family": "binomial", "trials": "n", "n_agq": 1}),
    "counts": (
        "count ~ x + offset(w1) + (1 | school)",
        {"family": "poisson", "center": {"x": "school+mean"}, "weights": {"obs": "t1", "school": "w3"}, "n_agq": 3},
    ),
    "ordinal": ("grade ~ x + kind + (1 | school)", {"family": "cumulative", "n_agq": 1, "weights": {"school": "w3"}}),
}


@pytest.mark.parametrize(("formula", "options"), VARIANTS.values(), ids=VARIANTS)
def test_it_is_the_fit_in_memory(table, formula, options, tmp_path, small_chunks):
    options = {**options, **small_chunks}
    mine, theirs = (pmwmix.fit(formula, data, **options) for data in (in_pieces(table, tmp_path), table))
    assert len(mine.rows.problem.objective.paths) == 3
    same(mine, theirs)
    close(*(one.ranef(theirs.n_groups.index[0]).select_dtypes(float) for one in (mine, theirs)), 1e-8, 1e-10)
    close(*(one.fitted().sort_index() for one in (mine, theirs)), 1e-9)
    if "grade" not in formula:  # categories have no residuals
        close(*(one.residuals("pearson").sort_index() for one in (mine, theirs)), 1e-8)
    close(mine.predict(table.head(9)), theirs.predict(table.head(9)), 1e-9)


def test_plausible_values_and_replicates(tmp_path, small_chunks):
    data = pisa()
    data = data[data["SCHOOLID"].isin(sorted(data["SCHOOLID"].unique())[:12])].reset_index(drop=True)
    school, rng = pd.factorize(data["SCHOOLID"], sort=True)[0], np.random.default_rng(2)
    for r in range(1, 5):
        data[f"R{r}"] = data["W_FSTUWT"] * np.where(rng.random(school.max() + 1) < 0.5, 1.5, 0.5)[school]
    options = {
        "family": "binomial",
        "weights": ["W_FSTUWT", "W_FSCHWT"],
        "pv": {"math": ["PV1MATH", "PV2MATH"], "read": ["PV1READ", "PV2READ"]},
        "n_agq": 1,
    }
    replicates = {
        "design": pmwmix.Design(replicate_weights="R{}", replicate_type="fay", fay=0.5),
        "vcov": "replicate-one-step",
    }
    source = in_pieces(data, tmp_path)
    for formula, more in [
        ("(math > 500) ~ read + (1 | SCHOOLID)", {}),
        ("(PV1MATH > 500) ~ escs + (1 | SCHOOLID)", {**replicates, "pv": None}),
    ]:
        same(*(pmwmix.fit(formula, one, **{**options, **more}, **small_chunks) for one in (source, data)))


def test_parts_that_are_not_held_are_read_again(table, tmp_path, small_chunks, monkeypatch):
    options = {"family": "binomial", "n_agq": 1, **small_chunks}
    source, formula = in_pieces(table, tmp_path), "passed ~ x + (1 | school)"
    held = pmwmix.fit(formula, source, **options)
    monkeypatch.setattr(partitioned, "SHARE", 1e-9)
    mine = pmwmix.fit(formula, source, **options)
    close(mine.coef, held.coef, 1e-12)
    assert not any(path in partitioned._held for path in mine.rows.problem.objective.paths)


def test_results_by_further_verbs(table, tmp_path):
    options = {"family": "binomial", "n_agq": 1, "weights": {"obs": "t1", "school": "w3"}}
    source = in_pieces(table, tmp_path)
    small, large = "passed ~ x + (1 | school)", "passed ~ x + w1 + (1 | school)"
    mine, theirs = ([pmwmix.fit(f, data, **options) for f in (small, large)] for data in (source, table))
    close(pmwmix.lrt(*mine).dropna(axis=1), pmwmix.lrt(*theirs).dropna(axis=1), 1e-7)
    close(mine[1].ame(newdata=table).select_dtypes(float), theirs[1].ame().select_dtypes(float), 1e-7)
    close(mine[1].r2(), theirs[1].r2(), 1e-8)
    for verb in (pmwmix.sensitivity, pmwmix.informativeness):
        close(verb(mine[0]).select_dtypes(float), verb(theirs[0]).select_dtypes(float), 1e-6, 1e-9)
    mine[1].save(tmp_path / "fit.pmwmix")
    close(pmwmix.load(tmp_path / "fit.pmwmix").fitted().sort_index(), theirs[1].fitted().sort_index(), 1e-9)


def test_folders_go_and_nothing_is_left_by_faults(table, tmp_path, home, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    source, options = in_pieces(table, data), {"family": "binomial", "n_agq": 1}
    formula = "passed ~ x + (1 | school)"
    fit = pmwmix.fit(formula, source, **options)
    assert list(home.iterdir())
    del fit
    assert not list(home.iterdir())

    def full(*of: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(FileError, match=r"cannot be sorted on disk.*No space left"):
        patch.setattr(os, "posix_fallocate", full)
        pmwmix.fit(formula, source, **options)
    with monkeypatch.context() as patch, pytest.raises(FileError, match=r"columns of \d+ rows take .* GiB"):
        patch.setattr(ondisk, "SPARE", 1.0)
        pmwmix.fit(formula, source, **options)
    with monkeypatch.context() as patch, pytest.raises(MemoryBudgetError, match="outcome would not fit"):
        patch.setattr("pmwmix.frame.ondisk.HELD", 1e9)
        pmwmix.fit(formula, source, **options)
    with pytest.raises(DataError, match="needs two categories"):
        pmwmix.fit("c ~ x + (1 | school)", source, **options)
    whole = (source / "1.parquet").read_bytes()
    damaged = bytearray(whole)
    damaged[200:1200] = bytes(1000)
    table.assign(x="one").to_parquet(source / "1.parquet")
    with pytest.raises(DataError, match="one kind"):
        pmwmix.fit(formula, source, **options)
    (source / "1.parquet").write_bytes(damaged)
    with pytest.raises(FileError, match="cannot be read"):
        pmwmix.fit(formula, source, **options)
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    ("formula", "family", "said"),
    [
        ("passed ~ x + (1 | school) + (1 | c)", "binomial", "crossed, so that all rows hang together"),
        ("count ~ x + (1 | school)", "zero-inflated-poisson", "several linear predictors"),
        ("grade ~ x + (1 | school)", "multinomial", "several linear predictors"),
    ],
)
def test_what_is_not_built_is_refused(table, formula, family, said, tmp_path):
    with pytest.raises(NotSupportedError, match=said):
        pmwmix.fit(formula, in_pieces(table, tmp_path), family=family)


@pytest.fixture(scope="module")
def cluster():
    """Two processes; a scheduler that is gone is noticed soon."""
    import dask
    from dask.distributed import Client, LocalCluster

    with warnings.catch_warnings(), dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        warnings.simplefilter("ignore")
        made = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
        client = Client(made)
        yield made, client
        client.close()
        made.close()


ONE = {"family": "binomial", "n_agq": 1, "weights": {"obs": "t1", "school": "w3"}}
FORMULA = "passed ~ x + (1 | school)"


def test_a_cluster_does_the_work(cluster, table, tmp_path, small_chunks, monkeypatch):
    client, sent = cluster[1], []
    submit = client.submit
    monkeypatch.setattr(client, "submit", lambda *task, **how: sent.append(len(dumps(task))) or submit(*task, **how))
    mine = pmwmix.fit(FORMULA, in_pieces(table, tmp_path), executor=client, **ONE, **small_chunks)
    same(mine, pmwmix.fit(FORMULA, table, **ONE, **small_chunks))
    assert max(sent) < 4_000  # parameters, and the names of files
    sent.clear()
    options = {"weights": {"obs": "t1", "school": "w3"}, "scaling": "size"}
    formula, source = "y ~ x + kind + (1 | school)", in_pieces(table, tmp_path)
    same(*(pmwmix.fit(formula, data, executor=client, **options) for data in (source, table)))
    assert len(sent) > 4 and max(sent) < 4_000  # names of files, and units: no rows
    sent.clear()
    linear = pmwmix.fit("y ~ x + (1 | school)", table)
    close(
        *(linear.bootstrap(60, random_seed=1, executor=one).tidy().select_dtypes(float) for one in (client, None)),
        1e-12,
    )
    design = {"design": pmwmix.Design(psu="school", zone="stratum", rep="psu", replicate_type="jkn")}
    by_replicates = {**design, "weights": {"obs": "t1", "school": "w3"}, "vcov": "replicate"}
    close(*(pmwmix.fit("y ~ x + (1 | school)", table, executor=one, **by_replicates).vcov for one in (client, None)))
    assert max(sent) < 0.2 * len(dumps(linear))  # what all tasks need goes to each worker once
    sent.clear()
    groups = pmwmix.fit_groups("y ~ x + (1 | school)", in_pieces(table, tmp_path), by="kind", executor=client)
    assert max(sent) < 4_000  # every worker reads its groups by itself
    for name, one in pmwmix.fit_groups("y ~ x + (1 | school)", table, by="kind").items():
        close(groups[name].coef, one.coef, 1e-12)


def test_a_worker_that_dies_and_a_scheduler_that_is_gone(cluster, table, tmp_path, small_chunks):
    made, client = cluster
    first = next(iter(client.run(os.getpid).values()))
    os.kill(first, signal.SIGKILL)
    source = in_pieces(table, tmp_path)
    groups = pmwmix.fit_groups("y ~ x + (1 | school)", source, by="kind", executor=client)
    close(groups["d"].coef, pmwmix.fit("y ~ x + (1 | school)", table[table["kind"] == "d"]).coef, RTOL)
    made.close()
    with pytest.raises(ClusterError, match=r"scheduler of the cluster is gone.*connect a new Client"):
        pmwmix.fit(FORMULA, source, executor=client, **ONE, **small_chunks)


@pytest.mark.slow
def test_a_worker_that_dies_in_the_middle_of_a_fit(table, tmp_path, small_chunks):
    """Its parts are read by another, which begins at the modes it left on disk; code is compiled once each."""
    import threading

    from dask.distributed import Client, LocalCluster

    options = {**ONE, **small_chunks, "n_agq": 5, "engine": "jax"}
    formula = "passed ~ x + kind + (1 + x | school)"
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made,
        Client(made) as client,
    ):
        source, theirs = in_pieces(table, tmp_path), pmwmix.fit(formula, table, **options)
        first = next(iter(client.run(os.getpid).values()))
        killer = threading.Timer(6.0, os.kill, (first, signal.SIGKILL))
        killer.start()
        for _ in range(3):
            same(pmwmix.fit(formula, source, executor=client, **options), theirs)
        killer.join()
        client.wait_for_workers(2)
        pmwmix.fit(formula, source, executor=client, **options)
        before = client.run(compiled_here)
        pmwmix.fit(formula, source, executor=client, **options)
        assert client.run(compiled_here) == before
        assert all(len(made) for made in before.values())


def compiled_here() -> list[int]:
    """Identities of the compiled functions of a process."""
    from pmwmix.likelihood.engine import _cache

    return [id(one) for one in _cache.values()]
