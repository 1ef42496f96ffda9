"""Passes: what each takes out, and what it must leave."""

import pytest

import nano
from nano import nn
from nano.compiler.compare import difference, settle_constants
from nano.compiler.forget import forget_early
from nano.compiler.fuse import fuse
from nano.compiler.passes import (
    LARGE_PASSES,
    PASSES,
    common_subexpressions,
    dead_code,
    effects_last,
    fold_constants,
)
from nano.compiler.program import Program
from nano.compiler.trace import trace

from .both import assert_alike, check, normal


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


def test_forget_early():
    weight, other = nano.ones(3, requires_grad=True), nano.ones(3, requires_grad=True)
    first, second = (nano.optim.SGD([p], lr=0.1) for p in (weight, other))

    def function(x, labels):
        first.zero_grad()
        scores = nano.cumsum(x * weight, 0).softmax(0).reshape(1, 3) + other
        nano.nn.functional.cross_entropy(scores, labels).backward()
        second.zero_grad()
        return scores.detach()

    labels = nano.tensor([1])
    graph = graph_of(function, nano.ones(3), labels)
    effects_last(graph)
    forget_early(graph)
    graph.check()
    order = names(graph)
    # Of a cumulative sum nothing is known; the loss is asked about in advance.
    early = order.index("Forget")
    assert order.index("Cumsum") < early < order.index("Softmax")
    # The other gradient arrives before it is forgotten.
    assert max(i for i, n in enumerate(order) if n == "Accumulate") < len(order) - 1
    assert order[-1] in ("zero_grad", "Forget")
    program = Program(graph, "f")
    program.run(nano.ones(3), labels)
    kept = weight.grad
    assert kept is not None
    assert other.grad is None
    with pytest.raises(IndexError):
        program.run(nano.ones(3), nano.tensor([3]))
    assert weight.grad is kept


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


def _training_step():
    net = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(288, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 5)),
    )
    optimizer = nano.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step(x, labels):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, (net, optimizer)


@pytest.mark.parametrize("left_out", [*((name,) for name in LARGE_PASSES), tuple(LARGE_PASSES)])
def test_any_pass_over_large_programs_may_be_left_out(left_out):
    compiled = check(
        _training_step,
        lambda i: (normal(4, 3, 8, 8, seed=i), nano.tensor([0, 1, 2, 4])),
        steps=4,
        without=("native", *left_out),
    )
    run = {part.partition(":\n")[0] for part in compiled.passes().split("\n\n")}
    assert run.isdisjoint(left_out)
    assert ("forget_early" in run) == ("forget_early" not in left_out)


# What is checked after each pass ------------------------------------------------------------


def swapped(graph, before, after):
    """Let the first operator read another value."""
    graph.nodes[0].inputs = [after if x is before else x for x in graph.nodes[0].inputs]


def test_shapes_that_do_not_go_together_are_found():
    x, y = nano.ones(3, 4), nano.ones(1, 4)
    graph = graph_of(lambda x, y: x + y, x, y)
    graph.check()
    swapped(graph, *graph.values)
    with pytest.raises(AssertionError, match=r"Add makes f32\[3,4\] of \(1, 4\)"):
        graph.check()


def test_dtypes_that_do_not_go_together_are_found():
    x, y = nano.ones(3), nano.ones(3, dtype=nano.float64)
    graph = graph_of(lambda x, y: (-x, -y), x, y)
    swapped(graph, *graph.values)
    with pytest.raises(AssertionError, match=r"Neg makes f32\[3\] of .*float64"):
        graph.check()


def test_a_view_in_other_memory_is_found():
    x, y = nano.ones(3, 4), nano.ones(3, 4)
    graph = graph_of(lambda x, y: (x.T + 0, y), x, y)
    swapped(graph, *graph.values)
    with pytest.raises(AssertionError, match="in other memory"):
        graph.check()


def test_reading_what_was_written_over_is_found():
    graph = graph_of(lambda x: ((z := x @ x).sigmoid() * z, z), nano.ones(100, 100))
    fuse(graph)
    graph.check()
    loop = graph.nodes[-1]
    loop.write_over(dict(zip(loop.makes(), loop.reads(), strict=True)))
    with pytest.raises(AssertionError, match="was written over"):
        graph.check()
