"""Which operators become one loop, and which must not."""

import numpy as np
import pytest

import nano
from nano.compiler.codegen import Fused
from nano.compiler.fuse import MAX_INPUTS, MAX_OPERATORS, MAX_OUTPUTS, fuse
from nano.compiler.graph import Accumulate, Effect, Overwrite

from .traced import names, run, tensor, traced


def after(function, *tensors, change=None):
    """What the nodes are after fusing; the program still gives the same."""
    graph, _ = traced(function, *tensors)
    if change is not None:
        change(graph)
    else:
        wanted = run(graph, *[t._data for t in tensors])
    fuse(graph)
    graph.check()
    if change is None:
        for x, y in zip(wanted, run(graph, *[t._data for t in tensors]), strict=True):
            np.testing.assert_array_equal(x, y)
    return names(graph)


X, Y = tensor((40, 30), seed=1), tensor((40, 30), seed=2)


def test_a_chain_becomes_one_loop():
    assert after(lambda x, y: ((x + y) * x).relu(), X, Y) == [["Add", "Mul", "Relu"]]


def test_one_operator_stays():
    assert "Add" in after(lambda x, y: (x + y) @ x.t(), X, Y)


def test_chains_that_meet_are_one_loop():
    assert after(lambda x, y: (x * 2.0 + 1.0) * (y - 3.0).relu(), X, Y) == [
        ["Mul", "Add", "Sub", "Relu", "Mul"]
    ]


def test_operators_that_read_the_same_share_a_loop():
    assert after(lambda x, y: (x * y, x + 1.0), X, Y) == [["Mul", "Add"]]


def test_shapes_are_not_mixed():
    def function(x, w):
        return x * (w * 2.0 + 1.0).relu() + x

    w = tensor((30,), seed=2)
    assert after(function, X, w) == [["Mul", "Add", "Relu"], ["Mul", "Add"]]


def test_a_sum_ends_a_loop():
    graph, _ = traced(lambda x, y: ((x * y).sum(0) + 1.0) * y, X, Y)
    fuse(graph)
    assert names(graph) == [["Mul", "Sum"], "Add", "Mul"]


def test_a_sum_joins_from_behind_who_reads_what_it_adds_up():
    def function(x, y):
        a = (x * y).tanh()
        return a @ y.t(), a.sum(0)

    graph, _ = traced(function, X, Y)
    wanted = run(graph, X._data, Y._data)
    fuse(graph)
    graph.check()
    assert names(graph)[0] == ["Mul", "Tanh", "Sum"]
    for a, b in zip(wanted, run(graph, X._data, Y._data), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)


def test_a_sum_stays_behind_what_writes_into_its_operand():
    def function(x, y):
        a = x * y
        b = a @ y.t()
        a.add_(1.0)
        return b, a.sum(0)

    graph, _ = traced(function, X, Y)
    wanted = run(graph, X._data, Y._data)
    fuse(graph)
    graph.check()
    for a, b in zip(wanted, run(graph, X._data, Y._data), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)


def test_sums_of_everything_may_read_what_is_broadcast():
    w = tensor((30,), seed=2)
    graph, _ = traced(lambda x, w: ((x * w).sum(), (x + w).mean()), X, w)
    wanted = run(graph, X._data, w._data)
    fuse(graph)
    assert names(graph) == [["Mul", "Sum", "Add", "Mean"]]
    for a, b in zip(wanted, run(graph, X._data, w._data), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)


def test_nothing_moves_past_who_uses_it():
    def function(x, y):
        a = x * 2.0 + y
        b = a @ y.t()
        c = (a - y).relu()
        return b, c

    graph, _ = traced(function, X, Y)
    fuse(graph)
    graph.check()
    found = names(graph)
    assert found[0] == ["Mul", "Add"]
    assert found[-1] == ["Sub", "Relu"]


def test_no_cycle_through_an_operator_between():
    def function(x, y):
        a = x + 1.0
        b = a.cumsum(1)
        return a * b + y

    graph, _ = traced(function, X, Y)
    fuse(graph)
    graph.check()
    assert names(graph)[-1] == ["Mul", "Add"]


# Caps ---------------------------------------------------------------------------------------


def loops(function, *tensors):
    graph, _ = traced(function, *tensors)
    fuse(graph)
    graph.check()
    assert all(isinstance(n, Fused) or len(graph.nodes) > 1 for n in graph.nodes)
    return [n for n in graph.nodes if isinstance(n, Fused)]


def test_no_more_operators_than_the_cap():
    def function(x):
        for _ in range(MAX_OPERATORS + 9):
            x = x + 1.0
        return x

    assert [len(f.members) for f in loops(function, X)] == [MAX_OPERATORS, 9]


def test_no_more_inputs_than_the_cap():
    given = [tensor((40, 30), seed=i) for i in range(MAX_INPUTS + 4)]

    def function(*tensors):
        total = tensors[0]
        for t in tensors[1:]:
            total = total + t
        return total

    assert [len(f.inputs) for f in loops(function, *given)] == [MAX_INPUTS, 5]


def test_no_more_outputs_than_the_cap():
    def function(x):
        made = []
        for _ in range(MAX_OUTPUTS + 3):
            x = x + 1.0
            made.append(x)
        return tuple(made)

    assert [len(f.outputs) for f in loops(function, X)] == [MAX_OUTPUTS, 3]


# Hazards ------------------------------------------------------------------------------------


def test_written_memory_is_left_out():
    def change(graph):
        """The second node's value is written in place afterwards."""
        value = graph.nodes[1].outputs[0]
        value.memory.written = 1
        graph.nodes.insert(2, Overwrite(inputs=[value, graph.values[1]], writer="copy_"))

    found = after(lambda x, y: ((x * y) + y).relu() * 2.0 - x, X, Y, change=change)
    assert found == ["Mul", "Add", "copy_", "Relu", ["Mul", "Sub"]]


def test_what_is_outside_is_read_before_an_effect():
    class Step:
        name = "step"

    def change(graph):
        graph.nodes.insert(2, Effect(call=Step(), tensors=()))

    found = after(lambda x, y: ((x * 2.0 + 1.0).relu() - y) * 2.0, X, Y, change=change)
    # x and y are arguments: read before the step, or after it, as they were.
    assert found == [["Mul", "Add"], "step", ["Relu", "Sub", "Mul"]]


def test_what_is_accumulated_may_change():
    leaf = nano.zeros(40, 30)

    def change(graph):
        first = graph.nodes[0].outputs[0]
        graph.nodes.insert(1, Accumulate(inputs=[first], leaf=leaf))

    found = after(lambda x, y: (x * y) * 2.0 + 1.0, X, Y, change=change)
    assert found == ["Mul", "Accumulate", ["Mul", "Add"]]


def test_random_operators_and_hidden_outputs_stay():
    def change(graph):
        graph.nodes[1].random = True

    assert after(lambda x, y: x * y + y, X, Y, change=change) == ["Mul", "Add"]

    def hide(graph):
        node = graph.nodes[0]
        extra = graph.value("result", None, np.zeros((40, 30), np.float32))
        extra.node = node
        node.outputs.append(extra)
        graph.nodes[1].inputs[1] = extra

    assert after(lambda x, y: x * y + y, X, Y, change=hide) == ["Mul", "Add"]


@pytest.mark.parametrize(
    "function", [nano.sin, nano.cos, lambda x: x**2.5], ids=["sin", "cos", "pow"]
)
def test_what_numpy_does_faster_stays(function):
    found = after(lambda x, y: (function(x) + y) * y, X, Y)
    assert [type(n) for n in found] == [str, list]


def test_float64_curves_and_float16_stay():
    x = tensor((40, 30), nano.float64)
    assert after(lambda x: (x.exp() + x) * x, x) == ["Exp", ["Add", "Mul"]]
    half = tensor((40, 30), nano.float16)
    assert after(lambda x: (x + x) * x, half) == ["Add", "Mul"]


def test_integers_are_compared_only():
    x = nano.tensor(np.arange(1200).reshape(40, 30).tolist())
    found = after(lambda x: (x + x, (x > 5) & (x != 7), (x == 3).float() * 2.0), x)
    assert found[0] == "Add"
    assert [n for n in found if isinstance(n, list)]


def test_compiling_is_put_off():
    graph, _ = traced(lambda x, y: (x * y + y).relu(), X, Y)
    fuse(graph)
    (loop,) = graph.nodes
    assert loop._traced is None
    loop.run(X._data, Y._data)
    assert loop._traced is not None


def test_without_numba_nothing_is_joined(monkeypatch):
    monkeypatch.setattr("nano.compiler.fuse.is_available", lambda backend: backend != "fused")
    assert after(lambda x, y: (x + y) * y, X, Y) == ["Add", "Mul"]
