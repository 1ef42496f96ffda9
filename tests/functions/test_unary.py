"""Element-wise functions of one operand."""

import numpy as np
import pytest
import torch

import nano

from .harness import EVERY, FLOATS, INTEGERS, Case, operator_tests

NAN, INF = float("nan"), float("inf")


def unary(name, low=-2.0, high=2.0, dtypes=FLOATS, numpy=None, **options):
    call = lambda m, x: getattr(m, name)(x)  # noqa: E731
    return Case(name, call, low=low, high=high, dtypes=dtypes, numpy=numpy, **options)


CASES = [
    unary("relu", dtypes=(*FLOATS, *INTEGERS)),
    unary("sigmoid", dtypes=EVERY, numpy=lambda x: 1 / (1 + np.exp(-x))),
    unary("tanh", dtypes=EVERY, numpy=np.tanh),
    unary("exp", dtypes=EVERY, numpy=np.exp),
    unary("log", low=0.1, dtypes=EVERY, numpy=np.log),
    unary("log1p", low=-0.9, dtypes=FLOATS, numpy=np.log1p),
    unary("expm1", dtypes=EVERY, numpy=np.expm1),
    unary("sin", dtypes=EVERY, numpy=np.sin),
    unary("cos", dtypes=EVERY, numpy=np.cos),
    unary("sqrt", low=0.1, dtypes=EVERY, numpy=np.sqrt),
    unary("rsqrt", low=0.1, dtypes=FLOATS),
    unary("square", dtypes=EVERY, numpy=np.square),
    unary("abs", dtypes=(*FLOATS, *INTEGERS), numpy=np.abs),
    unary("neg", dtypes=(*FLOATS, *INTEGERS), numpy=np.negative),
    unary("sign", dtypes=EVERY, numpy=np.sign),
    unary("reciprocal", low=0.3, dtypes=FLOATS, numpy=np.reciprocal),
    unary("floor", dtypes=(*FLOATS, *INTEGERS), numpy=np.floor),
    unary("ceil", dtypes=(*FLOATS, *INTEGERS), numpy=np.ceil),
    unary("round", dtypes=(*FLOATS, *INTEGERS), numpy=np.round),
    Case("round decimals", lambda m, x: m.round(x, decimals=2), dtypes=("float64", "float32")),
    Case(
        "round tens",
        lambda m, x: m.round(x, decimals=-1),
        low=-99.0,
        high=99.0,
        dtypes=("float64", "float32"),
    ),
    *[
        Case(f"{name} {shape}", lambda m, x, name=name: getattr(m, name)(x), shapes=[shape])
        for name in ("relu", "exp", "neg")
        for shape in ((), (0,), (3, 0, 2))
    ],
]

TestUnary = operator_tests(CASES)


@pytest.mark.parametrize("name", [c.name for c in CASES if " " not in c.name])
def test_special_values(name):
    values = [0.0, -0.0, 1.0, -1.0, 1e30, -1e30, INF, -INF, NAN, 0.5, 1.5, 2.5, -0.5, 1e-30]
    ours = getattr(nano, name)(nano.tensor(values)).numpy()
    theirs = getattr(torch, name)(torch.tensor(values)).numpy()
    if name in ("sin", "cos"):  # beyond 1e30 radians, only the range is meaningful
        ours, theirs = np.delete(ours, [4, 5]), np.delete(theirs, [4, 5])
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-38)


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
def test_questions(name):
    values = [0.0, INF, -INF, NAN]
    ours = getattr(nano, name)(nano.tensor(values))
    assert ours.tolist() == getattr(torch, name)(torch.tensor(values)).tolist()
    assert ours.dtype is nano.bool
    assert not getattr(nano, name)(nano.tensor(values, requires_grad=True)).requires_grad


@pytest.mark.parametrize("name", ["neg", "relu", "floor", "ceil", "round"])
def test_booleans_are_refused_where_pytorch_refuses_them(name):
    with pytest.raises(RuntimeError):
        getattr(torch, name)(torch.tensor([True]))
    with pytest.raises(RuntimeError, match=name):
        getattr(nano, name)(nano.tensor([True]))


def test_not_a_tensor():
    with pytest.raises(TypeError, match=r"\[exp\] input must be a Tensor, got list"):
        nano.exp([1.0])


def test_relu_passes_the_gradient_at_nan():
    for m in (nano, torch):
        x = m.tensor([float("nan"), 0.0, -1.0, 2.0], requires_grad=True)
        m.relu(x).sum().backward()
        assert x.grad.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_abs_refuses_booleans():
    with pytest.raises(RuntimeError, match="booleans"):
        nano.tensor([True]).abs()
