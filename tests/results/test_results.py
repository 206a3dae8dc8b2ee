"""The members of the contract: what they hold, and that they agree with each other."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import close, hsb, nested, sleepstudy, survey

import pmwmix
from pmwmix.errors import DataError, PmwmixWarning
from pmwmix.prediction.rows import live_rows

SAVED = Path(__file__).parent / "saved_0_1_0"
RANDOM_SLOPE = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def pooled():
    s = survey()
    return pmwmix.fit(s.formula, s.data, weights=s.weights, scaling="size", pv=s.pv)


@pytest.fixture(scope="module")
def sleep():
    return pmwmix.fit(RANDOM_SLOPE, sleepstudy(), method="reml")


def test_tables_have_the_columns_of_the_contract(pooled, sleep):
    base = ["term", "estimate", "std_error", "statistic", "df", "p_value", "ci_low", "ci_high"]
    assert list(sleep.tidy().columns) == base
    assert list(pooled.tidy().columns) == [*base, "fmi", "within_var", "between_var"]
    assert list(pooled.varcorr.columns) == ["grp", "var1", "var2", "vcov", "sdcor", "se"]
    last = pooled.varcorr.iloc[-1]
    assert last["grp"] == "Residual" and last["var1"] is None and last["var2"] is None
    assert list(pooled.vcov.index) == list(pooled.coef.index) == list(pooled.se.index)
    close(np.sqrt(np.diag(pooled.vcov)), pooled.se)
    assert pooled.deviance == -2 * pooled.loglik
    assert len(pooled.fits) == 5 and pooled.n_pv == 5
    assert sleep.fits == (sleep,)


def test_varcorr_has_lme4s_shape(sleep):
    """lme4: as.data.frame(VarCorr(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)))."""
    rows = sleep.varcorr[["grp", "var1", "var2"]].to_numpy().tolist()
    assert rows == [
        ["Subject", "Intercept", None],
        ["Subject", "Days", None],
        ["Subject", "Intercept", "Days"],
        ["Residual", None, None],
    ]
    theta = sleep.theta.to_numpy()
    Lambda = np.array([[theta[0], 0], [theta[1], theta[2]]])
    Psi = sleep.sigma**2 * Lambda @ Lambda.T
    close(sleep.varcorr["vcov"].iloc[:3], [Psi[0, 0], Psi[1, 1], Psi[0, 1]], rtol=1e-9)


def test_intervals_and_wald_follow_from_the_table(pooled, sleep):
    wide, narrow = sleep.confint(0.99), sleep.confint(0.5)
    assert (wide["ci_low"] < narrow["ci_low"]).all() and (wide["ci_high"] > narrow["ci_high"]).all()
    one = sleep.wald("Days")
    tidy = sleep.tidy().set_index("term")
    close(one["statistic"], tidy.loc["Days", "statistic"] ** 2)
    close(one["p_value"], tidy.loc["Days", "p_value"], rtol=1e-6)
    difference = pooled.wald(np.array([[0.0, 1.0, -1.0]]))
    value = pooled.coef["escs"] - pooled.coef["female"]
    variance = (
        pooled.vcov.loc["escs", "escs"] + pooled.vcov.loc["female", "female"] - 2 * pooled.vcov.loc["escs", "female"]
    )
    close(difference["statistic"], value**2 / variance)
    normal = sleep.tidy(df="inf").set_index("term")
    close(normal["ci_high"] - normal["estimate"], 1.959963984540054 * normal["std_error"], rtol=1e-9)
    assert (sleep.tidy(df=5)["df"] == 5).all()


def test_modes_are_the_conditional_means_in_full_matrices(sleep):
    """b̂ = ΨZ'V⁻¹(y - Xβ) and its covariance Ψ - ΨZ'V⁻¹ZΨ for one subject, built densely."""
    d = sleepstudy()
    one = d[d["Subject"].astype(str) == "308"]
    Z = np.column_stack([np.ones(len(one)), one["Days"]])
    v = sleep.varcorr["vcov"].to_numpy()
    Psi = np.array([[v[0], v[2]], [v[2], v[1]]])
    V = Z @ Psi @ Z.T + v[3] * np.eye(len(one))
    gain = Psi @ Z.T @ np.linalg.inv(V)
    residual = one["Reaction"] - Z @ sleep.coef.to_numpy()
    modes = sleep.ranef("Subject")
    row = modes.loc[next(label for label in modes.index if str(label) == "308")]
    close(row[["Intercept", "Days"]], gain @ residual, rtol=1e-7)
    close(row[["Intercept_se", "Days_se"]], np.sqrt(np.diag(Psi - gain @ Z @ Psi)), rtol=1e-7)


def test_modes_of_three_levels_in_full_matrices():
    d = nested()
    fit = pmwmix.fit("y ~ x + (1 | classroom) + (1 | school)", d, method="reml")
    v = fit.varcorr["vcov"].to_numpy()
    rooms = (d["classroom"].to_numpy()[:, None] == np.unique(d["classroom"])).astype(float)
    schools = (d["school"].to_numpy()[:, None] == np.unique(d["school"])).astype(float)
    V = v[0] * rooms @ rooms.T + v[1] * schools @ schools.T + v[2] * np.eye(len(d))
    X = np.column_stack([np.ones(len(d)), d["x"]])
    residual = np.linalg.solve(V, d["y"] - X @ fit.coef.to_numpy())
    close(fit.ranef("classroom")["Intercept"], v[0] * rooms.T @ residual, rtol=1e-6, atol=1e-8)
    close(fit.ranef("school")["Intercept"], v[1] * schools.T @ residual, rtol=1e-6, atol=1e-8)
    for name, Z, psi in (("classroom", rooms, v[0]), ("school", schools, v[1])):
        spread = psi - psi**2 * np.einsum("ng,nm,mg->g", Z, np.linalg.inv(V), Z)
        close(fit.ranef(name)["Intercept_se"], np.sqrt(spread), rtol=1e-6)
    assert set(fit.ranef()) == {"classroom", "school"}
    close(
        fit.fitted(),
        X @ fit.coef.to_numpy() + (v[0] * rooms @ rooms.T + v[1] * schools @ schools.T) @ residual,
        rtol=1e-7,
    )


def test_residuals_and_predictions(pooled, sleep):
    d = sleepstudy()
    close(sleep.fitted() + sleep.residuals(), d["Reaction"])
    close(sleep.fitted(conditional=False), sleep.coef["Intercept"] + sleep.coef["Days"] * d["Days"])
    close(sleep.residuals("pearson"), sleep.residuals() / sleep.sigma)
    close(sleep.residuals(conditional=False), d["Reaction"] - sleep.fitted(conditional=False))
    close(sleep.predict(d), sleep.fitted(), rtol=1e-9)
    new = pd.DataFrame({"Days": [3.0, 3.0, np.nan], "Subject": ["308", "unseen", "308"]})
    with pytest.warns(PmwmixWarning, match="unseen"):
        predicted = sleep.predict(new)
    close(predicted[1], sleep.coef["Intercept"] + 3 * sleep.coef["Days"])
    assert np.isnan(predicted[2]) and predicted[0] != predicted[1]
    assert np.isnan(sleep.predict(new, new_groups="missing")[1])
    close(pooled.predict(survey().data), pooled.fitted(), rtol=1e-8)
    close(pooled.fitted(), np.mean([fit.fitted() for fit in pooled.fits], axis=0))


def test_prediction_keeps_transformations_and_categories():
    d = hsb()
    fit = pmwmix.fit("mathach ~ poly(ses, 2) + bs(cses, df=4) + sector + (1 | school)", d)
    rows = d.iloc[[5, 900, 7000]]
    close(fit.predict(rows), fit.fitted().iloc[[5, 900, 7000]], rtol=1e-9)
    one = rows.iloc[:1].assign(sector="Catholic")
    other = rows.iloc[:1].assign(sector="Public")
    difference = fit.predict(one).iloc[0] - fit.predict(other).iloc[0]
    close(difference, fit.coef["sector[T.Catholic]"], rtol=1e-9)


def test_save_and_load(tmp_path, pooled):
    path = pooled.save(tmp_path / "fit.pmwmix")
    back = pmwmix.load(path)
    assert str(back.summary()) == str(pooled.summary())
    pd.testing.assert_frame_equal(back.tidy(), pooled.tidy())
    pd.testing.assert_frame_equal(back.varcorr, pooled.varcorr)
    pd.testing.assert_frame_equal(back.weight_stats, pooled.weight_stats)
    pd.testing.assert_frame_equal(back.ranef(), pooled.ranef())
    close(back.predict(survey().data.head(40)), pooled.predict(survey().data.head(40)), rtol=1e-12)
    close(back.residuals("pearson"), pooled.residuals("pearson"))
    again = pmwmix.pool([back])
    close(again.se, pooled.se)
    plain = pmwmix.fit("mathach ~ poly(ses, 2) + C(sector, Treatment('Catholic')) + (cses | school)", hsb())
    back = pmwmix.load(plain.save(tmp_path / "plain.pmwmix"))
    close(back.predict(hsb().head(30)), plain.fitted().head(30), rtol=1e-9)
    close(back.tidy()["df"], plain.tidy()["df"])
    centred = pmwmix.fit("y ~ x + (1 | school)", nested(), center={"x": "school+mean"})
    back = pmwmix.load(centred.save(tmp_path / "centred.pmwmix"))
    close(back.predict(nested()), centred.fitted(), rtol=1e-9)


def test_summary_says_everything(pooled):
    text = str(pooled.summary())
    for expected in (
        "pmwmix.fit(", pooled.formula, "5 for math", "W_FSTUWT", "W_FSCHWT", "size (Method A", "robust", "40 clusters",
        "Intraclass correlation", "Variance", "Std. dev.", "Corr.", "Estimate", "All 5 plausible values converged",
        "480 used of 480", "Sum of weights",
    ):  # fmt: skip
        assert expected in text, expected
    assert max(len(line) for line in text.splitlines()) <= 100
    html = pooled.summary().to_html()
    assert html.startswith("<!doctype html>") and "<table" in html and "escs" in html
    latex = pooled.summary().to_latex()
    assert latex.count(r"\toprule") == 3 and r"W\_FSTUWT" not in latex
    assert pooled._repr_html_() == pooled.summary()._repr_html_()
    assert str(pooled.coef["escs"])[:4] in json.dumps(pooled.tidy().to_dict())


def test_summary_counts_missing_rows():
    d = nested()
    d.loc[:4, "x"] = np.nan
    d.loc[3:9, "y"] = np.nan
    fit = pmwmix.fit("y ~ x + (1 | school)", d)
    text = fit.summary().to_text(200)
    assert f"{len(d) - 10} used of {len(d)}" in text and "10 dropped" in text and "x 5" in text and "y 7" in text


def test_dangerous_labels_are_escaped():
    d = nested().rename(columns={"x": "<b>x & y</b>"})
    fit = pmwmix.fit("y ~ `<b>x & y</b>` + (1 | school)", d)
    assert "<b>x" not in fit.summary().to_html()


def test_collinear_columns_are_named_and_dropped():
    d = nested()
    d = d.assign(twice=2 * d["x"] + 1, constant=3.0)
    fit = pmwmix.fit("y ~ x + twice + constant + (1 | school)", d)
    base = pmwmix.fit("y ~ x + (1 | school)", d)
    close(fit.coef, base.coef, rtol=1e-7)
    assert any("twice, constant" in note for note in fit.notes)
    close(fit.predict(d), base.predict(d), rtol=1e-7)


def test_nearly_collinear_columns_are_kept_down_to_the_limit_that_the_note_states():
    """The same model with the difference as a predictor, which no digits are lost of."""
    d = nested()
    noise = np.random.default_rng(5).normal(size=len(d))
    for size in (5e-6, 2e-6):
        near = d.assign(z=d["x"] + size * d["x"].std() * noise)
        fit = pmwmix.fit("y ~ x + z + (1 | school)", near)
        right = pmwmix.fit("y ~ x + I(z - x) + (1 | school)", near)
        assert ("z" in fit.coef) == (size > 3e-6) == (not fit.notes)
        assert right.notes == () and len(right.coef) == 3
        if size > 3e-6:
            close(fit.coef["z"], right.coef["I(z - x)"], rtol=1e-3)
        else:
            assert "to within 3e-06 of their standard deviation: z." in fit.notes[0]


def test_icc_by_level():
    fit = pmwmix.fit("y ~ x + (1 | classroom) + (1 | school)", nested())
    v = fit.varcorr["vcov"].to_numpy()
    close(fit.icc["school"], v[1] / v.sum())
    close(fit.icc["classroom"], (v[0] + v[1]) / v.sum())


def test_the_users_data_are_not_touched():
    d = nested()
    before = d.copy(deep=True)
    pmwmix.fit("y ~ x + (1 | school)", d, weights=["t1", "w3"], center={"x": "school"}, scaling="size")
    pd.testing.assert_frame_equal(d, before)


def test_integer_codes_as_factors_keep_their_names_and_categories(tmp_path):
    d = nested().assign(code=lambda t: t.index % 3)
    fit = pmwmix.fit("y ~ C(code) + factor(code):x + (1 | school)", d)
    assert "C(code)[T.1]" in fit.coef and not any(".0" in term for term in fit.coef.index)
    based = pmwmix.fit("y ~ C(code, Treatment(2)) + (1 | school)", d)
    assert list(based.coef.index) == ["Intercept", "C(code, Treatment(2))[T.0]", "C(code, Treatment(2))[T.1]"]
    back = pmwmix.load(based.save(tmp_path / "codes.pmwmix"))
    some = d[d["code"] == 1].head(4)
    close(back.predict(some), based.fitted()[some.index], rtol=1e-9)


@pytest.mark.parametrize("twin", [lambda fit: pickle.loads(pickle.dumps(fit)), copy.deepcopy, copy.copy])
def test_results_can_be_pickled_and_copied(pooled, sleep, twin):
    for fit in (pooled, sleep):
        back = twin(fit)
        assert type(back) is type(fit) and str(back.summary()) == str(fit.summary())
        close(back.ranef(), fit.ranef())
        close(back.tidy()["df"], fit.tidy()["df"])
        close(back.confint_varcorr()["ci_low"], fit.confint_varcorr()["ci_low"])
        assert all(rows.is_live for rows in live_rows(back)) and len(live_rows(back)) == fit.n_pv
    loaded = twin(pmwmix.load(SAVED / "reml.npz"))
    assert live_rows(loaded) == [] and str(loaded.summary()) == str(pmwmix.load(SAVED / "reml.npz").summary())


def test_rows_without_a_group_get_no_prediction(sleep):
    new = pd.DataFrame({"Days": [3.0, 3.0], "Subject": ["308", None]})
    predicted = sleep.predict(new)
    assert np.isnan(predicted[1]) and np.isfinite(predicted[0])


def test_lost_groups_are_counted():
    d = nested()
    d["w3"] = d["w3"].where(d["school"] > 1, 0.0)
    fit = pmwmix.fit("y ~ x + (1 | school)", d, weights=["w1", "w3"], conditional=True)
    assert any("2 of 14 groups of 'school'" in note for note in fit.notes)


def test_a_table_changed_in_place_after_the_fit_is_noticed():
    d = nested()
    fit = pmwmix.fit("y ~ x + (1 | school)", d)
    before = fit.residuals()
    copied = d.copy()
    copied.loc[3, "y"] = 99.0
    close(fit.residuals(), before)
    values = fit.rows.design.y[0]
    if np.shares_memory(values, d["y"].to_numpy()):
        block = np.asarray(d["y"].array)
        block.setflags(write=True)
        block[3] = 99.0
        with pytest.raises(DataError, match="changed in place"):
            fit.residuals()
