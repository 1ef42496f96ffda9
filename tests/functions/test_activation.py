"""GELU, SiLU, leaky ReLU and dropout."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import nano
import nano.nn.functional as F

from .harness import Case, operator_tests

CASES = [
    Case("gelu", lambda m, x: m.nn.functional.gelu(x), low=-4.0, high=4.0),
    Case(
        "gelu tanh",
        lambda m, x: m.nn.functional.gelu(x, approximate="tanh"),
        low=-4.0,
        high=4.0,
    ),
    Case("silu", lambda m, x: m.nn.functional.silu(x), low=-6.0, high=6.0),
    Case("leaky_relu", lambda m, x: m.nn.functional.leaky_relu(x, 0.2)),
    *[
        Case(f"gelu {shape}", lambda m, x: m.nn.functional.gelu(x), shapes=[shape])
        for shape in ((), (0,), (3, 0, 2))
    ],
    *[
        Case(
            f"gelu tanh {shape}",
            lambda m, x: m.nn.functional.gelu(x, approximate="tanh"),
            shapes=[shape],
        )
        for shape in ((), (0,))
    ],
]

TestActivation = operator_tests(CASES)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_special_values(approximate):
    values = [0.0, 1.0, -1.0, 40.0, -40.0, 1e10, -1e10, float("inf"), float("-inf"), float("nan")]
    ours = F.gelu(nano.tensor(values), approximate=approximate)
    theirs = TF.gelu(torch.tensor(values), approximate=approximate)
    expected = theirs.numpy().copy()
    expected[values.index(float("inf"))] = np.inf  # NaN in PyTorch, but only with AVX-512
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-5)


def test_gelu_refusals():
    with pytest.raises(RuntimeError, match=r'\[gelu\] approximate must be "none" or "tanh"'):
        F.gelu(nano.ones(1), approximate="erf")
    with pytest.raises(RuntimeError, match="floating point"):
        F.gelu(nano.tensor([1]))


def test_dropout_zeroes_a_share_and_scales_the_rest():
    nano.manual_seed(0)
    x = nano.ones(100, 100, requires_grad=True)
    y = F.dropout(x, 0.3)
    kept = y.detach().numpy() != 0
    # 10,000 draws: three standard deviations of the share are 0.014.
    assert abs(kept.mean() - 0.7) < 0.014
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / 0.7, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_dropout_follows_the_default_generator():
    nano.manual_seed(5)
    first = F.dropout(nano.ones(50))
    second = F.dropout(nano.ones(50))
    nano.manual_seed(5)
    assert F.dropout(nano.ones(50)).tolist() == first.tolist()
    assert first.tolist() != second.tolist()


def test_dropout_without_effect_gives_the_input_back():
    x = nano.ones(3)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 1.0).tolist() == [0.0, 0.0, 0.0]


def test_dropout_in_place():
    nano.manual_seed(1)
    x = nano.ones(20)
    assert F.dropout(x, 0.5, inplace=True) is x
    assert set(x.tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=r"\[dropout\] dropout probability has to be between"):
        F.dropout(nano.ones(1), p)
    with pytest.raises(ValueError, match=r"\[Dropout\]"):
        nano.nn.Dropout(p)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dropout_keeps_the_dtype(dtype):
    assert str(F.dropout(nano.ones(4, dtype=getattr(nano, dtype))).dtype) == f"nano.{dtype}"


def test_silu_special_values():
    values = [0.0, 40.0, -40.0, 1e10, -1e10, float("inf"), float("nan")]
    ours, theirs = F.silu(nano.tensor(values)), TF.silu(torch.tensor(values))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


def test_silu_in_place_and_refusal():
    x = nano.tensor([-1.0, 1.0])
    assert F.silu(x, inplace=True) is x
    np.testing.assert_allclose(x.numpy(), [-0.26894143, 0.7310586], rtol=1e-6)
    with pytest.raises(NotImplementedError, match=r"\[silu\].*floating point"):
        F.silu(nano.tensor([1]))


@pytest.mark.parametrize(
    ("name", "shape", "channels"),
    [
        ("dropout1d", (40, 50, 3), 2),
        ("dropout1d", (2000, 3), 1),
        ("dropout2d", (40, 50, 2, 3), 2),
        ("dropout2d", (40, 50, 3), 2),
    ],
)
@pytest.mark.filterwarnings("ignore:dropout2d")
def test_channel_dropout_drops_whole_channels(name, shape, channels):
    nano.manual_seed(0)
    x = nano.ones(*shape, requires_grad=True)
    y = getattr(F, name)(x, 0.3)
    rows = y.detach().numpy().reshape(int(np.prod(shape[:channels])), -1)
    assert (rows == rows[:, :1]).all()
    kept = rows[:, 0] != 0
    # 2,000 draws: three standard deviations of the share are 0.031.
    assert abs(kept.mean() - 0.7) < 0.031
    np.testing.assert_allclose(rows[kept], 1 / 0.7, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("dropout1d", (2, 3)), ("dropout1d", (2, 3, 4)), ("dropout2d", (2, 3, 4, 1))],
)
def test_channel_dropout_in_place_and_without_effect(name, shape):
    call = getattr(F, name)
    x = nano.ones(*shape)
    assert call(x, 0.5, training=False) is x
    assert call(x, 1.0, inplace=True) is x
    assert not x.numpy().any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
def test_dropout2d_warns_as_pytorch(ndim, training):
    counts = []
    for m in (nano, torch):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            m.nn.functional.dropout2d(m.ones(*[2] * ndim), training=training)
        counts.append([w.category for w in caught])
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("name", "shape"), [("dropout1d", (3,)), ("dropout1d", (1, 2, 3, 4)), ("dropout2d", (3,))]
)
@pytest.mark.filterwarnings("ignore:dropout2d")
def test_channel_dropout_refusals(name, shape):
    for m in (nano, torch):
        with pytest.raises(RuntimeError):
            getattr(m.nn.functional, name)(m.ones(*shape))
        with pytest.raises(ValueError, match="dropout probability"):
            getattr(m.nn.functional, name)(m.ones(2, 2, 2), 2.0)
