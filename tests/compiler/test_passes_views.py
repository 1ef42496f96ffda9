"""Views: which are taken out, and what is still the same memory afterwards."""

import pytest

import nano
from nano.compiler.program import Program
from nano.compiler.views import views

from .both import assert_alike, check, normal
from .test_passes import graph_of, names


def shortened(function, *tensors):
    """The names of a graph's nodes after the pass, and whether the result stayed as it was."""
    graph = graph_of(function, *tensors)
    views(graph)
    graph.check()
    expected, got = function(*tensors), Program(graph, "f").run(*tensors)
    assert_alike(got, expected)
    if isinstance(got, nano.Tensor):
        assert got._data.strides == expected._data.strides
        shares = [t._data.__array_interface__["data"][0] for t in (*tensors, got)]
        before = [t._data.__array_interface__["data"][0] for t in (*tensors, expected)]
        assert [a in shares[:-1] for a in shares] == [a in before[:-1] for a in before]
    return names(graph)


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda x: x.reshape(6, 4).reshape(2, 12), ["Reshape"]),
        (lambda x: x.unsqueeze(0).squeeze(0).reshape(6, 4) + 1, ["Reshape", "Add"]),
        (lambda x: x.transpose(0, 1).transpose(1, 2), ["Permute"]),
        (lambda x: x.transpose(0, 1).transpose(0, 1) + 1, ["Add"]),
        (lambda x: x.permute(1, 2, 0).permute(2, 0, 1) * 2, ["Mul"]),
        (lambda x: x.reshape(24).reshape(2, 3, 4).exp(), ["Exp"]),
        (lambda x: x.exp().reshape(24).reshape(2, 3, 4), ["Exp", "Reshape"]),
        # A copy is none of the views.
        (
            lambda x: x.transpose(0, 2).reshape(6, 4).reshape(24),
            ["Transpose", "Reshape", "Reshape"],
        ),
        # This cannot be done at once without a copy.
        (lambda x: x[:, :, :2].reshape(2, 3, 2).unsqueeze(0), ["Slice", "Reshape"]),
    ],
)
def test_views_of_views(function, left):
    assert [n.replace("Unsqueeze", "Reshape") for n in shortened(function, normal(2, 3, 4))] == left


def test_the_other_view_stays_where_it_is_used():
    def function(x):
        y = x.reshape(6, 4)
        return y.exp(), y.reshape(24).sum()

    assert shortened(function, normal(2, 3, 4)) == ["Reshape", "Exp", "Reshape", "Sum"]


def test_what_is_returned_is_a_tensor_of_its_own():
    got = nano.compile(lambda x: x.reshape(24).reshape(2, 3, 4))
    for _ in range(3):
        x = normal(2, 3, 4)
        y = got(x)
        assert y is not x
        y[0] = 5.0
        assert x[0, 0, 0].item() == 5.0


def test_writes_through_views():
    def make():
        kept = nano.zeros(2, 3, 4)

        def function(x):
            view = kept.reshape(6, 4).reshape(2, 12)
            view.add_(x.transpose(0, 1).transpose(0, 1))
            y = x * 1
            y.reshape(24).reshape(2, 12)[0].mul_(3)
            return y.transpose(0, 1).transpose(0, 1) + 1, view

        return function, kept

    for option in ((), "native"):
        check(make, lambda i: (normal(2, 12, seed=i),), steps=5, without=option)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_products_take_transposed_operands(shape):
    x, y = normal(*shape), normal(*shape, seed=1)
    assert shortened(lambda x, y: x @ y.transpose(-1, -2), x, y) == ["MatMul"]
    assert shortened(lambda x, y: x.transpose(-1, -2) @ y, x, y) == ["MatMul"]
    twice = shortened(lambda x, y: x.mT.mT @ y.mT, x, y)
    assert twice == ["MatMul"]


def test_other_orders_are_no_transposition():
    x, y = normal(4, 3, 5), normal(3, 5, 2)
    assert shortened(lambda x, y: x.permute(1, 0, 2) @ y, x, y) == ["Permute", "MatMul"]


def test_arithmetic_repeats_by_itself():
    x, y = normal(4, 1), normal(4, 5)
    assert shortened(lambda x, y: x.expand(4, 5) * y, x, y) == ["Mul"]
    assert shortened(lambda x, y: x.expand(1, 4, 5) * y, x, y) == ["Expand", "Mul"]
    assert shortened(lambda x: x.expand(4, 5) * 2, x) == ["Expand", "Mul"]


def test_gradients_of_views():
    def make():
        weight = nano.nn.Parameter(normal(4, 6))

        def step(x):
            y = (x @ weight.t()).reshape(2, 3, 4).transpose(1, 2).reshape(2, 12).reshape(4, 6)
            loss = (y.t().t() * y).sum()
            loss.backward()
            return loss.detach(), y.detach()

        return step, weight

    for option in ((), "native"):
        check(make, lambda i: (normal(6, 6, seed=i),), steps=5, without=option)
