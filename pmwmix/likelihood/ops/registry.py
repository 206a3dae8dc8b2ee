"""What the compilers must know of each of our Ops: said once, where the Op is defined.

A compiler learns all Ops when its engine is first chosen, and from then on each new one as it is registered, so that
the order of imports decides nothing. Neither JAX nor numba is imported before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

Form = Callable[[Any, Apply], Callable[..., Any]]


@dataclass(frozen=True)
class Forms:
    """An Op in the language of each compiler: maps from the Op and one of its nodes to a function of arrays.

    Parameters
    ----------
    jax : callable
    numba : callable or None
        Whatever it returns may depend on nothing but the Op's properties; None calls back into ``perform``.
    """

    jax: Form
    numba: Form | None


OPS: dict[type[Op], Forms] = {}
_taught: set[str] = set()


def register(kind: type[Op], jax: Form, numba: Form | None = None) -> None:
    """Give an Op and its subclasses their forms; a subclass may have forms of its own."""
    OPS[kind] = Forms(jax, numba)
    for compiler in _taught:
        _COMPILERS[compiler](kind, OPS[kind])


def teach(compiler: str) -> None:
    """Let a compiler, ``"jax"`` or ``"numba"``, know every Op that is registered or will be."""
    if compiler not in _taught:
        for kind, forms in OPS.items():
            _COMPILERS[compiler](kind, forms)
        _taught.add(compiler)


def _teach_jax(kind: type[Op], forms: Forms) -> None:
    from pytensor.link.jax.dispatch import jax_funcify

    @jax_funcify.register(kind)
    def _form(op: Op, node: Apply, **kwargs: Any) -> Any:
        return forms.jax(op, node)


def _teach_numba(kind: type[Op], forms: Forms) -> None:
    from pytensor.link.numba.dispatch import basic

    if forms.numba is not None:
        native = forms.numba

        @basic.register_funcify_default_op_cache_key(kind)
        def _form(op: Op, node: Apply, **kwargs: Any) -> Any:
            return native(op, node)

        return

    # not `numba_funcify` alone: a class above this one may have a form of its own, which numba would look up first
    @basic.register_funcify_and_cache_key(kind)
    def _perform(op: Op, node: Apply, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return basic.generate_fallback_impl(op, node=node, **kwargs), None


_COMPILERS: dict[str, Callable[[type[Op], Forms], None]] = {"jax": _teach_jax, "numba": _teach_numba}
