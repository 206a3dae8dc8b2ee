"""Residual structures through the whole closed form, against dense matrices that know nothing of it."""

from functools import partial

import numpy as np
import pytest
import scipy.stats
from helpers import close

from pmwmix.errors import OptionError
from pmwmix.likelihood.jets import Jet
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Structure, build
from pmwmix.likelihood.linear.dense import CORRELATIONS
from pmwmix.likelihood.linear.residuals import Residual, Spread
from pmwmix.likelihood.linear.structured import Source, StructuredObjective, sorted_rows
from pmwmix.likelihood.standardise import Columns, Scaler
from pmwmix.spec import residual as spec

SIZES = np.array([3, 2, 4, 3, 2, 2, 4, 3, 1])
UNIT, PARENT = np.repeat(np.arange(9), SIZES), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
TWO, BARE = ThetaLayout(((2,), (1,))), ThetaLayout(((), ()))  # a slope below an intercept; levels without random terms


def autoregressive(phi, lag):
    return phi**lag


def moving(theta, lag):
    return (lag == 0) + (lag == 1) * theta / (1 + theta**2)


def mixed(phi, theta, lag):
    """Autocorrelations of an ARMA(1, 1) from its moving-average weights, whose sum is cut off at 400."""
    psi = np.append(1.0, (phi + theta) * phi ** np.arange(400))
    longest = int(lag.max())
    covariance = np.array([psi[: len(psi) - h] @ psi[h:] for h in range(longest + 1)])
    return (covariance / covariance[0])[lag.astype(int)]


def by_lag(*rho_and_lag):
    *rho, lag = rho_and_lag
    return np.append(1.0, rho)[lag.astype(int)]


def spatial(exponent, *given):
    reach, *nugget, distance = given
    off = np.exp(-((distance / reach) ** exponent)) * (1.0 - (nugget[0] if nugget else 0.0))
    return np.where(distance == 0, 1.0, off)


MATRICES = {
    "ar1": autoregressive,
    "car1": autoregressive,
    "compsymm": lambda rho, lag: np.where(lag == 0, 1.0, rho),
    "toeplitz": by_lag,
    "ma1": moving,
    "arma11": mixed,
    "exponential": partial(spatial, 1.0),
    "gaussian": partial(spatial, 2.0),
}


class Data:
    """Rows of children in schools; ``V`` in full."""

    def __init__(self, name, layout=TWO, varying=False, reml=False, weighted=False, nugget=False, dimensions=1):
        rng = np.random.default_rng(7)
        self.name, self.layout, self.n = name, layout, len(UNIT)
        self.order = order = rng.permutation(self.n)  # of the table; column[order] is sorted by unit
        back = np.argsort(order)
        time = np.concatenate([rng.choice(6, size, replace=False) for size in SIZES]).astype(float)
        self.where = np.column_stack([time, *(rng.normal(size=self.n) for _ in range(dimensions - 1))])
        if name == "car1":
            self.where = self.where + rng.uniform(0, 0.3, self.n)[:, None]
        self.Z, self.X = rng.normal(size=(self.n, 3)), np.column_stack([np.ones(self.n), rng.normal(size=self.n)])
        self.y, self.logs = rng.normal(size=(2, self.n)) + self.X[:, 1], rng.normal(size=(2, self.n))
        self.w, self.w_rows = (np.ones(9), np.ones(3)), np.ones(self.n)
        if weighted:  # rows that are correlated share a weight
            self.w = rng.uniform(0.5, 2, 9), rng.uniform(0.5, 2, 3)
            self.w_rows = rng.uniform(0.5, 2, 9)[UNIT] if name else rng.uniform(0.5, 2, self.n)
        values = [column[back] for column in (*self.Z.T, *self.X.T, *self.y)]
        z = np.arange(3 if sum(layout.q) else 0)
        columns = Columns(values, z, np.arange(3, 5), np.arange(5, 7), Scaler(np.zeros(7), np.ones(7)))
        starts = np.concatenate([[0], np.cumsum(SIZES)])
        blocks = build(columns, order, starts, self.w_rows[back], (PARENT,), self.w)
        rows = sorted_rows(columns, starts, order, self.where[back], self.w_rows[back])
        self.correlation = CORRELATIONS[name](rows.where, starts, nugget) if name else None
        rows = rows.from_first() if name and self.correlation.relative else rows
        spread = Spread(("ratio", "exponent"), (True, False), self.logs[:, back]) if varying else None
        self.residual = Residual(self.correlation, spread)
        self.structure = Structure(layout, 2, reml)
        self.objective = StructuredObjective(blocks, self.structure, Source(rows, self.residual, np.arange(2)))
        theta = layout.start(0.6) + 0.2 * rng.normal(size=layout.n_theta)
        start = self.residual.starts[0]
        self.at = np.append(theta, start + 0.3 * rng.normal(size=len(start)))

    def R(self, climbed):
        """Correlation and variances of the residuals, from what is reported of them."""
        rho = climbed[self.layout.n_theta :]
        found, m = self.residual.report(rho), self.residual.n_correlation
        R = np.eye(self.n)
        for g in range(9 if self.name else 0):
            rows = np.flatnonzero(UNIT == g)
            gaps = self.where[rows, None] - self.where[None, rows]
            if self.name == "unstructured":
                full = np.eye(len(self.correlation.occasions))
                full[np.tril_indices(len(full), -1)] = found.values[:m]
                full = full + np.tril(full, -1).T
                at = np.searchsorted(self.correlation.occasions, self.where[rows, 0])
                R[np.ix_(rows, rows)] = full[np.ix_(at, at)]
            else:
                R[np.ix_(rows, rows)] = MATRICES[self.name](*found.values[:m], np.sqrt((gaps**2).sum(axis=-1)))
        if self.residual.spread is None:
            return R
        ratio, exponent = found.values[m:]
        sd = np.exp(np.log(ratio) * self.logs[0] + exponent * self.logs[1] + found.log_sigma)
        return sd[:, None] * R * sd

    def V(self, climbed):
        V = self.R(climbed)
        if sum(self.layout.q):
            levels = ((UNIT, self.Z[:, :2]), (PARENT[UNIT], self.Z[:, 2:]))
            for (index, Z), Lambda in zip(levels, self.layout.unpack(climbed[: self.layout.n_theta]), strict=True):
                V = V + (index[:, None] == index) * (Z @ Lambda @ Lambda.T @ Z.T)
        return V


NAMES = [None, *MATRICES, "unstructured"]
CASES = [
    *((name, {"varying": name is None}) for name in NAMES),
    *((name, {"varying": True, "reml": True}) for name in NAMES),
    *((name, {"layout": BARE, "varying": True, "reml": True}) for name in NAMES),
    ("exponential", {"nugget": True, "dimensions": 2}),
    ("gaussian", {"nugget": True, "dimensions": 3, "reml": True}),
]
WEIGHTED = [(name, {"varying": True, "weighted": True}) for name in NAMES]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_value_and_coefficients_equal_dense_matrices(name, options):
    d = Data(name, **options)
    V, X, n = d.V(d.at), d.X, d.n
    for k, y in enumerate(d.y):
        point = d.objective.at(d.at, k)
        S = X.T @ np.linalg.solve(V, X)
        beta = np.linalg.solve(S, X.T @ np.linalg.solve(V, y))
        r = y - X @ beta
        free = n - 2 if d.structure.reml else n
        sigma2 = r @ np.linalg.solve(V, r) / free
        value = 0.5 * (free * (np.log(2 * np.pi * sigma2) + 1.0) + np.linalg.slogdet(V)[1])
        value += 0.5 * np.linalg.slogdet(S)[1] if d.structure.reml else 0.0
        close(point.beta, beta, rtol=1e-9, atol=1e-12)
        close(point.sigma, np.sqrt(sigma2), rtol=1e-10)
        close(point.value, value, rtol=1e-11)


@pytest.mark.parametrize(("name", "options"), [*CASES, *WEIGHTED])
def test_derivatives_scores_and_information(name, options):
    """Central differences with step 1e-5."""
    d = Data(name, **options)
    objective, h = d.objective, 1e-5
    point, steps = objective.at(d.at), h * np.eye(len(d.at))
    sides = [(objective.at(d.at + s), objective.at(d.at - s)) for s in steps]
    close(point.gradient, [(up.value - low.value) / (2 * h) for up, low in sides], rtol=1e-6, atol=1e-7)
    hessian = np.array([(up.gradient - low.gradient) / (2 * h) for up, low in sides])
    close(point.hessian, hessian, rtol=1e-6, atol=1e-6 * np.abs(hessian).max())
    scores = objective.scores(point).sum(axis=0)
    close(scores[2:-1], -point.gradient, rtol=1e-9, atol=1e-9)
    close(scores[[0, 1, -1]], np.zeros(3), atol=1e-9)
    for move, (up, low) in enumerate(sides):  # the cross block of the information is the implicit derivative of beta
        implied = -np.linalg.solve(point.information[:2, :2], point.information[:2, 2 + move])
        close((up.beta - low.beta) / (2 * h), implied, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_units_by_themselves(name):
    """Leaving a top-level unit out changes the log-likelihood at fixed parameters by that unit's share."""
    d = Data(name, varying=True)
    point, h = d.objective.at(d.at), 1e-5
    psi = np.concatenate([point.beta, d.at, [np.log(point.sigma)]])
    top = PARENT[UNIT]

    def shares(psi):
        V, r = np.exp(2 * psi[-1]) * d.V(psi[2:-1]), d.y[0] - d.X @ psi[:2]
        parts = [np.flatnonzero(top == g) for g in range(3)]
        return np.array([scipy.stats.multivariate_normal(cov=V[np.ix_(one, one)]).logpdf(r[one]) for one in parts])

    expected = np.array([(shares(psi + s) - shares(psi - s)) / (2 * h) for s in h * np.eye(len(psi))]).T
    close(d.objective.scores(point), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_contrasts_leverages_and_modes_at_rho(name):
    d = Data(name, varying=True)
    V, point, h = d.V(d.at), d.objective.at(d.at), 1e-6
    U = np.array([[1.0, 0.3], [-0.5, 2.0]])

    def along(climbed):
        return np.diag(U.T @ d.X.T @ np.linalg.solve(d.V(climbed), d.X) @ U)

    expected = np.array([(along(d.at + s) - along(d.at - s)) / (2 * h) for s in h * np.eye(len(d.at))])
    close(d.objective.contrast_derivative(d.at, U), expected, rtol=1e-6, atol=1e-7)
    close(d.objective.leverage(point).sum(), 2.0, rtol=1e-10)
    (b, _), (b_top, _) = d.objective.modes(point)
    weighted = np.linalg.solve(V, d.y[0] - d.X @ point.beta)
    Lambda = d.layout.unpack(d.at[: d.layout.n_theta])
    for g in range(9):
        one = UNIT == g
        close(b[g], Lambda[0] @ Lambda[0].T @ d.Z[one, :2].T @ weighted[one], rtol=1e-9, atol=1e-12)
    for g in range(3):
        one = PARENT[UNIT] == g
        close(b_top[g], Lambda[1] @ Lambda[1].T @ d.Z[one, 2:].T @ weighted[one], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_whitened_residuals_have_the_length_that_the_inverse_gives(name):
    d = Data(name, varying=True)
    point = d.objective.at(d.at)
    r = np.random.default_rng(2).normal(size=d.n)
    table = np.empty(d.n)
    table[d.order] = r
    white = d.objective.whitened(point, table)
    close(white @ white, r @ np.linalg.solve(d.R(d.at), r), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_reported_parameters_and_their_derivatives(name):
    """Central differences with step 1e-6; scales that are bounded stay inside their bounds far out."""
    d = Data(name, varying=True)
    rho, h = d.at[d.layout.n_theta :], 1e-6
    found = d.residual.report(rho)
    sides = [(d.residual.report(rho + s), d.residual.report(rho - s)) for s in h * np.eye(len(rho))]
    close(found.jacobian, np.array([(a.values - b.values) / (2 * h) for a, b in sides]).T, rtol=1e-6, atol=1e-8)
    close(found.slope, [(a.log_sigma - b.log_sigma) / (2 * h) for a, b in sides], rtol=1e-6, atol=1e-8)
    assert len(found.names) == len(found.scales) == len(found.values) == d.residual.n_rho
    for value, scale in zip(d.residual.report(8.0 * np.sign(rho)).values, found.scales, strict=True):
        assert {"correlation": -1 < value < 1, "share": 0 < value < 1, "positive": value > 0, "number": True}[scale]


def test_a_markov_correlation_is_its_matrix():
    """The short way of AR(1) against the Cholesky factor of its matrix."""
    rng = np.random.default_rng(3)
    where, A = np.sort(rng.uniform(0, 9, size=(1, 7, 1)), axis=1), rng.normal(size=(4, 7, 3))
    rho = [Jet(np.full((1, 1, 1), 0.4), np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1)))]
    apply, log_det = CORRELATIONS["car1"](where[0], np.array([0, 7]), False).whiten(rho, where)
    phi = 1 / (1 + np.exp(-0.4))
    gamma = phi ** np.abs(where[0] - where[0].T)
    white = apply(A)
    close(np.swapaxes(white.value, 1, 2) @ white.value, np.swapaxes(A, 1, 2) @ np.linalg.solve(gamma, A), rtol=1e-10)
    close(log_det.value.item(), np.linalg.slogdet(gamma)[1], rtol=1e-10)


def test_the_names_of_the_call_are_those_of_the_likelihood():
    assert set(spec.CORRELATIONS) == set(CORRELATIONS)
    with pytest.raises(OptionError, match=r"residual correlation 'ar2'\. Did you mean 'ar1'"):
        CORRELATIONS["ar2"]
