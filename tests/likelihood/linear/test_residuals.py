"""The seam for residual structures: toys registered here, through the whole closed form, against dense matrices."""

from dataclasses import dataclass

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import scipy.stats
from helpers import close

from pmwmix.errors import OptionError
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.likelihood.linear.crossproducts import Structure, build
from pmwmix.likelihood.linear.modes import conditional_modes
from pmwmix.likelihood.linear.nested import Inputs
from pmwmix.likelihood.linear.objective import Objective
from pmwmix.likelihood.linear.residuals import RESIDUALS, UnitRows
from pmwmix.likelihood.linear.unprofiled import joint_arrays, joint_loglik
from pmwmix.likelihood.standardise import Columns, Scaler


@dataclass(frozen=True)
class Strata:
    """R diagonal with exp(2 rho_s) in stratum s: a variance of its own for every stratum but the first."""

    n_blocks: int

    @property
    def parameters(self):
        return tuple(f"log_sd{s}" for s in range(1, self.n_blocks))

    def products(self, rows: UnitRows):
        unit = np.repeat(np.arange(len(rows.sizes)), rows.sizes)
        w = np.ones(len(unit)) if rows.w is None else rows.w
        out = np.zeros((self.n_blocks, len(rows.sizes), rows.A.shape[1], rows.A.shape[1]))
        np.add.at(out, (rows.along["stratum"], unit), w[:, None, None] * rows.A[:, :, None] * rows.A[:, None, :])
        return out

    def counts(self, rows: UnitRows):
        unit = np.repeat(np.arange(len(rows.sizes)), rows.sizes)
        out = np.zeros((self.n_blocks, len(rows.sizes)))
        np.add.at(out, (rows.along["stratum"], unit), 1.0 if rows.w is None else rows.w)
        return out

    def coefficients(self, rho, xp=np):
        return [1.0, *(xp.exp(-2.0 * r) for r in rho)]

    def log_scales(self, rho, xp=np):
        return [0.0, *(2.0 * r for r in rho)]

    def matrix(self, rho, unit, stratum):
        return np.diag(np.exp(2.0 * np.append(0.0, rho))[stratum])


@dataclass(frozen=True)
class Exchangeable:
    """R with 1 on the diagonal and r = rho²/(1 + rho²) beside it; a block for the rows and one per size of unit."""

    sizes: tuple[int, ...]

    parameters = ("root_odds",)

    @property
    def n_blocks(self):
        return 1 + len(self.sizes)

    def products(self, rows: UnitRows):
        m = rows.A.shape[1]
        out = np.zeros((self.n_blocks, len(rows.sizes), m, m))
        for unit, A in enumerate(np.split(rows.A, np.cumsum(rows.sizes)[:-1])):
            total = A.sum(axis=0)
            out[0, unit] = A.T @ A
            out[1 + self.sizes.index(len(A)), unit] = np.outer(total, total)
        return out

    def counts(self, rows: UnitRows):
        return np.array([rows.sizes, *(rows.sizes == size for size in self.sizes)], dtype=float)

    def coefficients(self, rho, xp=np):
        odds = rho[0] ** 2  # r / (1 - r)
        return [1.0 + odds, *(-odds * (1.0 + odds) / (1.0 + size * odds) for size in self.sizes)]

    def log_scales(self, rho, xp=np):
        odds = rho[0] ** 2
        return [-xp.log(1.0 + odds), *(xp.log(1.0 + size * odds) for size in self.sizes)]

    def matrix(self, rho, unit, stratum):
        r = rho[0] ** 2 / (1.0 + rho[0] ** 2)
        return np.where(unit[:, None] == unit, r, 0.0) + (1.0 - r) * np.eye(len(unit))


TOYS = {
    "strata": lambda sizes, along: Strata(1 + int(along["stratum"].max())),
    "exchangeable": lambda sizes, along: Exchangeable(tuple(np.unique(sizes).tolist())),
}


@pytest.fixture(autouse=True)
def registered():
    for name, make in TOYS.items():
        RESIDUALS.add(name, make)
    yield
    for name in TOYS:
        del RESIDUALS[name]


class Data:
    """Rows of classes in schools, a slope at the lower level; ``V`` in full."""

    def __init__(self, name, weighted=False, reml=False):
        rng = np.random.default_rng(7)
        sizes = np.array([3, 2, 4, 3, 2, 2, 4, 3])
        self.unit, self.parent = np.repeat(np.arange(8), sizes), np.array([0, 0, 0, 1, 1, 2, 2, 2])
        n = len(self.unit)
        self.order = rng.permutation(n)  # of the table; column[order] is sorted by unit
        self.stratum = rng.integers(0, 3, n)
        self.Z, self.X = rng.normal(size=(n, 3)), np.column_stack([np.ones(n), rng.normal(size=n)])
        self.y = rng.normal(size=(2, n)) + self.X[:, 1]
        self.layout = ThetaLayout(((2,), (1,)))
        self.w = (np.ones(8), np.ones(3))
        self.w_obs = None
        if weighted:
            self.w, self.w_obs = (rng.uniform(0.5, 2, 8), rng.uniform(0.5, 2, 3)), rng.uniform(0.5, 2, n)
        back = np.argsort(self.order)
        values = [column[back] for column in (*self.Z.T, *self.X.T, *self.y)]
        columns = Columns(values, np.arange(3), np.arange(3, 5), np.arange(5, 7), Scaler(np.zeros(7), np.ones(7)))
        along = {"stratum": self.stratum[back]}
        self.residual = RESIDUALS[name](sizes, along)
        self.structure = Structure(self.layout, 2, reml, self.residual)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        w_obs = None if self.w_obs is None else self.w_obs[back]
        self.blocks = build(columns, self.order, starts, w_obs, (self.parent,), self.w, self.residual, along)
        self.objective = Objective(self.blocks, self.structure, "python")
        theta = self.layout.start(0.6) + 0.2 * rng.normal(size=self.layout.n_theta)
        self.at = np.append(theta, np.linspace(0.3, -0.4, self.structure.n_rho) + 0.2)

    def V(self, climbed):
        theta, rho = np.split(climbed, [self.layout.n_theta])
        V = self.residual.matrix(rho, self.unit, self.stratum)
        for index, Z, Lambda in zip(
            (self.unit, self.parent[self.unit]), (self.Z[:, :2], self.Z[:, 2:]), self.layout.unpack(theta), strict=True
        ):
            V = V + (index[:, None] == index) * (Z @ Lambda @ Lambda.T @ Z.T)
        return V


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("reml", [False, True])
def test_value_and_coefficients_equal_dense_matrices(name, reml):
    d = Data(name, reml=reml)
    V, X, n = d.V(d.at), d.X, len(d.unit)
    for k, y in enumerate(d.y):
        point = d.objective.at(d.at, k)
        S = X.T @ np.linalg.solve(V, X)
        beta = np.linalg.solve(S, X.T @ np.linalg.solve(V, y))
        r = y - X @ beta
        free = n - 2 if reml else n
        sigma2 = r @ np.linalg.solve(V, r) / free
        value = 0.5 * (free * (np.log(2 * np.pi * sigma2) + 1.0) + np.linalg.slogdet(V)[1])
        value += 0.5 * np.linalg.slogdet(S)[1] if reml else 0.0
        close(point.beta, beta, rtol=1e-9, atol=1e-12)
        close(point.sigma, np.sqrt(sigma2), rtol=1e-10)
        close(point.value, value, rtol=1e-11)


@pytest.mark.parametrize(("name", "weighted", "reml"), [
    ("strata", True, False), ("strata", False, True), ("exchangeable", False, False), ("exchangeable", False, True),
])  # fmt: skip
def test_derivatives_scores_and_information(name, weighted, reml):
    """Central differences with step 1e-5."""
    d = Data(name, weighted, reml)
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


@pytest.mark.parametrize("name", TOYS)
def test_scores_are_those_of_units_by_themselves(name):
    """Leaving a top-level unit out changes the log-likelihood at fixed parameters by that unit's share."""
    d = Data(name)
    point, h = d.objective.at(d.at), 1e-5
    psi = np.concatenate([point.beta, d.at, [np.log(point.sigma)]])

    def shares(psi):
        beta, climbed, sigma = psi[:2], psi[2:-1], np.exp(psi[-1])
        V, r = sigma**2 * d.V(climbed), d.y[0] - d.X @ beta
        top = d.parent[d.unit]
        return np.array(
            [scipy.stats.multivariate_normal(cov=V[np.ix_(top == g, top == g)]).logpdf(r[top == g]) for g in range(3)]
        )

    expected = np.array([(shares(psi + s) - shares(psi - s)) / (2 * h) for s in h * np.eye(len(psi))]).T
    close(d.objective.scores(point), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", TOYS)
def test_contrasts_leverages_and_modes_at_rho(name):
    d = Data(name)
    V, point, h = d.V(d.at), d.objective.at(d.at), 1e-6
    U = np.array([[1.0, 0.3], [-0.5, 2.0]])

    def along(climbed):
        return np.diag(U.T @ d.X.T @ np.linalg.solve(d.V(climbed), d.X) @ U)

    expected = np.array([(along(d.at + s) - along(d.at - s)) / (2 * h) for s in h * np.eye(len(d.at))])
    close(d.objective.contrast_derivative(d.at, U), expected, rtol=1e-6, atol=1e-7)
    close(d.objective.leverage(point).sum(), 2.0, rtol=1e-10)
    blocks, theta = d.structure.at(d.blocks, d.at)
    (b, _), (b_top, _) = conditional_modes(blocks, d.layout, theta, point.beta, point.sigma)
    weighted = np.linalg.solve(V, d.y[0] - d.X @ point.beta)
    Lambda = d.layout.unpack(theta)
    for g in range(8):
        one = d.unit == g
        close(b[g], Lambda[0] @ Lambda[0].T @ d.Z[one, :2].T @ weighted[one], rtol=1e-9, atol=1e-12)
    for g in range(3):
        one = d.parent[d.unit] == g
        close(b_top[g], Lambda[1] @ Lambda[1].T @ d.Z[one, 2:].T @ weighted[one], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TOYS)
def test_the_sampler_s_likelihood_has_rho_behind_log_sigma(name):
    d = Data(name)
    arrays = joint_arrays(d.blocks, 1)
    symbols = {key: pt.as_tensor(value) for key, value in arrays.items()}
    first, levels = [symbols[key] for key in ("zz", "zx", "zy", "S0")], [("parent0",), ("to_top0",), ("w0", "w1")]
    levels += [("w_total0", "w_total1")]
    data = Inputs(*first, *(tuple(symbols[key] for key in names) for names in levels), symbols["counts"])
    t = d.layout.n_theta
    beta, theta, phi = pt.as_tensor([0.4, 0.7]), pt.as_tensor(d.at[:t]), pt.as_tensor(np.append(-0.2, d.at[t:]))
    value = joint_loglik(d.structure, data, symbols["n_total"], beta, theta, phi)
    got = pytensor.function([], value, mode="FAST_COMPILE")()
    r = d.y[1] - d.X @ [0.4, 0.7]
    close(got, scipy.stats.multivariate_normal(cov=np.exp(-0.4) * d.V(d.at)).logpdf(r), rtol=1e-11)


def test_one_structure_is_known_and_others_are_refused_by_name():
    assert RESIDUALS["independent"](np.array([2, 3]), {}).parameters == ()
    with pytest.raises(OptionError, match=r"residual structure 'independant'\. Did you mean 'independent'"):
        RESIDUALS["independant"]
