"""Random effects of generalised models drawn from their conditional distribution, one unit beside the other.

Given the effects of the levels above, the units of a level are independent of each other (theory, eq. 41): each needs
a draw from a density in as many dimensions as it has effects. It is known up to a constant, all units at once, and is
drawn from by Metropolis and Hastings' independence sampler. Densities come from the families' own graphs, the rest is
numpy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from pmwmix._types import Array
from pmwmix.errors import PmwmixWarning
from pmwmix.fitting.problem import Problem
from pmwmix.interrupt import side_by_side
from pmwmix.likelihood.linear.recursion import Factored, UnitTree, factor, solve_upper, stack_Lambdas, walk_down
from pmwmix.sample.draws.conditional_rows import RowsOfUnits

SWEEPS = 15  # proposals per unit after the first
MANY = 4  # times as many proposals where a density may have several peaks
DF = 6.0  # of the proposals: tails heavier than those of any conditional density, which are normal at most
CELLS = 400_000  # proposals or nodes x rows of one call
NEAR = 0.2  # conditional standard deviations from which one Newton step lands close enough: a centre need not be exact
SHORTEST = 1e-6  # part of a Newton step
MAX_STEPS = 60
NEVER = -1e300  # log-density where it cannot be computed
AGAIN = 4  # times as many sweeps where units stay at their first proposals
STUCK = 0.01  # chance that a unit never left its first proposal at which a warning is due


def draw_general(problem: Problem, k: int, psi: Array, rng: np.random.Generator, sweeps: int = SWEEPS) -> list[Array]:
    """Draw the random effects of a generalised model from their conditional distribution given data and parameters.

    From the top level down, each level given the effects drawn above it. The log-density of the whitened effects u of
    a unit, given those above, is

        -|u|²/2 + sum over its members of w × (log-density of the member given u and the effects above),

    a member being a row or a unit of the level below with its own effects integrated out; w are conditional weights, so
    that a unit's own weight does not enter, as in the modes. Proposals are independent: Student's t with 6 degrees of
    freedom about the mode, scaled by the joint curvature there. The first is the state; ``sweeps`` times (half as often
    above the lowest level) a new one replaces it with the probability of Metropolis and Hastings, unit by unit. As the
    proposals' tails are heavier than the density's, the distribution of a draw comes geometrically near to the target:
    the distance shrinks by a factor of about one minus the share of accepted proposals, 0.5 to 0.95, per sweep.

    Where a density may have several peaks (Student's t, the cauchit link, the gaussian family with another link than
    the identity, inverse and sqrt links) half of the proposals come from the normal distribution of the effects
    instead, and there are four times as many. Two narrow peaks far apart may still be missed with several effects.

    With one grouping level nothing else is approximated. With several, the effects of members are integrated out by
    adaptive quadrature with at least 7 nodes for one effect per unit, 5² for two, 3³ for three (more if the problem has
    more) and Laplace's approximation beyond, about modes found anew for every proposal.

    Parameters
    ----------
    problem : Problem
    k : int
        Outcome.
    psi : ndarray, shape (S, P)
        Draws of (beta, theta, phi), standardised scale.
    rng : numpy.random.Generator
    sweeps : int
        Proposals per unit after the first, at the lowest level.

    Returns
    -------
    list of ndarray, each (S, G_l, q_l)
        Bottom-up like the levels, on the raw scale, units in the order of the level's labels; independent over draws.

    Warns
    -----
    PmwmixWarning
        If the proposals of a unit are so rarely accepted that its draws cannot be relied on, four times as many sweeps
        included, which are tried first.
    """
    assert not problem.objective.crossed  # theirs are sampled with the parameters
    if not problem.layout.q:
        return []
    psi = np.asarray(psi, dtype=float)
    data = RowsOfUnits(problem, k)
    sweeps *= MANY if data.prior_share else 1
    seeds = rng.integers(2**63, size=len(psi))  # a generator per draw: the order in which threads end plays no part
    middle = Given.at(data, psi.mean(axis=0))
    start = middle.find_centre(data.n_levels - 1, middle.eta0, data.zeros()).u
    effects, accepted = _all_draws(data, psi, start, seeds, sweeps)
    if n_stuck(accepted, sweeps):
        sweeps *= AGAIN
        effects, accepted = _all_draws(data, psi, start, seeds, sweeps)
        warn_of_stuck(accepted, sweeps)
    return [b.transpose(0, 2, 1) @ A.T for b, A in zip(effects, problem.transform.A_z, strict=True)]


def _all_draws(
    data: RowsOfUnits, psi: Array, start: list[Array], seeds: Array, sweeps: int
) -> tuple[list[Array], list[Array]]:
    """Effects (S, q_l, G_l) and shares of accepted proposals (S, G_l) of every level."""

    def one(number: int) -> tuple[list[Array], list[Array]]:
        return Given.at(data, psi[number]).draw(start, np.random.default_rng(seeds[number]), sweeps)

    parts = [one(0)]  # compiles
    parts += side_by_side(one, range(1, len(psi)), 2 if data.first.engine == "jax" else 1)
    levels = range(data.n_levels)
    return tuple([np.array([part[what][level] for part in parts]) for level in levels] for what in (0, 1))  # type: ignore[return-value]


def n_sweeps(level: int, sweeps: int) -> int:
    """Proposals after the first: half as many above the lowest level, where each costs many times as much."""
    return sweeps if level == 0 else (sweeps + 1) // 2


def n_stuck(accepted: Sequence[Array], sweeps: int) -> int:
    """Count units whose shares of accepted proposals (S, G) are too small for so many sweeps, chance allowed for."""
    stuck = 0
    for level, part in enumerate(accepted):
        number = max(n_sweeps(level, sweeps), 1)
        doubt = 2.0 / np.sqrt(number * len(part))  # four standard errors of a share, at most
        stuck += int(((1.0 - np.minimum(part.mean(axis=0) + doubt, 1.0)) ** number > STUCK).sum())
    return stuck


def warn_of_stuck(accepted: Sequence[Array], sweeps: int) -> None:
    """Say how many units may be far from their distribution."""
    stuck = n_stuck(accepted, sweeps)
    if stuck:
        warnings.warn(
            f"Random effects of {stuck} units may not follow their conditional distribution, which is far from normal. "
            f"Of the worst unit a share of {min(part.mean(axis=0).min() for part in accepted):.2g} of the proposals is "
            "accepted. Read their draws with caution; fixed effects and variances are not concerned.",
            PmwmixWarning,
            stacklevel=3,
        )


@dataclass(frozen=True)
class Centre:
    """Joint modes of the effects of some levels given those above, and the curvature there.

    Parameters
    ----------
    u : list of ndarray, each (q_l, K, G_l)
        Whitened, bottom-up; of K sets of effects above.
    factored : list of Factored
    """

    u: list[Array]
    factored: list[Factored]

    def part(self, which: slice) -> Centre:
        """Give some of the K; all if there is only one, which stands for any number."""
        if self.u[0].shape[1] == 1:
            return self
        return self._each(lambda values: values[..., which, :])

    def repeat(self, times: int) -> Centre:
        """Repeat each of the K."""
        return self._each(lambda values: np.repeat(values, times, axis=-2))

    def _each(self, change: Callable[[Array], Array]) -> Centre:
        factored = [Factored(change(one.R), change(one.upper), change(one.B)) for one in self.factored]
        return Centre([change(u) for u in self.u], factored)


@dataclass(frozen=True)
class Look:
    """The joint log-density J (K, G) per topmost unit, and per lowest unit what Newton's step needs."""

    J: Array
    C: Array
    rhs: Array


@dataclass(frozen=True)
class Given:
    """The model given one draw of the parameters. Levels are counted from 0, the lowest.

    Parameters
    ----------
    data : RowsOfUnits
    eta0 : ndarray, shape (1, n)
        Fixed part and offset.
    Lambdas : list of ndarray, each (1, q_l, q_l)
    phi : ndarray, shape (n_phi,)
    """

    data: RowsOfUnits
    eta0: Array
    Lambdas: list[Array]
    phi: Array

    @classmethod
    def at(cls, data: RowsOfUnits, psi: Array) -> Given:
        """Set the parameters (P,)."""
        layout, p, rows = data.problem.layout, data.problem.structure.p, data.problem.objective.rows
        eta = np.array(rows.offset, dtype=float)
        for value, column in zip(psi[:p], rows.X, strict=True):
            eta += value * column
        t = p + layout.n_theta
        return cls(data, eta[data.order][None], stack_Lambdas(layout, psi[None, p:t]), psi[t:])

    def draw(self, start: list[Array], rng: np.random.Generator, sweeps: int) -> tuple[list[Array], list[Array]]:
        """Draw all levels; ``start`` is where modes are searched.

        Returns
        -------
        list of ndarray, each (q_l, G_l)
            Effects b, bottom-up, standardised scale.
        list of ndarray, each (G_l,)
            Share of proposals that were accepted.
        """
        eta = self.eta0
        effects: list[Array] = []
        accepted: list[Array] = []
        for level in range(self.data.n_levels - 1, -1, -1):
            centre = self.find_centre(level, eta, start[: level + 1])
            u, share = self.choose(level, eta, centre, rng, n_sweeps(level, sweeps))
            b = self.b_of(level, u)
            effects.insert(0, b[:, 0])
            accepted.insert(0, share)
            if level > 0:
                eta = eta + self.data.part(level, b)
                start = self.follow(level, centre, b)
        return effects, accepted

    def choose(
        self, level: int, eta: Array, centre: Centre, rng: np.random.Generator, sweeps: int
    ) -> tuple[Array, Array]:
        """Run the independence sampler of every unit of a level (q, 1, G), and give the share of acceptances (G,)."""
        q, shape = self.data.q[level], (sweeps + 1, len(self.data.tree.w[level]))
        R, share = centre.factored[level].R, self.data.prior_share
        normal = rng.standard_normal((q, *shape))
        u = centre.u[level] + solve_upper(R, normal / np.sqrt(rng.chisquare(DF, shape) / DF))
        if share:
            other = rng.random(shape) < share
            other[0] = False  # a chain does not begin where the density is next to nothing
            u = np.where(other, normal, u)
        log_ratio = self.value(level, u, eta, centre) - log_proposal(u, centre.u[level], R, share)
        log_ratio = np.where(np.isfinite(log_ratio), log_ratio, NEVER)
        chance = -rng.standard_exponential(shape)  # logarithms of uniform numbers
        state, now, moved = np.zeros(shape[1], dtype=np.int64), log_ratio[0], np.zeros(shape[1])
        for number in range(1, sweeps + 1):
            yes = chance[number] + now < log_ratio[number]
            state, now, moved = np.where(yes, number, state), np.where(yes, log_ratio[number], now), moved + yes
        return np.take_along_axis(u, state[None, None], axis=1), moved / max(sweeps, 1)

    def value(self, level: int, u: Array, eta: Array, centre: Centre) -> Array:
        """Log-density of effects (q, K, G) of a level given those above, lower ones integrated out (K, G).

        K is that of ``eta`` and ``centre`` too, or they have 1.
        """
        data, b = self.data, self.b_of(level, u)
        out = -0.5 * (u**2).sum(axis=0)
        nodes = int(np.prod([len(logs) for _, logs in data.rules[:level]]))
        step = max(CELLS // (nodes * eta.shape[-1]), 1)
        for first in range(0, len(out), step):
            part = slice(first, min(first + step, len(out)))
            here = (eta if len(eta) == 1 else eta[part]) + data.part(level, b[:, part])
            if level == 0:
                density = self.data.first(here, [self.phi, *data.outcome])["density"]
                out[part] += data.sums(data.weighted(np.asarray(density)))
            else:
                start = self.follow(level, centre.part(part), b[:, part])
                out[part] += data.tree.lift(self.log_integral(level - 1, here, start), level - 1)
        return out

    def log_integral(self, level: int, eta: Array, start: list[Array]) -> Array:
        """Log of the integral over all effects up to a level given those above (K, G) (theory, eq. 49).

        Of K linear predictors (K, n) of the levels above, each with its own ``start``.
        """
        nodes, logs = self.data.rules[level]
        centre, n_nodes = self.find_centre(level, eta, start), len(logs)
        if len(eta) > 1:
            centre, eta = centre.repeat(n_nodes), np.repeat(eta, n_nodes, axis=0)
        R = centre.factored[level].R
        places = np.tile(nodes, max(len(eta) // n_nodes, 1))
        u = centre.u[level] + solve_upper(R, places[:, :, None])
        values = self.value(level, u, eta, centre)
        values = values.reshape(-1, n_nodes, values.shape[-1]) + logs[:, None]
        logdet = sum(np.log(diagonal) for diagonal in np.einsum("iikg->ikg", R))
        top = values.max(axis=1)
        return top + np.log(np.exp(values - top[:, None]).sum(axis=1)) - logdet[::n_nodes]

    def follow(self, level: int, centre: Centre, b: Array) -> list[Array]:
        """Move the modes of lower levels along with effects b (q, 1, G) of a level (theory, eq. 48)."""
        tree = self.data.tree.below(level - 1)
        above = b[..., self.data.tree.parents[level - 1]]
        return [u for u, _ in walk_down(tree, centre.factored[:level], self.Lambdas[:level], above=above)]

    def find_centre(self, level: int, eta: Array, start: list[Array]) -> Centre:
        """Find the joint modes of all effects up to a level given those above: Newton steps, halved where need be.

        A Newton step is the solution of the linear model with the rows' working outcomes (McCullagh & Nelder 1989).
        """
        tree, Lambdas = self.data.tree.below(level), self.Lambdas[: level + 1]
        u, now = start, self.look(level, eta, start)
        length = np.ones(now.J.shape)
        for _ in range(MAX_STEPS):
            factored = factor(tree, Lambdas, now.C, now.rhs)
            target = [part for part, _ in walk_down(tree, factored, Lambdas)]
            far = farthest(tree, factored, u, target) > NEAR
            moving = far & (length > SHORTEST)
            if not moving.any():
                break
            way = self._per_unit(level, np.where(moving, length, 0.0))
            trial = [x + w * (to - x) for x, to, w in zip(u, target, way, strict=True)]
            new = self.look(level, eta, trial)
            better = moving & (new.J >= now.J - 1e-12 * np.abs(now.J))
            keep = self._per_unit(level, better)
            u = [np.where(yes, to, x) for x, to, yes in zip(u, trial, keep, strict=True)]
            C, rhs = (np.where(keep[0], a, b) for a, b in ((new.C, now.C), (new.rhs, now.rhs)))
            now = Look(np.where(better, new.J, now.J), C, rhs)
            length = np.where(better, 1.0, 0.5 * length)
        last = self._per_unit(level, far)
        return Centre([np.where(no, x, to) for x, to, no in zip(u, target, last, strict=True)], factored)

    def look(self, level: int, eta: Array, u: list[Array]) -> Look:
        """Evaluate the joint log-density of all effects up to a level, and what Newton's step needs."""
        data, tree = self.data, self.data.tree
        parts = [data.part(at, self.b_of(at, u[at])) for at in range(level + 1)]
        random = sum(parts[1:], parts[0])
        found = data.second(eta + random, [self.phi, *data.outcome])
        curvature = np.maximum(data.weighted(-np.asarray(found["second"])), 0.0)
        working = curvature * random + data.weighted(np.asarray(found["first"]))
        Q = sum(data.q[: level + 1])
        C = np.empty((Q, Q, len(curvature), len(tree.w[0])))
        for i in range(Q):
            left = data.times_z(i, curvature)
            for j in range(i + 1):
                C[i, j] = C[j, i] = data.sums(data.times_z(j, left))
        rhs = np.array([data.sums(data.times_z(i, working)) for i in range(Q)])
        J = data.sums(data.weighted(np.asarray(found["density"])))
        for at in range(level + 1):
            J = J - 0.5 * (u[at] ** 2).sum(axis=0)
            J = tree.lift(J, at) if at < level else J
        return Look(np.where(np.isfinite(J), J, NEVER), C, rhs)

    def b_of(self, level: int, u: Array) -> Array:
        """Compute b = Λu of a level (q, K, G)."""
        return np.einsum("ij,jkg->ikg", self.Lambdas[level][0], u)

    def _per_unit(self, level: int, values: Array) -> list[Array]:
        """Copy values of the units of a level to the units of every level up to it."""
        return [values[..., index] for index in self.data.to_top[level]]


def log_proposal(u: Array, centre: Array, R: Array, share: float) -> Array:
    """Log-density of proposals (q, K, G) without the part of the constant that all have in common (K, G)."""
    q = len(u)
    t = np.einsum("ijkg,ikg->jkg", R, u - centre)
    local = -0.5 * (DF + q) * np.log1p((t**2).sum(axis=0) / DF)
    if not share:
        return local
    local = local + special.gammaln(0.5 * (DF + q)) - special.gammaln(0.5 * DF) - 0.5 * q * np.log(0.5 * DF)
    local = local + sum(np.log(R[i, i]) for i in range(q))
    return np.logaddexp(np.log1p(-share) + local, np.log(share) - 0.5 * (u**2).sum(axis=0))


def farthest(tree: UnitTree, factored: Sequence[Factored], u: list[Array], target: list[Array]) -> Array:
    """Longest way to go of any unit below each topmost one, in conditional standard deviations (K, G)."""
    out = np.zeros(())
    for level, (one, x, to) in enumerate(zip(factored, u, target, strict=True)):
        way = np.einsum("ijkg,ikg->jkg", one.R, to - x)
        here = np.maximum(out, np.sqrt((way**2).sum(axis=0)))
        out = np.maximum.reduceat(here, tree.starts[level], axis=-1) if level < len(factored) - 1 else here
    return out


__all__ = ["draw_general"]
