"""Layer, group and root-mean-square normalisation layers against PyTorch's."""

import numpy as np
import pytest
import torch

import nano
from nano import nn

LAYERS = [
    ("LayerNorm", (4,), {}, (2, 3, 4)),
    ("LayerNorm", ((3, 4),), {}, (2, 3, 4)),
    ("LayerNorm", ([3, 4],), {"eps": 0.1}, (2, 3, 4)),
    ("LayerNorm", (4,), {"bias": False}, (2, 4)),
    ("LayerNorm", (4,), {"elementwise_affine": False}, (2, 4)),
    ("GroupNorm", (2, 4), {}, (2, 4, 3, 3)),
    ("GroupNorm", (1, 4), {"eps": 0.1}, (2, 4)),
    ("GroupNorm", (2, 4), {"affine": False}, (2, 4, 3)),
    ("GroupNorm", (2, 4), {"bias": False}, (2, 4, 3)),
    ("RMSNorm", (4,), {}, (2, 4)),
    ("RMSNorm", ((3, 4),), {"eps": 0.1}, (2, 3, 4)),
    ("RMSNorm", (4,), {"elementwise_affine": False}, (2, 4)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=str)
def test_layers_equal_pytorch(name, args, options, shape):
    rng = np.random.default_rng(0)
    data = rng.normal(1, 2, shape).astype("float32")
    theirs = getattr(torch.nn, name)(*args, **options)
    ours = getattr(nn, name)(*args, **options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (_, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert a.tolist() == b.tolist()
        values = rng.normal(size=a.shape).astype("float32")
        with nano.no_grad():
            a.copy_(values)
        b.data.copy_(torch.tensor(values))
    results = []
    for m, layer in ((nano, ours), (torch, theirs)):
        x = m.tensor(data, requires_grad=True)
        y = layer(x)
        (y * y).sum().backward()
        results.append([y.detach(), x.grad, *[p.grad for p in layer.parameters()]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-4)


def test_dtype_and_reset():
    layer = nn.LayerNorm(3, dtype=nano.float64)
    assert layer.weight.dtype is nano.float64
    with nano.no_grad():
        layer.weight.fill_(5)
    layer.reset_parameters()
    assert layer.weight.tolist() == [1.0] * 3


def test_refusals():
    for n in (nn, torch.nn):
        with pytest.raises(ValueError, match="must be divisible by num_groups"):
            n.GroupNorm(3, 4)
    with pytest.raises(RuntimeError, match=r"\[layer_norm\] normalized_shape \(3,\)"):
        nn.LayerNorm(3)(nano.ones(2, 4))
    with pytest.raises(TypeError, match=r"\[LayerNorm\] normalized_shape must be a tuple"):
        nn.LayerNorm(1.5)
