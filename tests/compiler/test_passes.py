"""Passes: what each takes out, and what it must leave."""

import pytest

import nano
from nano.compiler.compare import difference, settle_constants
from nano.compiler.passes import (
    PASSES,
    common_subexpressions,
    dead_code,
    effects_last,
    fold_constants,
)
from nano.compiler.program import Program
from nano.compiler.trace import trace

from .both import assert_alike, normal


def graph_of(function, *tensors):
    """The graph of the second of two runs."""
    first, second = (trace(function, tensors, {}, list(tensors)).graph for _ in range(2))
    assert not difference(first, second)
    settle_constants(first, second)
    return second


def names(graph):
    return [node.name for node in graph.nodes]


def test_dead_code():
    kept = nano.zeros(2)

    def function(x):
        x.exp()
        (x + 1).mul_(2)
        kept.add_(x)
        return x * 3

    graph = graph_of(function, nano.ones(2))
    dead_code(graph)
    graph.check()
    assert names(graph) == ["Add", "add_", "Mul"]


def test_dead_code_leaves_writes_that_a_view_shows():
    def function(x):
        y = x * 1
        y[0].mul_(5)
        return y.sum()

    graph = graph_of(function, nano.ones(2))
    dead_code(graph)
    assert "mul_" in names(graph)
    assert Program(graph, "f").run(nano.ones(2)).item() == 6.0


def test_common_subexpressions():
    graph = graph_of(lambda x: (x + 1).exp() * (x + 1).exp() + (x + 2), nano.ones(2))
    common_subexpressions(graph)
    graph.check()
    assert names(graph) == ["Add", "Exp", "Mul", "Add", "Add"]


def test_results_do_not_become_one():
    graph = graph_of(lambda x: (x + 1, x + 1), nano.ones(2))
    common_subexpressions(graph)
    assert names(graph) == ["Add", "Add"]
    first, second = Program(graph, "f").run(nano.ones(2))
    first.mul_(0)
    assert second.tolist() == [2.0, 2.0]


def test_what_was_written_between_is_computed_again():
    def function(x):
        y = x * 1
        before = y + 1
        y.mul_(3)
        return before * (y + 1)

    graph = graph_of(function, nano.ones(2))
    common_subexpressions(graph)
    assert Program(graph, "f").run(nano.ones(2)).tolist() == [8.0, 8.0]


def test_fold_constants():
    graph = graph_of(lambda x: x + nano.ones(2).exp() * 2, nano.ones(2))
    fold_constants(graph)
    graph.check()
    assert names(graph) == ["Add"]


def test_constants_that_are_written_are_made_anew():
    def function(x):
        y = nano.zeros(2)
        y.add_(x)
        return y * 1

    graph = graph_of(function, nano.ones(2))
    fold_constants(graph)
    program = Program(graph, "f")
    for _ in range(2):
        assert program.run(nano.ones(2)).tolist() == [1.0, 1.0]


def test_effects_last():
    kept = nano.zeros(2)

    def function(x):
        kept.add_(x)
        y = kept * 2
        kept.mul_(0.5)
        return x.exp(), y

    graph = graph_of(function, nano.ones(2))
    effects_last(graph)
    graph.check()
    order = names(graph)
    assert order.index("Exp") < order.index("add_")
    assert order.index("add_") < order.index("mul_")
    kept.fill_(0.0)
    assert Program(graph, "f").run(nano.ones(2))[1].tolist() == [2.0, 2.0]
    assert kept.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("left_out", [*PASSES, tuple(PASSES)])
def test_any_pass_may_be_left_out(left_out):
    kept = nano.zeros(3)

    def function(x):
        y = (x + 1) * (x + 1) + nano.ones(3) * 2
        kept.copy_(y)
        y.relu_()
        return y, y[1:] + 1

    compiled = nano.compile(function, without=left_out)
    for i in range(4):
        x = normal(3, seed=i)
        got, expected = compiled(x), function(x)
        assert_alike(got, expected)
