"""Numbers of quadrature nodes that were asked for are compared with more of them."""

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.fitting.ladder import beyond
from pmwmix.likelihood.layout import ThetaLayout


@pytest.fixture(scope="module")
def rows():
    """Random effects with a standard deviation of 4, six rows a group: Laplace's approximation is far off."""
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(80), 6), rng.normal(size=480)
    chance = 1 / (1 + np.exp(-(0.5 * x + 4 * rng.normal(size=80)[g])))
    return pd.DataFrame({"g": g, "x": x, "y": rng.binomial(1, chance), "w": 1 + g % 3, "one": 1.0})


@pytest.fixture(scope="module")
def many(rows):
    return pmwmix.fit("y ~ x + (1 | g)", rows, family="binomial", n_agq=61)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_digits_and_status_follow(rows, n):
    """The likelihood at the same parameters, integrated densely."""
    fit = pmwmix.fit("y ~ x + (1 | g)", rows, family="binomial", n_agq=n)
    nodes, log_omega = np.polynomial.hermite_e.hermegauss(151)
    eta = np.outer(fit.coef["Intercept"] + fit.coef["x"] * rows["x"], np.ones(151)) + fit.varcorr["sdcor"][0] * nodes
    rowwise = pd.DataFrame(
        np.where(rows["y"].to_numpy()[:, None] == 1, -np.log1p(np.exp(-eta)), -np.log1p(np.exp(eta)))
    )
    unit = np.exp(rowwise.groupby(rows["g"]).sum().to_numpy()) @ (log_omega / log_omega.sum())
    error = abs(fit.loglik - np.log(unit).sum())
    assert 0.4 * error < fit.quadrature["loglik_error"] < 2.5 * error
    shown = next(line for line in str(fit.summary()).splitlines() if line.startswith("Log-likelihood"))
    assert "with more nodes it changes by" in shown
    number = shown.split()[1]
    assert abs(float(number) - np.log(unit).sum()) < 2 * error + 0.5 * 10.0 ** -len(number.partition(".")[2])
    assert len(number.partition(".")[2]) <= max(0, int(np.ceil(-np.log10(error))))
    assert fit.converged and ("more nodes estimates would move" in fit.status) == (fit.quadrature["moved"] >= 0.1)
    assert n > 1 or "report the approximation" in fit.status


def test_enough_nodes_keep_four_decimals(rows, many):
    assert many.quadrature["loglik_error"] < 5e-5 and many.status.startswith("Converged: the gradient")
    shown = next(line for line in str(many.summary()).splitlines() if line.startswith("Log-likelihood"))
    assert shown.split()[1:] == [f"{many.loglik:.4f}"]


def test_weights_and_files_keep_it(rows, tmp_path):
    options = {"family": "binomial", "n_agq": 3, "conditional": True}
    fit = pmwmix.fit("y ~ x + (1 | g)", rows, weights=["one", "w"], **options)
    copies = rows.loc[rows.index.repeat(rows["w"])]
    number = copies.groupby(level=0).cumcount()
    plain = pmwmix.fit("y ~ x + (1 | g)", copies.assign(g=copies["g"] + 1000 * number), family="binomial", n_agq=3)
    close(fit.quadrature["loglik_error"], plain.quadrature["loglik_error"], rtol=1e-4)
    fit.save(tmp_path / "fit.npz")
    assert pmwmix.load(tmp_path / "fit.npz").quadrature["loglik_error"] == fit.quadrature["loglik_error"]


def test_what_given_nodes_are_compared_with():
    assert beyond(ThetaLayout(((1,),)), (1,)) == (5,) and beyond(ThetaLayout(((1,),)), (61,)) == (92,)
    assert beyond(ThetaLayout(((1,), (2,))), (7, 15)) == (11, 23)
    assert beyond(ThetaLayout(((4,),)), (1,)) == ()
