"""Softmax and layer normalisation written by hand: known in all their forms, and not in others."""

import numpy as np
import pytest

import nano
from nano.compiler.normalisation import layer_norms, softmaxes
from nano.compiler.program import Program

from .both import REORDERED, normal
from .test_passes import graph_of, names


def known(function, *tensors):
    """The names of a graph's nodes after both passes, which must give the same numbers."""
    graph = graph_of(function, *tensors)
    softmaxes(graph)
    layer_norms(graph)
    graph.check()
    expected, program = function(*tensors), Program(graph, "f")
    got = program.run(*tensors)
    assert program.exact == ({"Softmax", "LayerNorm"}.isdisjoint(names(graph)))
    assert got._data.strides == expected._data.strides
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=REORDERED, atol=REORDERED)
    return names(graph)


def softmax(x, dim=-1):
    e = (x - x.max(dim, keepdim=True).values).exp()
    return e / e.sum(dim, keepdim=True)


def log_softmax(x):
    z = x - x.amax(-1, keepdim=True)
    return z - z.exp().sum(-1, keepdim=True).log()


def by_variance(x):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / nano.sqrt(var + 1e-5)


def by_squares(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred * nano.rsqrt((centred**2).mean(-1, keepdim=True) + 1e-5)


def by_products(x):
    centred = x - x.mean((-2, -1), keepdim=True)
    return centred / (1e-3 + (centred * centred).mean((-2, -1), keepdim=True)).sqrt()


@pytest.mark.parametrize("shape", [(5,), (4, 7), (2, 3, 40)])
def test_softmax(shape):
    x = normal(*shape)
    assert known(softmax, x) == ["Softmax"]
    assert known(lambda x: softmax(x, 0), x) == ["Softmax"]
    graph = graph_of(log_softmax, x)
    softmaxes(graph)
    assert names(graph) == ["LogSoftmax"]
    got = Program(graph, "f").run(x).numpy()
    np.testing.assert_allclose(got, log_softmax(x).numpy(), rtol=REORDERED, atol=REORDERED)


@pytest.mark.parametrize("function", [by_variance, by_squares, by_products])
def test_layer_norm(function):
    x = normal(4, 6, 8)
    weight, bias = (normal(*x.shape[-2 + (function is not by_products) :], seed=i) for i in (1, 2))
    assert known(function, x) == ["LayerNorm"]
    assert known(lambda x: function(x) * weight, x) == ["LayerNorm"]
    assert known(lambda x: bias + weight * function(x), x) == ["LayerNorm"]
    # A bias alone stays an addition.
    assert known(lambda x: function(x) + bias, x) == ["LayerNorm", "Add"]


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 3e38])
@pytest.mark.parametrize("function", [softmax, log_softmax, by_variance, by_squares])
@pytest.mark.parametrize("width", [6, 4096])
@np.errstate(all="ignore")
def test_what_is_not_finite(function, odd, width):
    if odd == 3e38 and function in (by_variance, by_squares):
        pytest.skip("its square overflows, after which the kernels of LayerNorm differ, too")
    x = normal(8, width)
    x[1, 2] = odd
    x[3] = -np.inf
    graph = graph_of(function, x)
    softmaxes(graph)
    layer_norms(graph)
    assert len(graph.nodes) == 1
    got, expected = Program(graph, "f").run(x).numpy(), function(x).numpy()
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.exp() / x.exp().sum(-1, keepdim=True),  # overflows, as softmax does not
        lambda x: (x - x.amax(0, keepdim=True)).exp() / x.exp().sum(-1, keepdim=True),
        lambda x: (e := (x - x.amax(0, keepdim=True)).exp()) / e.sum(1, keepdim=True),
        lambda x: (e := (x - x.amax(keepdim=True, dim=(0, 1))).exp()) / e.sum((0, 1), keepdim=True),
        lambda x: (x - x.mean(-1, keepdim=True)) / nano.sqrt(x.var(-1, keepdim=True) + 1e-5),
        lambda x: (x - x.mean(0, keepdim=True)) / (x.var(0, keepdim=True, correction=0) + 1).sqrt(),
    ],
)
def test_what_is_something_else(function):
    found = known(function, normal(6, 6))
    assert not {"Softmax", "LogSoftmax", "LayerNorm"} & set(found)


def test_what_is_read_between_stays():
    def function(x):
        e = (x - x.amax(-1, keepdim=True)).exp()
        return e / e.sum(-1, keepdim=True) + e[0]

    assert "Softmax" not in known(function, normal(4, 5))


def test_training_is_left_as_it_is():
    weight = nano.nn.Parameter(normal(4, 5))

    def step(x):
        loss = (softmax(x * weight) * by_squares(x)).sum()
        loss.backward()
        return loss.detach()

    graph = graph_of(step, normal(4, 5))
    before = names(graph)
    softmaxes(graph)
    layer_norms(graph)
    graph.check()
    after = names(graph)
    # What needs no derivative is known there, too.
    assert "LayerNorm" in after
    assert "Softmax" not in after
    assert before.count("Accumulate") == after.count("Accumulate")
