"""Softmax and its logarithm."""

import numpy as np
import pytest
import torch
from scipy import special

import nano
from nano.functions.softmax import softmin

from .harness import FLOATS, Case, assert_same, operator_tests

INF = float("inf")


def both(name, scipy):
    f = lambda m: getattr(m, name)  # noqa: E731
    return [
        Case(f"{name} last", lambda m, x: f(m)(x, -1), numpy=lambda x: scipy(x, axis=-1)),
        Case(f"{name} first", lambda m, x: f(m)(x, dim=0), numpy=lambda x: scipy(x, axis=0)),
        Case(f"{name} middle", lambda m, x: f(m)(x, 1), shapes=[(2, 3, 4)]),
        Case(f"{name} 0-d", lambda m, x: f(m)(x, 0), shapes=[()]),
        Case(f"{name} empty", lambda m, x: f(m)(x, 1), shapes=[(0, 3)]),
        Case(f"{name} of nothing", lambda m, x: f(m)(x, 1), shapes=[(3, 0)]),
        Case(f"{name} wide", lambda m, x: f(m)(x, 1), low=-90.0, high=90.0, gradgrad=False),
        Case(
            f"{name} dtype",
            lambda m, x: f(m)(x, 1, dtype=m.float64),
            dtypes=(*FLOATS, "int64", "bool"),
        ),
    ]


TestSoftmax = operator_tests(
    [*both("softmax", special.softmax), *both("log_softmax", special.log_softmax)]
)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    "values",
    [[1e30, 1.0], [-1e30, 1.0], [INF, 1.0], [-INF, 1.0], [-INF, -INF], [float("nan"), 1.0]],
    ids=str,
)
def test_special_values(name, values):
    x = nano.tensor(values, requires_grad=True)
    y = torch.tensor(values, requires_grad=True)
    ours, theirs = getattr(nano, name)(x, 0), getattr(torch, name)(y, 0)
    assert_same(ours, theirs, (1e-6, 0))
    ours[0].backward()
    theirs[0].backward()
    assert_same(x.grad, y.grad, (1e-6, 1e-7))


def test_rows_sum_to_one():
    x = nano.randn(5, 100) * 10
    np.testing.assert_allclose(nano.softmax(x, 1).sum(1).numpy(), np.ones(5), rtol=1e-5)
    np.testing.assert_allclose(nano.log_softmax(x, 1).exp().sum(1).numpy(), np.ones(5), rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_gradients_are_summed_in_float32(name, dtype):
    rng = np.random.default_rng(0)
    y = nano.log_softmax(nano.tensor(rng.normal(size=(2, 3000))), 1)
    y = (y.exp() if name == "softmax" else y).to(getattr(nano, dtype)).numpy()
    g = rng.uniform(0, 1, y.shape).astype(y.dtype)
    # One kernel for both: another adds up in another order.
    with nano.backends.use("reference"):
        kernel = getattr(nano.backends.kernels, f"{name}_backward")
        exact = kernel(g.astype(np.float32), y.astype(np.float32), 1).astype(y.dtype)
        np.testing.assert_array_equal(kernel(g, y, 1).astype(float), exact.astype(float))


def test_softmin():
    x = nano.randn(3, 4)
    theirs = torch.nn.functional.softmin(torch.tensor(x.numpy()), 1)
    assert_same(softmin(x, 1), theirs, (1e-5, 1e-6))


def test_methods():
    x = nano.randn(2, 3)
    assert nano.equal(x.softmax(1), nano.softmax(x, 1))
    assert nano.equal(x.log_softmax(dim=-1), nano.log_softmax(x, 1))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_errors(name):
    function = getattr(nano, name)
    with pytest.raises(IndexError, match=rf"\[{name}\] dim 2 is out of range"):
        function(nano.ones(2, 3), 2)
    with pytest.raises(RuntimeError, match="floating point"):
        function(nano.ones(2, dtype=nano.int64), 0)
    with pytest.raises(TypeError, match="must be a Tensor"):
        function([1.0], 0)
    with pytest.raises(TypeError, match="dim must be an integer"):
        function(nano.ones(2), 0.5)


def test_integers_raise_what_pytorch_raises():
    # NotImplementedError is a RuntimeError too: handlers for either one work.
    for m in (nano, torch):
        with pytest.raises(NotImplementedError):
            m.softmax(m.tensor([1, 2]), 0)
