"""What a trace writes down."""

import numpy as np
import pytest

import nano
from nano import nn
from nano.compiler.graph import Accumulate, Apply, Effect, Gradient, Overwrite, SetGradient
from nano.compiler.trace import trace

from .both import REORDERED, assert_alike, normal


def traced(function, *tensors):
    """The graph of one run."""
    return trace(function, tensors, {}, list(tensors)).graph


def names(graph):
    return [node.name for node in graph.nodes]


def test_operators_in_order_with_the_users_line():
    line = test_operators_in_order_with_the_users_line.__code__.co_firstlineno
    graph = traced(
        lambda x: (x * 2).relu(),
        nano.ones(3),
    )
    assert names(graph) == ["Mul", "Relu"]
    assert graph.nodes[0].line == f"{__file__}:{line + 3}"
    assert graph.nodes[0].inputs[1] == 2
    assert graph.nodes[1].inputs == graph.nodes[0].outputs
    assert graph.result is graph.nodes[1].outputs[0]
    graph.check()


def test_derivatives_carry_the_name_of_what_they_derive():
    w = nano.ones(3, requires_grad=True)
    graph = traced(lambda x: (w * x).sum().backward(), nano.ones(3))
    phases = {n.phase for n in graph.nodes if isinstance(n, Apply)}
    assert {"", "SumBackward0", "MulBackward0"} <= phases
    (node,) = [n for n in graph.nodes if isinstance(n, Accumulate)]
    assert node.leaf.content is w
    assert node.leaf.kind == "captured"


def test_what_comes_from_where():
    w = nano.ones(3)
    graph = traced(lambda x: x + w, nano.ones(3))
    assert [v.kind for v in graph.values] == ["argument", "captured"]
    assert graph.values[1].content is w
    assert str(graph).startswith("v0: f32[3] = argument 0\nv1: f32[3] = captured\n")


def test_views_share_a_memory():
    graph = traced(lambda x: (x[1:], x * 1), nano.ones(3))
    view, product = graph.result
    assert view.memory is graph.values[0].memory
    assert view.memory.outside
    assert product.memory is not view.memory


def test_what_forward_keeps_for_the_derivative_has_a_name():
    x = normal(1, 2, 4, 4).requires_grad_()
    graph = traced(lambda y: nano.softmax(x * y, 1).square().sum().backward(), nano.ones(1))
    graph.check()
    made = {v for n in graph.nodes for v in n.makes()}
    assert all(v in made or v in graph.values for n in graph.nodes for v in n.reads())


def test_writes_are_counted_by_whom_they_are_seen():
    kept = nano.zeros(3)
    graph = traced(lambda x: (kept.add_(x), (x * 2).mul_(3)), nano.ones(3))
    seen, inner = [n for n in graph.nodes if isinstance(n, Overwrite)]
    assert seen.name == "add_"
    assert seen.counts.content is kept
    assert inner.counts is None
    assert inner.inputs[0].memory.written == 1


def test_gradients_by_hand():
    w = nano.ones(3, requires_grad=True)

    def function(x):
        w.grad = None
        (w * x).sum().backward()
        w.grad.mul_(2)
        w.grad = w.grad + 1

    graph = traced(function, nano.ones(3))
    kinds = [type(n) for n in graph.nodes if not isinstance(n, Apply)]
    assert kinds == [Effect, Accumulate, Gradient, Overwrite, SetGradient]
    (write,) = [n for n in graph.nodes if isinstance(n, Overwrite)]
    assert write.of_gradient
    assert write.counts.content is w


def test_modules_are_noted_once():
    inner = nn.Linear(2, 2)
    net = nn.Sequential(inner, inner)
    with nano.no_grad():
        found = trace(net, (nano.ones(1, 2),), {}, [])
    assert [type(m).__name__ for m in found.modules] == ["Sequential", "Linear"]


def test_nothing_stays_hooked():
    def function(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        traced(function, nano.ones(1))
    assert not nano.hook.hooks


def test_a_trace_holds_no_arrays_in_cycles():
    import gc
    import weakref

    gone = []

    def function(x):
        y = x * 2
        gone.append(weakref.ref(y._data))
        return (y + 1).detach()

    gc.disable()
    try:
        traced(function, nano.from_numpy(np.ones(3, np.float32)))
        assert gone[0]() is None
    finally:
        gc.enable()


def test_writes_to_gradients_through_other_tensors():
    w = nano.ones(3, requires_grad=True)

    def function(x):
        (w * x).sum().backward()
        w.grad.detach()[1:].mul_(3)

    compiled = nano.compile(function)
    for i in range(4):
        w.grad = None
        compiled(normal(3, seed=i))
        expected = normal(3, seed=i).numpy() * np.float32([1, 3, 3])
        assert w.grad.tolist() == expected.tolist()


def test_a_gradient_is_used_after_it_was_cleared():
    w = nano.ones(3, requires_grad=True)

    @nano.compile
    def function(x):
        w.grad = None
        (w * x).sum().backward()
        g = w.grad
        w.grad = None
        g.mul_(2)
        (w * x).square().sum().backward()
        return g + w.grad

    for i in range(4):
        x = normal(3, seed=i)
        assert_alike(function(x), x * 2 + x.square() * 2, REORDERED)
