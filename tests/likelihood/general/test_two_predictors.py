"""Families with two linear predictors: value and derivatives of the marginal likelihood against brute force."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import pytest
from helpers import close
from scipy import optimize, special, stats
from test_insidemodes import loglik_of

from pmwmix.data.table import Table
from pmwmix.errors import FormulaError
from pmwmix.families import FAMILIES, Family
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.frame.build import build_frame
from pmwmix.likelihood.contract import RowArrays
from pmwmix.likelihood.crossed import units
from pmwmix.likelihood.crossed.general import CrossedObjective
from pmwmix.likelihood.crossed.units import Crossing
from pmwmix.likelihood.general.insidedata import inside_data
from pmwmix.likelihood.general.model import MarginalStructure
from pmwmix.likelihood.general.objective import IntegratedObjective
from pmwmix.likelihood.general.tiles import cut
from pmwmix.likelihood.layout import ThetaLayout
from pmwmix.spec.design import Design
from pmwmix.spec.formula import parse
from pmwmix.spec.outcome import Distribution, Response
from pmwmix.spec.predictors import Predictor


class Toy(Family):
    """Takes the outcome as it is, and starts from the link of its mean."""

    def read(self, outcome):
        return Response(np.asarray(outcome.values, dtype=float), (), np.zeros(len(outcome.values)))

    def start(self, link, response, w):
        return link.eta(np.full(len(response.y), np.average(response.y, weights=w))), np.zeros(0)


class LocationScale(Toy):
    """Normal with a linear predictor for the log of the standard deviation; no log(2 pi) / 2."""

    name = "location-scale"
    links = ("identity",)
    further = (Predictor("sigma", ("log",), default="1"),)

    def log_density_of(self, links, y, extra, etas, phi):
        mean, log_sigma = links[0].mean_graph(etas[0]), links[1].log_mean(etas[1])
        return -0.5 * pt.square((y - mean) * pt.exp(-log_sigma)) - log_sigma

    @staticmethod
    def numbers(y, eta, eta_sigma):
        return stats.norm.logpdf(y, eta, np.exp(eta_sigma)) + 0.5 * np.log(2 * np.pi)

    @staticmethod
    def draw_from(rng, eta, eta_sigma):
        return rng.normal(eta, np.exp(eta_sigma))


class ZeroInflated(Toy):
    """Poisson counts, of which a share is 0 whatever the mean; without log y!."""

    name = "zero-inflated"
    links = ("log",)
    further = (Predictor("zi", ("logit",), default="1"),)

    def log_density_of(self, links, y, extra, etas, phi):
        log_mean, mean = links[0].log_mean(etas[0]), links[0].mean_graph(etas[0])
        count = links[1].log_sf(etas[1]) + y * log_mean - mean
        return pt.switch(pt.eq(y, 0.0), pt.logaddexp(links[1].log_cdf(etas[1]), count), count)

    @staticmethod
    def numbers(y, eta, eta_zero):
        share, mean = special.expit(eta_zero), np.exp(eta)
        density = (1 - share) * stats.poisson.pmf(y, mean) + share * (y == 0)
        return np.log(density) + special.gammaln(y + 1)

    @staticmethod
    def draw_from(rng, eta, eta_zero):
        return np.where(rng.random(len(eta)) < special.expit(eta_zero), 0.0, rng.poisson(np.exp(eta)))


TOYS = {toy.name: toy for toy in (LocationScale(), ZeroInflated())}
BETA = {"location-scale": [0.5, 0.8, -0.3, 0.4], "zero-inflated": [1.0, 0.4, -0.8, 0.5]}  # mean 1, x; other 1, x
THETA = {"together": [0.5, 0.2, 0.4], "apart": [0.4, 0.5]}  # one correlated term, or one term at each of two levels


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name, toy in TOYS.items():
        monkeypatch.setitem(FAMILIES, name, toy)


class Sample:
    """Twelve lowest units of a few rows each, three of them in every upper one; weights that vary."""

    def __init__(self, family, shape):
        rng = np.random.default_rng(4)
        self.family, self.shape = TOYS[family], shape
        self.unit = np.repeat(np.arange(12), rng.integers(3, 9, 12))
        n = len(self.unit)
        self.top = np.repeat(np.arange(4), 3)
        self.x, self.offset = rng.normal(size=n), 0.2 * rng.normal(size=n)
        self.w = rng.uniform(0.5, 1.5, n)
        self.w_unit, self.w_top = rng.uniform(0.5, 1.5, 12), rng.uniform(0.5, 1.5, 4)
        self.psi = np.array(BETA[family] + THETA[shape])
        b = self.effects(
            self.psi, rng.normal(size=12), rng.normal(size=12)[self.top if shape == "apart" else slice(12)]
        )
        self.y = self.family.draw_from(rng, *self.etas(self.psi, *(part[self.unit] for part in b)))

    def effects(self, psi, u, v):
        """Random effects of the two predictors, from standard normal numbers."""
        theta = psi[4:]
        if self.shape == "together":
            return theta[0] * u, theta[1] * u + theta[2] * v
        return theta[0] * u, theta[1] * v

    def etas(self, psi, b, b_other):
        first = psi[0] + psi[1] * self.x + self.offset + b
        return first, psi[2] + psi[3] * self.x + b_other

    def objective(self, n_agq=15, engine="python", rows_per_chunk=10_000):
        ones = np.ones(len(self.x))
        together = self.shape == "together"
        structure = MarginalStructure(
            layout=ThetaLayout(((2,),) if together else ((1,), (1,))),
            p=4,
            family=self.family.name,
            link=self.family.links[0],
            n_phi=0,
            ones=(True, True),
            adaptive=(n_agq > 1,) * (1 if together else 2),
            further=((self.family.further[0].links[0], 2),),
            predictors=(0, 1),
        )
        rows = RowArrays([ones, self.x, ones, self.x], [ones, ones], self.offset, self.w, [self.y], [()])
        starts = np.searchsorted(self.unit, np.arange(13))
        parents = () if together else (self.top,)
        w = (self.w_unit,) if together else (self.w_unit, self.w_top)
        chunks = cut(None, starts, parents, w, rows_per_chunk)
        return IntegratedObjective(structure, chunks, rows, (n_agq,) * len(w), engine)

    def brute(self, psi, step=0.1):
        """Minus the marginal log-likelihood by sums over an even grid, as exact as the integrand is smooth."""
        nodes = np.arange(-7.0, 7.0 + step / 2, step)
        log_weights = stats.norm.logpdf(nodes) + np.log(step)
        u, v = np.meshgrid(nodes, nodes, indexing="ij")
        b, b_other = (np.broadcast_to(part, u.shape)[..., None] for part in self.effects(psi, u, v))
        density = self.w * self.family.numbers(self.y, *self.etas(psi, b, b_other))
        units = np.stack([density[..., self.unit == g].sum(-1) for g in range(12)], -1)
        if self.shape == "together":
            both = log_weights[:, None, None] + log_weights[None, :, None]
            return -float(special.logsumexp(units + both, axis=(0, 1)) @ self.w_unit)
        inner = special.logsumexp(units + log_weights[:, None, None], axis=0) * self.w_unit
        tops = np.stack([inner[:, self.top == g].sum(-1) for g in range(4)], -1)
        return -float(special.logsumexp(tops + log_weights[:, None], axis=0) @ self.w_top)


CASES = [(family, shape) for family in TOYS for shape in THETA]


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_the_integral_is_that_of_brute_force(family, shape):
    sample = Sample(family, shape)
    point = sample.objective(41).at(sample.psi)
    close(point.value, sample.brute(sample.psi), rtol=1e-9)
    close(point.gradient, optimize.approx_fprime(sample.psi, sample.brute, 1e-6), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("family", "shape", "n_agq"), [(*CASES[0], 1), (*CASES[1], 3), (*CASES[2], 3)])
def test_derivatives_are_those_of_the_value(family, shape, n_agq):
    sample = Sample(family, shape)
    objective = sample.objective(n_agq)
    psi = sample.psi + 0.05
    point, h = objective.at(psi), 1e-5
    sides = [(objective.at(psi + h * e), objective.at(psi - h * e)) for e in np.eye(len(psi))]
    close(point.gradient, [(a.value - b.value) / (2 * h) for a, b in sides], rtol=1e-6, atol=1e-6)
    close(point.hessian, np.array([(a.gradient - b.gradient) / (2 * h) for a, b in sides]), rtol=1e-6, atol=1e-5)
    close(-point.scores.sum(axis=0), point.gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("family", "shape"), CASES[1:3])
def test_chunks_and_engines_agree(family, shape):
    sample = Sample(family, shape)
    whole, cut_up = sample.objective(3).at(sample.psi), sample.objective(3, "jax", 20).at(sample.psi)
    close(cut_up.value, whole.value, rtol=1e-12)
    close(cut_up.gradient, whole.gradient, rtol=1e-9, atol=1e-9)
    close(cut_up.hessian, whole.hessian, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("family", "shape"), [CASES[0], CASES[3]])
def test_modes_found_inside_the_graph_give_the_same(family, shape):
    sample = Sample(family, shape)
    objective = sample.objective(3)
    w = (sample.w_unit,) if shape == "together" else (sample.w_unit, sample.w_top)
    tree = ((), w) if shape == "together" else ((sample.top,), w)
    problem = SimpleNamespace(structure=objective.structure, objective=objective, tree=tree)
    value, gradient = loglik_of(objective.structure)(sample.psi, inside_data(problem, 0, sample.psi + 0.1))
    point = objective.at(sample.psi)
    close(value, -point.value, rtol=1e-10)
    close(gradient, -point.gradient, rtol=1e-7, atol=1e-7)


# -- crossed effects ---------------------------------------------------------------------------------------------------


class DenseCross:
    """Two crossed factors with an intercept in both predictors of a location-scale model; Laplace by dense matrices."""

    def __init__(self):
        rng = np.random.default_rng(8)
        n = 90
        self.index = (rng.integers(0, 9, n), rng.integers(0, 5, n))
        self.x, self.w = rng.normal(size=n), rng.uniform(0.5, 1.5, n)
        self.psi = np.array([0.5, 0.8, -0.3, 0.4, 0.5, 0.3, 0.6, 0.2])
        b = [0.4 * rng.normal(size=(2, 9)), 0.4 * rng.normal(size=(2, 5))]
        eta, log_sigma = (sum(part[k, at] for part, at in zip(b, self.index, strict=True)) for k in (0, 1))
        self.y = rng.normal(0.5 + 0.8 * self.x + eta, np.exp(-0.3 + log_sigma))

    def objective(self):
        ones = np.ones(len(self.x))
        layout = ThetaLayout(((1, 1), (1, 1)))
        structure = MarginalStructure(
            layout, 4, "location-scale", "identity", 0, (True,) * 4, (False,) * 2, (("log", 2),), (0, 1, 0, 1)
        )
        rows = RowArrays([ones, self.x, ones, self.x], [ones] * 4, 0.0 * ones, self.w, [self.y], [()])
        crossing = Crossing(self.index, (9, 5), layout.q, np.zeros(len(ones), dtype=int))
        return CrossedObjective(structure, crossing, rows, "python")

    def designs(self, psi):
        """Whitened columns (n, 28) of the mean and of the log standard deviation, factor after factor."""
        indicators = [np.eye(n)[at] for n, at in zip((9, 5), self.index, strict=True)]
        columns = [theta * indicators[k // 2] for k, theta in enumerate(psi[4:])]
        none = [0.0 * part for part in columns]
        mean = np.hstack([columns[0], none[1], columns[2], none[3]])
        return mean, np.hstack([none[0], columns[1], none[2], columns[3]])

    def laplace(self, psi, inverse=False):
        """Minus the approximation; or the inverse of the joint Hessian."""
        Z, Z_sigma = self.designs(psi)
        u = np.zeros(Z.shape[1])
        for step in range(60):
            s = psi[2] + psi[3] * self.x + Z_sigma @ u
            r, precision = self.y - psi[0] - psi[1] * self.x - Z @ u, np.exp(-2 * s)
            k_mean, k_both, k_sigma = (self.w * c * precision for c in (1.0, 2 * r, 2 * r**2))
            if step < 40:  # expected curvatures first, which are positive
                k_both, k_sigma = 0.0 * k_both, 2.0 * self.w
            cross = (Z * k_both[:, None]).T @ Z_sigma
            M = np.eye(len(u)) + (Z * k_mean[:, None]).T @ Z + (Z_sigma * k_sigma[:, None]).T @ Z_sigma
            M += cross + cross.T
            slope = Z.T @ (self.w * r * precision) + Z_sigma.T @ (self.w * (r**2 * precision - 1.0)) - u
            u = u + np.linalg.solve(M, slope)
        J = self.w @ (-0.5 * r**2 * precision - s) - 0.5 * u @ u
        return np.linalg.inv(M) if inverse else float(0.5 * np.linalg.slogdet(M)[1] - J)


@pytest.mark.parametrize("sparse", [False, True])
def test_crossed_effects_in_both_predictors(monkeypatch, sparse):
    monkeypatch.setattr(units, "PAIR_COST", 0 if sparse else 1e9)
    dense = DenseCross()
    objective, psi = dense.objective(), dense.psi
    point, h = objective.at(psi), 1e-5
    sides = [(psi + h * e, psi - h * e) for e in np.eye(len(psi))]
    close(point.value, dense.laplace(psi), rtol=1e-12)
    by_differences = [(dense.laplace(a) - dense.laplace(b)) / (2 * h) for a, b in sides]
    close(point.gradient, by_differences, rtol=1e-6, atol=1e-6)
    by_differences = [(objective.at(a).gradient - objective.at(b).gradient) / (2 * h) for a, b in sides]
    close(point.hessian, by_differences, rtol=1e-6, atol=1e-5)
    inverse, covariances = dense.laplace(psi, inverse=True), objective.covariances(point)
    for g in range(5):
        places = [18 + g, 23 + g]
        theta = np.diag(psi[6:])
        close(covariances[1][g], theta @ inverse[np.ix_(places, places)] @ theta, rtol=1e-7, atol=1e-10)
    places, theta = [4, 9 + 4], np.diag(psi[4:6])
    close(covariances[0][4], theta @ inverse[np.ix_(places, places)] @ theta, rtol=1e-7, atol=1e-10)


# -- from the formula --------------------------------------------------------------------------------------------------


def problem_of(sample, formula):
    data = pd.DataFrame({"y": sample.y, "x": 3.0 + 2.0 * sample.x, "o": sample.offset, "g": sample.unit, "w": sample.w})
    data["w_unit"] = sample.w_unit[sample.unit]
    toy, design = sample.family, Design(weights=["w", "w_unit"], conditional=True, scaling="none")
    distribution = Distribution(toy.name, toy.links[0], toy.read, False, False, None, toy.further)
    frame = build_frame(formula, Table(data), design, [], None, distribution)
    return make_problem(frame, frame.designs[0], Plan("python", n_agq=(25,)))


@pytest.mark.parametrize("family", TOYS)
def test_a_problem_has_the_columns_of_every_predictor(family):
    sample = Sample(family, "together")
    other = sample.family.further[0].name
    problem = problem_of(sample, parse("y ~ x + offset(o) + (1 | g)").with_predictor(other, "x + (1 | g)"))
    structure = problem.structure
    assert problem.names == ("Intercept", "x", f"{other}.Intercept", f"{other}.x")
    assert (structure.further, structure.predictors) == (((sample.family.further[0].links[0], 2),), (0, 1))
    assert structure.layout.blocks == ((1, 1),)  # effects of different predictors are independent
    psi = np.array([*BETA[family], 0.5, 0.4])
    raw = problem.transform.beta(psi[:4])
    steps = np.array([raw[0] + 3.0 * raw[1], 2.0 * raw[1], raw[2] + 3.0 * raw[3], 2.0 * raw[3]])  # x was 3 + 2 x
    brute = sample.brute(np.array([*steps, 0.5, 0.0, 0.4]))
    close(problem.objective.at(psi).value * problem.top_scale, brute, rtol=1e-6)


def test_a_problem_can_be_climbed():
    """One whose second predictor has no random effects, and the family's default as its formula."""
    sample = Sample("location-scale", "together")
    problem = problem_of(sample, parse("y ~ x + offset(o) + (1 | g)"))
    assert problem.names == ("Intercept", "x", "sigma.Intercept")
    objective, start = problem.objective, problem.objective.start()
    found = optimize.minimize(lambda psi: (objective.at(psi).value, objective.at(psi).gradient), start, jac=True)
    point = objective.at(found.x)
    assert np.abs(point.gradient).max() < 1e-4

    def brute(psi):
        raw = problem.transform.beta(psi[:3])
        steps = [raw[0] + 3.0 * raw[1], 2.0 * raw[1], raw[2], 0.0]  # x was 3 + 2 x
        return sample.brute(np.array([*steps, psi[3], 0.0, 0.0])) / problem.top_scale

    close(point.value, brute(found.x), rtol=1e-8)
    moved = found.x + 0.1
    close(objective.at(moved).gradient, optimize.approx_fprime(moved, brute, 1e-6), rtol=1e-4, atol=1e-4)


def test_a_formula_has_a_part_for_every_predictor():
    formula = parse("y ~ x + (1 | g)").with_predictor("zi", "log(v) + (1 + u | h)")
    assert formula.variables == ("y", "x", "v", "u", "g", "h")
    assert [(term.group, term.predictor) for term in formula.random] == [("g", None), ("h", "zi")]
    both = formula.with_predictors((Predictor("sigma", ("log",), "0 + w"), Predictor("zi", ("logit",))))
    assert [(part.predictor, part.fixed) for part in both.further] == [("sigma", "0 + w"), ("zi", "1 + log(v)")]
    with pytest.raises(FormulaError, match=r"'zi' of this family has no formula"):
        parse("y ~ x").with_predictors((Predictor("zi", ("logit",)),))
    with pytest.raises(FormulaError, match=r"Only the mean has an offset"):
        parse("y ~ x").with_predictor("zi", "offset(v)")
