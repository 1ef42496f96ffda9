"""Automatic mixed precision: which functions run in 16 bits, beside PyTorch; the cast weights."""

import threading

import numpy as np
import pytest
import torch

import nano
import nano.nn.functional as F
from nano.functions.conversion import To
from nano.models.resnet import BasicBlock

_rng = np.random.default_rng(0)
_X = _rng.standard_normal((4, 8)).astype(np.float32)
_W = _rng.standard_normal((8, 8)).astype(np.float32)
_IMAGES = _rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
_KERNEL = _rng.standard_normal((4, 3, 3, 3)).astype(np.float32)


def _with_mask_filled(x, mask, value):
    x[mask] = value
    return x


def _normed_sum(m, f, x, residual):
    """relu(norm(x) + residual): in one call in nano, of three operators in PyTorch."""
    arguments = x, m.zeros(4), m.ones(4), m.ones(4), m.zeros(4), True
    residual = residual.expand(x.shape)
    if m is nano:
        return f.batch_norm(*arguments, residual=residual, activation="relu")
    return m.relu(f.batch_norm(*arguments) + residual)


#: Calls with a module, its functional module, and inputs in float32.
CALLS = {
    "matmul": lambda m, f, x, w, i, k: m.matmul(x, w),
    "operator": lambda m, f, x, w, i, k: x @ w,
    "mm": lambda m, f, x, w, i, k: m.mm(x, w),
    "mv": lambda m, f, x, w, i, k: m.mv(w, x[0]),
    "dot": lambda m, f, x, w, i, k: m.dot(x[0], x[1]),
    "bmm": lambda m, f, x, w, i, k: m.bmm(x[None], w[None]),
    "addmm": lambda m, f, x, w, i, k: m.addmm(x, x, w),
    "inner": lambda m, f, x, w, i, k: m.inner(x, x),
    "outer": lambda m, f, x, w, i, k: m.outer(x[0], x[1]),
    "einsum": lambda m, f, x, w, i, k: m.einsum("ij,jk->ik", x, w),
    "linear": lambda m, f, x, w, i, k: f.linear(x, w, w[0]),
    "conv2d": lambda m, f, x, w, i, k: f.conv2d(i, k),
    "conv1d": lambda m, f, x, w, i, k: f.conv1d(i[:, :, 0], k[:, :, 0]),
    "conv_transpose2d": lambda m, f, x, w, i, k: f.conv_transpose2d(i, k[:3]),
    "attention": lambda m, f, x, w, i, k: f.scaled_dot_product_attention(x[None], x[None], x[None]),
    "exp": lambda m, f, x, w, i, k: m.exp(x @ w * 0.01),
    "sum": lambda m, f, x, w, i, k: (x @ w).sum(0),
    "softmax": lambda m, f, x, w, i, k: (x @ w).softmax(1),
    "gelu": lambda m, f, x, w, i, k: f.gelu(x @ w),
    "layer_norm": lambda m, f, x, w, i, k: f.layer_norm(x @ w, (8,), w[0], w[1]),
    "batch_norm": lambda m, f, x, w, i, k: f.batch_norm(
        f.conv2d(i, k), m.zeros(4), m.ones(4), m.ones(4), m.zeros(4), True
    ),
    "max_pool2d": lambda m, f, x, w, i, k: f.max_pool2d(f.conv2d(i, k), 2),
    "avg_pool2d": lambda m, f, x, w, i, k: f.avg_pool2d(f.conv2d(i, k), 2),
    "prod": lambda m, f, x, w, i, k: (x @ w * 0.1).prod(1),
    "cat": lambda m, f, x, w, i, k: m.cat([x @ w, x]),
    "stack": lambda m, f, x, w, i, k: m.stack([x @ w, x]),
    "add": lambda m, f, x, w, i, k: x @ w + x,
    "divide": lambda m, f, x, w, i, k: x / (x @ w).exp(),
    "power": lambda m, f, x, w, i, k: x.abs() ** (x @ w),
    "maximum": lambda m, f, x, w, i, k: m.maximum(x @ w, x),
    "where": lambda m, f, x, w, i, k: m.where(x > 0, x @ w, x),
    "clamp": lambda m, f, x, w, i, k: m.clamp(x @ w, min=x),
    "relu_of_sum": lambda m, f, x, w, i, k: m.relu(x + x @ w),
    "scaled": lambda m, f, x, w, i, k: (x @ w) * w[0, 0],
    "in_place": lambda m, f, x, w, i, k: (x @ w).add_(x).mul_(x),
    "copy": lambda m, f, x, w, i, k: (x @ w).copy_(x),
    "index_copy": lambda m, f, x, w, i, k: (x @ w).index_copy(0, m.tensor([2, 0]), x[:2]),
    "index_copy_into_float32": lambda m, f, x, w, i, k: x.index_copy(
        0, m.tensor([2, 0]), (x @ w)[:2]
    ),
    "masked_fill": lambda m, f, x, w, i, k: (x @ w).masked_fill(x > 0, x[0, 0]),
    "mask_assignment": lambda m, f, x, w, i, k: _with_mask_filled(x @ w, x > 0, x[0, 0]),
    "residual": lambda m, f, x, w, i, k: _normed_sum(m, f, f.conv2d(i, k), i[:, :1, :6, :6]),
    "half_attention_mask": lambda m, f, x, w, i, k: f.scaled_dot_product_attention(
        x[None], x[None], x[None], x[:, :4].half()
    ),
    "mse_loss": lambda m, f, x, w, i, k: f.mse_loss(x @ w, x @ w * 0.5),
    "l1_loss": lambda m, f, x, w, i, k: f.l1_loss(x @ w, x),
    "cross_entropy": lambda m, f, x, w, i, k: f.cross_entropy(x @ w, m.tensor([0, 1, 2, 3])),
    "nll_loss": lambda m, f, x, w, i, k: f.nll_loss(
        f.log_softmax(x @ w, 1), m.tensor([0, 1, 2, 3])
    ),
    "bce_with_logits": lambda m, f, x, w, i, k: f.binary_cross_entropy_with_logits(
        x @ w, (x @ w).sigmoid()
    ),
    "bce": lambda m, f, x, w, i, k: f.binary_cross_entropy(
        (x @ w).sigmoid().float(), (x @ w).sigmoid().float()
    ),
    "double": lambda m, f, x, w, i, k: f.linear(x.double(), w.double()),
    "half": lambda m, f, x, w, i, k: f.linear(x.half(), w.half()),
}


@pytest.mark.parametrize("name", CALLS)
def test_dtypes_and_values_are_pytorchs(name):
    arrays = (_X, _W, _IMAGES, _KERNEL)
    with nano.autocast(dtype=nano.bfloat16):
        ours = CALLS[name](nano, F, *[nano.tensor(a) for a in arrays])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = CALLS[name](torch, torch.nn.functional, *[torch.tensor(a) for a in arrays])
    assert str(ours.dtype) == str(theirs.dtype).replace("torch", "nano")
    # bfloat16 has 8 bits; a value may be rounded differently at each of two or three steps.
    scale = theirs.double().abs().max().item()
    np.testing.assert_allclose(
        ours.double().numpy(), theirs.double().numpy(), atol=2**-6 * scale, rtol=2**-6
    )


def test_a_mixed_residual_is_added_as_plus_adds_it():
    x, residual = nano.randn(2, 3, 4, 4, requires_grad=True), nano.randn(2, 3, 4, 4)
    residual.requires_grad_()
    low = x.bfloat16()

    def results(y):
        return y.detach(), *nano.autograd.grad(y.square().sum(), [x, residual])

    fused = results(
        F.batch_norm(low, None, None, training=True, residual=residual, activation="relu")
    )
    apart = results(nano.relu(F.batch_norm(low, None, None, training=True) + residual))
    assert [t.dtype for t in fused] == [nano.float32] * 3
    for a, b in zip(fused, apart, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_block_takes_float32(training):
    block = BasicBlock(4, 4, 1, True).train(training)
    x = nano.randn(2, 4, 6, 6)
    with nano.autocast():
        y = block(x)
    assert y.dtype == nano.float32
    # Two convolutions and their operands in 8 bits, of results of about 1.
    np.testing.assert_allclose(y.detach().numpy(), block(x).detach().numpy(), atol=2**-4)


def test_integers_are_left_alone():
    with nano.autocast():
        assert (nano.ones(2, 2, dtype=nano.int64) @ nano.ones(2, 2, dtype=nano.int64)).dtype == (
            nano.int64
        )


def test_parameters_learn_in_float32():
    layer, peer = nano.nn.Linear(8, 3), torch.nn.Linear(8, 3)
    layer.load_state_dict({k: nano.tensor(v.numpy()) for k, v in peer.state_dict().items()})
    with nano.autocast(dtype=nano.bfloat16):
        loss = layer(nano.tensor(_X)).float().square().mean()
    loss.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = peer(torch.tensor(_X)).float().square().mean()
    theirs.backward()
    assert layer.weight.grad.dtype == nano.float32
    np.testing.assert_allclose(
        layer.weight.grad.numpy(), peer.weight.grad.numpy(), atol=2**-6, rtol=2**-6
    )


def _casts(work):
    """How many conversions ``work`` runs."""
    seen = []

    def hook(function, inputs, attributes, proceed):
        if function is To:
            seen.append(inputs[0].shape)
        return proceed()

    nano.hook.add_hook(hook)
    try:
        work()
    finally:
        nano.hook.remove_hook(hook)
    return seen


def test_a_weight_used_twice_is_cast_once():
    layer, x = nano.nn.Linear(8, 8, bias=False), nano.ones(1, 8)

    def work():
        with nano.autocast():
            layer(layer(x))

    assert _casts(work).count((8, 8)) == 1

    def without():
        with nano.autocast(cache_enabled=False):
            layer(layer(x))

    assert _casts(without).count((8, 8)) == 2


def test_a_weight_that_changed_is_cast_anew():
    layer, x = nano.nn.Linear(2, 2, bias=False), nano.ones(1, 2)
    with nano.autocast():
        before = layer(x)
        with nano.no_grad():
            layer.weight.mul_(2.0)
        after = layer(x)
    np.testing.assert_array_equal(
        after.float().detach().numpy(), 2 * before.float().detach().numpy()
    )


def test_regions_nest_and_end():
    x = nano.ones(2, 2)
    with nano.autocast():
        with nano.autocast(enabled=False):
            assert (x @ x).dtype == nano.float32
            assert not nano.is_autocast_enabled()
        assert (x @ x).dtype == nano.bfloat16
        with nano.autocast(dtype=nano.float16):
            assert (x @ x).dtype == nano.float16
            assert nano.get_autocast_dtype("cpu") == nano.float16
    assert (x @ x).dtype == nano.float32
    with pytest.raises(KeyError), nano.autocast():
        raise KeyError
    assert not nano.is_autocast_enabled()


def test_it_decorates():
    @nano.autocast("cpu", dtype=nano.bfloat16)
    def product(x):
        return x @ x

    assert product(nano.ones(2, 2)).dtype == nano.bfloat16


def test_each_thread_has_its_own():
    found = []
    with nano.autocast():
        t = threading.Thread(target=lambda: found.append(nano.is_autocast_enabled()))
        t.start()
        t.join()
    assert found == [False]


def test_wrong_arguments():
    with pytest.raises(RuntimeError, match="only"):
        nano.autocast("cuda")
    with pytest.raises(ValueError, match="device_type"):  # as in PyTorch
        nano.autocast(nano.bfloat16)
    with pytest.warns(UserWarning, match="Disabling"):
        region = nano.autocast(dtype=nano.float64)
    with region:
        assert not nano.is_autocast_enabled()
