"""method="bayes": errors of ours in three sentences for what cannot be done, diagnostics in words."""

import functools
import re

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from helpers import nested, outcomes

import pmwmix
from pmwmix.errors import DataError, FormulaError, NotSupportedError, OptionError, PmwmixError
from pmwmix.sample.nuts.convergence import sentences

PV = {"out": ["y", "x"]}


@functools.cache
def data():
    return nested().assign(
        nothing=np.nan,
        same=1.0,
        half=lambda t: t["school"] // 2,
        all=1,
        zero=0.0,
        word="a",
        cross=lambda t: t.index % 5,
    )


def asking(formula="y ~ x + (1 | school)", change=None, **options):
    def call():
        table = data() if change is None else data().assign(**change)
        return pmwmix.fit(formula, table, **{"method": "bayes", "engine": "python", **options})

    return call


def prior(**priors):
    return asking("y ~ x + (1 + x | school)", priors={name.replace("_", "."): value for name, value in priors.items()})


BAD = {
    "no draws": (asking(draws=0), OptionError, "draws"),
    "three draws": (asking(draws=3), OptionError, "draws"),
    "draws as text": (asking(draws="many"), OptionError, "'many'"),
    "draws as fraction": (asking(draws=10.5), OptionError, "10.5"),
    "tune as text": (asking(tune="x"), OptionError, "tune"),
    "tune negative": (asking(tune=-1), OptionError, "-1"),
    "chains true": (asking(chains=True), OptionError, "chains"),
    "no chains": (asking(chains=0), OptionError, "chains"),
    "seed negative": (asking(random_seed=-3), OptionError, "random_seed"),
    "seed as text": (asking(random_seed="a"), OptionError, "random_seed"),
    "sampler unknown": (asking(sampler="nuts"), OptionError, "'nuts'"),
    "sampler a number": (asking(sampler=3), OptionError, "3"),
    "sampler not installed": (asking(sampler="blackjax"), OptionError, "blackjax"),
    "option repeats an argument": (asking(sampler={"draws": 100}), OptionError, "'draws'"),
    "option unknown": (asking(sampler={"target": 0.9}), OptionError, "'target_accept'"),
    "option of another sampler": (asking(sampler={"save_warmup": True}), OptionError, "'save_warmup'"),
    "acceptance above one": (asking(sampler={"target_accept": 1.5}), OptionError, "1.5"),
    "acceptance as text": (asking(sampler={"target_accept": "high"}), OptionError, "'high'"),
    "depth as fraction": (asking(sampler={"maxdepth": 2.5}), OptionError, "maxdepth"),
    "depth nan": (asking(sampler={"maxdepth": float("nan")}), OptionError, "maxdepth"),
    "adaptation unknown": (asking(sampler={"adaptation": "full"}), OptionError, "'full'"),
    "option of PyMC's unknown": (asking(sampler={"name": "pymc", "acceptance": 0.9}), OptionError, "acceptance"),
    "priors a list": (asking(priors=["Normal(0, 1)"]), OptionError, "list"),
    "prior of an unknown term": (prior(escs="Normal(0, 1)"), OptionError, "'escs'"),
    "prior of a misspelt component": (prior(school_y="HalfNormal(1)"), OptionError, "'school.x'"),
    "prior of sigma in a binomial model": (
        asking(
            "same ~ x + (1 | school)",
            change={"same": data().index % 2},
            family="binomial",
            n_agq=1,
            priors={"sigma": "HalfNormal(1)"},
        ),
        OptionError,
        "'sigma'",
    ),
    "prior of correlations without any": (asking(priors={"school": "LKJ(2)"}), OptionError, "'school'"),
    "prior a number": (prior(x=3), OptionError, "'x'"),
    "prior None": (prior(x=None), OptionError, "'x'"),
    "prior with a shape": (prior(x=pm.Normal.dist(0, 1, shape=3)), OptionError, "'x'"),
    "prior a vector": (prior(x=pm.Dirichlet.dist(np.ones(3))), OptionError, "'x'"),
    "prior that does not parse": (prior(x="Normal(0, "), OptionError, "'Normal(0, '"),
    "prior with a name in it": (prior(x="Normal(0, s)"), OptionError, "'x'"),
    "prior not a call": (prior(x="Normal"), OptionError, "'x'"),
    "prior of code": (prior(x="__import__('os').system('true')"), OptionError, "'x'"),
    "distribution unknown": (prior(x="Norml(0, 1)"), OptionError, "'Normal'"),
    "parameter unknown": (prior(x="Normal(0, sd=2)"), OptionError, "'x'"),
    "too few parameters": (prior(x="Gamma()"), OptionError, "'x'"),
    "too many parameters": (prior(x="HalfNormal(1, 2, 3, 4, 5, 6)"), OptionError, "'x'"),
    "impossible parameter": (prior(x="Normal(0, -1)"), OptionError, "'x'"),
    "parameters random": (prior(x=pm.Normal.dist(pm.Normal.dist(0, 1), 1)), OptionError, "random"),
    "discrete": (prior(x="Poisson(3)"), OptionError, "discrete"),
    "deviation may be negative": (prior(school_x="Normal(0, 1)"), OptionError, "negative"),
    "deviation rarely negative": (prior(school_x="Normal(100, 20)"), OptionError, "negative"),
    "sigma may be negative": (prior(sigma=pm.StudentT.dist(4, mu=0, sigma=1)), OptionError, "negative"),
    "all sds negative": (prior(sd="Uniform(-1, 1)"), OptionError, "negative"),
    "phi of a linear model negative": (prior(phi="Normal(0, 1)"), OptionError, "negative"),
    "LKJ negative": (prior(school="LKJ(-1)"), OptionError, "LKJ(2)"),
    "LKJ of two": (prior(school="LKJ(1, 2)"), OptionError, "LKJ(2)"),
    "correlations normal": (prior(school="Normal(0, 1)"), OptionError, "LKJ(2)"),
    "correlations by dist": (prior(cor=pm.Normal.dist()), OptionError, "LKJ(2)"),
    "deviation as LKJ": (prior(school_x="LKJ(2)"), OptionError, "LKJ"),
    "priors without bayes": (asking(method="ml", priors={"x": "Normal(0, 1)"}), OptionError, "priors"),
    "draws without bayes": (asking(method="ml", draws=10), OptionError, "draws"),
    "sampler with reml": (asking(method="reml", sampler="nutpie"), OptionError, "sampler"),
    "small-sample vcov": (asking(vcov="CR2"), NotSupportedError, "'CR2'"),
    "replicate vcov": (asking(vcov="replicate"), NotSupportedError, "'replicate'"),
    "nodes of crossed effects": (
        asking("(y > 10) ~ x + (1 | school) + (1 | cross)", family="binomial", n_agq=7),
        NotSupportedError,
        "'cross'",
    ),
    "all missing": (asking("nothing ~ x + (1 | school)"), DataError, "nothing"),
    "constant outcome": (asking("same ~ x + (1 | school)"), DataError, "same"),
    "text outcome": (asking("word ~ x + (1 | school)"), PmwmixError, "word"),
    "one group": (asking("y ~ x + (1 | all)"), PmwmixError, "all"),
    "no group": (asking("y ~ x + (1 | nowhere)"), PmwmixError, "nowhere"),
    "formula": (asking("y ~ x + (1 |"), FormulaError, "("),
    "group called draw": (asking("y ~ x + (1 | draw)", change={"draw": data()["school"]}), OptionError, "'draw'"),
    "group called obs": (asking("y ~ x + (1 | obs)", change={"obs": data()["school"]}), DataError, "'obs'"),
}


def assert_three_sentences(message, said):
    assert said in message, message
    plain = re.sub(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|\d+\.\d+|\{[^}]*\}|\([^)]*\)", "_", message)
    assert len(re.findall(r"[.?!](?=\s|$)", plain)) >= 3, message


@pytest.mark.parametrize("case", BAD)
def test_bad_calls_end_in_our_words(case):
    call, kind, said = BAD[case]
    with pytest.raises(kind) as error:
        call()
    assert isinstance(error.value, PmwmixError)
    assert_three_sentences(str(error.value), said)


@functools.cache
def result():
    """A small, silent fit: warnings are errors in these tests."""
    return asking("out ~ x + (1 | school)", pv={"out": ["y", "w1"]}, draws=50, tune=100, chains=2, random_seed=1)()


@functools.cache
def loaded(folder):
    return pmwmix.load(result().save(folder / "fit.nc"))


ON_RESULT = {
    "plausible value 0": (lambda f: f.pymc_model(0), OptionError, "0"),
    "plausible value 3": (lambda f: f.pymc_model(3), OptionError, "3"),
    "plausible value text": (lambda f: f.pymc_model("1"), OptionError, "'1'"),
    "plausible value true": (lambda f: f.pymc_model(True), OptionError, "True"),
    "variable unknown": (lambda f: f.draws("betas"), OptionError, "'beta'"),
    "pooled variable unknown": (lambda f: f.pooled_draws("tau"), OptionError, "'tau'"),
    "ci_prob": (lambda f: f.tidy(95), OptionError, "95"),
    "ci_prob of the summary": (lambda f: f.summary(ci_prob=0), OptionError, "0"),
    "scale": (lambda f: f.confint_varcorr(scale="log"), OptionError, "'log'"),
    "exponentiate": (lambda f: f.tidy(exponentiate=True), OptionError, "exponentiate"),
    "wald": (lambda f: f.wald("x"), OptionError, "fit.ml.wald"),
    "group unknown": (lambda f: f.ranef("class"), OptionError, "'class'"),
    "no random effects drawn": (lambda f: f.random_effects(draws=0), OptionError, "draws=0"),
    "random effects by text": (lambda f: f.random_effects(draws="x"), OptionError, "'x'"),
    "saved as a table": (lambda f: f.save("fit.csv"), OptionError, "'fit.csv'"),
    "saved as a fit": (lambda f: f.save("fit.npz"), OptionError, "'fit.npz'"),
    "saved nowhere": (lambda f: f.save("/no/such/folder/fit.nc"), PmwmixError, "folder"),
}


@pytest.mark.parametrize("case", ON_RESULT)
def test_bad_questions_end_in_our_words(case):
    call, kind, said = ON_RESULT[case]
    with pytest.raises(kind) as error:
        call(result())
    assert_three_sentences(str(error.value), said)


NEED_DATA = {
    "pymc_model": lambda f: f.pymc_model(),
    "random_effects": lambda f: f.random_effects(draws=10),
    "ranef": lambda f: f.ranef(),
}


@pytest.mark.parametrize("case", NEED_DATA)
def test_loaded_results_say_that_they_have_no_data(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    found = pmwmix.load(pmwmix_saved(folder))
    with pytest.raises(PmwmixError) as error:
        NEED_DATA[case](found)
    assert_three_sentences(str(error.value), "pmwmix.fit")


def pmwmix_saved(folder):
    fit = asking(draws=10, tune=20, chains=1, random_seed=1)() if not _SAVED else _SAVED[0]
    _SAVED[:] = [fit]
    return fit.save(folder / "fit.nc")


_SAVED: list = []


def foreign(folder):
    path = folder / "other.nc"
    xr.Dataset({"a": ("b", [1.0, 2.0])}).to_netcdf(path, engine="h5netcdf")
    return path


def text(folder):
    path = folder / "text.nc"
    path.write_text("no netCDF")
    return path


FILES = {"foreign": foreign, "text": text, "absent": lambda f: f / "absent.nc", "absent zarr": lambda f: f / "a.zarr"}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_ours(case, tmp_path):
    with pytest.raises(DataError) as error:
        pmwmix.load(FILES[case](tmp_path))
    assert_three_sentences(str(error.value), {"text": "'text.nc'", "foreign": "'other.nc'"}.get(case, "path"))


def test_replicate_weights_of_a_design_are_not_the_default():
    """Replicates have no posterior: a design that has them gives the sandwich correction."""
    d = data().assign(r1=data()["t1"] * 1.1, r2=data()["t1"] * 0.9)
    design = pmwmix.Design(weights=["t1"], scaling="size", replicate_weights=["r1", "r2"], replicate_type="jk1")
    fit = pmwmix.fit("y ~ x + (1 | school)", d, design=design, method="bayes", draws=20, tune=50, chains=1,
                     random_seed=1, engine="python")  # fmt: skip
    assert fit.corrected and fit.settings.vcov == "robust"


def test_separation_is_held_by_the_prior():
    """Where ML has no maximum, the posterior is proper, and the fit by ML says what happened."""
    d = outcomes().assign(z=lambda t: (t["x"] > 2.0).astype(float))
    try:
        fit = pmwmix.fit("z ~ x + (1 | school)", d, family="binomial", n_agq=2, method="bayes", draws=100, tune=200,
                         chains=2, random_seed=1, engine="python")  # fmt: skip
    except PmwmixError as error:
        assert_three_sentences(str(error), "separat")
    else:
        assert np.isfinite(fit.coef).all() and fit.notes


# -- diagnostics in words ----------------------------------------------------------------------------------------------


def tree(beta=None, sd=None, cor=None, **stats):
    """A sample of 4 chains of 500 independent draws, parts of which are replaced."""
    rng = np.random.default_rng(2)
    shape = (4, 500)
    beta = rng.normal(size=shape) if beta is None else beta
    sd = np.exp(0.2 * rng.normal(size=shape)) if sd is None else sd
    cor = np.tanh(0.5 * rng.normal(size=shape)) if cor is None else cor
    dims = ("chain", "draw")
    posterior = xr.Dataset(
        {
            "beta": ((*dims, "term"), np.stack([beta, rng.normal(size=shape)], -1)),
            "sd": ((*dims, "component"), sd[..., None]),
            "cor": ((*dims, "pair"), cor[..., None]),
            "vcov": ((*dims, "covariance"), sd[..., None] ** 2),
            "sigma": (dims, np.exp(0.1 * rng.normal(size=shape))),
        },
        coords={"term": ["escs", "female"], "component": ["school.escs"], "pair": ["school.Intercept.escs"]},
    )
    none = np.zeros(shape, dtype=bool)
    given = {"diverging": none, "reached_max_treedepth": none, **stats}
    sample_stats = xr.Dataset({name: (dims, value) for name, value in given.items()})
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": sample_stats})


def some(n):
    out = np.zeros((4, 500), dtype=bool)
    out.flat[:n] = True
    return out


def slow_chain():
    """First-order autoregression with correlation 0.97: about 30 effective draws."""
    rng, out = np.random.default_rng(3), np.zeros((4, 500))
    for t in range(1, 500):
        out[:, t] = 0.97 * out[:, t - 1] + rng.normal(size=4) * np.sqrt(1 - 0.97**2)
    return out


def test_a_good_sample_needs_no_words():
    assert sentences([tree()]) == () and sentences([tree(), tree()]) == ()


RNG = np.random.default_rng(4)
WORDS = {
    "divergences": (lambda: [tree(diverging=some(7))], "7 transitions diverged: ", "target_accept"),
    "divergences of one value": (lambda: [tree(), tree(diverging=some(1))], "(plausible value 2)", "target_accept"),
    "depth": (lambda: [tree(reached_max_treedepth=some(100))], "100 of 2000 transitions", "scale"),
    "R-hat": (
        lambda: [tree(beta=RNG.normal(size=(4, 500)) + np.arange(4)[:, None])], "R-hat of escs is", "tune=2000"),
    "ESS": (lambda: [tree(beta=slow_chain())], "effective sample size of escs", "Sample more draws"),
    "deviation at zero": (
        lambda: [tree(sd=np.abs(RNG.standard_t(3, size=(4, 500))))], "deviation of school.escs", "prior"),
    "correlation at one": (
        lambda: [tree(cor=np.tanh(3.5 + RNG.normal(size=(4, 500))))], "correlation school.Intercept.escs", "LKJ(4)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WORDS)
def test_diagnostics_are_said_with_what_to_do(case):
    make, what, remedy = WORDS[case]
    found = [one for one in sentences(make()) if what in one]
    assert len(found) == 1 and remedy in found[0], sentences(make())
    assert found[0].endswith(".")


def test_few_depths_and_constant_draws_are_no_complaint():
    assert sentences([tree(reached_max_treedepth=some(15))]) == ()
    assert sentences([tree(beta=np.ones((4, 500)))]) == ()


def test_one_chain_is_a_sample_too():
    one = tree()
    part = xr.DataTree.from_dict({name: node.to_dataset().isel(chain=[0]) for name, node in one.children.items()})
    assert sentences([part]) == ()


def test_notes_come_first_in_the_summary():
    fit = result()
    shown = str(fit)
    assert all(" ".join(note.split())[:40] in " ".join(shown.split()) for note in fit.diagnostics)
    assert fit.notes[: len(fit.diagnostics)] == fit.diagnostics
    assert isinstance(fit.tidy(), pd.DataFrame)
