"""Several outcomes of one row, each with a family and a link of its own, independent given their predictors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError, OptionError, near
from pmwmix.families._base import FAMILIES, Family
from pmwmix.families._member import Member
from pmwmix.families._residualpairs import covariance, linear_density, n_pairs, reported_pairs
from pmwmix.links import Link
from pmwmix.spec.outcome import Distribution, Outcome, Response
from pmwmix.spec.predictors import Predictor

STEM = "joint"


class Joint(Family):
    """The product of the densities of several outcomes, of those that a row has.

    Parameters
    ----------
    members : tuple of Member

    Notes
    -----
    log f = sum over the outcomes a that the row has of log f_a(y_a; eta_a, phi_a) (outcomes, eq. 11): given the random
    effects outcomes are independent, as in Gueorguieva (2001) [1]_, but for gaussian ones with the identity link, whose
    residuals have a free covariance matrix (`_residualpairs`). An ordinal outcome has an intercept, which is minus its
    first threshold, and thresholds counted from that. ``extra`` holds for every outcome whether the row has it, its
    value, and its further columns.

    References
    ----------
    .. [1] Gueorguieva, R. (2001). A multivariate generalized linear mixed model for joint modelling of clustered
       outcomes in the exponential family. Statistical Modelling, 1(3), 177-193. doi: 10.1177/1471082X0100100302
    """

    is_mixture = True
    is_sampled = False

    def __init__(self, members: tuple[Member, ...]) -> None:
        self.members = members
        self.name = STEM + json.dumps(
            [[m.outcome, m.family, m.link, *([] if m.labels is None else [list(m.labels)])] for m in members],
            ensure_ascii=False,
        )
        self.links, self.first = (members[0].link,), members[0].outcome
        self.further = tuple(Predictor(m.outcome, (m.link,)) for m in members[1:])
        self.n_extra = sum(2 + m.parts[0].n_extra for m in members)
        self.has_scale = any(m.parts[0].has_scale for m in members)

    def __reduce__(self) -> Any:
        return FAMILIES.__getitem__, (self.name,)

    @property
    def distribution_name(self) -> str:
        """The same whatever the categories are."""
        return ", ".join(f"{m.family} ({m.link})" for m in self.members)

    @property
    def shown_name(self) -> str:
        """Name the families, ``"gaussian, binomial"``."""
        return ", ".join(m.family for m in self.members)

    @property
    def is_open(self) -> bool:
        """Whether the categories are not known yet."""
        return any(m.labels is None for m in self.members)

    @property
    def linear(self) -> tuple[int, ...]:
        """Numbers of the outcomes whose residuals are correlated."""
        found = tuple(k for k, m in enumerate(self.members) if m.has_closed_form)
        return found if len(found) > 1 else ()

    def predictor_words(self, name: str) -> str:
        """Name the outcome with its family and link."""
        m = next(m for m in self.members if m.outcome == name)
        return f"{name} ({m.family}, {m.link})"

    def settled(self, outcome: Outcome, constant: bool = False) -> Family:
        """Give the family of the categories that occur."""
        pairs = zip(self.members, (outcome, *outcome.beside), strict=True)
        return Joint(tuple(replace(m, labels=replace(m, labels=None).read(one)[1].categories) for m, one in pairs))

    def is_quadratic(self, link: Link, moving: Sequence[int]) -> bool:
        """Whether all outcomes that have random effects are gaussian with the identity link."""
        return all(self.members[k].has_closed_form for k in moving)

    def has_one_peak(self, link: Link) -> bool:
        """Whether each of them has one: their sum in predictors of their own then has one too."""
        return all(m.parts[0].has_one_peak(m.parts[1]) for m in self.members)

    def read(self, outcome: Outcome) -> Response:
        """Read every outcome; rows may lack all but one."""
        extra: list[Array] = []
        constant, notes, first = np.zeros(len(outcome.values)), [], np.zeros(0)
        for m, one in zip(self.members, (outcome, *outcome.beside), strict=True):
            seen, found = m.read(one)
            y, more, part = m.spread(seen, found)
            first = first if len(extra) else y
            constant = constant + part
            extra += [seen.astype(float), y, *more]
            notes += list(found.notes)
            if not seen.all():
                lost = int((~seen).sum())
                notes.append(f"Rows without {m.outcome!r}, which count for the other outcomes: {lost} of {len(seen)}")
        return Response(first, tuple(extra), constant, (), tuple(notes))

    def split(self, extra: Sequence[Any], phi: Any) -> Iterator[tuple[Member, Any, Any, tuple[Any, ...], Any]]:
        """Yield every outcome: whether rows have it, its values, further columns, and all parameters of its family."""
        at, place = 0, 0
        for m in self.members:
            n, size = m.parts[0].n_extra, m.n_phi
            yield m, extra[at], extra[at + 1], tuple(extra[at + 2 : at + 2 + n]), m.whole(phi[place : place + size])
            at, place = at + 2 + n, place + size

    def seen(self, response: Response) -> list[Array]:
        """Say of every outcome which rows (n,) have it."""
        return [seen for _, seen, *_ in self.split(response.extra, np.zeros(self.n_phi(response)))]

    def responses(self, response: Response) -> list[tuple[Array, Response]]:
        """Give every outcome of the rows that have it: which they are (n,), and what its family read."""
        phi, out = np.zeros(self.n_phi(response)), []
        for m, seen, y, more, _ in self.split(response.extra, phi):
            mine = seen > 0.0
            nothing = np.zeros(int(mine.sum()))
            out.append((mine, Response(y[mine], tuple(one[mine] for one in more), nothing, m.labels or ())))
        return out

    def redrawn(self, response: Response, drawn: Array) -> Response:
        """Give the response with other outcomes (m, n), NaN where rows lack them."""
        extra: list[Array] = []
        found = self.split(response.extra, np.zeros(self.n_phi(response)))
        for (m, seen, _, more, _), y in zip(found, drawn, strict=True):
            mine, family = seen > 0.0, m.parts[0]
            first = y[mine][0]
            again = more
            if more and not family.per_trial:
                again = m.spread(mine, family.read(Outcome(m.outcome, y[mine])))[1]
            extra += [seen, np.where(mine, y, first), *again]
        return replace(response, y=extra[1], extra=tuple(extra))

    def values(self, response: Response) -> Array:
        """Give the outcomes (m, n), NaN where rows lack them."""
        found = self.split(response.extra, np.zeros(self.n_phi(response)))
        return np.array([np.where(seen > 0.0, y, np.nan) for _, seen, y, _, _ in found])

    def n_phi(self, response: Response) -> int:
        """Give the number of parameters of all families, and of the pairs of correlated residuals."""
        return sum(m.n_phi for m in self.members) + n_pairs(len(self.linear))

    def log_density_of(
        self, links: Sequence[Link], y: Any, extra: tuple[Any, ...], etas: Sequence[Any], phi: list[Any]
    ) -> Any:
        """Log-density of the outcomes that a row has, without the constant."""
        total: Any = 0.0
        gaps, own = [], []
        for k, (m, seen, values, more, mine) in enumerate(self.split(extra, list(phi))):
            if k in self.linear:
                gaps.append((seen, values - etas[k]))
                own.append(mine[0])
            else:
                total = total + seen * m.parts[0].log_density(m.parts[1], values, more, etas[k], mine)
        return total + linear_density(gaps, own, list(phi)[len(phi) - n_pairs(len(gaps)) :]) if gaps else total

    def starts(self, links: Sequence[Link], response: Response, w: Array) -> tuple[list[Array], Array]:
        """Start every outcome by itself, with uncorrelated residuals."""
        etas, phis = [], []
        for m, (mine, own) in zip(self.members, self.responses(response), strict=True):
            family, link = m.parts
            eta, phi = family.start(link, own, w[mine])
            if family.has_thresholds:
                cuts = np.array(list(family.parameters(phi)[0].values()))
                eta, phi = eta - cuts[0], family.with_thresholds(phi, cuts - cuts[0])[1:]
            whole = np.full(len(mine), float(np.average(eta, weights=w[mine])))
            whole[mine] = eta
            etas.append(whole)
            phis.append(phi)
        return etas, np.concatenate([*phis, np.zeros(n_pairs(len(self.linear)))])

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give that of the first outcome, and all parameters."""
        etas, phi = self.starts([link] * len(self.members), response, w)
        return etas[0], phi

    def units(self, links: Sequence[Link], response: Response) -> list[float]:
        """Give the size of a large effect on every outcome's linear predictor."""
        every = zip(self.members, self.responses(response), strict=True)
        return [m.parts[0].unit(m.parts[1], own) for m, (_, own) in every]

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give those of every family after the outcome's name, ``read.sigma``, then ``cor(math, read)``.

        Thresholds bear the categories that they part, ``rating.good|excellent``, and are counted from the first.
        """
        out: dict[str, float] = {}
        J, place, linear = np.zeros((len(phi), len(phi))), 0, []
        for k, m in enumerate(self.members):
            size, family = m.n_phi, m.parts[0]
            mine = slice(place, place + size)
            named, slopes = family.parameters(np.asarray(m.whole(phi[mine])))
            skip = int(family.has_thresholds)
            cuts = [f"{a}|{b}" for a, b in pairwise(m.labels or ())]
            names = cuts if skip else list(named)
            out |= {f"{m.outcome}.{names[j]}": value for j, value in enumerate(named.values()) if j >= skip}
            J[mine, mine] = slopes[skip:, skip:]
            linear += [place] if k in self.linear else []
            place += size
        if linear:
            names = [self.members[k].outcome for k in self.linear]
            own = [*linear, *range(place, len(phi))]
            more, slopes = reported_pairs(names, phi[own])
            J[np.ix_(own, own)] = slopes
            out |= more
        return out, J

    def residual_covariance(self, phi: Array) -> Array:
        """Residual covariance matrix (g, g) of the outcomes in `linear`."""
        places = np.cumsum([0, *(m.n_phi for m in self.members)])
        return covariance(phi[[*places[list(self.linear)], *range(places[-1], len(phi))]], len(self.linear))

    def scale(self, phi: Array) -> float:
        """Give NaN: there is not one for all outcomes."""
        return float("nan")

    @property
    def mean_names(self) -> tuple[str, ...]:
        """Names of the columns of `mean_of`: outcomes, those with categories once for each, ``rating[good]``."""
        out: list[str] = []
        for m in self.members:
            out += [f"{m.outcome}[{c}]" for c in m.labels or ()] if m.parts[0].is_categorical else [m.outcome]
        return tuple(out)

    @property
    def has_residuals(self) -> bool:
        """Whether all outcomes have a mean to be compared with."""
        return not any(m.parts[0].is_categorical for m in self.members)

    def of_each(self, phi: Array) -> list[Array]:
        """Give all parameters of every outcome's family; of correlated residuals each with its standard deviation."""
        found = [np.asarray(mine) for *_, mine in self.split([None] * self.n_extra, np.asarray(phi))]
        if self.linear:
            for k, variance in zip(self.linear, np.diag(self.residual_covariance(np.asarray(phi))), strict=True):
                found[k] = np.array([0.5 * np.log(variance)])
        return found

    def mean_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> Array:
        """Give the means of all outcomes side by side (n, c), see `mean_names`."""
        every = zip(self.members, etas, self.of_each(phi), strict=True)
        return np.column_stack([m.parts[0].mean(m.parts[1], eta, mine) for m, eta, mine in every])

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give NaN: every outcome has its own, `latent_variances`."""
        return float("nan")

    def latent_variances(self, response: Response, w: Array, phi: Array) -> Array:
        """Level-1 variance of every outcome (m,) on the scale of its linear predictor (theory, eq. 53)."""
        out = []
        for m, (mine, own), its in zip(self.members, self.responses(response), self.of_each(phi), strict=True):
            mean = float(np.average(own.y / m.parts[0].trials(own), weights=w[mine]))
            out.append(m.parts[0].latent_variance(m.parts[1], mean, its))
        return np.array(out)

    def drawable_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> tuple[list[Array], Array]:
        """Leave them: `draw_of` asks every family."""
        return list(etas), phi

    def draw_of(
        self,
        rng: np.random.Generator,
        links: Sequence[Link],
        etas: Sequence[Array],
        phi: Array,
        extra: tuple[Array, ...],
    ) -> Array:
        """Draw all outcomes (m, n), NaN where rows lack them."""
        out, parts = np.zeros((len(self.members), len(etas[0]))), list(self.split(extra, np.asarray(phi)))
        for k, (m, _, _, more, _) in enumerate(parts):
            family, link = m.parts
            eta, its = family.drawable(link, etas[k], self.of_each(phi)[k])
            out[k] = family.draw(rng, link, eta, its, more)
        if self.linear:
            root = np.linalg.cholesky(self.residual_covariance(np.asarray(phi)))
            at = list(self.linear)
            out[at] = np.array(etas)[at] + root @ rng.standard_normal((len(at), out.shape[1]))
        return np.where(np.array([seen for _, seen, *_ in parts]) > 0.0, out, np.nan)


@cache
def with_members(name: str) -> Joint | None:
    """Make the family of such a name, ``'joint[["read", "gaussian", "identity"], ...]'``; None if it is none."""
    if not name.startswith(STEM):
        return None
    try:
        listed = json.loads(name[len(STEM) :])
        members = tuple(Member(*one[:3], *(tuple(labels) for labels in one[3:])) for one in listed)
        known = all(isinstance(part, str) for m in members for part in (m.outcome, m.family, m.link, *(m.labels or ())))
        known = known and len({m.outcome for m in members}) == len(members) > 1
        known = known and all(len(m.parts[0].predictors) == 1 and m.link in m.parts[0].links for m in members)
        return Joint(members) if known else None
    except (ValueError, TypeError, LookupError, RecursionError, OptionError):  # of a file that was changed
        return None


def joint_distribution(
    outcomes: Sequence[str], families: Sequence[str | None], links: Sequence[str | None]
) -> Distribution:
    """Say what several outcomes are; without a family where all are linear, which have a likelihood of their own.

    Raises
    ------
    OptionError, NotSupportedError
        If a family or link is unknown, or a family has several linear predictors itself.
    """
    members = []
    for outcome, name, asked in zip(outcomes, families, links, strict=True):
        family = FAMILIES[str(name)]
        if family.is_open or len(family.predictors) > 1:
            raise NotSupportedError(
                f"Of several outcomes each has one linear predictor. The family {family.shown_name!r} of {outcome!r} "
                f"has more. Fit {outcome!r} by itself, or use a family with one."
            )
        link = family.links[0] if asked is None else asked
        if link not in family.links:
            raise OptionError(
                f"A family has links of its own. {name!r} of {outcome!r} has no link {link!r}."
                f"{near(link, family.links)} Use one of {', '.join(map(repr, family.links))}."
            )
        members.append(Member(outcome, family.name, link))
    if all(m.has_closed_form for m in members):
        return Distribution(several=True)
    found: Joint = FAMILIES[Joint(tuple(members)).name]
    return Distribution(
        found.name,
        found.links[0],
        found.read,
        False,
        found.has_scale,
        further=found.further,
        first=found.first,
        settle=found.settled,
        several=True,
    )
