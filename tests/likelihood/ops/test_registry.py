"""Ops and the compilers: each is registered, whenever it is imported and whatever it is a subclass of."""

import importlib
import pkgutil

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.scalar.basic import Second

from pmwmix.likelihood.engine import ENGINES, Compiled
from pmwmix.likelihood.graph import Graph
from pmwmix.likelihood.ops.fills import Spread
from pmwmix.likelihood.ops.registry import OPS, register


def every_op(kind=Op):
    """Give all subclasses that the package defines."""
    for one in kind.__subclasses__():
        if one.__module__.startswith("pmwmix."):
            yield one
        yield from every_op(one)


def test_every_op_of_the_package_is_registered():
    """One that computes something of its own needs a form of its own: that of the class above would be another Op's."""
    for room in ("links", "families", "likelihood"):
        package = importlib.import_module(f"pmwmix.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"pmwmix.{room}."):
            importlib.import_module(module.name)
    found = set(every_op())
    assert len(found) > 10
    for kind in found:
        home = next(base for base in kind.__mro__ if "perform" in vars(base))
        assert home in OPS, f"{kind.__module__}.{kind.__qualname__} has no form in JAX"


class Double(Op):
    """An Op that is defined after the engines have been chosen."""

    __props__ = ()

    def make_node(self, x):
        return Apply(self, [x], [x.type()])

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = 2.0 * inputs[0]


class Triple(Double):
    """A subclass without a form of its own in numba, of a class that has one."""

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = 3.0 * inputs[0]


def numba_double(op, node):
    from pytensor.link.numba.dispatch.basic import numba_njit

    @numba_njit
    def run(x):
        return 2.0 * x

    return run


@pytest.mark.parametrize("engine", ["jax", "numba"])
def test_ops_registered_after_the_engine_was_chosen_are_known(engine):
    mode = ENGINES[engine]()
    try:
        register(Double, lambda op, node: lambda x: 2.0 * x, numba_double)
        register(Triple, lambda op, node: lambda x: 3.0 * x)
        x = pt.dvector()
        run = pytensor.function([x], [Double()(x), Triple()(x)], mode=mode)
        for got, expected in zip(run(np.array([1.0, 5.0])), ([2.0, 10.0], [3.0, 15.0]), strict=True):
            np.testing.assert_array_equal(got, expected)
    finally:
        OPS.pop(Double, None), OPS.pop(Triple, None)


def test_the_interpreter_fills_without_a_python_function_for_every_element():
    """Second is frompyfunc's: 43 million calls in one file of tests."""
    x, y, a = pt.matrix("x"), pt.row("y"), pt.scalar("a")
    graph = Graph([x, y, a], {"rows": pt.second(x, y), "both": pt.second(y, x), "one": pt.second(y, a) + 1})
    made = Compiled(graph, "python")
    values = np.arange(6.0).reshape(2, 3), np.arange(3.0)[None] + 7, np.array(4.0)
    found = made(values[0], list(values[1:]))
    np.testing.assert_array_equal(found["rows"], np.broadcast_to(values[1], (2, 3)))
    np.testing.assert_array_equal(found["both"], values[0])
    np.testing.assert_array_equal(found["one"], np.full((1, 3), 5.0))
    ops = [node.op for node in made.function.maker.fgraph.toposort()]
    assert any(isinstance(op, Spread) for op in ops)
    assert not any(isinstance(getattr(op, "scalar_op", None), Second) for op in ops)
