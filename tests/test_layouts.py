"""Memory formats: the same strides, results and errors as PyTorch."""

import copy
import pickle

import numpy as np
import pytest
import torch

import nano
from nano.autograd import gradcheck, gradgradcheck

VALUES = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)

#: Calls as PyTorch documents them: ``x`` is contiguous, ``y`` channels-last, ``v`` a view of
#: ``x`` with gaps, ``p`` one of ``x`` in an order of its own, ``d`` has five dimensions.
CALLS = """
x.to(memory_format=m.channels_last)
x.to(m.float64, memory_format=m.channels_last)
x.to(memory_format=m.channels_last, copy=True)
x.to(memory_format=None)
y.to(m.float64)
y.to(m.int64)
y.to(memory_format=m.contiguous_format)
y.to(m.float64, memory_format=m.contiguous_format)
y.to(memory_format=m.preserve_format)
y.to(memory_format=m.channels_last)
y.to(copy=True, dtype=m.float32)
v.to(memory_format=m.channels_last)
p.to(memory_format=m.channels_last)
p.to(m.float64)
d.to(memory_format=m.channels_last_3d)
x.contiguous(memory_format=m.channels_last)
x.contiguous(memory_format=m.preserve_format)
y.contiguous()
y.contiguous(memory_format=m.channels_last)
v.contiguous(memory_format=m.channels_last)
y.clone()
m.clone(y, memory_format=m.contiguous_format)
x.clone(memory_format=m.channels_last)
v.clone(memory_format=m.channels_last)
p.clone()
x.clone(memory_format=None)
y.double()
y.double(memory_format=m.contiguous_format)
x.half(memory_format=m.channels_last)
x.cpu(memory_format=m.channels_last)
y.cpu()
m.zeros_like(y)
m.zeros_like(x, memory_format=m.channels_last)
m.zeros_like(y, memory_format=m.contiguous_format, dtype=m.int64)
m.zeros_like(p)
m.ones_like(y)
m.ones_like(x, memory_format=m.channels_last)
m.ones_like(x, memory_format=None)
m.full_like(y, 2.5)
m.full_like(x, 2.5, memory_format=m.channels_last)
m.empty_like(y).fill_(0)
m.empty_like(x, memory_format=m.channels_last).fill_(1)
m.empty(2, 3, 4, 5, memory_format=m.channels_last).fill_(1)
m.empty(1, 2, 3, 4, 5, memory_format=m.channels_last_3d).fill_(1)
m.rand_like(y) * 0
m.rand_like(x, memory_format=m.channels_last) * 0
m.randn_like(y, dtype=m.float64) * 0
m.randn_like(x, memory_format=m.channels_last) * 0
m.randint_like(y, 7, 8)
m.randint_like(x, 8, memory_format=m.channels_last) * 0
copy.deepcopy(y)
-y
y.exp()
y * 2 + 1
y + y
y * y.mean((0, 2, 3), keepdim=True)
y > 0
m.relu(y)
m.sigmoid(y)
m.maximum(y, y)
y.clamp(0, 1)
m.where(y > 0, y, y * 2)
y.pow(2).sqrt().abs()
F.relu(y)
F.gelu(y)
y.view(2, 3, 20)
y.view(2, 3, 4, 5, 1)
y.reshape(2, -1)
y.flatten(1)
"""


def names(m):
    x = m.tensor(VALUES)
    deep = m.tensor(VALUES[None])
    y = x.to(memory_format=m.channels_last)
    p = x.permute(3, 1, 0, 2)
    F = m.nn.functional
    return {"m": m, "x": x, "y": y, "v": x[:, :, ::2], "p": p, "d": deep, "F": F, "copy": copy}


@pytest.mark.parametrize("call", CALLS.strip().splitlines())
def test_calls(call):
    ours, theirs = (eval(call, names(m)) for m in (nano, torch))
    assert ours.stride() == theirs.stride()
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    # The same arithmetic in another order: a few units in the last place of float32.
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


SAME = """
x.to(memory_format=m.contiguous_format) is x
y.to(memory_format=m.channels_last) is y
y.cpu() is y
y.to(memory_format=m.preserve_format) is y
x.contiguous() is x
y.contiguous(memory_format=m.channels_last) is y
y.contiguous() is y
x.clone() is x
x.to(memory_format=m.channels_last) is x
x.is_contiguous(memory_format=m.channels_last)
y.is_contiguous(memory_format=m.channels_last)
y.is_contiguous()
y.is_contiguous(memory_format=m.contiguous_format)
d.is_contiguous(memory_format=m.channels_last)
d.is_contiguous(memory_format=m.channels_last_3d)
d.to(memory_format=m.channels_last_3d).is_contiguous(memory_format=m.channels_last_3d)
x[0].is_contiguous(memory_format=m.channels_last)
x[:, :1].clone().is_contiguous(memory_format=m.channels_last)
x[:, :, :1, :1].clone().is_contiguous(memory_format=m.channels_last)
x[:, :, ::2].is_contiguous(memory_format=m.channels_last)
y[:, :, ::2].is_contiguous(memory_format=m.channels_last)
y[:1].is_contiguous(memory_format=m.channels_last)
"""


@pytest.mark.parametrize("question", SAME.strip().splitlines())
def test_questions(question):
    ours, theirs = (eval(question, names(m)) for m in (nano, torch))
    assert ours is theirs


REFUSED = """
x[0].to(memory_format=m.channels_last)
x[0].contiguous(memory_format=m.channels_last)
x[0].clone(memory_format=m.channels_last)
m.zeros_like(x[0], memory_format=m.channels_last)
m.rand_like(x[0], memory_format=m.channels_last)
m.empty(3, 4, memory_format=m.channels_last)
m.empty(2, 3, 4, 5, memory_format=m.preserve_format)
x.to(memory_format=m.channels_last_3d)
d.to(memory_format=m.channels_last)
y.contiguous(memory_format=m.preserve_format)
x.to(m.channels_last)
x.to(memory_format="channels_last")
x.clone("a")
x.clone(memory_format="channels_last")
x.contiguous(m.channels_last)
x.contiguous(memory_format=1)
x.is_contiguous(memory_format=1)
m.zeros_like(x, memory_format=1)
m.memory_format()
m.nn.Linear(2, 3).to(memory_format="x")
p.view(-1)
v.view(2, -1)
y[:, :, ::2].view(2, -1)
x[0].permute(1, 2, 0).view(-1)
"""


@pytest.mark.parametrize("call", REFUSED.strip().splitlines())
def test_refusals(call):
    with pytest.raises((RuntimeError, TypeError)) as theirs:
        eval(call, names(torch))
    with pytest.raises(theirs.type):
        eval(call, names(nano))


def test_the_formats_print_and_pickle():
    for name in ("channels_last", "channels_last_3d", "contiguous_format", "preserve_format"):
        ours = getattr(nano, name)
        assert repr(ours).replace("nano", "torch") == repr(getattr(torch, name))
        assert isinstance(ours, nano.memory_format)
        assert pickle.loads(pickle.dumps(ours)) is ours
        assert copy.deepcopy(ours) is ours


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.to(memory_format=nano.channels_last) ** 2,
        lambda x: x.clone(memory_format=nano.channels_last) ** 2,
        lambda x: x.to(memory_format=nano.channels_last).contiguous() ** 2,
        lambda x: (x.to(memory_format=nano.channels_last) ** 2).view(2, -1),
        lambda x: (x.to(memory_format=nano.channels_last) ** 2).view(-1).exp(),
    ],
)
def test_derivatives(function):
    x = nano.tensor(VALUES[:, :, :2, :2], dtype=nano.float64, requires_grad=True)
    assert gradcheck(function, (x,))
    assert gradgradcheck(function, (x,))


def test_view_of_channels_last_memory_is_a_copy_where_it_must_be():
    x = nano.tensor(VALUES)
    y = x.to(memory_format=nano.channels_last)
    flat = y.view(y.size(0), -1)
    np.testing.assert_array_equal(flat.numpy(), VALUES.reshape(2, -1))
    flat[0, 0] = 100.0
    assert y[0, 0, 0, 0].item() == VALUES[0, 0, 0, 0]
    # Where a view is possible, it is one.
    y.view(2, 3, 20)[0, 0, 0] = 100.0
    assert y[0, 0, 0, 0].item() == 100.0


def test_module_to_memory_format():
    for m in (nano, torch):
        module = m.nn.Linear(5, 3)
        module.register_parameter("kernel", m.nn.Parameter(m.tensor(VALUES)))
        module.register_buffer("count", m.zeros(2, 3, 4, 5, dtype=m.int64))
        kernel = module.kernel
        (kernel * kernel).sum().backward()
        module.to(memory_format=m.channels_last)
        assert module.kernel is kernel
        found = [t.stride() for t in (kernel, kernel.grad, module.count, module.weight)]
        assert found == [(60, 1, 15, 3)] * 3 + [(5, 1)]
        module.to(m.float64)
        assert kernel.stride() == (60, 1, 15, 3)
        module.to(memory_format=m.contiguous_format)
        assert kernel.stride() == (60, 20, 5, 1)
        np.testing.assert_array_equal(kernel.detach().float().numpy(), VALUES)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop", "Adagrad"])
def test_optimizers_move_parameters_of_any_order(kind):
    results = []
    values = np.tile(VALUES, (10, 10, 5, 2))  # large enough to go block by block
    for order in (nano.contiguous_format, nano.channels_last):
        p = nano.tensor(values).to(memory_format=order).requires_grad_()
        optimizer = getattr(nano.optim, kind)([p], lr=0.1)
        for _ in range(2):
            p.grad = nano.tensor(values).to(memory_format=order)
            optimizer.step()
        state = optimizer.state_dict()["state"].get(0, {})
        for entry in state.values():
            assert entry.ndim == 0 or entry.is_contiguous(memory_format=order)
        results.append(p.detach().numpy())
    # One order may be for the fused loops, which round a product and a sum once, not twice.
    np.testing.assert_allclose(*results, rtol=5e-7, atol=1e-7)
    assert not np.array_equal(results[0], values)
