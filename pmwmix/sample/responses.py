"""Fitted values, predictions and predictive draws of a posterior."""

from __future__ import annotations

from typing import Any

from pmwmix.errors import NotSupportedError


def _later(*args: Any, **kwargs: Any) -> Any:
    raise NotSupportedError("Being written. Asked for too early. Wait.")


fitted = residuals = predict = posterior_predictive = prior_predictive = _later
