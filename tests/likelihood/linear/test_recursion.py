"""The recursion in numpy against dense matrices: several draws, several right-hand sides, weights at every level."""

import numpy as np
import pytest
from helpers import close

from pmwmix.likelihood.linear.recursion import UnitTree, factor, walk_down

PARENTS, Q = np.array([0, 0, 0, 1, 1]), (2, 1)  # five classes in two schools


def dense_modes(rows, Z, V, unit, Lambdas, w):
    """Effects b of each level that minimise the weighted sum of squares plus |u|², all units at once."""
    columns, scale, penalty = [], [], []
    for Zl, index, Lambda, weight in zip(Z, unit, Lambdas, w[1:], strict=True):
        for g in range(len(weight)):
            columns.append(np.where((index == g)[:, None], Zl, 0.0) @ Lambda)
            scale.append(Lambda)
            penalty.append(np.full(len(Lambda), weight[g]))
    A, P = np.hstack(columns), np.diag(np.concatenate(penalty))
    u = np.linalg.solve(A.T @ (A * rows[:, None]) + P, A.T @ (V * rows[:, None]))
    return [b @ part for b, part in zip(scale, np.split(u, np.cumsum([len(s) for s in scale])[:-1]), strict=True)]


@pytest.mark.parametrize("m", [(), (3,)])
def test_modes_of_several_draws_and_right_hand_sides(m):
    rng = np.random.default_rng(4)
    low = np.repeat(np.arange(5), [4, 3, 1, 2, 5])
    unit = (low, PARENTS[low])
    Z = [rng.normal(size=(len(low), q)) for q in Q]
    w = (rng.uniform(0.5, 2, len(low)), rng.uniform(0.5, 2, 5), rng.uniform(0.5, 2, 2))
    below = w[0] * w[1][low] * w[2][PARENTS[low]]  # of the rows in the joint sum; a unit's own penalty likewise
    joint = (below, w[1] * w[2][PARENTS], w[2])
    draws = [[np.tril(rng.normal(size=(q, q))) for q in Q] for _ in range(2)]
    V = rng.normal(size=(len(low), *m, 2))  # a right-hand side per draw
    tree = UnitTree((PARENTS,), w[1:])
    WZ = np.hstack(Z) * w[0][:, None]
    by_unit = np.eye(5)[low]
    C = np.einsum("na,nb,ng->abg", WZ, np.hstack(Z), by_unit)[:, :, None]
    rhs = np.einsum("na,n...d,ng->a...dg", WZ, V, by_unit)
    Lambdas = [np.array([draw[level] for draw in draws]) for level in range(2)]
    found = walk_down(tree, factor(tree, Lambdas, C, rhs), Lambdas)
    for d, draw in enumerate(draws):
        flat = V[..., d].reshape(len(low), -1)
        expected = dense_modes(joint[0], Z, flat, unit, draw, joint)
        got = [found[0][1][..., d, g].reshape(2, -1) for g in range(5)]
        got += [found[1][1][..., d, g].reshape(1, -1) for g in range(2)]
        for one, other in zip(got, expected, strict=True):
            close(one, other, rtol=1e-10, atol=1e-12)
