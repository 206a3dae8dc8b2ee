"""Models with one grouping level in closed form, against the jets of models with any number of levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import close

from pmwmix.api import read_distribution
from pmwmix.data.table import Table
from pmwmix.families import FAMILIES
from pmwmix.fitting.choose import Plan, make_problem
from pmwmix.frame.build import build_frame
from pmwmix.likelihood.general.direct import DirectChunks
from pmwmix.likelihood.general.partials import Natural, Partials, partials
from pmwmix.likelihood.general.single import root
from pmwmix.likelihood.general.singlechunks import SingleChunks
from pmwmix.links import LINKS
from pmwmix.links._curves import BoundedExp, LogNormalCdf, Softplus
from pmwmix.spec.design import Design
from pmwmix.spec.formula import parse

CASES = [
    ("z ~ x + v + (1 | g)", "binomial", 1),
    ("z ~ x + v + (1 | g)", "binomial", 5),
    ("cbind(hits, misses) ~ x + (1 + x | g)", "binomial", 3),
    ("cbind(hits, misses) ~ x + (1 + x + v | g)", "binomial", 1),
    ("count ~ x + (1 + x + v | g)", "poisson", 2),
    ("count ~ x + (1 + v || g)", "negbinomial", 3),
    ("count ~ x + (0 + v | g)", "negbinomial", 1),
    ("mark ~ x + (1 + v | g)", "cumulative", 3),
    ("mark ~ x + (1 | g)", "cumulative", 1),
]


@pytest.fixture(scope="module")
def data():
    """Groups of 1 to 90 rows, which need tiles of their own, with weights at both levels; one of them is zero."""
    rng = np.random.default_rng(3)
    sizes = np.r_[1, 2, 90, rng.integers(3, 9, 9)]
    g = np.repeat(np.arange(len(sizes)), sizes)
    d = pd.DataFrame({"g": g, "x": rng.normal(size=len(g)), "v": rng.normal(size=len(g))})
    eta = 0.4 * d["x"] + rng.normal(size=len(sizes))[g] + rng.normal(size=len(g))
    d["z"] = (eta > 0.3).astype(float)
    d["hits"] = rng.binomial(5, 1.0 / (1.0 + np.exp(-eta)))
    d["misses"] = 5 - d["hits"]
    d["count"] = rng.poisson(np.exp(0.5 * eta))
    d["mark"] = np.digitize(eta, [-1.0, 0.0, 1.0])
    d["w1"], d["w2"] = rng.uniform(1.0, 3.0, len(g)), rng.uniform(1.0, 4.0, len(sizes))[g]
    return d.sample(frac=1.0, random_state=1)


def objective_of(formula, data, family, n_agq, cells=None):
    frame = build_frame(
        parse(formula),
        Table(data),
        Design(weights=["w1", "w2"], conditional=True),
        [],
        None,
        read_distribution(family, None, None, "ml"),
    )
    return make_problem(frame, frame.designs[0], Plan("numpy", n_agq=(n_agq,), chunk_cells=cells)).objective


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]} {case[0]}, {case[2]}")
def test_the_numbers_are_those_of_jets(data, case):
    formula, family, n_agq = case
    objective = objective_of(formula, data, family, n_agq)
    assert isinstance(objective.parts, SingleChunks)
    psi = 0.9 * objective.start() + 0.07
    point = objective.at(psi)
    jets = DirectChunks(objective.structure, objective.chunks, objective.rows, objective.n_agq)
    hessian, values, scores, one = 0.0, [], [], 0
    for number, modes in enumerate(point.modes):
        value, score = jets.evaluate(number, psi, 0, modes)
        values, scores = [*values, value], [*scores, score.T]
        hessian = hessian - jets.hessian(number, psi, 0, modes)
        away = [u + 0.2 for u in modes]
        ours, theirs = (parts.newton_step(number, psi, 0, away) for parts in (objective.parts, jets))
        for name, found in ours.items():
            n = len(value)
            close(found[..., :n], theirs[name][..., :n], 1e-10, 1e-10)
            one += 1
    assert one
    close(objective.units(point), np.concatenate(values), 1e-11)
    close(point.scores, np.concatenate(scores), 1e-10, 1e-10)
    close(point.hessian, hessian, 1e-10, 1e-10 * np.abs(hessian).max())


def test_second_derivatives_can_wait(data):
    """A finer rule is asked for its slopes alone; what is asked later is the same."""
    coarse = objective_of("z ~ x + (1 + v | g)", data, "binomial", 3)
    fine, whole = coarse.with_nodes((5,)), objective_of("z ~ x + (1 + v | g)", data, "binomial", 5)
    psi = coarse.start() + 0.1
    one, other = fine.at(psi), whole.at(psi)
    assert not fine.parts.ahead
    assert whole.parts.ahead
    close(one.gradient, other.gradient, 1e-11, 1e-10)
    close(one.hessian, other.hessian, 1e-10)


def test_other_weights_are_those_of_a_new_objective(data):
    objective = objective_of("z ~ x + (1 + v | g)", data, "binomial", 3)
    psi = objective.start() + 0.1
    before = objective.at(psi)
    w = np.where(np.arange(len(data)) % 7 == 0, 0.0, 2.0)
    top = np.arange(12.0)
    moved = objective.with_weights(w, [top])
    fresh = replace(objective.rows, w=w)
    again = type(objective)(objective.structure, moved.chunks, fresh, objective.n_agq, "numpy")
    close(moved.at(psi).gradient, again.at(psi).gradient, 1e-12)
    close(objective.at(psi).value, before.value, 1e-14)


@pytest.mark.parametrize("q", [1, 2, 3])
def test_the_root_of_an_inverse(q):
    A = np.random.default_rng(q).normal(size=(7, q, q + 2))
    M = A @ A.swapaxes(1, 2)
    S = np.moveaxis(root(np.moveaxis(M, 0, -1), 0.0), -1, 0)
    close(S @ S.swapaxes(1, 2), np.linalg.inv(M), 1e-9)
    assert not np.tril(S, -1).any()


@pytest.mark.parametrize("curve", [Softplus, BoundedExp, LogNormalCdf])
def test_curves_give_all_orders_at_once(curve):
    for x in (np.linspace(-40.0, 40.0, 81), np.array([-800.0, 0.0, 800.0])):
        together = curve.up_to(x, 4)
        for order, found in enumerate(together):
            close(found, curve(order).formula(np, __import__("scipy").special, x), 1e-14)


def test_cumulants_are_those_of_the_densities():
    """Of every family and link: y eta - t b(eta), with all its derivatives, where a curve b is named."""
    rng, named = np.random.default_rng(2), []
    eta, y, n = rng.normal(size=9), rng.integers(0, 4, 9).astype(float), np.full(9, 4.0)
    for name in FAMILIES:
        family = FAMILIES[name]
        for link in family.links:
            curve = family.cumulant(LINKS[link])
            if curve is None:
                continue
            named.append((name, link))
            ours = partials(name, link, 0, 4)
            assert isinstance(ours, Natural)
            given = eta, y, [n] * family.n_extra, np.zeros(0)
            graph = Partials(name, link, 0, 4)(*given)
            for order, part in ours(*given).items():
                close(graph[order], part, 1e-12, 1e-13)
    assert named == [("binomial", "logit"), ("poisson", "log")]
