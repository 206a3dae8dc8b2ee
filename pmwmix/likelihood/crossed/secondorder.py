"""What Laplace's approximation leaves out, to the next order, with crossed random effects (crossed, eq. 17)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from pmwmix._types import Array
from pmwmix.likelihood.general.partials import partials

MOST_EFFECTS = 1_000  # of all factors together, whose covariance is one dense matrix
CELLS = 1_000_000  # covariances between linear predictors of rows that are formed in one evaluation
CHUNK = 500_000  # of them at a time


def is_cheap(objective: Any) -> bool:
    """Whether the terms are formed at all."""
    crossing = objective.crossing
    small = crossing.q[0] * crossing.n_units[0] + crossing.n_dense <= MOST_EFFECTS
    return bool(small and objective.structure.n_predictors == 1)


def second_order(objective: Any, point: Any, cells: float = CELLS) -> float:
    """Give the second-order term of the log-likelihood at a point of a `CrossedObjective`.

    Parameters
    ----------
    objective : CrossedObjective
    point : IntegratedPoint
    cells : float
        Where the rows have more pairs, every m-th row stands for all in the sum over pairs.
    """
    s, rows, crossing, k = objective.structure, objective.rows, objective.crossing, point.outcome
    p, t = s.p, s.layout.n_theta
    beta, theta, phi = point.theta[:p], point.theta[p : p + t], point.theta[p + t :]
    A = effect_columns(objective, theta)
    low, high = point.modes[0]
    u = np.concatenate([low[:, : crossing.n_units[0]].ravel(), high[: crossing.n_dense]])
    eta = rows.offset + beta @ np.array(rows.X).reshape(p, len(rows.w)) + A @ u
    found = partials(s.family, s.link, s.n_phi, 4, in_phi=False)(eta, rows.y[k], rows.extra[k], phi)
    l2, l3, l4 = (rows.w * found[f"l{order}"] for order in (2, 3, 4))
    inverse = _inverse(A.T @ (A * -l2[:, None]), crossing.n_units[0] if crossing.q[0] == 1 else 0)
    h, counts = _diagonal(A, inverse), 1.0 if crossing.counts is None else crossing.counts.rows
    slopes, weighted = A.T @ (l3 * h), A.T @ (counts * l3 * h)
    cubes, n = 0.0, len(eta)
    chosen = np.arange(0, n, max(int(np.ceil(n * n / cells)), 1))
    for some in np.array_split(chosen, max(int(len(chosen) * n / CHUNK), 1)):
        across = A @ (A[some] @ inverse).T
        cubes += float((counts * l3) @ (across * across * across @ l3[some]))
    squares = float((counts * l4) @ h**2 + weighted @ inverse @ slopes)
    return squares / 8.0 + cubes * (n / len(chosen)) / 12.0


def _inverse(C: Any, first: int) -> Array:
    """Invert I + C, whose leading block of ``first`` rows is diagonal: effects of one factor meet those of others."""
    M = csr_array(C)
    d, low, high = 1.0 + M.diagonal()[:first], slice(0, first), slice(first, None)
    B = M[low, high].toarray()
    over = B / d[:, None]
    out = np.empty(M.shape)
    out[high, high] = np.linalg.inv(np.eye(M.shape[0] - first) + M[high, high].toarray() - B.T @ over)
    across = over @ out[high, high]
    out[low, high], out[high, low] = -across, -across.T
    out[low, low] = across @ over.T
    out[range(first), range(first)] += 1.0 / d
    return out


def _diagonal(A: Any, inverse: Array) -> Array:
    """Give a'M⁻¹a of every row; each has as many entries as there are random terms."""
    n = A.shape[0]
    place, value = A.indices.reshape(n, -1), A.data.reshape(n, -1)
    out = np.zeros(n)
    for a in range(place.shape[1]):
        for b in range(place.shape[1]):
            out += value[:, a] * value[:, b] * inverse[place[:, a], place[:, b]]
    return out


def effect_columns(objective: Any, theta: Array) -> Any:
    """Random columns times Λ as a sparse matrix, (n, all effects), in the order of the modes."""
    crossing, rows = objective.crossing, objective.rows
    n, first, start = len(rows.w), 0, 0
    values, places = [], []
    for Lambda, index, G, q in zip(
        objective.structure.layout.unpack(theta), crossing.index, crossing.n_units, crossing.q, strict=True
    ):
        values += list(Lambda.T @ np.array(rows.Z[first : first + q]))
        places += [start + c * G + index for c in range(q)]
        first, start = first + q, start + q * G
    entries = (np.concatenate(values), (np.tile(np.arange(n), len(places)), np.concatenate(places)))
    return csr_array(entries, shape=(n, start))
