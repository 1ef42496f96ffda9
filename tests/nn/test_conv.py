"""Convolution and pooling layers against PyTorch: results, names, text, first weights."""

import inspect
import math

import numpy as np
import pytest
import torch

import nano
from nano import nn
from nano.storage import content_token

LAYERS = [
    ("Conv2d", (3, 4, 3), {}, (2, 3, 6, 6)),
    ("Conv2d", (3, 4, (3, 5), 2, 1), {}, (3, 6, 6)),
    ("Conv2d", (4, 6, 3), {"groups": 2, "bias": False, "dilation": (1, 2)}, (2, 4, 6, 6)),
    ("Conv2d", (3, 4, 4), {"padding": "same"}, (2, 3, 6, 6)),
    ("Conv2d", (3, 4, 3), {"padding": "valid"}, (2, 3, 6, 6)),
    ("Conv2d", (3, 4, 3), {"padding": (2, 1), "padding_mode": "reflect"}, (2, 3, 6, 6)),
    ("Conv2d", (3, 4, 3), {"padding": (2, 1), "padding_mode": "replicate"}, (2, 3, 6, 6)),
    ("Conv2d", (3, 4, 3), {"padding": (2, 1), "padding_mode": "circular"}, (2, 3, 6, 6)),
    ("Conv2d", (3, 4, (3, 4)), {"padding": "same", "padding_mode": "circular"}, (2, 3, 6, 6)),
    ("Conv2d", (3, 4, 3), {"padding": "valid", "padding_mode": "reflect"}, (2, 3, 6, 6)),
    ("Conv1d", (3, 4, 3), {}, (2, 3, 6)),
    ("Conv1d", (3, 4, 3), {"padding": 1, "padding_mode": "reflect", "stride": 2}, (3, 6)),
    ("ConvTranspose2d", (3, 4, 3), {}, (2, 3, 4, 4)),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1), {"groups": 2, "dilation": 2}, (2, 4, 4, 4)),
    ("ConvTranspose2d", (3, 4, 3), {"bias": False}, (3, 4, 4)),
    ("ConvTranspose1d", (3, 4, 3, 2), {}, (2, 3, 4)),
    ("MaxPool2d", (2,), {}, (2, 3, 6, 6)),
    ("MaxPool2d", ((2, 3), (1, 2)), {"padding": 1, "ceil_mode": True}, (3, 6, 6)),
    ("MaxPool1d", (2,), {"dilation": 2}, (2, 3, 6)),
    ("AvgPool2d", (2,), {}, (2, 3, 6, 6)),
    ("AvgPool2d", ((2, 3), 1, 1, True, False), {}, (2, 3, 6, 6)),
    ("AvgPool2d", (3,), {"divisor_override": 2}, (2, 3, 6, 6)),
    ("AvgPool1d", (2,), {}, (2, 3, 6)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 6, 6)),
    ("AdaptiveAvgPool2d", ((None, 4),), {}, (2, 3, 6, 6)),
    ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 6)),
    ("AdaptiveMaxPool2d", ((4, 5),), {}, (2, 3, 6, 6)),
    ("AdaptiveMaxPool1d", (4,), {}, (2, 3, 6)),
]


# PyTorch says that it copies the input; nano does not.
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=str)
def test_layers_equal_pytorch(name, args, options, shape):
    theirs = getattr(torch.nn, name)(*args, **options)
    ours = getattr(nn, name)(*args, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    assert repr(ours) == repr(theirs)
    data = np.random.default_rng(0).normal(size=shape).astype("float32")
    results = []
    for m, layer in ((nano, ours), (torch, theirs)):
        x = m.tensor(data, requires_grad=True)
        y = layer(x)
        (y * y).sum().backward()
        grads = [p.grad.numpy() for p in layer.parameters()]
        results.append([y.detach().numpy(), x.grad.numpy(), *grads])
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        # Sums of some hundred products in float32, in another order.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted({name for name, *_ in LAYERS}))
def test_arguments_are_pytorchs(name):
    ours, theirs = (inspect.signature(getattr(m, name)).parameters for m in (nn, torch.nn))
    assert [(p.name, p.default) for p in ours.values()] == [
        (p.name, p.default) for p in theirs.values()
    ]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Conv2d", (16, 40, 5)),
        ("Conv2d", (16, 40, (3, 5), 1, 0, 1, 4)),
        ("Conv1d", (32, 50, 7)),
        ("ConvTranspose2d", (16, 40, 5)),
        ("ConvTranspose2d", (16, 40, 5, 1, 0, 0, 4)),
    ],
)
def test_weights_begin_as_in_pytorch(name, args):
    nano.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        a, b = mine.detach().numpy(), other.detach().numpy()
        assert a.shape == b.shape
        bound = 1 / math.sqrt(math.prod(theirs.weight.shape[1:]))
        assert np.abs(a).max() <= bound
        # Uniform: 40 draws or more have this deviation to a quarter, whatever the seed.
        deviation = bound / math.sqrt(3)
        assert a.std() == pytest.approx(deviation, rel=0.25)
        assert b.std() == pytest.approx(deviation, rel=0.25)


def test_weights_are_those_of_the_seed_and_of_the_dtype():
    weights = []
    for _ in range(2):
        nano.manual_seed(3)
        weights.append(nn.Conv2d(2, 3, 3).weight.tolist())
    assert weights[0] == weights[1]
    layer = nn.Conv2d(2, 3, 3, dtype=nano.float64)
    assert layer.weight.dtype is nano.float64
    assert layer.bias.dtype is nano.float64


@pytest.mark.parametrize("size", [(7, 7), (8, 7), (2, 8, 8, 8)])
def test_output_size_of_a_transposed_convolution(size):
    shapes = []
    for m in (nano, torch):
        layer = m.nn.ConvTranspose2d(4, 8, 3, 2)
        shapes.append(tuple(layer(m.ones(2, 4, 3, 3), output_size=size).shape))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("size", [(20, 20), (6, 7), (8,), (7, 7, 7)])
def test_output_size_that_cannot_be_reached(size):
    for m in (nano, torch):
        layer = m.nn.ConvTranspose2d(4, 8, 3, 2)
        with pytest.raises(ValueError):
            layer(m.ones(2, 4, 3, 3), output_size=size)


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("Conv2d", (4, 8, 3), {"groups": 3}),
        ("Conv2d", (4, 9, 3), {"groups": 2}),
        ("Conv2d", (4, 8, 3), {"groups": 0}),
        ("Conv2d", (4, 8, 3), {"padding": "x"}),
        ("Conv2d", (4, 8, 3, 2), {"padding": "same"}),
        ("Conv2d", (4, 8, 3), {"padding_mode": "x"}),
        ("ConvTranspose2d", (4, 8, 3), {"padding_mode": "reflect"}),
        ("Conv2d", (4, 8, -3), {}),
        ("Conv2d", (-4, 8, 3), {}),
        ("Conv2d", (4, 8, 3.5), {}),
    ],
)
def test_refuses_what_pytorch_refuses(name, args, options):
    errors = []
    for m in (torch, nano):
        with pytest.raises((ValueError, RuntimeError, TypeError)) as caught:
            getattr(m.nn, name)(*args, **options)
        errors.append(caught)
    theirs, ours = errors
    assert isinstance(ours.value, theirs.type)
    assert str(ours.value).startswith(f"[{name}] ")


def test_max_pooling_gives_indices():
    x = nano.tensor([[[1.0, 2.0], [4.0, 3.0]]])
    y, indices = nn.MaxPool2d(2, return_indices=True)(x)
    assert (y.item(), indices.item()) == (4.0, 2)
    y, indices = nn.AdaptiveMaxPool2d(1, return_indices=True)(x)
    assert (y.item(), indices.item()) == (4.0, 2)


def _step(layer, x):
    layer(x).sum().backward()
    nano.optim.SGD(layer.parameters(), lr=0.1).step()


#: Ways to change the weight of a layer.
WRITES = {
    "optimizer": _step,
    "load_state_dict": lambda layer, x: layer.load_state_dict(nn.Conv2d(8, 16, 3).state_dict()),
    "in place": lambda layer, x: layer.weight.detach().mul_(2),
    "view": lambda layer, x: layer.weight.detach().view(-1)[5:].zero_(),
    "data": lambda layer, x: layer.weight.data.add_(1),
    "new data": lambda layer, x: setattr(layer.weight, "data", nano.ones(16, 8, 3, 3)),
    "numpy": lambda layer, x: layer.weight.detach().numpy().fill(0.5),
    "init": lambda layer, x: nn.init.constant_(layer.weight, 0.25),
    "new parameter": lambda layer, x: setattr(
        layer, "weight", nn.Parameter(nano.full((16, 8, 3, 3), 2.0))
    ),
}


@pytest.mark.parametrize("way", WRITES)
def test_inference_sees_a_weight_that_was_written(way):
    """Kernels keep reordered weights between calls; not those of yesterday."""
    layer, x = nn.Conv2d(8, 16, 3), nano.randn(2, 8, 10, 10)
    with nano.no_grad():
        before = layer(x)
        assert layer(x).tolist() == before.tolist()
    WRITES[way](layer, x)
    with nano.no_grad():
        # The memory of a NumPy array that somebody holds is never kept in another order.
        array = layer.weight.detach().numpy().copy()
        expected = nn.functional.conv2d(x, nano.from_numpy(array), layer.bias)
        y = layer(x)
    assert not np.allclose(y.numpy(), before.numpy())
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_weights_are_kept_in_order_in_inference():
    """A layer's weight may be kept: that nobody else holds its memory is noticed."""
    layer = nn.Conv2d(8, 16, 3)
    assert content_token(layer.weight) is not None
