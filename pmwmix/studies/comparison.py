"""Several fits side by side: estimates, errors and intervals by term."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pmwmix.errors import OptionError, near, some
from pmwmix.spec.checks import check_prob

MASS_LOCATION, MASS_PROBABILITY = re.compile(r"\.location\d+$"), re.compile(r"\.probability\d+$")
NUMBERS = ["estimate", "std_error", "ci_low", "ci_high"]


def compare(
    fits: Any,
    *,
    names: Sequence[str] | None = None,
    ci_prob: float = 0.95,
    terms: str | Sequence[str] | None = None,
    varcorr: bool = True,
) -> pd.DataFrame:
    """Lay fits of the same outcome side by side: likelihood, posterior, without weights, other scalings.

    Parameters
    ----------
    fits : list or dict of FitResult or BayesResult
        Also what `fit_groups` gives. The keys of a dict are the names.
    names : list of str, optional
        One per fit. None: the method, and what else tells the fits apart: ``ml``, ``bayes``, ``ml (unweighted)``,
        ``ml, size``.
    ci_prob : float
        Probability of the intervals: confidence intervals of a likelihood fit, equal-tailed credible intervals of a
        posterior.
    terms : str or list of str, optional
        Rows to keep, as they are named in the table. None: all.
    varcorr : bool
        Whether the variance components follow the fixed effects.

    Returns
    -------
    DataFrame
        Index ``term``: fixed effects, then ``sd(school.Intercept)``, ``cor(school.Intercept.escs)``, ``sigma`` and
        further parameters of the family by name. Columns ``(fit, "estimate" / "std_error" / "ci_low" / "ci_high")``;
        NaN where a fit lacks a term, or where a component on the boundary has no standard error. Of a posterior the
        mean and the standard deviation. ``attrs["notes"]`` says what the fits do not have in common.

    Raises
    ------
    OptionError
        If an argument is not among the legal ones, or the fits differ in family or link, so that their coefficients
        are not on one scale.

    Notes
    -----
    Intervals of components are those of ``confint_varcorr``: log-normal, through Fisher's z for correlations, or
    quantiles of draws.

    Examples
    --------
    >>> import pmwmix
    >>> survey = pmwmix.simulate_survey(40, 12, n_pv=2, random_seed=3)
    >>> given = {"formula": "math ~ escs + (1 | SCHOOLID)", "data": survey.data, "pv": survey.pv}
    >>> weighted = pmwmix.fit(**given, weights=survey.weights, scaling="size")
    >>> table = pmwmix.compare([weighted, pmwmix.fit(**given)])
    >>> list(table.index)
    ['Intercept', 'escs', 'sd(SCHOOLID.Intercept)', 'sigma']
    >>> list(table.columns.levels[0])
    ['ml', 'ml (unweighted)']
    """
    long = compared(fits, names=names, ci_prob=ci_prob, terms=terms, varcorr=varcorr)
    order = list(dict.fromkeys(long["term"]))
    columns = pd.MultiIndex.from_product([list(dict.fromkeys(long["fit"])), NUMBERS], names=["fit", None])
    wide = long.pivot(index="term", columns="fit", values=NUMBERS).swaplevel(axis=1)
    wide = wide.reindex(index=pd.Index(order, name="term"), columns=columns)
    wide.attrs["notes"] = long.attrs["notes"]
    return wide


def compared(
    fits: Any,
    *,
    names: Sequence[str] | None = None,
    ci_prob: float = 0.95,
    terms: str | Sequence[str] | None = None,
    varcorr: bool = True,
) -> pd.DataFrame:
    """Give the numbers of `compare` in long form.

    Parameters
    ----------
    fits, names, ci_prob, terms, varcorr
        As in `compare`.

    Returns
    -------
    DataFrame
        ``fit, part`` (``"fixed"`` or ``"random"``), ``term, estimate, std_error, ci_low, ci_high``: a row per fit and
        term, terms in one order for all fits. ``attrs["notes"]``.
    """
    check_prob(ci_prob)
    given = named_fits(fits, names)
    _check_scale(given)
    tables = []
    for name, fit in given.items():
        parts = [fixed_rows(fit, ci_prob), *([random_rows(fit, ci_prob)] if varcorr else [])]
        tables += [part.assign(fit=name) for part in parts if len(part)]
    if not tables:
        raise OptionError(
            f"There is nothing to compare. {some(list(given))} has no coefficients, and variance components were not "
            f"asked for. Pass varcorr=True."
        )
    long = pd.concat(tables, ignore_index=True)[["fit", "part", "term", *NUMBERS]]
    random = long["part"] == "random"
    twice = random & long["term"].isin(long.loc[~random, "term"])  # a predictor of the name sigma
    long.loc[twice, "term"] += " (component)"
    long = _in_one_order(long, list(given))
    if terms is not None:
        long = chosen(long, terms)
    long.attrs["notes"] = differences(given)
    return long


def chosen(long: pd.DataFrame, terms: str | Sequence[str]) -> pd.DataFrame:
    """Keep some terms, in the order asked for.

    Raises
    ------
    OptionError
        If a term is not in the table.
    """
    wanted = list(terms) if isinstance(terms, list | tuple | pd.Index) else [terms]
    known = list(dict.fromkeys(long["term"]))
    unknown = [term for term in wanted if term not in known]
    if unknown or not wanted:
        what = f"There is no term {unknown[0]!r}." if unknown else "There is no term to show: terms is empty."
        hint = near(str(unknown[0]), known) if unknown else ""
        raise OptionError(f"{what}{hint} It was asked for with terms={terms!r}. The terms are {some(known, 20)}.")
    places = {term: place for place, term in enumerate(wanted)}
    kept = long[long["term"].isin(wanted)]
    return kept.sort_values("term", key=lambda column: column.map(places), kind="stable").reset_index(drop=True)


def named_fits(fits: Any, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Give fits by name.

    Raises
    ------
    OptionError
        If something is no fit, or there is not one name per fit.
    """
    if isinstance(fits, Mapping):
        names = list(fits) if names is None else names
        every = list(fits.values())
    else:
        every = [fits] if hasattr(fits, "tidy") else list(fits) if isinstance(fits, list | tuple) else [fits]
    for one in every:
        if not all(hasattr(one, member) for member in ("tidy", "varcorr", "coef", "family", "link", "settings")):
            raise OptionError(
                f"Fits are compared, and one of them is none. It is of type {type(one).__name__!r}. "
                f"Pass a list or dict of what pmwmix.fit returned."
            )
    if not every:
        raise OptionError("There is nothing to compare. The list of fits is empty. Pass fits made by pmwmix.fit.")
    labels = default_names(every) if names is None else [str(name) for name in _one_per(names, len(every))]
    twice = [name for name, count in Counter(labels).items() if count > 1]
    if twice:
        raise OptionError(
            f"Fits are told apart by their names. The name {twice[0]!r} stands there {labels.count(twice[0])} times. "
            f"Give every fit its own name."
        )
    return dict(zip(labels, every, strict=True))


def _one_per(names: Any, n: int) -> list[Any]:
    given = list(names) if isinstance(names, list | tuple | pd.Index) else [names]
    if len(given) != n:
        raise OptionError(
            f"There is one name per fit. Got {len(given)} names for {n} fits: {some(given)}. "
            f"Pass as many names as fits."
        )
    return given


def default_names(fits: Sequence[Any]) -> list[str]:
    """Name fits by their method and by what tells them apart; numbered where nothing short does."""
    weighted = [bool(fit.settings.weighted) for fit in fits]
    scalings = {fit.settings.scaling for fit, has in zip(fits, weighted, strict=True) if has}
    labels = []
    for fit, has in zip(fits, weighted, strict=True):
        label = str(fit.method)
        if not has and any(weighted):
            label += " (unweighted)"
        labels.append(f"{label}, {fit.settings.scaling}" if has and len(scalings) > 1 else label)
    labels = _apart(labels, [str(fit.settings.vcov) for fit in fits])
    seen: Counter[str] = Counter()
    counts = Counter(labels)
    for place, label in enumerate(labels):
        seen[label] += 1
        if counts[label] > 1:
            labels[place] = f"{label} {seen[label]}"
    return labels


def _apart(labels: list[str], more: list[str]) -> list[str]:
    """Add to labels that occur twice what differs between them."""
    added = {label: {m for one, m in zip(labels, more, strict=True) if one == label} for label in labels}
    return [f"{label}, {m}" if len(added[label]) > 1 else label for label, m in zip(labels, more, strict=True)]


def _check_scale(fits: Mapping[str, Any]) -> None:
    scales = {name: (fit.family, fit.link) for name, fit in fits.items()}
    if len(set(scales.values())) > 1:
        each = "; ".join(f"{name}: family={family!r}, link={link!r}" for name, (family, link) in scales.items())
        raise OptionError(
            f"Coefficients of different families or links are on different scales. The fits are {each}. "
            f"Compare fits of one family and link, or average marginal effects by fit.ame()."
        )


def differences(fits: Mapping[str, Any]) -> list[str]:
    """Say in sentences what fits do not have in common: outcome, rows, formula, degree of pooling."""
    notes = []
    for what, of in (("outcomes", _outcome), ("formulas", lambda fit: fit.formula)):
        each = {name: of(fit) for name, fit in fits.items()}
        if len(set(each.values())) > 1:
            listed = "; ".join(f"{name}: {value}" for name, value in each.items())
            notes.append(f"The fits have different {what} ({listed}).")
    indices = [getattr(fit, "index", None) for fit in fits.values()]
    rows = {name: int(fit.nobs) for name, fit in fits.items()}
    alike = all(one is None or indices[0] is None or indices[0].equals(one) for one in indices[1:])
    if len(set(rows.values())) > 1 or not alike:
        listed = ", ".join(f"{name}: {n}" for name, n in rows.items())
        notes.append(f"The fits use different rows of their tables ({listed}).")
    n_pv = {name: int(fit.n_pv) for name, fit in fits.items()}
    if len(set(n_pv.values())) > 1:
        listed = ", ".join(f"{name}: {n}" for name, n in n_pv.items())
        notes.append(f"The fits use different numbers of plausible values ({listed}).")
    return notes


def _outcome(fit: Any) -> str:
    """Give the left side of the formula with its columns, where it is a set of plausible values."""
    left = str(fit.formula).split("~")[0].strip()
    columns = (getattr(fit.settings, "pv", None) or {}).get(left)
    return f"{left} = {columns[0]} ... {columns[-1]}" if columns is not None and len(columns) else left


def fixed_rows(fit: Any, ci_prob: float) -> pd.DataFrame:
    """Give the fixed effects: ``part, term, estimate, std_error, ci_low, ci_high``."""
    table = fit.tidy(ci_prob=ci_prob)[["term", *NUMBERS]].copy()
    table.insert(0, "part", "fixed")
    return table


def random_rows(fit: Any, ci_prob: float) -> pd.DataFrame:
    """Give standard deviations, correlations, sigma and further parameters of the family, in the same columns."""
    table = fit.confint_varcorr(ci_prob) if len(fit.varcorr) else fit.varcorr
    table = table.rename(columns={"se": "std_error"})
    rows = [
        (component_name(row.grp, row.var1, row.var2), row.estimate, row.std_error, row.ci_low, row.ci_high)
        for row in table.itertuples(index=False)
    ]
    further = fit.family_parameters
    for name, estimate, se in () if further is None else further[["estimate", "se"]].itertuples():
        rows.append((name, estimate, se, *_ends(fit, str(name), float(estimate), float(se), ci_prob)))
    out = pd.DataFrame(rows, columns=["term", *NUMBERS]).astype(dict.fromkeys(NUMBERS, float))
    out.insert(0, "part", "random")
    return out


def _ends(fit: Any, name: str, estimate: float, se: float, ci_prob: float) -> tuple[float, float]:
    """Interval of a further parameter: quantiles of its draws, or log-normal as those of variances.

    Places of mass points have either sign and a symmetric one, their probabilities one on the scale of logits.
    """
    if getattr(fit, "idata", None) is not None:
        low, high = np.quantile(fit.pooled_draws(name), [0.5 - ci_prob / 2, 0.5 + ci_prob / 2])
        return float(low), float(high)
    wide = float(stdtrit(1e10, 0.5 + ci_prob / 2)) * se
    if MASS_LOCATION.search(name):
        return estimate - wide, estimate + wide
    if MASS_PROBABILITY.search(name) and 0 < estimate < 1:
        ends = np.log(estimate / (1 - estimate)) + np.array([-1, 1]) * wide / (estimate * (1 - estimate))
        low, high = 1 / (1 + np.exp(-ends))
        return float(low), float(high)
    if not estimate > 0:
        return float("nan"), float("nan")
    ratio = float(np.exp(wide / estimate))
    return estimate / ratio, estimate * ratio


def component_name(grp: str, var1: Any, var2: Any) -> str:
    """Name a row of ``varcorr``: ``sd(school.Intercept)``, ``cor(school.Intercept.escs)``, ``sigma``."""
    if not isinstance(var1, str):
        return "sigma"
    return f"sd({grp}.{var1})" if not isinstance(var2, str) else f"cor({grp}.{var1}.{var2})"


def _in_one_order(long: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Sort terms as the first fit that has them does, fixed effects first; fits in the order given."""
    order: list[str] = []
    for part in ("fixed", "random"):
        for name in names:
            mine = long.loc[(long["fit"] == name) & (long["part"] == part), "term"].tolist()
            for place, term in enumerate(mine):
                if term in order:
                    continue
                known = [t for t in mine[:place] if t in order]
                at = order.index(known[-1]) + 1 if known else len(order)
                order.insert(at, term)
    places = {term: place for place, term in enumerate(order)}
    fits = {name: place for place, name in enumerate(names)}
    keys = pd.DataFrame({"term": long["term"].map(places), "fit": long["fit"].map(fits)})
    return long.loc[keys.sort_values(["term", "fit"], kind="stable").index].reset_index(drop=True)
