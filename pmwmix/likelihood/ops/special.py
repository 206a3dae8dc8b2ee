"""The curves of links and families in JAX: functions whose derivatives are written out."""

from __future__ import annotations

from typing import Any

from pmwmix.families._compound import JumpSum, border, integrated, most_jumps, summed
from pmwmix.families._rising import LogRising
from pmwmix.likelihood.ops.registry import register
from pmwmix.links._curves import Curve


def _jax_curve(op: Any, node: Any) -> Any:
    """Evaluate each curve once: without the barrier XLA writes it again into every loop that reads it."""
    import jax
    import jax.numpy as jnp

    return lambda *x: jax.lax.optimization_barrier(op.formula(jnp, jax.scipy.special, *x))


def _jax_jump_sum(op: Any, node: Any) -> Any:
    """Sum and integrate for every row, and take what is due."""
    import jax
    import jax.numpy as jnp

    def run(u: Any, shape: Any) -> Any:
        flat, own = u.reshape(-1), shape.reshape(-1)
        if own.shape[0] > 1:
            own = jnp.broadcast_to(shape, u.shape).reshape(-1)
        edge = border(jnp, own)
        few = summed(
            jnp, jax.scipy.special, jnp.minimum(flat, edge), own, op.order, jnp.arange(1.0, most_jumps() + 1.0)
        )
        many = integrated(jnp, jax.scipy.special, jnp.maximum(flat, edge), own, op.order)
        found = [jnp.where(flat > edge, far, near).reshape(u.shape) for far, near in zip(many, few, strict=True)]
        kept = jax.lax.optimization_barrier(tuple(found))
        return kept if op.order else kept[0]

    return run


register(Curve, _jax_curve)
register(LogRising, _jax_curve)
register(JumpSum, _jax_jump_sum)
