"""Fits as what JSON can hold, for the command line."""

from __future__ import annotations

from typing import Any


def groups_as_json(groups: Any, ci_prob: float = 0.95) -> dict[str, Any]:
    """Lay fits by group out as plain JSON values."""
    return {
        "by": groups.by,
        "average": _records(groups.average(ci_prob)),
        "groups": {str(name): as_json(one, ci_prob) for name, one in groups.items()},
        "failures": _records(groups.failures),
    }


def as_json(result: Any, ci_prob: float = 0.95) -> dict[str, Any]:
    """Lay a fit out as plain JSON values: settings, tables, and the tables of every plausible value."""
    import dataclasses

    def one(fit: Any) -> dict[str, Any]:
        return {
            "loglik": getattr(fit, "loglik", None),
            "status": fit.status,
            "coef": fit.coef.to_dict(),
            "varcorr": _records(fit.varcorr),
        }

    return {
        "settings": dataclasses.asdict(result.settings),
        "fixed": _records(result.tidy(ci_prob)),
        "varcorr": _records(result.varcorr),
        "sigma": _by_name(result.sigma),
        "icc": _by_name(result.icc),
        "loglik": getattr(result, "loglik", None),
        "nobs": result.nobs,
        "n_groups": {str(name): int(n) for name, n in result.n_groups.items()},
        "weight_stats": result.weight_stats.to_dict(orient="index"),
        "converged": result.converged,
        "singular": result.singular,
        "status": result.status,
        "notes": list(result.notes),
        "fits": [one(fit) for fit in result.fits] if result.n_pv > 1 else [],
    }


def _by_name(value: Any) -> Any:
    return value if isinstance(value, float) else {str(k): float(v) for k, v in value.items()}


def _records(table: Any) -> list[dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict(orient="records")
    return [{name: _finite(value) for name, value in row.items()} for row in rows]


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    import math

    return None if isinstance(value, float) and not math.isfinite(value) else value
