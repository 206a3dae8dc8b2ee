"""Means of an outcome that has several linear predictors, and their derivatives, row by row.

Equations are those of docs/effects.md and docs/predictors.md. Numbers only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pmwmix._types import Array
from pmwmix.errors import NotSupportedError
from pmwmix.inference.averages import MeanModel, RowColumns
from pmwmix.prediction.blueprint import Blueprint
from pmwmix.prediction.modes import covariances, quadratic
from pmwmix.prediction.responses import spread_rule

FINE, COARSE = 1e-3, 1e-2  # steps of first and of second differences, both of fourth order: errors below 1e-9
FIRST = ((-2, 1.0 / 12.0), (-1, -8.0 / 12.0), (1, 8.0 / 12.0), (2, -1.0 / 12.0))
SECOND = ((-2, -1.0 / 12.0), (-1, 16.0 / 12.0), (0, -30.0 / 12.0), (1, 16.0 / 12.0), (2, -1.0 / 12.0))


@dataclass(frozen=True)
class SeveralMeans(MeanModel):
    """As `MeanModel`, of a family with several linear predictors.

    Parameters
    ----------
    fit : FitResult
    blueprint : Blueprint
    """

    fit: Any = None
    blueprint: Any = None

    @classmethod
    def of(cls, fit: Any, blueprint: Blueprint, averaged: bool, type: str) -> MeanModel:
        """Read the parameters of a single fit."""
        plain = MeanModel.of(fit, blueprint, averaged, type)
        family = fit.distribution[0]
        if plain.link is None and family.first is not None:
            raise NotSupportedError(
                f"Averages of linear predictors are built for one of them. This outcome has one for each of "
                f"{', '.join(one.name for one in family.predictors)}. Use type='response', or the coefficients."
            )
        if plain.link is None:
            return plain
        if family.mean_depends_on_level_one and not len(fit.phi):
            raise NotSupportedError(
                f"Averages of a posterior are built for means that coefficients and random effects decide. That of "
                f"family={fit.family!r} depends on the spread of the rows too. Use predict(), or method='ml'."
            )
        if family.mean_depends_on_parameters and len(fit.phi):
            names = list(family.parameters(fit.phi)[0])
            raise NotSupportedError(
                f"The errors of averages need those of {', '.join(names)}, on which the mean depends. With family="
                f"{fit.family!r} it has no linear predictor whose errors are kept. Fit with '{names[0]} ~ 1' among the "
                f"formulas."
            )
        fields = {name: getattr(plain, name) for name in MeanModel.__dataclass_fields__}
        return cls(**fields, fit=fit, blueprint=blueprint)

    def rows(self, columns: RowColumns) -> tuple[Array, Array]:
        """Means of every row (n, c) and their derivatives in the parameters (n, c, P) (effects, eqs. 23-25).

        The derivative of an average over normal variables in their variance is half the average second derivative, in
        a covariance the average mixed one (Price 1958).
        """
        K, of = self.blueprint.n_predictors, self.blueprint.x_of
        mine = of[None, :] == np.arange(K)[:, None]
        etas = (columns.X[None] * mine[:, None, :]) @ self.beta
        etas[0] += columns.offset
        C = np.zeros((K, K, len(columns.X)))
        for level, Psi in enumerate(self.Psi):
            C += covariances(columns.Z[level], self.blueprint.z_of(level), Psi, K)
        exact = self.fit.distribution[0].has_mean_derivatives
        mean, slopes, second = (self._exact if exact else self._by_differences)(etas, C)
        G = np.zeros((*mean.shape, self.n_parameters))
        if self.fit.distribution[0].mean_depends_on_level_one:
            G[:, :, -1] = self.fit.distribution[0].mean_by_level_one(mean)
        first, last = self.n_thresholds, self.n_thresholds + len(self.beta)
        for k in range(first):
            step = FINE * np.eye(first)[k]
            G[:, :, k] = sum(c * self._mean(etas, C, self.fit.phi + a * step) for a, c in FIRST) / FINE
        G[:, :, first:last] = slopes[:, :, of] * columns.X[:, None, :]
        for place, (level, i, j) in enumerate(self.entries if self.Psi else (), start=last):
            k, m = (self.blueprint.z_of(level)[c] for c in (i, j))
            z = columns.Z[level][i] * columns.Z[level][j]
            G[:, :, place] = (0.5 if i == j else 1.0) * z[:, None] * second(k, m)
        return mean, G

    def _exact(self, etas: Array, C: Array) -> tuple[Array, Array, Callable[[int, int], Array]]:
        """Means (n, c), slopes (n, c, K) and second derivatives (n, c) as the family gives them."""
        family = self.fit.distribution[0]
        steps, weights = spread_rule(self.fit, C) if self.Psi else (iter([0.0]), np.ones(1))
        total: list[Array] = []
        for step, w in zip(steps, weights, strict=True):
            found = [w * part for part in family.mean_derivatives(self.fit.links, etas + step, bool(self.Psi))]
            total = found if not total else [a + b for a, b in zip(total, found, strict=True)]
        return total[0], total[1], lambda k, m: total[2][:, :, k, m]

    def _mean(self, etas: Array, C: Array, phi: Array) -> Array:
        """Means (n, c) at linear predictors and parameters of the family."""
        family = self.fit.distribution[0]
        steps, weights = spread_rule(self.fit, C) if self.Psi else (iter([0.0]), np.ones(1))
        every = zip(steps, weights, strict=True)
        found = sum(w * family.mean_of(self.fit.links, list(etas + step), phi) for step, w in every)
        return np.asarray(found).reshape(etas.shape[1], -1)

    def _by_differences(self, etas: Array, C: Array) -> tuple[Array, Array, Callable[[int, int], Array]]:
        """As `_exact`, by finite differences."""

        def mean(moved: Array) -> Array:
            return self._mean(moved, C, self.fit.phi)

        slopes = np.stack([_differences(mean, etas, k, FINE) for k in range(len(etas))], axis=-1)
        return mean(etas), slopes, lambda k, m: self._second(mean, etas, k, m)

    def outcomes(self, values: Array, gradients: Array, total: float) -> tuple[Array, Array]:
        """Leave them: probabilities are not cumulated here."""
        return values, gradients

    @staticmethod
    def _second(mean: Callable[..., Array], etas: Array, k: int, m: int) -> Array:
        if k != m:
            return _differences(lambda moved: _differences(mean, moved, m, COARSE), etas, k, COARSE)
        step = COARSE * np.eye(len(etas))[k][:, None]
        total = sum(c * mean(etas + a * step) for a, c in SECOND)
        return np.asarray(total / COARSE**2)


def _differences(mean: Callable[..., Array], etas: Array, k: int, h: float) -> Array:
    """Differentiate the mean in linear predictor ``k``."""
    step = h * np.eye(len(etas))[k][:, None]
    return np.asarray(sum(c * mean(etas + a * step) for a, c in FIRST) / h)


@dataclass(frozen=True)
class OutcomeMeans(MeanModel):
    """As `MeanModel`, of several outcomes, each with one linear predictor: a column of means each.

    Parameters
    ----------
    curves : tuple of callable
        Linear predictor (n,) to mean (n,), of every outcome; empty where means are the linear predictors.
    blueprint : Blueprint
    """

    curves: tuple[Callable[[Array], Array], ...] = ()
    blueprint: Any = None

    @classmethod
    def of(cls, fit: Any, blueprint: Blueprint, averaged: bool, type: str) -> MeanModel:
        """Read the parameters of a single fit.

        Raises
        ------
        NotSupportedError
            If the mean of an outcome depends on more than its linear predictor.
        """
        plain = MeanModel.of(fit, blueprint, averaged, type)
        fields = {name: getattr(plain, name) for name in MeanModel.__dataclass_fields__} | {"link": "of each"}
        if fit.has_closed_form or type == "link":
            return cls(**fields, blueprint=blueprint)
        curves = []
        for member, phi in zip(fit.distribution[0].members, fit.distribution[0].of_each(fit.phi), strict=True):
            family, link = member.parts
            if family.is_categorical or family.mean_depends_on_parameters:
                raise NotSupportedError(
                    f"Averages of several outcomes are built for means that coefficients and random effects decide. "
                    f"That of {member.outcome!r} with family={member.family!r} depends on further parameters. Use "
                    f"type='link' or predict(), or fit {member.outcome!r} by itself."
                )
            curves.append(partial(_curve, family, link, phi))
        return cls(**fields, curves=tuple(curves), blueprint=blueprint)

    def rows(self, columns: RowColumns) -> tuple[Array, Array]:
        """Means of every row (n, m) and their derivatives in the parameters (n, m, P) (effects, eqs. 23-25)."""
        n, m = len(columns.X), self.blueprint.n_predictors
        mean, G = np.zeros((n, m)), np.zeros((n, m, self.n_parameters))
        for k in range(m):
            X = columns.X * (self.blueprint.x_of == k)
            eta = X @ self.beta + (columns.offset if k == 0 else 0.0)
            own = [np.flatnonzero(np.array(self.blueprint.z_of(level)) == k) for level in range(len(self.Psi))]
            variance = np.zeros(n)
            for level, places in enumerate(own):
                columns_z = [columns.Z[level][c] for c in places]
                variance += quadratic(columns_z, self.Psi[level][np.ix_(places, places)]) if len(places) else 0.0
            mean[:, k], slope, bend = self._curved(k, eta, np.sqrt(variance))
            G[:, k, : len(self.beta)] = slope[:, None] * X
            for place, (level, i, j) in enumerate(self.entries if self.Psi else (), start=len(self.beta)):
                if i in own[level] and j in own[level]:
                    z = columns.Z[level][i] * columns.Z[level][j]
                    G[:, k, place] = (0.5 if i == j else 1.0) * z * bend
        return mean, G

    def _curved(self, k: int, eta: Array, sd: Array) -> tuple[Array, Array, Array]:
        """Mean of outcome ``k`` over the random part, and its first and second derivatives in the linear predictor."""
        if not self.curves:
            return eta, np.ones(len(eta)), np.zeros(len(eta))

        def mean(at: Array) -> Array:
            return np.asarray(sum(w * self.curves[k](at + a * sd) for a, w in zip(*self.rule, strict=True)))

        slope = sum(c * mean(eta + a * FINE) for a, c in FIRST) / FINE
        return mean(eta), np.asarray(slope), np.asarray(sum(c * mean(eta + a * COARSE) for a, c in SECOND) / COARSE**2)

    def outcomes(self, values: Array, gradients: Array, total: float) -> tuple[Array, Array]:
        """Leave them."""
        return values, gradients


def _curve(family: Any, link: Any, phi: Array, eta: Array) -> Array:
    found: Array = family.mean(link, eta, phi)
    return found
