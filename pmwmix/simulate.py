"""Populations with known parameters and informative two-stage sampling, for tests, docs and benchmarks.

A PISA-like survey: schools, students inside them, weights at both levels, plausible values. Knows nothing of fitting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pmwmix.errors import OptionError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
GROUP = "SCHOOLID"
SCHOOL_SIZE = 10  # students in the population for each student that a school of that size is expected to give
SCHOOL_TILT = 0.5  # log sampling rate of schools falls by this for one SD of the random intercept, within +-2 SD
LOW_SHARE = 2 / 3  # share of a school's sample that goes to students below their expected score


@dataclass(frozen=True, slots=True)
class SimulatedSurvey:
    """A simulated survey, the truth behind it, and the arguments of the call that estimates it.

    Attributes
    ----------
    data : DataFrame, shape (n, 5 + n_covariates + n_pv)
        A row per student: ``CNT``, ``SCHOOLID``, ``STIDSTD``, the weights ``W_FSTUWT`` (total student weight) and
        ``W_FSCHWT`` (school weight), both inverse inclusion probabilities, then ``escs, female, x3, ...`` and
        ``PV1MATH, PV2MATH, ...`` in score points.
    truth : Series
        Population parameters under the names that pmwmix gives them, variances and covariances last.
    formula : str
        The model that generated the data.
    weights : list of str
        Weight columns, students first.
    pv : dict of str to str
        The plausible-value set that ``formula`` names on its left side.
    population : Series
        ``schools`` and ``students`` in the population that was sampled: what the weights add up to, on average.
    """

    data: pd.DataFrame
    truth: pd.Series
    formula: str
    weights: list[str]
    pv: dict[str, str]
    population: pd.Series


def simulate_survey(
    n_schools: int = 150,
    n_students: int = 20,
    *,
    n_pv: int = 10,
    n_covariates: int = 2,
    psi: ArrayLike = ((2025.0, 90.0), (90.0, 100.0)),
    sigma: float = 75.0,
    beta: Sequence[float] | None = None,
    informative: bool = True,
    reliability: float = 0.9,
    n_population_schools: int | None = None,
    random_seed: int | None = None,
) -> SimulatedSurvey:
    """Draw a PISA-like two-stage sample with plausible values from a population with known parameters.

    Parameters
    ----------
    n_schools : int
        Schools in the sample, exactly.
    n_students : int
        Mean number of students sampled per school, at least 2. Under ``informative`` the sample has exactly
        ``n_schools * n_students`` rows, otherwise about as many.
    n_pv : int
        Plausible values per student.
    n_covariates : int
        Student covariates: ``escs`` (variance 1, a quarter of it between schools), ``female`` (0/1), then standard
        normal ``x3, x4, ...``.
    psi : array_like, shape (2, 2)
        Covariance of the schools' random intercept and ``escs`` slope, in score points squared.
    sigma : float
        Residual standard deviation, in score points.
    beta : sequence of float, length n_covariates + 1, optional
        Intercept and slopes, in score points. Default: 500, 30, -10, then 5 for each further covariate.
    informative : bool
        True: schools are drawn with probability proportional to size and falling with their random intercept,
        students below their expected score at a higher rate than those above, so that unweighted estimates are
        biased. False: every student of the population has the same probability and every school has.
    reliability : float
        Share of the residual variance that the test measures, above 0 and at most 1. At 1 all plausible values agree.
    n_population_schools : int, optional
        Schools in the population, at least ``n_schools``. Default: twenty times ``n_schools``.
    random_seed : int, optional
        Same seed, same data.

    Returns
    -------
    SimulatedSurvey

    Raises
    ------
    OptionError
        If an argument has an impossible value.

    Notes
    -----
    The score is theta = X beta + b0 + b1 escs + eps with (b0, b1) ~ N(0, psi) and eps ~ N(0, sigma^2). The test
    observes eps + e with var(e) = sigma^2 (1 - rho) / rho; a plausible value replaces eps by a draw from its posterior
    N(rho (eps + e), (1 - rho) sigma^2), so each has the distribution of theta and two of them have covariance
    rho sigma^2 given X and b. Schools are drawn by systematic sampling with probability proportional to a measure of
    size; those large enough to be certain have weight 1. Students are a simple random sample within two strata of
    the school, eps below and above 0. Only students of sampled schools are ever drawn, so millions are cheap.

    Examples
    --------
    >>> survey = simulate_survey(n_schools=30, n_students=10, n_pv=2, random_seed=1)
    >>> survey.formula
    'math ~ escs + female + (1 + escs | SCHOOLID)'
    >>> survey.data.shape
    (300, 9)
    """
    least = {"n_schools": 2, "n_students": 2, "n_pv": 1, "n_covariates": 1}
    for name, value in zip(least, (n_schools, n_students, n_pv, n_covariates), strict=True):
        _check_whole(name, value, least[name])
    if random_seed is not None:
        _check_whole("random_seed", random_seed, 0)
    n_population = 20 * n_schools if n_population_schools is None else n_population_schools
    _check_whole("n_population_schools", n_population, n_schools)
    _check_number("sigma", sigma)
    _check_number("reliability", reliability, largest=1.0)
    psi_root = _root("psi", psi)
    names = ["escs", "female", *(f"x{k}" for k in range(3, n_covariates + 1))][:n_covariates]
    slopes = _coefficients("beta", beta, n_covariates)

    rng = np.random.default_rng(random_seed)
    b = rng.standard_normal((n_population, 2)) @ psi_root.T
    size = SCHOOL_SIZE * np.maximum(2, np.rint(n_students * _relative_size(rng, n_population))).astype(np.int64)
    pi_school = _school_probabilities(size, b[:, 0], n_schools, informative)
    drawn = _systematic(rng, pi_school)

    per_school = _sample_sizes(rng, n_schools, n_students) if informative else size[drawn] // SCHOOL_SIZE
    school = np.repeat(np.arange(n_schools), per_school)
    eps, w_cond = _students(rng, size[drawn], per_school, sigma, informative)
    X = _covariates(rng, school, n_schools, names)
    mu = slopes[0] + X @ slopes[1:] + b[drawn, 0][school] + b[drawn, 1][school] * X[:, 0]

    w_school = (1 / pi_school[drawn])[school]
    columns: dict[str, Any] = {"CNT": "SIM", GROUP: school + 1, "STIDSTD": np.arange(1, len(school) + 1)}
    columns |= {"W_FSTUWT": w_school * w_cond, "W_FSCHWT": w_school}
    columns |= {name: X[:, k] for k, name in enumerate(names)}
    measured = reliability * eps + np.sqrt(reliability * (1 - reliability)) * sigma * rng.standard_normal(len(eps))
    for k in range(1, n_pv + 1):
        columns[f"PV{k}MATH"] = mu + measured + np.sqrt(1 - reliability) * sigma * rng.standard_normal(len(eps))
    return SimulatedSurvey(
        data=pd.DataFrame(columns, copy=False),
        truth=_truth(names, slopes, np.asarray(psi, dtype=float), sigma),
        formula=f"math ~ {' + '.join(names)} + (1 + escs | {GROUP})",
        weights=["W_FSTUWT", "W_FSCHWT"],
        pv={"math": "PV{}MATH"},
        population=pd.Series({"schools": n_population, "students": int(size.sum())}, name="population"),
    )


def _truth(names: Sequence[str], beta: Floats, psi: Floats, sigma: float) -> pd.Series:
    """Name the parameters as the package does."""
    values = dict(zip(["Intercept", *names], map(float, beta), strict=True))
    values[f"var({GROUP} Intercept)"] = float(psi[0, 0])
    values[f"cov({GROUP} Intercept, escs)"] = float(psi[0, 1])
    values[f"var({GROUP} escs)"] = float(psi[1, 1])
    values["var(Residual)"] = float(sigma) ** 2
    return pd.Series(values, name="truth")


def _relative_size(rng: np.random.Generator, n: int) -> Floats:
    """Draw school sizes around one, (n,); bounded, so that drawing a twentieth of the schools needs no certainties."""
    return np.clip(rng.gamma(4.0, 0.25, n), 0.4, 2.5)


def _school_probabilities(size: Integers, b0: Floats, n_schools: int, informative: bool) -> Floats:
    """Give each school of the population its inclusion probability, (n_population,), adding up to ``n_schools``."""
    if not informative:
        return np.full(len(size), n_schools / len(size))
    spread = b0.std()
    z = b0 / spread if spread > 0 else np.zeros_like(b0)
    measure = size * np.exp(-SCHOOL_TILT * np.clip(z, -2, 2))
    certain = np.zeros(len(size), dtype=bool)
    while True:  # schools that would exceed 1 are taken for certain, and the others share what is left
        rest = np.where(certain, 0.0, measure)
        total = rest.sum()
        pi = np.where(certain, 1.0, rest * ((n_schools - certain.sum()) / total if total > 0 else 0.0))
        if not (pi > 1).any():
            return pi
        certain |= pi >= 1


def _systematic(rng: np.random.Generator, pi: Floats) -> Integers:
    """Draw systematically with probabilities ``pi`` that add up to a whole number n; sorted positions, (n,)."""
    n = round(pi.sum())
    edges = np.cumsum(pi)
    edges *= n / edges[-1]
    return np.searchsorted(edges, rng.random() + np.arange(n), side="right").clip(max=len(pi) - 1)


def _sample_sizes(rng: np.random.Generator, n_schools: int, n_students: int) -> Integers:
    """Vary the students sampled per school by up to a third, in pairs of schools so that the total is exact."""
    step = rng.integers(0, min(n_students // 3, n_students - 2) + 1, n_schools // 2)
    return n_students + rng.permutation(np.concatenate([step, -step, np.zeros(n_schools % 2, dtype=step.dtype)]))


def _students(
    rng: np.random.Generator, size: Integers, per_school: Integers, sigma: float, informative: bool
) -> tuple[Floats, Floats]:
    """Draw the residuals of the sampled students, school by school, and their conditional weights, both (n,)."""
    if not informative:
        return sigma * rng.standard_normal(per_school.sum()), np.repeat(size / per_school, per_school)
    n_low_all = rng.binomial(size, 0.5)
    n_high_all = size - n_low_all
    aim = np.clip(np.rint(LOW_SHARE * per_school).astype(np.int64), 1, per_school - 1)
    n_low = np.clip(aim, per_school - n_high_all, n_low_all)
    counts = np.column_stack([n_low, per_school - n_low]).ravel()
    w_stratum = np.column_stack([n_low_all, n_high_all]).ravel() / np.maximum(counts, 1)
    sign = np.tile([-1.0, 1.0], len(size))
    # A student below expectation has a half-normal residual: nobody outside the sample has to be drawn.
    return np.repeat(sign, counts) * np.abs(sigma * rng.standard_normal(counts.sum())), np.repeat(w_stratum, counts)


def _covariates(rng: np.random.Generator, school: Integers, n_schools: int, names: Sequence[str]) -> Floats:
    """Draw the covariates, (n, len(names)), stored column by column."""
    X = np.empty((len(school), len(names)), order="F")
    for k, name in enumerate(names):
        X[:, k] = rng.integers(0, 2, len(school)) if name == "female" else rng.standard_normal(len(school))
    X[:, 0] = np.sqrt(0.25) * rng.standard_normal(n_schools)[school] + np.sqrt(0.75) * X[:, 0]
    return X


def _check_whole(name: str, value: object, least: int) -> None:
    """Refuse what is not a whole number of at least ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise OptionError(
            f"A whole number is needed. {name} is {value!r}. Give {name} an integer that is at least {least}."
        )


def _check_number(name: str, value: object, largest: float = np.inf) -> None:
    """Refuse what is not a finite number above zero and at most ``largest``."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else np.nan
    if not (np.isfinite(number) and 0 < number <= largest):
        legal = f"above 0 and at most {largest:g}" if np.isfinite(largest) else "above 0 and finite"
        raise OptionError(f"A positive number is needed. {name} is {value!r}. Give {name} a value {legal}.")


def _numbers(name: str, values: object, shape: tuple[int, ...], meaning: str) -> Floats:
    """Turn ``values`` into finite floats of one ``shape``."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.shape != shape or not np.isfinite(array).all():
        raise OptionError(
            f"Finite numbers of shape {shape} are needed. {name} is {values!r}. Give {name} as {meaning}."
        )
    return array


def _coefficients(name: str, beta: Sequence[float] | None, n_covariates: int) -> Floats:
    """Check the fixed effects, intercept first, or fill in the defaults; (n_covariates + 1,)."""
    if beta is None:
        return np.array([500.0, 30.0, -10.0, *[5.0] * n_covariates])[: n_covariates + 1]
    return _numbers(name, beta, (n_covariates + 1,), f"an intercept and {n_covariates} slopes (n_covariates)")


def _root(name: str, psi: ArrayLike) -> Floats:
    """Factor the random-effects covariance, (2, 2), as R R'; zero variances are allowed."""
    matrix = _numbers(name, psi, (2, 2), "the covariance of intercept and slope")
    values, vectors = np.linalg.eigh(matrix)
    if not np.allclose(matrix, matrix.T) or values[0] < -1e-10 * max(values[-1], 1.0):
        raise OptionError(
            f"A covariance matrix is symmetric without negative eigenvalues. {name} is {matrix.tolist()}. "
            f"Give {name} as ((v0, c), (c, v1)) with c*c at most v0*v1."
        )
    return vectors * np.sqrt(np.maximum(values, 0.0))
