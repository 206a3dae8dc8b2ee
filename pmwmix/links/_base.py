"""What a link is: the way from the linear predictor to the mean, as a graph and in numpy."""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt

from pmwmix._registry import Registry
from pmwmix._types import Array
from pmwmix.links._curves import bounded_exp

LINKS = Registry("link")
FAR = 1e6  # a linear predictor beyond all others


class Link:
    """A link g with g(mean) = eta. Symbolic methods take and give PyTensor variables, the others numpy arrays.

    Every symbolic method is finite with finite first and second derivatives for any eta between -800 and 800.
    """

    name: str
    can_separate = (
        False  # whether a mean at its limit takes coefficients to infinity: no unit of the outcome holds them
    )

    def log_mean(self, eta: Any) -> Any:
        """Logarithm of the mean, symbolic; only for links to positive means."""
        raise NotImplementedError

    def mean_graph(self, eta: Any) -> Any:
        """Mean, symbolic."""
        raise NotImplementedError

    def reciprocal_mean(self, eta: Any) -> Any:
        """1 / mean, symbolic; only for links to positive means."""
        return bounded_exp(-self.log_mean(eta))

    def log_one_plus(self, eta: Any, phi: Any) -> Any:
        """Log (1 + mean / exp(phi)), symbolic; only for links to positive means."""
        return pt.log1p(self.mean_graph(eta) * bounded_exp(-phi))

    def mean(self, eta: Array) -> Array:
        """Mean at eta, elementwise."""
        raise NotImplementedError

    def slope(self, eta: Array) -> Array:
        """Give the derivative of the mean with respect to eta, elementwise."""
        raise NotImplementedError

    def eta(self, mean: Array) -> Array:
        """Linear predictor at a mean inside the range of the link, elementwise."""
        raise NotImplementedError


class ProbabilityLink(Link):
    """A link whose inverse is a distribution function F, so that the mean is a probability.

    ``latent_variance`` is the variance of the distribution F; NaN where it has none.
    """

    latent_variance: float
    can_separate = True

    def log_cdf(self, eta: Any) -> Any:
        """Log F(eta), symbolic; keeps its relative precision in the far lower tail."""
        raise NotImplementedError

    def log_sf(self, eta: Any) -> Any:
        """Log (1 - F(eta)), symbolic; keeps its relative precision in the far upper tail."""
        raise NotImplementedError

    def log_difference(self, upper: Any, lower: Any, eta: Any = 0.0) -> Any:
        """Log (F(upper - eta) - F(lower - eta)) for upper > lower, symbolic, without cancellation in either tail."""
        raise NotImplementedError

    def log_interval(self, upper: Any, lower: Any, eta: Any, is_first: Any, is_last: Any) -> Any:
        """Log (F(upper - eta) - F(lower - eta)), symbolic.

        Where ``is_first`` the interval has no lower end, where ``is_last`` no upper one. Ends that do not exist are put
        so far away that no digit of F, nor of its derivatives, knows the difference.
        """
        return self.log_difference(pt.switch(is_last, FAR, upper), pt.switch(is_first, -FAR, lower), eta)

    def log_binomial(self, successes: Any, failures: Any, eta: Any) -> Any:
        """Log-probability of successes and failures but for the binomial coefficient, symbolic."""
        return successes * self.log_cdf(eta) + failures * self.log_sf(eta)

    def log_mean(self, eta: Any) -> Any:
        """Logarithm of the mean, symbolic."""
        return self.log_cdf(eta)
