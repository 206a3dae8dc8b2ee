"""A family one of whose further parameters has a linear predictor of its own, with a log link: ``sigma ~ x``.

Smyth (1989), generalised linear models with varying dispersion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytensor.tensor as pt

from pmwmix._types import Array
from pmwmix.errors import OptionError, near
from pmwmix.families._base import FAMILIES, Family
from pmwmix.links import Link
from pmwmix.spec.outcome import Outcome, Response
from pmwmix.spec.predictors import Predictor

EDGE = 30.0  # of log parameters: no outcome tells such from larger ones
NAME = re.compile(r"(?P<family>[\w-]+(?:\([\d.]+\))?)\((?P<parameters>\w+(?:,\w+)*)\)")


def with_parameters(family: Family, parameters: Sequence[str]) -> Family:
    """Give the family in which these parameters have linear predictors: ``"gaussian(sigma)"`` for sigma.

    Raises
    ------
    OptionError
        If the family has no such parameter.
    """
    known = [*(one.name for one in family.further), *family.formulas, *family.open_formulas]
    for name in parameters:
        if name not in known:
            has = f"has formulas for {', '.join(known)}" if known else "has no parameter with a formula"
            raise OptionError(
                f"A formula after the first is about a parameter of the family. {name!r} is none: family="
                f"{family.name!r} {has}.{near(name, known)} Use another family, or leave the formula out."
            )
    for name in family.open_formulas.keys() & set(parameters):
        opened: Family = FAMILIES[family.open_formulas[name]]
        return opened
    own = [name for name in family.formulas if name in parameters]
    found: Family = FAMILIES[f"{family.name}({','.join(own)})"] if own else family
    return found


@cache
def with_formulas(name: str) -> Modelled | None:
    """Make the family of such a name; None if there is none."""
    match = NAME.fullmatch(name)
    if match is None or (match["family"] not in FAMILIES and not match["family"].endswith(")")):
        return None
    family, parameters = FAMILIES[match["family"]], tuple(match["parameters"].split(","))
    known = len(set(parameters)) == len(parameters) and set(parameters) <= set(family.formulas)
    return Modelled(name, family, parameters) if known else None


class Modelled(Family):
    """The family ``base`` with a linear predictor for each of some of its parameters, on the log scale.

    Parameters
    ----------
    name : str
    base : Family
    modelled : tuple of str
        Names among ``base.formulas``.

    Notes
    -----
    The density is that of ``base`` with log(parameter) = eta_r in every row (Smyth 1989 [1]_, section 2).

    References
    ----------
    .. [1] Smyth, G. K. (1989). Generalized linear models with varying dispersion. J. R. Stat. Soc. B, 51(1), 47-60.
       doi: 10.1111/j.2517-6161.1989.tb01747.x
    """

    def __init__(self, name: str, base: Family, modelled: tuple[str, ...]) -> None:
        self.name, self.base, self.modelled = name, base, modelled
        self.links, self.n_extra, self.has_scale = base.links, base.n_extra, base.has_scale
        self.per_trial, self.is_mixture = base.per_trial, base.is_mixture
        self.mean_depends_on_parameters = base.mean_depends_on_parameters
        self.further = (*base.further, *(Predictor(one, ("log",), "1") for one in modelled))
        self.formulas = base.formulas
        self.places = {base.formulas[one][0]: (k, base.formulas[one][1]) for k, one in enumerate(modelled)}

    def __reduce__(self) -> Any:
        return FAMILIES.__getitem__, (self.name,)

    @property
    def distribution_name(self) -> str:
        """As the base."""
        return self.base.distribution_name

    def _phi(self, etas: Sequence[Any], phi: Any) -> list[Any]:
        """Put the linear predictors of the parameters among the parameters of ``base``."""
        own, rest = etas[len(self.base.predictors) :], iter(phi)
        n = len(self.places) + len(phi)
        return [self.places[k][1] * own[self.places[k][0]] if k in self.places else next(rest) for k in range(n)]

    def _rows(self, etas: Sequence[Array], phi: Array) -> tuple[list[Array], Array]:
        """Linear predictors of ``base`` and its parameters in every row (n_phi, n)."""
        return [*etas[: len(self.base.predictors)]], np.array(np.broadcast_arrays(*self._phi(etas, phi)))

    def has_linear_mean(self, link: Link) -> bool:
        """As the base."""
        return self.base.has_linear_mean(link)

    def is_quadratic(self, link: Link, moving: Sequence[int]) -> bool:
        """Say so of a linear model none of whose parameters has random effects."""
        return self.base.has_closed_form(link) and not any(moving)

    def has_one_peak(self, link: Link) -> bool:
        """Nothing is known of several predictors together."""
        return False

    def read(self, outcome: Outcome) -> Response:
        """As the base."""
        return self.base.read(outcome)

    def trials(self, response: Response) -> Array:
        """As the base."""
        return self.base.trials(response)

    def mean_words(self, outcome: str, written: str, categories: tuple[str, ...]) -> str:
        """As the base."""
        return self.base.mean_words(outcome, written, categories)

    def n_phi(self, response: Response) -> int:
        """Give the number of parameters without a formula."""
        return self.base.n_phi(response) - len(self.modelled)

    def log_density_of(
        self, links: Sequence[Link], y: Any, extra: tuple[Any, ...], etas: Sequence[Any], phi: list[Any]
    ) -> Any:
        """Log-density of the base, without the constant."""
        n = len(self.base.predictors)
        own = [pt.clip(eta, -EDGE, EDGE) for eta in etas[n:]]  # beyond, the density no longer changes
        return self.base.log_density_of(links[:n], y, extra, etas[:n], self._phi([*etas[:n], *own], phi))

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """As the base."""
        eta, phi = self.base.start(link, response, w)
        return eta, np.delete(phi, list(self.places))

    def unit(self, link: Link, response: Response) -> float:
        """As the base."""
        return self.base.unit(link, response)

    def starts(self, links: Sequence[Link], response: Response, w: Array) -> tuple[list[Array], Array]:
        """Start every parameter from that of the base, the same in all rows."""
        etas, phi = self.base.starts(links[: len(self.base.predictors)], response, w)
        own = sorted((place, sign * phi[k]) for k, (place, sign) in self.places.items())
        return [*etas, *(np.full(len(etas[0]), value) for _, value in own)], np.delete(phi, list(self.places))

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give those without a formula."""
        full = np.zeros(len(phi) + len(self.places))
        rest = [k for k in range(len(full)) if k not in self.places]
        full[rest] = phi
        named, jacobian = self.base.parameters(full)
        return {name: value for k, (name, value) in enumerate(named.items()) if k in rest}, jacobian[np.ix_(rest, rest)]

    def scale(self, phi: Array) -> float:
        """Give NaN: there is not one for all rows."""
        return float("nan")

    def mean_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> Array:
        """As the base."""
        return self.base.mean_of(links, *self._rows(etas, phi))

    def variance_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array, extra: tuple[Array, ...]) -> Array:
        """As the base."""
        return self.base.variance_of(links, *self._rows(etas, phi), extra)

    def deviance_of(
        self, links: Sequence[Link], y: Array, etas: Sequence[Array], phi: Array, extra: tuple[Array, ...]
    ) -> Array:
        """As the base."""
        own, every = self._rows(etas, phi)
        return self.base.deviance_of(links, y, own, every, extra)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Give NaN: there is not one for all rows."""
        return float("nan")

    def drawable_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> tuple[list[Array], Array]:
        """As the base; parameters that have formulas are bounded while outcomes are drawn."""
        own, _ = self.base.drawable_of(links, etas[: len(self.base.predictors)], self._phi_at_zero(phi))
        return [*own, *etas[len(self.base.predictors) :]], phi

    def _phi_at_zero(self, phi: Array) -> Array:
        full = np.zeros((len(phi) + len(self.places), *np.shape(phi)[1:]))
        full[[k for k in range(len(full)) if k not in self.places]] = phi
        return full

    def draw_of(
        self,
        rng: np.random.Generator,
        links: Sequence[Link],
        etas: Sequence[Array],
        phi: Array,
        extra: tuple[Array, ...],
    ) -> Array:
        """Draw outcomes of the base, its parameters bounded as they are there."""
        own, every = self._rows(etas, phi)
        own, every = self.base.drawable_of(links, own, every)
        return self.base.draw_of(rng, links, own, every, extra)
