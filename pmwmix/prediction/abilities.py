"""What whoever has a family and a link can do: asked here, and of no family by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.likelihood.latent import latent_of
from pmwmix.spec.outcome import Distribution
from pmwmix.spec.random import NORMAL

if TYPE_CHECKING:
    from pmwmix.families import Family
    from pmwmix.links import Link

RATIOS = ("logit", "log", "cloglog")  # links under which exponentiated coefficients are ratios


class Abilities:
    """Base of results, posteriors and single draws: everything that names a family and a link.

    Three questions that today have the same answer, and need not tomorrow; a caller asks the one that it means.
    """

    family: str
    link: str
    outcomes: tuple[str, ...] = ()

    @property
    def random(self) -> str:
        """Distribution of the random effects."""
        return NORMAL

    @property
    def random_shape(self) -> tuple[Array, ...]:
        """Parameters of that distribution on their working scale, per level; empty where it has none."""
        return ()

    def random_rule(self, n: int) -> tuple[Array, Array]:
        """Points and weights of a rule for means over the random part of a row, in units of its standard deviation.

        Parameters
        ----------
        n : int
            Number of points that would do for a normal distribution.

        Raises
        ------
        NotSupportedError
            If the sum of several random effects has another distribution than one of them.
        """
        if self.random != NORMAL and not self.has_one_effect:
            raise NotSupportedError(
                f"Means over random effects that are not normal are built for one grouping level, and discrete ones "
                f"for an intercept alone. This fit has random={self.random!r} and other terms. Use "
                f"predict(conditional=False), at random effects of zero, or fit.simulate()."
            )
        return latent_of(self.random).nodes(n, *self.random_shape[:1])

    @property
    def has_one_effect(self) -> bool:
        """Whether the random part of a row is one effect times what is known of the row."""
        return True

    @property
    def distribution(self) -> tuple[Family, Link]:
        """The family and the link that the names stand for."""
        from pmwmix.families import FAMILIES
        from pmwmix.links import LINKS

        return FAMILIES[self.family], LINKS[self.link]

    @property
    def links(self) -> tuple[Link, ...]:
        """The link of every linear predictor, that of the mean first."""
        from pmwmix.links import LINKS

        family, link = self.distribution
        return (link, *(LINKS[one.links[0]] for one in family.further))

    @property
    def link_without_ratios(self) -> str | None:
        """First link under which exponentiated coefficients are no ratios; None if there is none."""
        every = [link.name for link in self.links] if self.outcomes and not self._is_default else [self.link]
        return next((name for name in every if name not in RATIOS), None)

    @property
    def has_closed_form(self) -> bool:
        """Whether the likelihood is that of a linear model: no quadrature, degrees of freedom, least squares."""
        if self.random != NORMAL:
            return False
        if self._is_default:
            return Distribution.has_closed_form
        family, link = self.distribution
        return family.has_closed_form(link)

    @property
    def kind(self) -> str:
        """What a message calls the model: what was asked for that makes it what it is."""
        if self.random != NORMAL and self._is_default:
            return f"random={self.random!r}"
        if self.outcomes and not self._is_default:
            return f"family={self.distribution[0].shown_name!r}"
        return f"family={self.family!r}, link={self.link!r}"

    @property
    def has_residual_variance(self) -> bool:
        """Whether the last variance component is that of residuals, ``sigma`` its root; else it is a latent one."""
        return self.has_closed_form

    @property
    def has_linear_mean(self) -> bool:
        """Whether the mean of the outcome is the linear predictor, so that coefficients are in units of the outcome."""
        if self._is_default:
            return Distribution.has_closed_form
        family, link = self.distribution
        return family.has_linear_mean(link)

    @property
    def has_thresholds(self) -> bool:
        """Whether the first coefficients are thresholds between ordered categories."""
        return not self._is_default and self.distribution[0].has_thresholds

    @property
    def first_predictor(self) -> str | None:
        """Name of the first linear predictor where that of a category or of one of several outcomes, None of a mean."""
        if self.outcomes:
            return self.outcomes[0]
        return None if self._is_default else self.distribution[0].first

    @property
    def named_predictors(self) -> tuple[str, ...]:
        """Names of the linear predictors whose coefficients bear them: all but that of a mean."""
        if self._is_default:
            return self.outcomes
        return tuple(one.name for one in self.distribution[0].predictors[self.first_predictor is None :])

    @property
    def _is_default(self) -> bool:
        """Whether the answers are known without the families, whose import takes a compiler along."""
        return (self.family, self.link) == (Distribution.family, Distribution.link)


def check_one_outcome(fit: Any, verb: str) -> None:
    """Refuse several outcomes.

    Raises
    ------
    NotSupportedError
    """
    if fit.outcomes:
        raise NotSupportedError(
            f"{verb} is about a single outcome. This fit has {', '.join(map(repr, fit.outcomes))}. Fit the outcome in "
            f"question by itself."
        )


__all__ = ["Abilities", "check_one_outcome"]
