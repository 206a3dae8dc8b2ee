"""Teach the engines the curves of the links: functions whose derivatives are written out."""

from __future__ import annotations

import warnings
from typing import Any

from pmwmix.links._curves import Curve


def register_jax() -> None:
    """Teach JAX; called only when the JAX engine is chosen."""
    import jax
    import jax.numpy as jnp
    from pytensor.link.jax.dispatch import jax_funcify

    @jax_funcify.register(Curve)
    def _curve(op: Curve, **kwargs: Any) -> Any:
        return lambda x: op.formula(jnp, jax.scipy.special, x)


def register_numba() -> None:
    """Let numba call back into numpy without a warning; called only when the numba engine is chosen."""
    from pytensor.link.numba.dispatch import basic as numba_basic

    @numba_basic.numba_funcify.register(Curve)
    def _curve(op: Curve, node: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return numba_basic.generate_fallback_impl(op, node=node, **kwargs)
