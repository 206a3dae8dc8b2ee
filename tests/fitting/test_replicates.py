"""Replicate weights: published numbers, explicit refits of every replicate, and invariants.

Explicit refits go through `pmwmix.fit` on a table with changed weights and without the rows of factor 0, so that they
share no code with the reweighting. Both climbs stop at 1e-6 standard errors or closer; 1e-5 is asked.
"""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from helpers import close, nested
from scipy import stats

import pmwmix
from pmwmix.errors import DesignError, OptionError
from pmwmix.fitting.refits import replicate_covariance, replicate_estimates
from pmwmix.fitting.reweighted import refit, source_of
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.weights.replicate_types import REPLICATES

RTOL = 1e-5
PARTS = ["PV1MATH", "PV2MATH"]


def errors(fit) -> np.ndarray:
    return np.concatenate([fit.se, fit.varcorr["se"].to_numpy(dtype=float)])


def values(fit) -> np.ndarray:
    return np.concatenate([fit.coef, fit.varcorr["vcov"].to_numpy(dtype=float)])


@pytest.fixture(scope="module")
def nld(shared) -> pd.DataFrame:
    d = pd.read_csv(shared / "data" / "pisa_nld.csv.gz").dropna(subset=["ESCS", "ST03Q01"]).reset_index(drop=True)
    mean = d.groupby("SCHOOLID")["W_FSTUWT"].transform("mean")
    return pd.concat([d, (d["ST03Q01"] == 2).astype(int).rename("male"), mean.rename("w2")], axis=1)


def fit_nld(d: pd.DataFrame, outcome: str, design: dict | None = None, **options) -> pmwmix.FitResult:
    design = {"replicate_weights": "W_FSTR{}", "replicate_type": "fay", "fay": 0.5} | (design or {})
    return pmwmix.fit(
        f"{outcome} ~ ESCS + male + (1 | SCHOOLID)", d, weights=["W_FSTUWT", "w2"],
        **({"scaling": "none", "design": design} | options),
    )  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("outcome", PARTS)
def test_fay_standard_errors_of_pisa(nld, shared, outcome):
    """Brute-force refits in R (R/10_closed_form_replicates.R), stopped at about 1e-4 of a standard error."""
    name = f"pisanld_ri_brr_pv{outcome[2]}.json"
    reference = json.loads((shared / "reference" / name).read_text())["se_brr"]
    fit = fit_nld(nld, outcome)
    close(errors(fit), list(reference.values()), rtol=2e-4)
    assert fit.settings.replicates == ("fay", 80, 80.0)
    assert fit.df().eq(80.0).all()


@pytest.mark.reference
def test_one_step_agrees_with_refits(nld):
    """The promise of the one-step option is 1 % of each standard error."""
    pv = {"pv": {"math": "PV{}MATH"}}
    full, short = fit_nld(nld, "math", **pv), fit_nld(nld, "math", vcov="replicate-one-step", **pv)
    for one, other in zip(full.fits, short.fits, strict=True):
        close(errors(other), errors(one), rtol=0.01)
    close(values(short), values(full), rtol=1e-12)
    first = fit_nld(nld, "math", {"sampling_variance": "first"}, **pv)
    close(first.pooled.within, full.fits[0].vcov, rtol=1e-12)
    close(full.pooled.within, np.mean([one.vcov for one in full.fits], axis=0), rtol=1e-12)
    close(first.pooled.between, full.pooled.between, rtol=1e-12)


def by_hand(formula, d, factors, place, weights, multiplier, **options) -> tuple[np.ndarray, np.ndarray]:
    """Full-sample values and standard errors from a fit per replicate, factor times column ``place``."""
    full = values(pmwmix.fit(formula, d, weights=weights, **options))
    each = []
    for f in factors:
        changed = d.assign(**{place: d[place] * f})[f > 0]
        each.append(values(pmwmix.fit(formula, changed, weights=weights, **options)))
    return full, np.sqrt(multiplier * ((np.array(each) - full) ** 2).sum(axis=0))


def with_columns(d: pd.DataFrame, factors: list[np.ndarray], total: str = "t1") -> pd.DataFrame:
    return d.assign(**{f"rep{r}": d[total] * f for r, f in enumerate(factors, start=1)})


def leave_out(column: pd.Series) -> list[np.ndarray]:
    units = np.unique(column)
    return [np.where(column == u, 0.0, len(units) / (len(units) - 1.0)) for u in units]


@pytest.mark.parametrize("scaling", ["none", "size", "effective", "gk", "gk-sum"])
def test_jackknife_of_schools_by_hand(scaling):
    d, formula = nested(), "y ~ x + (1 | school)"
    weights, options = ["w1", "w3"], {"conditional": True, "scaling": scaling}
    factors = leave_out(d["school"])
    _, expected = by_hand(formula, d, factors, "w3", weights, 13 / 14, **options)
    d = d.assign(total=d["w1"] * d["w3"])
    columns = {"replicate_weights": "rep{}", "replicate_type": "jk1"}
    fit = pmwmix.fit(formula, with_columns(d, factors, "total"), weights=weights, design=columns, **options)
    close(errors(fit), expected, rtol=RTOL)
    zones = {"zone": "school", "replicate_type": "jk1"}
    close(errors(pmwmix.fit(formula, d, weights=weights, design=zones, **options)), expected, rtol=RTOL)


CLASS = "y ~ x + (1 | classroom) + (1 | school)"


def class_factors(d: pd.DataFrame) -> list[np.ndarray]:
    """Factors of whole classes; the first class of a school differs from the others."""
    rng = np.random.default_rng(3)
    first = d["classroom"] == d.groupby("school")["classroom"].transform("min")
    return [np.where(first, 1.5, rng.choice([0.0, 1.0, 2.0], 999)[d["classroom"]]) for _ in range(3)]


def row_factors(d: pd.DataFrame) -> list[np.ndarray]:
    """Factors of students; the first one of a class differs from the others."""
    rng = np.random.default_rng(4)
    return [np.where(d.groupby("classroom").cumcount() == 0, 1.5, rng.choice([0.0, 1.0, 3.0], len(d))) for _ in "123"]


@pytest.mark.parametrize(("make", "place"), [(class_factors, "w2"), (row_factors, "w1")])
@pytest.mark.parametrize("scaling", ["none", "size"])
def test_factor_goes_to_the_highest_constant_level(make, place, scaling):
    d, weights, options = nested(), ["w1", "w2", "w3"], {"scaling": scaling, "conditional": True}
    factors = make(d)
    _, expected = by_hand(CLASS, d, factors, place, weights, 1 / 3, **options)
    design = {"replicate_weights": ["rep1", "rep2", "rep3"], "replicate_type": "brr"}
    fit = pmwmix.fit(CLASS, with_columns(d, factors), weights=weights, design=design, **options)
    close(errors(fit), expected, rtol=RTOL)


def by_means(d: pd.DataFrame, f: np.ndarray, groups: list[str]) -> pd.DataFrame:
    """Conditional weights of every level with the rule of means, in pandas: f of a unit over f of the one above."""
    d = d.assign(f=f, fw=f * d["t1"])
    own = [d["f"], *(d.groupby(g)["fw"].transform("sum") / d.groupby(g)["t1"].transform("sum") for g in groups)]
    columns = ["w1", "w2", "w3"] if len(groups) == 2 else ["w1", "w3"]
    new = {
        name: d[name] * here / (own[i + 1] if i + 1 < len(own) else 1.0)
        for i, (name, here) in enumerate(zip(columns, own, strict=True))
    }
    return d.assign(**new)[f > 0]


@pytest.mark.parametrize("make", [class_factors, row_factors])
@pytest.mark.parametrize("scaling", ["none", "size"])
@pytest.mark.parametrize("levels", [2, 3])
def test_factors_of_all_levels_by_hand(make, scaling, levels):
    d, options = nested(), {"scaling": scaling, "conditional": True}
    formula = CLASS if levels == 3 else "y ~ x + (1 | school)"
    weights, groups = (
        (["w1", "w2", "w3"], ["classroom", "school"]) if levels == 3 else (["w1", "w3"], ["school"])
    )  # fmt: skip
    d = d if levels == 3 else d.assign(w1=d["w1"] * d["w2"])
    factors = make(d)
    full = values(pmwmix.fit(formula, d, weights=weights, **options))
    each = [values(pmwmix.fit(formula, by_means(d, f, groups), weights=weights, **options)) for f in factors]
    expected = np.sqrt(((np.array(each) - full) ** 2).mean(axis=0))
    design = {"replicate_weights": ["rep1", "rep2", "rep3"], "replicate_type": "brr", "replicate_levels": "mean"}
    fit = pmwmix.fit(formula, with_columns(d, factors), weights=weights, design=design, **options)
    close(errors(fit), expected, rtol=RTOL)
    assert any("all levels" in note for note in fit.notes)
    other = pmwmix.fit(formula, with_columns(d, factors), weights=weights, design=design | {"replicate_levels": None},
                       **options)  # fmt: skip
    assert np.abs(errors(other) / errors(fit) - 1).max() > 0.01


def test_both_rules_are_one_where_the_factor_is_constant_in_schools():
    d = nested()
    d = with_columns(d, leave_out(d["school"]))
    design = {"replicate_weights": "rep{}", "replicate_type": "jk1"}
    one, other = (
        pmwmix.fit(CLASS, d, design=design | {"replicate_levels": rule}, **TWO) for rule in ("mean", "constant")
    )
    close(errors(one), errors(other), rtol=1e-12)


def test_without_random_terms_by_hand():
    d = nested()
    factors = leave_out(d["school"])

    def slopes(w):
        X = np.column_stack([np.ones(len(d)), d["x"]])
        return np.linalg.solve((X.T * w) @ X, (X.T * w) @ d["y"])

    full = slopes(d["t1"].to_numpy())
    away = np.array([slopes(d["t1"].to_numpy() * f) for f in factors]) - full
    fit = pmwmix.fit("y ~ x", d, weights="t1", design={"zone": "school", "replicate_type": "jk1"})
    close(fit.vcov, 13 / 14 * away.T @ away, rtol=1e-8)


def halves(d: pd.DataFrame) -> pd.DataFrame:
    return d.assign(zone=d["school"] // 2, half=d["school"] % 2)


TWO = {"weights": ["t1", None, "w3"], "scaling": "size"}


def test_zones_equal_columns():
    """JK2 as IEA makes it: in zone z twice the weight of half 1, none of half 0."""
    d = halves(nested())
    one = [np.where(d["zone"] == z, 2.0 * d["half"], 1.0) for z in range(7)]
    other = [np.where(d["zone"] == z, 2.0 - 2.0 * d["half"], 1.0) for z in range(7)]
    zones = {"zone": "zone", "rep": "half"}
    for kind, factors, df in (("jk2", one, 7.0), ("jk2-two-sided", one + other, 7.0)):
        design = {"replicate_weights": "rep{}", "replicate_type": kind}
        columns = pmwmix.fit(CLASS, with_columns(d, factors), design=design, **TWO)
        made = pmwmix.fit(CLASS, d, design=zones | {"replicate_type": kind}, **TWO)
        close(errors(columns), errors(made), rtol=RTOL)
        assert columns.df().iloc[0] == made.df().iloc[0] == df
    strata = {"zone": "zone", "rep": "school", "replicate_type": "jkn"}
    jkn = pmwmix.fit(CLASS, d, design=strata, **TWO)
    close(errors(jkn), errors(made), rtol=RTOL)  # with two units in every stratum JKn is two-sided JK2
    assert jkn.df().iloc[0] == 7.0  # units minus strata


def test_half_samples_are_balanced():
    zone, half = np.repeat(np.arange(11), 2), np.tile([0.0, 1.0], 11)
    R, factor = REPLICATES["fay"].build(zone, half, 0.5)
    f = np.array([factor(r) for r in range(R)])
    assert R == 16
    assert set(np.unique(f)) == {0.5, 1.5}
    between = (f[:, half == 1] - 1).T @ (f[:, half == 1] - 1)
    close(between, R * 0.25 * np.eye(11), atol=1e-12)


def test_identical_replicates_have_no_variance():
    d = nested()
    d = with_columns(d, [np.ones(len(d)), np.full(len(d), 1.0)])
    for kind in ("brr", "bootstrap", "jk1", "jk2"):
        for vcov in ("replicate", "replicate-one-step"):
            design = {"replicate_weights": "rep{}", "replicate_type": kind}
            fit = pmwmix.fit(CLASS, d, design=design, vcov=vcov, **TWO)
            close(fit.vcov, 0.0, atol=1e-16)  # of the squared standard errors


def test_multiplying_all_weights_changes_nothing():
    d = halves(nested())
    factors = [np.where(d["zone"] == z, 2.0 * d["half"], 1.0) for z in range(7)]
    design = {"replicate_weights": "rep{}", "replicate_type": "jk2"}
    one = pmwmix.fit(CLASS, with_columns(d, factors), design=design, **TWO)
    ten = d.assign(t1=10 * d["t1"], w3=10 * d["w3"])
    other = pmwmix.fit(CLASS, with_columns(ten, [1.7 * f for f in factors]), design=design, **TWO)
    close(errors(other), errors(one), rtol=RTOL)


def test_executor_and_file_keep_the_result(tmp_path):
    d, design = halves(nested()), {"zone": "zone", "rep": "half", "replicate_type": "jk2"}
    one = pmwmix.fit(CLASS, d, design=design, **TWO)
    with ThreadPoolExecutor(2) as executor:
        close(pmwmix.fit(CLASS, d, design=design, executor=executor, **TWO).vcov, one.vcov, rtol=1e-12)
    one.save(tmp_path / "fit")
    again = pmwmix.load(tmp_path / "fit")
    assert again.settings.replicates == ("jk2", 7, 7.0)
    close(again.df(), one.df())
    rows = one.rows
    source = source_of(rows.frame, rows.problem, {0: rows.fit})
    pickle.loads(pickle.dumps((source, rows.fit)))  # what another process gets
    found = replicate_estimates(rows.frame, rows.problem, {0: rows.fit}, rows.frame.replicates)[0]
    V = replicate_covariance(rows.frame, rows.problem, 0, rows.fit, rows.frame.replicates)
    close(found.covariance, V)
    p = len(one.coef)
    close(found.covariance_of(lambda b: b[p]), V[p, p])


@pytest.mark.parametrize("make", [lambda d: leave_out(d["zone"]), class_factors, row_factors])
def test_one_step_of_coarse_replicates(make):
    """Few units, large factors: still within 1 % of each standard error."""
    d = halves(pd.concat([nested(seed).assign(block=seed) for seed in range(1, 9)], ignore_index=True))
    d["zone"], d["school"] = d["zone"] + 7 * d["block"], d["school"] + 14 * d["block"]
    d["classroom"] = pd.factorize(d["classroom"] + 100 * d["block"])[0]
    design = {"replicate_weights": "rep{}", "replicate_type": "bootstrap"}
    d = with_columns(d, make(d))
    full = pmwmix.fit(CLASS, d, design=design, **TWO)
    short = pmwmix.fit(CLASS, d, design=design, vcov="replicate-one-step", **TWO)
    close(errors(short), errors(full), rtol=0.01)
    assert not np.array_equal(errors(short), errors(full))


def test_influence_is_the_derivative_of_theta():
    """Central differences over the weight of one school; 1e-4 is their own error."""
    d, design = halves(nested()), {"zone": "zone", "rep": "half", "replicate_type": "jk2"}
    rows = pmwmix.fit(CLASS, d, design=design, **TWO).rows
    source, theta = source_of(rows.frame, rows.problem, {0: rows.fit}), rows.fit.point.theta
    for school in (0, 5):
        ends = []
        for h in (1e-3, -1e-3):
            w = rows.frame.w[-1] * (1.0 + h * (np.arange(14) == school))
            objective = Objective(source.reweighted((*rows.frame.w[:-1], w)), source.structure, source.engine)
            ends.append(refit(objective, 0, theta, theta)[0].theta)
        close((ends[0] - ends[1]) / 2e-3, source.influence[0][school], rtol=1e-3, atol=1e-5)


def test_values_on_the_right_side_have_their_own_predictors():
    d = halves(nested())
    d = d.assign(x1=d["x"], x2=d["x"] + np.sin(np.arange(len(d))))
    design = {"zone": "zone", "rep": "half", "replicate_type": "jk2"}
    both = pmwmix.fit("y ~ z + (1 | school)", d, pv={"z": "x{}"}, design=design, weights="t1")
    for number, one in enumerate(both.fits, start=1):
        alone = pmwmix.fit(f"y ~ x{number} + (1 | school)", d, design=design, weights="t1")
        close(errors(one), errors(alone), rtol=RTOL)


GOOD = {"replicate_weights": "rep{}", "replicate_type": "jk1"}


@pytest.mark.parametrize(
    ("design", "error", "words"),
    [
        ({"replicate_type": "jk1"}, DesignError, "needs replicates"),
        (GOOD | {"replicate_type": "jackknife"}, OptionError, "'jackknife'"),
        (GOOD | {"replicate_type": None}, OptionError, "type is missing"),
        (GOOD | {"replicate_type": "fay"}, OptionError, "fay=None"),
        (GOOD | {"replicate_type": "fay", "fay": 1.0}, OptionError, "fay=1.0"),
        (GOOD | {"fay": 0.5}, OptionError, "Only Fay"),
        (GOOD | {"replicate_weights": "nothing{}"}, DesignError, "nothing"),
        (GOOD | {"replicate_weights": ["rep1", "rep9"]}, DesignError, "rep9"),
        (GOOD | {"replicate_weights": ["rep1"]}, DesignError, "two replicates"),
        (GOOD | {"replicate_weights": ["rep1", "gap"]}, DesignError, "'gap'"),
        (GOOD | {"replicate_weights": ["rep1", "minus"]}, DesignError, "'minus'"),
        (GOOD | {"replicate_weights": ["w1", "w2"]}, DesignError, "another weight"),
        (GOOD | {"replicate_scale": [1.0]}, OptionError, "replicate scale"),
        (GOOD | {"sampling_variance": "last"}, OptionError, "'last'"),
        (GOOD | {"replicate_levels": "all"}, OptionError, "'all'"),
        (GOOD | {"zone": "school"}, DesignError, "Leave one out"),
        ({"zone": "school", "replicate_type": "bootstrap"}, DesignError, "bootstrap"),
        ({"zone": "school", "replicate_type": "jk2"}, DesignError, "rep=None"),
        ({"zone": "school", "rep": "classroom", "replicate_type": "jk2"}, DesignError, "'classroom' holds"),
        ({"zone": "gap", "replicate_type": "jk1"}, DesignError, "missing in 1 row"),
    ],
)
def test_messages(design, error, words):
    d = nested()
    d = with_columns(d, leave_out(d["school"])[:3])
    d = d.assign(gap=d["t1"].where(d.index > 0), minus=-d["t1"])
    with pytest.raises(error, match=words):
        pmwmix.fit("y ~ x + (1 | school)", d, weights="t1", design=design, vcov="replicate")


def test_replicates_need_weights_and_rows_for_every_predictor():
    d = nested()
    design = {"zone": "school", "replicate_type": "jk1"}
    with pytest.raises(DesignError, match="no weights"):
        pmwmix.fit("y ~ x + (1 | school)", d, design=design)
    d["only"] = (d["school"] == 3).astype(float)
    with pytest.raises(DesignError, match="replicate 4"):
        pmwmix.fit("y ~ x + only + (1 | school)", d, weights="t1", design=design)


def test_functions_of_parameters_over_replicates_by_hand():
    """ICC, R² and intervals of variances: the spread of each over fits without every school in turn, spelled out."""
    d, formula, options = nested(), "y ~ x + (1 | school)", {"scaling": "size", "conditional": True}
    weights = ["w1", "w3"]
    fit = pmwmix.fit(formula, d, weights=weights, design={"zone": "school", "replicate_type": "jk1"}, **options)
    w = d["w1"] * d["w3"]
    moment = np.cov(d["x"], aweights=w, ddof=0) * len(d) / (len(d) - 1)  # predictors stay those of the full sample

    def of(one) -> np.ndarray:
        (tau, sigma2), f = one.varcorr["vcov"], one.coef["x"] ** 2 * moment
        total = f + tau + sigma2
        return np.array([tau / (tau + sigma2), f / total, (f + tau) / total, tau, sigma2])

    full = of(fit)
    away = (
        np.array([of(pmwmix.fit(formula, d[d["school"] != u], weights=weights, **options)) for u in range(14)]) - full
    )
    error = np.sqrt(13 / 14 * (away**2).sum(axis=0))
    close(pmwmix.icc_se(fit).loc["school", ["icc", "std_error"]], [full[0], error[0]], rtol=RTOL)
    table = fit.r2().loc[["marginal", "conditional"]]
    close(table["estimate"], full[1:3], rtol=1e-8)
    close(table["std_error"], error[1:3], rtol=RTOL)
    ends = fit.confint_varcorr(scale="var")
    close(ends["se"], error[3:], rtol=RTOL)
    close(np.log(ends["ci_high"] / ends["estimate"]) / (error[3:] / full[3:]), stats.t.ppf(0.975, 13), rtol=RTOL)
