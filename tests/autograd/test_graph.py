"""The graph, to look at."""

import gc
import weakref

import pytest

import nano
from nano.autograd import Graph


def test_parents_children_order():
    a = nano.tensor([1.0, 2.0], requires_grad=True)
    b = nano.tensor([3.0, 4.0], requires_grad=True)
    c = a * b
    d = nano.exp(c)
    e = (d + c).sum()
    g = Graph(e)
    assert g.parents(c) == [a, b] or [p is q for p, q in zip(g.parents(c), [a, b], strict=True)]
    assert [n.name() for n in g.children(c)] == ["ExpBackward0", "AddBackward0"]
    assert [n.name() for n in g.children(a)] == ["MulBackward0"]
    assert g.children(e) == []
    position = {id(n): i for i, n in enumerate(g.order)}
    for node in g.order:
        for parent in g.parents(node):
            assert position[id(parent)] < position[id(node)]
    assert len(g) == 6
    assert {id(x) for x in g.leaves} == {id(a), id(b)}
    assert "SumBackward0(" in repr(g)


def test_looking_does_not_keep_the_graph():
    gc.disable()
    try:
        x = nano.ones(2, requires_grad=True)
        y = nano.exp(x * 2)
        node = weakref.ref(y.grad_fn)
        g = Graph(y)
        del y
        assert node() is None
        assert g.order == [x] or g.order[0] is x
        assert g.children(x) == []
    finally:
        gc.enable()


def test_a_long_graph_needs_no_recursion():
    x = nano.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    assert len(Graph(y)) == 20_001


def test_no_history():
    with pytest.raises(RuntimeError, match="no history"):
        Graph(nano.ones(2))
    x = nano.ones(2, requires_grad=True)
    assert Graph(x).order[0] is x
