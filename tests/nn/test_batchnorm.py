"""Batch normalisation layers against PyTorch's."""

import numpy as np
import pytest
import torch

import nano
from nano import nn

LAYERS = [
    ("BatchNorm1d", (3,), {}, (4, 3)),
    ("BatchNorm1d", (3,), {"eps": 0.1}, (4, 3, 5)),
    ("BatchNorm2d", (3,), {}, (2, 3, 4, 5)),
    ("BatchNorm2d", (3, 1e-3, 0.3), {}, (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), {"momentum": None}, (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), {"affine": False}, (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), {"bias": False}, (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, (2, 3, 4, 5)),
    ("BatchNorm2d", (3,), {"affine": False, "track_running_stats": False}, (2, 3, 4, 5)),
    ("BatchNorm3d", (3,), {}, (2, 3, 2, 2, 2)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=str)
def test_training_and_evaluation_equal_pytorch(name, args, options, shape):
    rng = np.random.default_rng(0)
    data = [rng.normal(1, 2, shape).astype("float32") for _ in range(3)]
    results, texts = [], []
    for m in (nano, torch):
        layer = getattr(m.nn, name)(*args, **options)
        texts.append((repr(layer), list(layer.state_dict())))
        found = []
        for training, a in zip((True, True, False), data, strict=True):
            layer.train(training)
            layer.zero_grad()
            x = m.tensor(a, requires_grad=True)
            y = layer(x)
            (y * y * y).sum().backward()
            found += [y.detach(), x.grad, *[p.grad for p in layer.parameters()]]
            found += [b.clone() for b in layer.state_dict().values()]
        results.append(found)
    assert texts[0] == texts[1]
    assert len(results[0]) == len(results[1])
    for ours, theirs in zip(*results, strict=True):
        assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4)


def test_state_goes_to_and_fro():
    theirs, ours = torch.nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    theirs(torch.randn(2, 3, 4, 4))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    assert ours.num_batches_tracked.item() == 1
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32")
    a, b = ours.eval()(nano.tensor(x)), theirs.eval()(torch.tensor(x))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    ours.reset_running_stats()
    assert ours.running_mean.tolist() == [0.0] * 3
    assert ours.running_var.tolist() == [1.0] * 3
    assert ours.num_batches_tracked.item() == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_conversion_leaves_the_count_an_integer(dtype):
    layer = nn.BatchNorm1d(3).to(getattr(nano, dtype))
    assert [str(v.dtype) for v in layer.state_dict().values()] == [
        *[f"nano.{dtype}"] * 4,
        "nano.int64",
    ]
    assert str(layer(nano.ones(2, 3, dtype=getattr(nano, dtype))).dtype) == f"nano.{dtype}"


def test_bfloat16_input_with_float32_layer():
    layer = nn.BatchNorm2d(3)
    x = nano.randn(2, 3, 4, 4).bfloat16().requires_grad_()
    y = layer(x, residual=x, activation="relu")
    y.sum().backward()
    assert y.dtype is x.grad.dtype is nano.bfloat16
    assert layer.weight.grad.dtype is layer.running_mean.dtype is nano.float32


def test_residual_and_activation_are_what_separate_operators_give():
    rng = np.random.default_rng(0)
    data, other = (rng.normal(size=(2, 3, 4, 4)) for _ in range(2))
    results = []
    for fused in (True, False):
        layer = nn.BatchNorm2d(3, dtype=nano.float64)
        x, r = nano.tensor(data, requires_grad=True), nano.tensor(other, requires_grad=True)
        y = layer(x, r, "relu") if fused else (layer(x) + r).relu()
        (y * y).sum().backward()
        results.append([y.detach(), x.grad, r.grad, layer.weight.grad, layer.bias.grad])
    for a, b in zip(*results, strict=True):
        # float64, in another order of operations.
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "shape", "error"),
    [
        ("BatchNorm2d", (2, 3, 4), ValueError),
        ("BatchNorm1d", (2, 3, 4, 4), ValueError),
        ("BatchNorm1d", (3,), ValueError),
        ("BatchNorm3d", (2, 3, 4, 4), ValueError),
        ("BatchNorm1d", (1, 3), ValueError),
        ("BatchNorm2d", (2, 4, 4, 4), RuntimeError),
    ],
)
def test_refusals_as_in_pytorch(name, shape, error):
    with pytest.raises(error):
        getattr(torch.nn, name)(3)(torch.ones(*shape))
    layer = getattr(nn, name)(3)
    with pytest.raises(error, match=r"\["):
        layer(nano.ones(*shape))
    # nano counts no batch that it refused.
    assert layer.num_batches_tracked.item() == 0
