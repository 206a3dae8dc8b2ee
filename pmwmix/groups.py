"""The same model in many groups, such as countries: one fit each, failures collected, averages over groups."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pmwmix.api import fit
from pmwmix.data.bygroup import TablePart, own_rows, sorted_parts
from pmwmix.data.bysource import SourcePart, refuse_rows, source_parts
from pmwmix.data.pieces import stream_of
from pmwmix.data.table import Table
from pmwmix.errors import (
    DataError,
    MissingColumnsError,
    NotSupportedError,
    OptionError,
    PmwmixWarning,
    missing_columns,
    near,
    some,
)
from pmwmix.likelihood.engine import choose_engine
from pmwmix.readers.columns import find, id_names
from pmwmix.results.glance import glance_row
from pmwmix.results.result import FitResult
from pmwmix.results.summary import Section, Summary, coefficient_table, decimals_for, fixed
from pmwmix.running import bar, check_executor, run_on
from pmwmix.spec.design import resolve_design
from pmwmix.spec.several import one_text
from pmwmix.studies.average import average_row, said_of_others
from pmwmix.studies.meanings import OUTCOME, comparable, meanings
from pmwmix.tables.sidebyside import SideBySide

OF_THE_CALL = (OptionError, MissingColumnsError, NotSupportedError)  # the same in every group: raised at once
PARTS = ("fixed", "varcorr")


class GroupFits(SideBySide, Mapping[Any, FitResult]):
    """Fits by group: ``fits["AUT"]`` is a `FitResult`; groups that failed stand in `failures`.

    Parameters
    ----------
    by : str
        Column of the groups.
    formula : str
    fits : dict
        Group to fit, in the order of the groups.
    failures : DataFrame
        ``group, error, message``: groups without a fit.
    """

    def __init__(self, by: str, formula: str, fits: Mapping[Any, FitResult], failures: pd.DataFrame) -> None:
        self.by, self.formula, self.failures = by, formula, failures
        self._fits = dict(fits)
        self._meanings: dict[Any, Any] = {}

    def __getitem__(self, group: Any) -> FitResult:
        if group in self._fits:
            return self._fits[group]
        failed = self.failures[self.failures["group"] == group]
        if len(failed):
            raise DataError(f"Group {group!r} was not fitted. It failed with: {failed['message'].iloc[0]}")
        names = [str(name) for name in self._fits]
        raise MissingColumnsError(
            f"There is no group {group!r}.{near(str(group), names)} Column {self.by!r} has {some(self._fits, 12)}."
        )

    def __contains__(self, group: object) -> bool:
        return group in self._fits

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fits)

    def __len__(self) -> int:
        return len(self._fits)

    # -- tables -------------------------------------------------------------------------------------------------

    def tidy(self, ci_prob: float = 0.95, df: str | float | None = None, labels: bool = False) -> pd.DataFrame:
        """List the fixed effects of all groups, one row per group and term, ready to plot.

        Parameters
        ----------
        ci_prob : float
        df, labels : optional
            As in ``FitResult.tidy``.

        Returns
        -------
        DataFrame
            Column of the groups, then those of ``FitResult.tidy``.
        """
        return self._long(lambda one: one.tidy(ci_prob, df, labels=labels))

    def varcorr(self) -> pd.DataFrame:
        """List the variance components of all groups: column of the groups, then those of ``FitResult.varcorr``."""
        return self._long(lambda one: one.varcorr)

    def glance(self) -> pd.DataFrame:
        """Give one row per group: rows, units, intraclass correlation, log-likelihood, status.

        Returns
        -------
        DataFrame
            By group the columns of a fit's ``glance``: ``nobs, n_<level>, icc`` (or ``icc_<level>``), ``sigma, loglik,
            npar, aic, bic, converged, singular, status``.
        """
        out = pd.DataFrame.from_dict({group: glance_row(one) for group, one in self.items()}, orient="index")
        out.index.name = self.by
        return out

    def average(self, ci_prob: float = 0.95, of: str = "fixed") -> pd.DataFrame:
        """Average over groups, internationally: mean over groups with equal weights.

        Parameters
        ----------
        ci_prob : float
        of : {"fixed", "varcorr"}
            Coefficients, or variances and covariances.

        Returns
        -------
        DataFrame
            ``term`` (``grp, var1, var2`` for variance components), ``estimate, std_error, statistic, df, p_value,
            ci_low, ci_high, n_groups`` (groups averaged), ``between_sd`` (standard deviation of their estimates) and
            ``n_other`` (groups left out because the term means something else there).

        Warns
        -----
        PmwmixWarning
            If there are such groups.

        Notes
        -----
        Groups are independent samples, so that the standard error is ``sqrt(sum(se**2)) / n``: the error of the mean
        over *these* groups, which are not a sample of groups. Degrees of freedom are Satterthwaite's,
        ``sum(se**2)**2 / sum(se**4 / df)``.

        A term of one name may mean different things: a contrast with another reference category where the first one is
        absent, ``scale(x)``, ``poly(x, 2)`` or grand-mean centring on each group's own basis, and whatever holds at
        their origin, such as the intercept. Averages are over the groups of the commonest meaning if they are more than
        half, otherwise missing. Bases of the whole table, made as columns before the call, are the same in all groups.
        """
        table = self._average(ci_prob, of)
        other = table.loc[table["n_other"] > 0]
        if len(other):
            warnings.warn(said_of_others(other), PmwmixWarning, stacklevel=2)
        return table

    def _average(self, ci_prob: float, of: str) -> pd.DataFrame:
        if of not in PARTS:
            raise OptionError(f"Unknown part {of!r}.{near(str(of), PARTS)} Use of='fixed' or of='varcorr'.")
        if of == "fixed":
            long, keys = self.tidy(ci_prob), ["term"]
            long["df"] = long["df"] if "df" in long else np.inf  # of posteriors
        else:
            long, keys = self.varcorr().rename(columns={"vcov": "estimate", "se": "std_error"}), ["grp", "var1", "var2"]
            long["df"] = np.inf
        rows = []
        for key, part in long.groupby(keys, sort=False, dropna=False):
            names = [name for name in (key if of == "fixed" else key[1:]) if isinstance(name, str)]
            same = comparable({group: self._meaning(group, names, of == "fixed") for group in part[self.by]})
            row = dict(zip(keys, key, strict=True)) | average_row(part[part[self.by].isin(same)], ci_prob)
            rows.append(row | {"n_other": len(part) - len(same)})
        none = [*keys, *average_row(long.iloc[:0], ci_prob), "n_other"]  # models without a fixed part
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=none)

    def _meaning(self, group: Any, names: Sequence[str], fixed: bool) -> Any:
        """Say what a coefficient, or a (co)variance of random effects, is relative to in one group."""
        if group not in self._meanings:
            self._meanings[group] = meanings(self[group])
        found = self._meanings[group][0 if fixed else 1]
        return tuple(found.get(name) for name in (OUTCOME, *names))

    def _long(self, table: Callable[[FitResult], pd.DataFrame]) -> pd.DataFrame:
        parts = []
        for group, one in self.items():
            part = table(one).copy()
            part.insert(0, self.by, [group] * len(part))
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    # -- face ---------------------------------------------------------------------------------------------------

    def summary(self, ci_prob: float = 0.95) -> Summary:
        """Give a readable account: average, coefficients by group, failures."""
        n = len(self) + len(self.failures)
        facts = [
            ("Formula", self.formula),
            ("Groups", f"{len(self)} of {n} fitted, by {self.by}"),
            ("Rows", str(sum(one.nobs for one in self.values()))),
        ]
        average = self._average(ci_prob, "fixed")
        sections = []
        if len(average):
            sections.append(Section("Average over groups", coefficient_table(average, ci_prob, "t")))
            sections.append(Section("Estimates (standard errors) by group", self._wide()))
        if len(self.failures):
            shown = self.failures.set_index("group")[["error", "message"]]
            shown.index = shown.index.map(str).rename(None)
            sections.append(Section("Failures", shown))
        notes = ["Averages weight groups equally; their standard errors treat groups as independent samples."]
        few = average.loc[average["n_groups"] + average["n_other"] < len(self), "term"].tolist()
        if (average["n_other"] > 0).any():
            notes.append(said_of_others(average[average["n_other"] > 0]))
        if few:
            notes.append(f"Not in all groups, averaged over those that have them: {', '.join(few)}.")
        stopped = [str(group) for group, one in self.items() if not one.converged]
        if stopped:
            notes.append(f"Not converged: {', '.join(stopped)}.")
        singular = [str(group) for group, one in self.items() if one.singular]
        if singular:
            notes.append(f"On the boundary (a variance of zero, a correlation of one): {', '.join(singular)}.")
        return Summary("One model per group", facts, sections, notes)

    def _wide(self) -> pd.DataFrame:
        long = self.tidy()
        places = {term: decimals_for(list(part["std_error"])) for term, part in long.groupby("term")}
        long["cell"] = [
            f"{fixed(e, places[t])} ({fixed(s, places[t])})"
            for t, e, s in zip(long["term"], long["estimate"], long["std_error"], strict=True)
        ]
        terms, groups = list(dict.fromkeys(long["term"])), list(self)
        wide = long.pivot(index=self.by, columns="term", values="cell").reindex(index=groups, columns=terms).fillna("")
        wide.index = pd.Index([str(group) for group in groups])
        wide.columns.name = None
        return wide

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def fit_groups(
    formula: Any, data: Any, by: str = "CNT", executor: Any = None, *, progress: bool | None = None, **options: Any
) -> GroupFits:
    """Fit one model per group, such as one per country.

    Parameters
    ----------
    formula : str or list of str
        As in `fit`.
    data : table or path
        As in `fit`; read once and sorted by group once. Of data that are read in pieces (scale) every group is picked
        by what reads them, and read as a table of the columns that its fit needs; with ``memory=`` it is streamed.
    by : str
        Column of the groups, or ``"country"`` with a survey preset.
    executor : concurrent.futures.Executor or dask.distributed.Client, optional
        Fits groups side by side: anything that has ``submit``.
    progress : bool, optional
        Bar over groups; default: in a terminal or notebook.
    **options
        All other arguments of `fit`: ``weights, pv, design, scaling, method``, ...

    Returns
    -------
    GroupFits
        A mapping from group to fit, with ``failures``, ``tidy()``, ``average()``, ``summary()``.

    Raises
    ------
    PmwmixError
        If the call itself is wrong, or no group can be fitted. What goes wrong in single groups is collected in
        ``failures``.

    Warns
    -----
    PmwmixWarning
        If groups failed, or rows have no group.

    Notes
    -----
    Groups are fitted from the largest down: the first compiles, the others of like size share compiled code. Threads
    share it too, but Python lets one of them compute at a time; processes compute side by side and compile for
    themselves.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"y": [1.0, 2, 4, 3, 5, 9] * 2, "g": list("aabbcc") * 2, "CNT": ["AUT"] * 6 + ["NZL"] * 6})
    >>> fits = fit_groups("y ~ 1 + (1 | g)", rows, progress=False)
    >>> fits.tidy()[["CNT", "term", "estimate"]]
       CNT       term  estimate
    0  AUT  Intercept       4.0
    1  NZL  Intercept       4.0
    """
    check_executor(executor, choose_engine(options.get("engine"), options.get("device")))
    _check_options(options)
    column, labels, parts, lost = _parts(data, by, options)
    n_rows = lost + sum(len(part) for part in parts)
    if not parts:
        raise DataError(f"There is no group. Column {column!r} is missing in all {lost} rows. Check the column.")
    if lost:
        warnings.warn(
            f"{lost} of {n_rows} rows belong to no group. Column {column!r} is missing there. They are left out.",
            PmwmixWarning,
            stacklevel=2,
        )
    subset, text = options.pop("subset", None), one_text(formula)
    tasks = [(text, part, {**options, "subset": own_rows(subset, part, n_rows), "progress": False}) for part in parts]
    done = _run(tasks, executor, progress)
    return _collected(column, text, labels, done)


def _parts(data: Any, by: str, options: Mapping[str, Any]) -> tuple[str, list[Any], Sequence[TablePart], int]:
    """Give the column of the groups, the groups, the rows of each, and the number of rows without one."""
    preset = resolve_design(options.get("design"))
    stream = stream_of(data, options.get("memory"))
    if stream is not None:
        refuse_rows(options.get("subset"))
        column = _group_column(by, stream.names, preset)
        return column, *source_parts(data, stream, column)
    table = Table(data, preset)
    column = _group_column(by, table.names, preset)
    labels, parts = sorted_parts(table, column)
    return column, labels, parts, table.n_rows - sum(len(part) for part in parts)


def _check_options(options: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(fit).parameters if name not in ("formula", "data", "executor")]
    wrong = [name for name in options if name not in known]
    if wrong:
        raise OptionError(
            f"fit_groups has no argument {wrong[0]!r}.{near(wrong[0], known)} Beside by= and executor= it takes those "
            f"of fit: {', '.join(known)}."
        )


def _group_column(by: Any, names: Sequence[str], design: Any) -> str:
    """Find the column of the groups: as named, in another case, or a kind of unit of the preset."""
    if not isinstance(by, str):
        raise OptionError(f"Groups are named by a column. Got by={by!r}. Write by='CNT'.")
    found = find(by, names)
    if found is None:
        kinds = id_names(design).get(by.lower(), ())
        found = next((one for name in kinds if (one := find(name, names)) is not None), None)
    if found is None:
        raise missing_columns([by], names, "groups, by=")
    return found


def _one(formula: str, data: Any, options: Mapping[str, Any]) -> Any:
    """Fit one group; what goes wrong is handed back, so that the others go on."""
    try:
        if options.get("memory") is not None:  # of a source that did not travel the rows have come
            in_pieces = isinstance(data, SourcePart)
            data, options = (data.picked(), options) if in_pieces else (data, {**options, "memory": None})
        return fit(formula, data, **options)
    except Exception as error:
        return error.with_traceback(None)


def _run(tasks: Sequence[tuple[str, TablePart, dict[str, Any]]], executor: Any, progress: bool | None) -> list[Any]:
    """Fit every group, from the largest down: the first here, to compile and to see what is wrong with the call."""
    order = sorted(range(len(tasks)), key=lambda k: -len(tasks[k][1]))
    done: dict[int, Any] = {}
    with bar("Groups", len(tasks), progress) as tick:
        first = _one(*tasks[order[0]])
        if isinstance(first, OF_THE_CALL):
            raise first
        done[order[0]] = first
        others = [tasks[k] for k in order[1:]]
        results = (_one(*task) for task in others) if executor is None else run_on(executor, _one, others, "groups")
        for k, result in zip(order[1:], results, strict=True):
            done[k] = result
            if tick is not None:
                tick(1)
    return [done[k] for k in range(len(tasks))]


def _collected(by: str, formula: str, labels: Sequence[Any], done: Sequence[Any]) -> GroupFits:
    fits = {label: one for label, one in zip(labels, done, strict=True) if not isinstance(one, Exception)}
    failed = [(label, one) for label, one in zip(labels, done, strict=True) if isinstance(one, Exception)]
    rows = [(label, type(one).__name__, " ".join(str(one).split())) for label, one in failed]
    failures = pd.DataFrame(rows, columns=["group", "error", "message"])
    if not fits:
        label, error = failed[0]
        raise DataError(
            f"No group could be fitted. All {len(failed)} groups of {by!r} failed, {label!r} with "
            f"{type(error).__name__}: {error} Mend that first."
        ) from error
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(labels)} groups could not be fitted. They are {some([k for k, _ in failed])}; the "
            f"first says: {rows[0][2]} See .failures.",
            PmwmixWarning,
            stacklevel=3,
        )
    return GroupFits(by, " ".join(formula.split()), fits, failures)
