"""Amounts with zeros: numbers of glmmTMB, repeated rows, powers that are held, files, and messages."""

import numpy as np
import pandas as pd
import pytest
from helpers import close

import pmwmix
from pmwmix.errors import OptionError

CALL = "y ~ x + (1 | g)"


@pytest.fixture(scope="module")
def data():
    """Amounts of 30 groups of 8; what R reads is this table, written by ``to_csv``."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(30), 8)
    x = np.round(rng.normal(size=240), 3)
    mu, p, d = np.exp(1.0 + 0.4 * x + rng.normal(0, 0.5, 30)[g]), 1.55, 1.6
    N = rng.poisson(mu ** (2 - p) / (d * (2 - p)))
    amount = rng.gamma(np.maximum(N, 1) * (2 - p) / (p - 1), d * (p - 1) * mu ** (p - 1))
    return pd.DataFrame({"g": g, "x": x, "y": np.round(np.where(N > 0, amount, 0.0), 3)})


@pytest.fixture(scope="module")
def fitted(data):
    return pmwmix.fit(CALL, data, family="tweedie", n_agq=1)


def test_numbers_of_glmmtmb(data, fitted):
    """glmmTMB 1.1.5: ``glmmTMB(y ~ x + (1 | g), d, family = tweedie())``, ``sigma``, ``family_params``.

    Its optimiser stops a little early, at a lower log-likelihood in the last digits.
    """
    close(fitted.loglik, -506.628542458, 1e-10)
    close(fitted.coef, [0.7777019535, 0.2838419509], 1e-4)
    close(fitted.se, [0.135574391, 0.074516668], 1e-4)
    close(fitted.varcorr["vcov"], [0.411025963], 1e-4)
    close(fitted.family_parameters["estimate"], [1.40045405, 1.54869739], 1e-4)
    alone = pmwmix.fit("y ~ x", data, family="tweedie")
    close(alone.loglik, -525.347990337, 1e-10)
    close(alone.coef, [0.966454252, 0.265485122], 1e-4)
    close(alone.se, [0.071929342, 0.081935388], 1e-4)


def test_numbers_of_glmmtmb_with_a_held_power(data, fitted):
    """``map = list(psi = factor(NA)), start = list(psi = qlogis(0.4))`` for a power of 1.4."""
    held = pmwmix.fit(CALL, data, family="tweedie(1.4)", n_agq=1)
    close(held.loglik, -517.664984767, 1e-9)
    close(held.coef, [0.766652094, 0.277848729], 1e-4)
    close(held.dispersion, 1.2628537, 1e-4)
    assert list(held.family_parameters.index) == ["dispersion"]
    power = fitted.family_parameters.loc["power", "estimate"]
    close(pmwmix.fit(CALL, data, family=f"tweedie({power:.12f})", n_agq=1).loglik, fitted.loglik, 1e-10)


@pytest.mark.slow
def test_numbers_of_glmmtmb_with_a_formula_for_phi(data):
    """``dispformula = ~ x``."""
    spread = pmwmix.fit([CALL, "phi ~ x"], data, family="tweedie", n_agq=1, engine="python")
    close(spread.loglik, -506.539699249, 1e-9)
    close(spread.coef, [0.777437702, 0.287334383, 0.3404343102, 0.0360945446], 1e-3)


def test_whole_weights_are_repeated_rows_and_zeros_are_drawn(data, fitted):
    weighted = data.assign(w=1.0 + data.index % 2)
    one = pmwmix.fit(CALL, weighted, family="tweedie", n_agq=1, weights=["w", None], conditional=True, vcov="model")
    twice = pmwmix.fit(CALL, data.loc[data.index.repeat(1 + data.index % 2)], family="tweedie", n_agq=1)
    close(one.coef, twice.coef, 1e-6)
    close(one.loglik, twice.loglik, 1e-10)
    close(one.se, twice.se, 1e-5)
    drawn = fitted.simulate(20, random_seed=1)
    assert abs((drawn == 0).to_numpy().mean() - (data["y"] == 0).mean()) < 0.05


def test_saved_and_refused(data, fitted, tmp_path):
    held = pmwmix.fit("y ~ x", data, family="tweedie(1.4)")
    held.save(tmp_path / "fit.pmw")
    again = pmwmix.load(tmp_path / "fit.pmw")
    assert again.family == "tweedie(1.4)"
    close(again.coef, held.coef, 1e-15)
    for name in ("tweedie(2)", "tweedie(0.5)"):
        with pytest.raises(OptionError, match=rf"between 1.01 and 1.99. Got family='tweedie\({name[8:-1]}\)'. Give"):
            pmwmix.fit("y ~ x", data, family=name)
    with pytest.raises(OptionError, match="'power' is no parameter, and the table has no such column"):
        pmwmix.fit(["y ~ x", "power ~ x"], data, family="tweedie")
