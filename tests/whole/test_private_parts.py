"""Private parts of other packages that we rest on, each behind one function; these tests say what broke."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytensor.tensor as pt
from formulaic.parser.types import Factor
from pytensor.graph.replace import vectorize_graph

from pmwmix.likelihood.engine import Compiled, jitted
from pmwmix.likelihood.graph import Graph
from pmwmix.likelihood.ops.segment import segment_sum
from pmwmix.running import processes_of, will_fork
from pmwmix.sample.nuts.meeting import is_possible, nutpie_library
from pmwmix.spec.terms import side_of


def test_pytensor_batches_our_ops():
    """links/_vectorise.py: if this fails, `_vectorize_node` of pytensor.graph.replace moved or is asked otherwise."""
    x, index, like = pt.dvector(), pt.lvector(), pt.dvector()
    out = segment_sum(x, index, like)
    many = pt.dmatrix()
    batched = vectorize_graph(out, {x: many})
    run = Compiled(Graph([many, index, like], {"sums": batched}), "python")
    got = run(np.arange(6.0).reshape(2, 3), [np.array([0, 1, 1]), np.zeros(2)])["sums"]
    assert got.tolist() == [[0.0, 3.0], [3.0, 9.0]]


def test_pytensor_hands_jax_out():
    """likelihood/engine.py `jitted`: if this fails, the JAX linker of PyTensor keeps its function elsewhere.

    Fits then still work through PyTensor's own call, slower: inputs are copied, and no two threads evaluate at once.
    """
    x = pt.dvector()
    compiled = Compiled(Graph([x], {"y": x * 2.0}), "jax")
    assert jitted(compiled.function) is not None
    assert np.asarray(jitted(compiled.function)(np.arange(3.0))[0]).tolist() == [0.0, 2.0, 4.0]


def test_executors_say_how_they_start_processes():
    """running.py `will_fork`: if this fails, ProcessPoolExecutor keeps its context elsewhere, and forks hang in JAX.

    And `processes_of`: parts of a fit would each take the memory of the whole budget.
    """
    with ThreadPoolExecutor(1) as threads:
        assert not will_fork(threads) and processes_of(threads) == 1
    if "fork" in multiprocessing.get_all_start_methods():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as forks:
            assert will_fork(forks)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as spawns:
        assert not will_fork(spawns)
    assert processes_of(ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn"))) == 3


def test_nutpie_takes_c_functions():
    """sample/nuts/meeting.py: if this fails, nutpie's `_lib` lost what chains need to meet.

    Posteriors are then sampled with one evaluation per chain in Python: right, and several times slower.
    """
    assert is_possible()
    assert {"LogpFunc", "ExpandFunc", "PyMcModel", "PyVariable", "PySampler"} <= set(dir(nutpie_library()))


def test_formulaic_cuts_formulas_into_tokens():
    """spec/terms.py: if this fails, formulaic's tokens, syntax tree or factors changed; formulas are refused then."""
    side = side_of("x * log(`my z`) + {x + 1}", "test")
    assert set(side.terms) == {"x", "log(`my z`)", "{x + 1}", "x:log(`my z`)"}
    assert {"LOOKUP", "LITERAL", "PYTHON"} <= {method.name for method in Factor.EvalMethod}
