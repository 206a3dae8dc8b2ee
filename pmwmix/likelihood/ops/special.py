"""The curves of links and families in JAX: functions whose derivatives are written out."""

from __future__ import annotations

from typing import Any

from pmwmix.likelihood.ops.registry import register
from pmwmix.links._curves import Curve


def _jax_curve(op: Any, node: Any) -> Any:
    """Evaluate each curve once: without the barrier XLA writes it again into every loop that reads it."""
    import jax
    import jax.numpy as jnp

    return lambda x: jax.lax.optimization_barrier(op.formula(jnp, jax.scipy.special, x))


register(Curve, _jax_curve)
