"""What a family is: the distribution of the outcome given its linear predictors, and a check of the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from pmwmix._registry import Registry
from pmwmix._types import Array
from pmwmix.links import Link
from pmwmix.spec.outcome import Outcome, Response
from pmwmix.spec.predictors import Predictor


class Families(Registry):
    """Families by name; ``"gaussian(sigma)"`` is the gaussian one with a linear predictor for its sigma.

    ``'multinomial["a", "b", "c"]'`` is the multinomial one with these categories, ``"multinomial"`` that of any;
    ``"cumulative(thresholds)"``, of any or of such categories, the one whose thresholds have linear predictors;
    ``"tweedie(1.5)"`` the Tweedie one with that power; ``'joint[["read", "gaussian", "identity"], ...]'`` that of
    several outcomes.
    """

    def __missing__(self, name: object) -> Any:
        from pmwmix.families._modelled import with_formulas  # families themselves, so that they stand after this file
        from pmwmix.families.joint import with_members
        from pmwmix.families.multinomial import with_categories
        from pmwmix.families.partialodds import with_thresholds
        from pmwmix.families.tweedie import with_power

        makers = (with_members, with_power, with_formulas, with_categories, with_thresholds)
        found = next((family for make in makers if (family := make(str(name))) is not None), None)
        return super().__missing__(name) if found is None else found


FAMILIES = Families("family")


class Family:
    """A distribution. Symbolic methods take and give PyTensor variables, the others numpy arrays.

    Everything that depends on the family is asked here: no module outside this room knows a family by its name.

    ``phi`` is the vector of the family's further parameters on an unbounded working scale (log size, log precision,
    first threshold and log gaps, ...); ``n_phi(response)`` of them. On this scale zero is an ordinary value and
    differences of one are moderate.

    Notes
    -----
    A new family is one new file of this room that ends in ``FAMILIES.add(name, ...)``. One with a single linear
    predictor writes `log_density`. One with several, as zero inflation has, names the others in ``further`` and writes
    `log_density_of`; `start` stays that of the mean and `starts` adds the others:

    >>> import pytensor.tensor as pt
    >>> from pmwmix.families import Family
    >>> from pmwmix.spec.predictors import Predictor
    >>> class ZeroInflated(Family):
    ...     name, links = "zipoisson", ("log",)
    ...     further = (Predictor("zi", ("logit",), default="1"),)
    ...
    ...     def log_density_of(self, links, y, extra, etas, phi):
    ...         count = links[1].log_sf(etas[1]) + y * links[0].log_mean(etas[0]) - links[0].mean_graph(etas[0])
    ...         return pt.switch(pt.eq(y, 0.0), pt.logaddexp(links[1].log_cdf(etas[1]), count), count)
    >>> print(*(predictor.name for predictor in ZeroInflated().predictors))
    mu zi

    The likelihood does the rest: every fixed and random column knows its predictor, and the curvature between two
    random columns is the sum of z_i z_j (-w d²l / d eta_p d eta_r), p and r their predictors. Of every row, those of
    weight zero too, the density and its derivatives up to the fourth order must be finite.
    """

    name: str
    links: tuple[str, ...]  # of the mean, the default first
    further: tuple[Predictor, ...] = ()  # linear predictors besides that of the mean, as that of excess zeros
    first: str | None = None  # name of the first linear predictor, where its coefficients bear it: a category
    n_extra: int = 0
    open_formulas: Mapping[str, str] = MappingProxyType(
        {}
    )  # what may have formulas -> name of the family that has them
    has_intercept: bool = True  # False: thresholds stand in for the intercept
    has_scale: bool = False  # rows have a variance of their own, so that a group per row is not identified
    per_trial: bool = False  # y counts successes, of which `trials` were possible; means are shares of them
    has_expected_information: bool = False  # without random effects errors rest on it, as those of R's glm do
    has_mean_score: bool = False  # the density's first derivative in eta is (y - E(y)) (dE(y) / d eta) / Var(y)
    is_categorical: bool = False  # the mean of a row is a vector, the probabilities of the categories (n, C)
    is_mixture: bool = False  # the mean is not that of the link: no deviance, no residuals on the link's scale
    mean_depends_on_parameters: bool = False  # the mean is another where phi is, as that of counts above 0
    is_sampled: bool = True  # posteriors are built, if it has one linear predictor
    mean_depends_on_level_one: bool = False  # it does on `latent_variance`, by `mean_by_level_one`
    has_mean_derivatives: bool = False  # `mean_derivatives` gives them; without, differences are taken
    formulas: Mapping[str, tuple[int, float]] = MappingProxyType(
        {}
    )  # parameter that may have a linear predictor of its own,
    # with a log link: its place k in phi and the sign s of phi[k] = s log(parameter)

    def read(self, outcome: Outcome) -> Response:
        """Check an outcome and turn it into what the density needs.

        Raises
        ------
        DataError
            In three sentences, with the column and the first bad value.
        """
        raise NotImplementedError

    def log_density(self, link: Link, y: Any, extra: tuple[Any, ...], eta: Any, phi: list[Any]) -> Any:
        """Log-density of each row without ``Response.constant``, symbolic.

        Parameters
        ----------
        link : Link
        y, extra : PyTensor variables, shape (...)
        eta : PyTensor variable
            Linear predictor; its last axes are those of ``y``, further axes (quadrature nodes) may come before them.
        phi : list of PyTensor scalars

        Returns
        -------
        PyTensor variable, shape of ``eta``
        """
        raise NotImplementedError

    @property
    def predictors(self) -> tuple[Predictor, ...]:
        """All linear predictors of a row, that of the mean first."""
        return (Predictor(self.first or "mu", self.links), *self.further)

    @property
    def distribution_name(self) -> str:
        """Name of the distribution, whichever of its parameters have linear predictors."""
        return self.name

    @property
    def shown_name(self) -> str:
        """Name for headings."""
        return self.name

    @property
    def is_open(self) -> bool:
        """Whether its linear predictors are known only when the outcome is: `settled` gives the family to use."""
        return False

    def settled(self, outcome: Outcome, constant: bool = False) -> Family:
        """Give the family for an outcome; itself, but where its linear predictors are those of categories.

        ``constant`` says that the further linear predictors have no column but an intercept.
        """
        return self

    def crossed(self, etas: Sequence[Array], phi: Array) -> Array:
        """Mark the rows (n,) in which thresholds are not in order, so that a probability would be negative."""
        return np.zeros(len(etas[0]), dtype=bool)

    @property
    def has_residuals(self) -> bool:
        """Whether outcomes have a mean to be compared with."""
        return not self.is_categorical

    @property
    def has_thresholds(self) -> bool:
        """Whether the first coefficients are thresholds between ordered categories."""
        return not self.has_intercept

    def has_closed_form(self, link: Link) -> bool:
        """Whether the random effects can be integrated out exactly: the linear model, which has its own likelihood."""
        return False

    def has_linear_mean(self, link: Link) -> bool:
        """Whether the mean is the linear predictor."""
        return False

    def has_one_peak(self, link: Link) -> bool:
        """Whether the density of rows never has several peaks in the linear predictor, whatever the outcomes are.

        With these links it is log-concave, but for the beta family, whose sums have one peak nevertheless.
        """
        return link.name in ("logit", "probit", "cloglog", "loglog", "log")

    def is_quadratic(self, link: Link, moving: Sequence[int]) -> bool:
        """Whether the log-density is quadratic in the linear predictors with numbers ``moving``: Laplace is exact."""
        return False

    def cumulant(self, link: Link) -> Any:
        """Give the curve b of a density y eta - t b(eta) + constant, t the number of trials; None for all others.

        What is evaluated in numpy at many nodes is quicker where it is known (McCullagh & Nelder 1989, eq. 2.4).
        """
        return None

    def trials(self, response: Response) -> Array:
        """Give the number of trials of each row (n,); 1 where the family knows none."""
        return np.ones(len(response.y))

    def predictor_words(self, name: str) -> str:
        """Say what a linear predictor is; nothing of one with a name that means the same in all families."""
        return ""

    def mean_words(self, outcome: str, written: str, categories: tuple[str, ...]) -> str:
        """Say what the mean of an outcome is, for axes: ``outcome`` as it is shown, ``written`` as in the formula."""
        return f"Mean of {outcome}"

    def log_density_of(
        self, links: Sequence[Link], y: Any, extra: tuple[Any, ...], etas: Sequence[Any], phi: list[Any]
    ) -> Any:
        """Log-density of each row at all its linear predictors, symbolic; what the likelihood asks.

        A family with one predictor writes `log_density` and leaves this to the base class; one with several writes this
        instead. Its second derivatives between the predictors come by themselves.

        Parameters
        ----------
        links : sequence of Link
            One per predictor, in the order of `predictors`.
        y, extra, phi
            As in `log_density`.
        etas : sequence of PyTensor variables
            As in `log_density`, one per predictor; the shapes need only broadcast with each other, as those of a
            predictor without random effects have no axes of quadrature nodes.

        Returns
        -------
        PyTensor variable, shape of the broadcast ``etas``
        """
        (link,), (eta,) = links, etas
        return self.log_density(link, y, extra, eta, phi)

    def n_phi(self, response: Response) -> int:
        """Give the number of further parameters."""
        return 0

    def start(self, link: Link, response: Response, w: Array) -> tuple[Array, Array]:
        """Give starting values: the linear predictor per row (n,), and phi (n_phi,).

        The first as if there were no predictors, pulled a little towards the row's own outcome (as glm's mustart).
        """
        raise NotImplementedError

    def unit(self, link: Link, response: Response) -> float:
        """Give the size of a large effect on the mean's linear predictor: 1, but where that is in units of the outcome.

        With several linear predictors columns are scaled by it; a single one in such units is left as it is.
        """
        return 1.0

    def units(self, links: Sequence[Link], response: Response) -> list[float]:
        """Give `unit` of every linear predictor."""
        return [self.unit(links[0], response), *(1.0 for _ in links[1:])]

    def seen(self, response: Response) -> list[Array]:
        """Say of every linear predictor which rows (n,) have its outcome, 1 or 0; empty where all do."""
        return []

    def starts(self, links: Sequence[Link], response: Response, w: Array) -> tuple[list[Array], Array]:
        """Give starting values of all linear predictors per row, each (n,), and phi; further ones at zero."""
        eta, phi = self.start(links[0], response, w)
        return [eta, *(np.zeros(len(eta)) for _ in links[1:])], phi

    def parameters(self, phi: Array) -> tuple[dict[str, float], Array]:
        """Give the further parameters on the scale on which they are reported, and their Jacobian d(reported)/d(phi).

        Names: ``theta`` of the negative binomial (Var = mu + mu²/theta), ``dispersion`` of the gamma (Var = dispersion
        mu²), ``precision`` of the beta (Var = mu (1 - mu) / (1 + precision)), ``sigma`` and ``df`` of Student's t,
        thresholds ``1|2``, ``2|3`` by position here (labels are put in by the caller).
        """
        return {}, np.zeros((0, 0))

    def with_thresholds(self, phi: Array, cuts: Array) -> Array:
        """Give phi of other thresholds, which all moved by the same."""
        raise NotImplementedError

    def scale(self, phi: Array) -> float:
        """Give what results call ``sigma``: a residual standard deviation, or what stands for it; 1 for nothing."""
        return 1.0

    def mean(self, link: Link, eta: Array, phi: Array) -> Array:
        """Give the expected outcome per trial (n,); of an ordinal family the probabilities of the categories (n, C)."""
        return link.mean(eta)

    def variance(self, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Variance of ``y`` given its mean per trial, for Pearson residuals (n,)."""
        raise NotImplementedError

    def expected_curvature(self, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give the expectation of minus the density's second derivative in eta (n,), (dE(y) / d eta)² / Var(y)."""
        mean, slope = self.mean(link, eta, phi), link.slope(eta)
        if self.per_trial:
            slope = extra[0] * slope
        variance = self.variance(mean, phi, extra)
        return np.divide(slope**2, variance, out=np.zeros_like(slope), where=variance > 0.0)

    def deviance(self, y: Array, mean: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Contribution of each row to the deviance, at least 0 (n,), for deviance residuals."""
        raise NotImplementedError

    def mean_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> Array:
        """Give `mean` at all linear predictors; a family whose mean depends on several writes this instead.

        Parameters
        ----------
        links : sequence of Link
        etas : sequence of ndarray, each (n,)
        phi : ndarray, shape (n_phi,) or (n_phi, n)
        """
        return self.mean(links[0], etas[0], phi)

    def mean_by_level_one(self, mean: Array) -> Array:
        """Give the derivative of the mean in `latent_variance`, if it depends on that."""
        raise NotImplementedError

    def mean_derivatives(self, links: Sequence[Link], etas: Sequence[Array], second: bool) -> tuple[Array, ...]:
        """Give the mean (n, c), its derivatives in the linear predictors (n, c, K) and, if asked, the second ones."""
        raise NotImplementedError

    def variance_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array, extra: tuple[Array, ...]) -> Array:
        """Give `variance` at all linear predictors, as `mean_of`."""
        return self.variance(self.mean_of(links, etas, phi), phi, extra)

    def deviance_of(
        self, links: Sequence[Link], y: Array, etas: Sequence[Array], phi: Array, extra: tuple[Array, ...]
    ) -> Array:
        """Give `deviance` at all linear predictors, as `mean_of`."""
        return self.deviance(y, self.mean_of(links, etas, phi), phi, extra)

    def latent_variance(self, link: Link, mean: float, phi: Array) -> float:
        """Level-1 variance on the scale of the linear predictor, for the intraclass correlation.

        That of the latent distribution for binary and ordinal outcomes; the observation-level variance of Nakagawa,
        Johnson & Schielzeth (2017) for the others, at the overall ``mean``; NaN where there is none.
        """
        raise NotImplementedError

    def drawable(self, link: Link, eta: Array, phi: Array) -> tuple[Array, Array]:
        """Keep parameters where outcomes can be drawn: vague priors put expected counts beyond all integers."""
        return eta, phi

    def draw(self, rng: np.random.Generator, link: Link, eta: Array, phi: Array, extra: tuple[Array, ...]) -> Array:
        """Draw outcomes ``y`` (n,), of ordinal families category codes."""
        raise NotImplementedError

    def drawable_of(self, links: Sequence[Link], etas: Sequence[Array], phi: Array) -> tuple[list[Array], Array]:
        """Give `drawable` of all linear predictors."""
        eta, phi = self.drawable(links[0], etas[0], phi)
        return [eta, *etas[1:]], phi

    def draw_of(
        self,
        rng: np.random.Generator,
        links: Sequence[Link],
        etas: Sequence[Array],
        phi: Array,
        extra: tuple[Array, ...],
    ) -> Array:
        """Give `draw` at all linear predictors, as `mean_of`."""
        return self.draw(rng, links[0], etas[0], phi, extra)
