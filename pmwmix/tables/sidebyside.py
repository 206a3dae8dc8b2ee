"""Groups side by side: their table, differences between them, ranks, and the index of inclusion."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.errors import DataError, MissingColumnsError, NotSupportedError, PmwmixWarning, near, some
from pmwmix.inference.icc import icc_se
from pmwmix.studies.independent import contrasts_of, tested
from pmwmix.studies.meanings import OUTCOME, comparable, meanings
from pmwmix.tables.modeltable import ModelTable, table

INDEX = "inclusion index"


class SideBySide(Mapping[Any, Any]):
    """Verbs of fits by group that lay groups side by side; `GroupFits` has them.

    Groups are independent samples throughout: the variance of a contrast is the sum of theirs.
    """

    by: str
    failures: pd.DataFrame

    def table(self, **options: Any) -> ModelTable:
        """Set the models of all groups beside each other, a column per group.

        Parameters
        ----------
        **options
            Those of `pmwmix.table`, ``below=``, ``stars=``, ``parts=``, ...

        Returns
        -------
        ModelTable
            Groups without a fit stand in its notes with what went wrong, unless the notes are your own.
        """
        found = table(self, **options)
        if options.get("notes", True) is True:
            lost = zip(self.failures["group"], self.failures["message"], strict=True)
            found = ModelTable(found.data, found.cells, [*found.notes, *(f"Not fitted: {g}. {m}" for g, m in lost)])
        return found

    def inclusion(self, ci_prob: float = 0.95) -> pd.DataFrame:
        """Give the OECD's index of (academic) inclusion of every group.

        Parameters
        ----------
        ci_prob : float
            Probability of the interval, which is formed on the logit scale and so stays between 0 and 100.

        Returns
        -------
        DataFrame
            By group ``estimate, std_error, df, ci_low, ci_high``, in per cent of the variance. Without a standard error
            where the variance between schools is zero.

        Raises
        ------
        NotSupportedError
            With crossed random effects.
        DataError
            Without a random term.

        Notes
        -----
        The share of the variance that lies within the units of the lowest level, such as schools (groups, eq. 2), with
        the delta-method error of `icc_se`. Of a model without predictors it is the OECD's index.
        """
        rows = {group: _within(group, fit, ci_prob) for group, fit in self.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(self.by)

    def differences(self, of: str, *, against: Any = None, adjust: str = "holm", ci_prob: float = 0.95) -> pd.DataFrame:
        """Test differences between groups in one coefficient, or in the index of inclusion.

        Parameters
        ----------
        of : str
            Name of a coefficient, or ``"inclusion index"``.
        against : optional
            A group, or ``"average"`` of the groups with equal weights. None: all pairs.
        adjust : {"holm", "bonferroni", "fdr", "none"}
            Of the p-values, for the number of differences.
        ci_prob : float
            Of intervals of single differences, which are not adjusted.

        Returns
        -------
        DataFrame
            ``group, other, estimate`` (group minus other), ``std_error, statistic, df, p_value, p_adjusted, ci_low,
            ci_high``.

        Raises
        ------
        OptionError, NotSupportedError, DataError, MissingColumnsError

        Warns
        -----
        PmwmixWarning
            If groups are left out because the coefficient means something else there.

        Notes
        -----
        Standard errors and degrees of freedom: groups, eqs. 3-4.
        """
        one = self._compared(of, ci_prob)
        pairs, C = contrasts_of(list(one.index), against)
        return tested(one, pairs, C, adjust, ci_prob)

    def ranking(self, of: str, *, adjust: str = "holm", ci_prob: float = 0.95) -> pd.DataFrame:
        """Rank groups by one coefficient, or by the index of inclusion, with intervals of the ranks.

        Parameters
        ----------
        of : str
            Name of a coefficient, or ``"inclusion index"``.
        adjust : {"holm", "bonferroni", "fdr", "none"}
            With the first two all intervals hold at once.
        ci_prob : float

        Returns
        -------
        DataFrame
            By group, from the largest down: ``estimate, std_error, rank, rank_low, rank_high``.

        Raises
        ------
        OptionError, NotSupportedError, DataError, MissingColumnsError

        Warns
        -----
        PmwmixWarning
            As `differences`.

        Notes
        -----
        A rank is at least one more than the number of groups that lie significantly above, and at most the number of
        groups less those that lie significantly below, by all pairs of `differences` (Mogstad et al. 2024 [1]_).

        References
        ----------
        .. [1] Mogstad, M., Romano, J. P., Shaikh, A. M. & Wilhelm, D. (2024). Inference for Ranks with Applications to
           Mobility across Neighbourhoods and Academic Achievement across Countries. Review of Economic Studies, 91(1).
        """
        one = self._compared(of, ci_prob)
        pairs, C = contrasts_of(list(one.index), None)
        tests = tested(one, pairs, C, adjust, ci_prob)
        clear = tests[tests["p_adjusted"] <= 1 - ci_prob]
        up = clear["estimate"] > 0
        above, below = clear["group"].where(up, clear["other"]), clear["other"].where(up, clear["group"])
        out = one[["estimate", "std_error"]].copy()
        out["rank"] = out["estimate"].rank(ascending=False, method="min").astype(int)
        out["rank_low"] = [1 + int((below == group).sum()) for group in out.index]
        out["rank_high"] = [len(out) - int((above == group).sum()) for group in out.index]
        return out.sort_values("estimate", ascending=False, kind="stable")

    def _compared(self, of: str, ci_prob: float) -> pd.DataFrame:
        """Give ``estimate, std_error, df`` by group of what can be compared."""
        if of == INDEX:
            return _at_least_two(self.inclusion(ci_prob), of)
        long = pd.concat({g: fit.tidy(ci_prob).set_index("term") for g, fit in self.items()}, names=[self.by])
        terms = list(dict.fromkeys(long.index.get_level_values("term")))
        if of not in terms:
            raise MissingColumnsError(
                f"There is no coefficient {of!r} in any group.{near(str(of), terms)} Name one of {some(terms, 12)}, or "
                f"write {INDEX!r}."
            )
        one = long.xs(of, level="term")
        one = one.assign(df=one["df"] if "df" in one else np.inf)
        found = {group: meanings(self[group])[0] for group in one.index}
        same = comparable({group: (m.get(OUTCOME), m.get(of)) for group, m in found.items()})
        lost = [group for group in one.index if group not in same]
        if lost:
            warnings.warn(
                f"Coefficient {of!r} means something else in some groups (reference category, or a basis, scale or "
                f"origin of their own). Left out: {', '.join(map(str, lost))}. Recode, or compute the basis on the "
                f"whole table before.",
                PmwmixWarning,
                stacklevel=3,
            )
        return _at_least_two(one[one.index.isin(list(same))], of)


def _at_least_two(one: pd.DataFrame, of: str) -> pd.DataFrame:
    if len(one) < 2:
        raise DataError(
            f"Differences need two groups. {of!r} can be compared in {len(one)}. Look at tidy(), or fit more groups."
        )
    return one


def _within(group: Any, fit: Any, ci_prob: float) -> dict[str, float]:
    """Turn the share of the lowest level and above into what is left, in per cent (groups, eq. 2)."""
    shares = icc_se(fit, ci_prob)
    if not len(shares):
        raise DataError(
            f"The index of inclusion needs a random term. The model of group {str(group)!r} has none. Add for example "
            f"(1 | school)."
        )
    if fit.fits[0].rows.frame.hierarchy.crossed:
        raise NotSupportedError(
            f"The index of inclusion is that of nested levels. The model of group {str(group)!r} has crossed random "
            f"effects. Use icc_se(fit), the share of each factor."
        )
    low = shares.iloc[0]
    return {
        "estimate": 100 * (1 - low["icc"]),
        "std_error": 100 * low["std_error"],
        "df": low["df"],
        "ci_low": 100 * (1 - low["ci_high"]),
        "ci_high": 100 * (1 - low["ci_low"]),
    }
