"""Null distributions of likelihood ratios whose smaller model has variances of zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, fdtrc

from pmwmix.errors import OptionError
from pmwmix.inference.criteria import size_without_components, terms_of
from pmwmix.likelihood.covariances import COVARIANCES, free_parameters
from pmwmix.results.result import FitResult


@dataclass(frozen=True)
class Mixture:
    """Weights of chi-squares by their degrees of freedom."""

    weights: dict[int, float]

    def tail(self, statistic: float, df2: float = np.inf) -> float:
        """Probability of a larger value; with ``df2`` of df times F variables, as for pooled statistics."""

        def one(df: int) -> float:
            return float(fdtrc(df, df2, statistic / df) if np.isfinite(df2) else chdtrc(df, statistic))

        return sum(w * (one(df) if df else float(statistic <= 0)) for df, w in self.weights.items())


def boundary_mixture(smaller: FitResult, larger: FitResult) -> Mixture | None:
    """Null distribution when variances are zero under the smaller model (Self & Liang 1987; Stram & Lee 1994).

    Returns
    -------
    Mixture or None
        None if no random effect is dropped. A term of q correlated effects that loses one has equal parts of
        chi-squares with d - 1 and d degrees of freedom, d the parameters it loses; terms combine by convolution. Terms
        that lose several effects at once get the same two parts, which is conservative.
    """
    kept = terms_of(smaller)
    weights = {size_without_components(larger) - size_without_components(smaller): 1.0}
    lost_any = False
    for group, names, structure in terms_of(larger):
        matches = [one for one in kept if one[0] == group and _contains(names, structure, one)]
        for match in matches:
            kept.remove(match)
        d = free_parameters(structure, len(names))
        d -= sum(free_parameters(match[2], len(match[1])) for match in matches)
        if sum(len(match[1]) for match in matches) == len(names):  # what is lost lies inside its range: correlations
            weights = {df + d: w for df, w in weights.items()}
        elif d:
            lost_any = True
            mixed: dict[int, float] = {}
            for df, w in weights.items():
                for more in (d - 1, d):
                    mixed[df + more] = mixed.get(df + more, 0.0) + 0.5 * w
            weights = mixed
    if kept:
        raise OptionError(
            f"The models are not nested. {smaller.formula!r} has a random term on {kept[0][0]!r} that "
            f"{larger.formula!r} lacks. Compare models of which one contains the other."
        )
    return Mixture(weights) if lost_any else None


def _contains(names: frozenset[str], structure: str, smaller: tuple[str, frozenset[str], str]) -> bool:
    """Whether a term contains a smaller one: the same effects with less structure, or more effects."""
    _, fewer, other = smaller
    if names == fewer:
        return structure in (other, "us") or (other != "us" and structure in COVARIANCES[other].inside)
    own = structure == "us" or not COVARIANCES[structure].common  # a variance of each effect, which may be zero
    return fewer < names and own and (structure == "us" or len(fewer) == 1)
