"""Layers, containers, initialisation and nn.functional against PyTorch."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import nano
import nano.nn.functional as F
from nano import nn


def transferred(theirs, ours):
    """``ours`` with the weights of ``theirs``."""
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return ours


LAYERS = [
    ("Linear", (5, 3), {}, (4, 5)),
    ("Linear", (5, 3), {"bias": False}, (2, 4, 5)),
    ("Linear", (5, 3), {}, (5,)),
    ("Linear", (5, 3), {}, (0, 5)),
    ("Flatten", (), {}, (2, 3, 4)),
    ("Flatten", (0, 1), {}, (2, 3, 4)),
    ("Identity", (), {}, (2, 3)),
    ("ReLU", (), {}, (3, 4)),
    ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("Sigmoid", (), {}, (3, 4)),
    ("Tanh", (), {}, (3, 4)),
    ("GELU", (), {}, (3, 4)),
    ("GELU", ("tanh",), {}, (3, 4)),
    ("SiLU", (), {}, (3, 4)),
    ("Softmax", (1,), {}, (3, 4)),
    ("Softmax", (), {"dim": 0}, (3, 4)),
    ("LogSoftmax", (-1,), {}, (3, 4)),
    ("Dropout", (0.0,), {}, (3, 4)),
    ("Dropout1d", (0.0,), {}, (3, 4, 2)),
    ("Dropout2d", (0.0,), {}, (3, 4, 2, 2)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=str)
def test_layers_equal_pytorch(name, args, options, shape):
    theirs = getattr(torch.nn, name)(*args, **options)
    ours = transferred(theirs, getattr(nn, name)(*args, **options))
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
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


LOSSES = [
    ("MSELoss", {}, "numbers"),
    ("L1Loss", {"reduction": "sum"}, "numbers"),
    ("BCEWithLogitsLoss", {"weight": [2.0, 1.0, 3.0], "pos_weight": [1.0, 2.0, 0.5]}, "shares"),
    ("BCELoss", {"weight": [2.0, 1.0, 3.0], "reduction": "none"}, "shares"),
    ("NLLLoss", {"weight": [2.0, 1.0, 3.0], "ignore_index": 1}, "labels"),
    ("NLLLoss", {"reduction": "none"}, "labels"),
    ("CrossEntropyLoss", {"weight": [2.0, 1.0, 3.0], "label_smoothing": 0.1}, "labels"),
    ("CrossEntropyLoss", {"ignore_index": 2, "reduction": "sum"}, "labels"),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, "shares"),
]


@pytest.mark.parametrize(("name", "options", "kind"), LOSSES, ids=str)
def test_loss_modules_equal_pytorch(name, options, kind):
    rng = np.random.default_rng(1)
    data = rng.uniform(0.1, 0.9, (4, 3)).astype("float32")
    target = {
        "numbers": rng.normal(size=(4, 3)).astype("float32"),
        "shares": rng.uniform(0.1, 0.9, (4, 3)).astype("float32"),
        "labels": np.array([0, 1, 2, 0]),
    }[kind]
    results = []
    for m in (nano, torch):
        given = {k: m.tensor(v) if isinstance(v, list) else v for k, v in options.items()}
        loss = getattr(m.nn, name)(**given)
        x = m.tensor(data, requires_grad=True)
        y = loss(x, m.tensor(target))
        y.sum().backward()
        results.append((y.detach().numpy(), x.grad.numpy(), list(loss.state_dict()), repr(loss)))
    (y, g, names, text), (y2, g2, names2, text2) = results
    np.testing.assert_allclose(y, y2, rtol=1e-5)
    np.testing.assert_allclose(g, g2, rtol=1e-4, atol=1e-6)
    assert names == names2
    assert text == text2


def test_linear_says_what_does_not_fit():
    with pytest.raises(RuntimeError, match=r"\[linear\].*"):
        nn.Linear(3, 2)(nano.ones(1, 4))


def test_linear_begins_as_in_pytorch():
    nano.manual_seed(0)
    layer = nn.Linear(100, 50)
    for p in layer.parameters():
        values = p.detach().numpy()
        # Uniform on [-0.1, 0.1): the standard deviation is 0.2 / sqrt(12).
        assert np.abs(values).max() <= 0.1
        assert values.std() == pytest.approx(0.2 / math.sqrt(12), rel=0.2)
    nano.manual_seed(0)
    assert nn.Linear(100, 50).weight.tolist() == layer.weight.tolist()
    assert nn.Linear(2, 2, dtype=nano.float64).weight.dtype is nano.float64
    assert nn.Linear(0, 2)(nano.ones(1, 0)).tolist() == [[0.0, 0.0]]


def test_dropout_follows_the_mode():
    layer = nn.Dropout(0.5)
    x = nano.ones(100)
    assert set(layer(x).tolist()) == {0.0, 2.0}
    assert layer.eval()(x) is x
    y = nano.ones(100)
    assert nn.Dropout(0.5, inplace=True)(y) is y


@pytest.mark.parametrize(
    ("name", "shape"), [("Dropout1d", (2, 50, 3)), ("Dropout2d", (2, 50, 2, 2))]
)
def test_channel_dropout_follows_the_mode(name, shape):
    layer = getattr(nn, name)(0.5)
    x = nano.ones(*shape)
    rows = layer(x).numpy().reshape(100, -1)
    assert {tuple(set(row)) for row in rows} == {(0.0,), (2.0,)}
    assert layer.eval()(x) is x
    assert getattr(nn, name)(1.0, inplace=True)(x) is x
    assert not x.numpy().any()
    with pytest.raises(ValueError, match=rf"\[{name}\]"):
        getattr(nn, name)(2.0)


def test_relu_in_place():
    x = nano.tensor([-1.0, 1.0])
    assert nn.ReLU(inplace=True)(x) is x
    assert x.tolist() == [0.0, 1.0]
    assert nn.SiLU(inplace=True)(x) is x


def test_softmax_without_dim_warns():
    for m in (nano, torch):
        for make in (m.nn.Softmax(), m.nn.LogSoftmax(), m.nn.functional.softmax):
            for shape in ((3,), (2, 3), (2, 3, 4)):
                with pytest.warns(UserWarning, match="Implicit dimension choice"):
                    make(m.ones(*shape))
    with pytest.warns(UserWarning, match="Implicit"):
        ours = F.softmax(nano.tensor([[1.0, 2.0]]))
    assert ours.sum().item() == pytest.approx(1.0)


# Containers ------------------------------------------------------------------------------


def test_sequential_behaves_as_pytorch():
    texts = []
    for m in (nano, torch):
        n, log = m.nn, []
        net = n.Sequential(n.Linear(2, 2), n.ReLU(), n.Tanh())
        log += [repr(net[0]), repr(net[-1]), repr(net[1:]), repr(net[::2]), len(net)]
        net.append(n.Sigmoid())
        net.extend([n.Identity()])
        net.insert(0, n.Flatten())
        log.append(repr(net))
        net[1] = n.Dropout()
        del net[0]
        log.append(repr(net))
        del net[1:3]
        log += [repr(net), repr(net.pop(0)), repr(net)]
        named = n.Sequential(OrderedDict(first=n.ReLU(), second=n.Tanh()))
        log += [repr(named), repr(named[0]), repr(named[:1]), repr(named.second)]
        log += [repr(n.Sequential()), [type(x).__name__ for x in named]]
        log.append(repr(named + n.Sequential(n.ReLU())))
        texts.append(log)
    assert texts[0] == texts[1]


def test_sequential_computes_in_order():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    x = nano.ones(4, 2)
    assert net(x).tolist() == net[2](net[1](net[0](x))).tolist()
    assert nn.Sequential()(x) is x


def _own_forward(n):
    class Doubled(n.BatchNorm2d):
        def forward(self, input):
            return super().forward(input) * 2

    return n.Sequential(Doubled(3), n.ReLU())


def _own_call(n):
    class Shifted(n.BatchNorm2d):
        def __call__(self, input):
            return super().__call__(input) + 1

    return n.Sequential(Shifted(3), n.ReLU())


def _patched_norm(n):
    net = n.Sequential(n.BatchNorm2d(3), n.ReLU())
    forward = net[0].forward
    net[0].forward = lambda x: forward(x) - 1
    return net


def _patched_relu(n):
    net = n.Sequential(n.BatchNorm2d(3), n.ReLU())
    net[1].forward = lambda x: x * 3
    return net


def _hooked(n):
    net = n.Sequential(n.BatchNorm2d(3), n.ReLU())
    net[1].register_forward_hook(lambda module, inputs, output: output - inputs[0])
    return net


def _shared(n):
    norm, relu = n.BatchNorm2d(3), n.ReLU()
    return n.Sequential(norm, norm, relu, relu, norm, relu, n.Tanh(), relu)


@pytest.mark.parametrize(
    "make", [_own_forward, _own_call, _patched_norm, _patched_relu, _hooked, _shared]
)
def test_sequential_joins_only_what_is_a_normalisation_and_its_relu(make):
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32)
    y, expected = make(nn)(nano.tensor(x)), make(torch.nn)(torch.tensor(x))
    # Some sums of 100 float32 numbers one after the other.
    np.testing.assert_allclose(y.detach().numpy(), expected.detach().numpy(), atol=1e-5)


def test_sequential_does_not_pass_over_none():
    for m in (nano, torch):
        with pytest.raises(TypeError):
            m.nn.Sequential(m.nn.ReLU(), None)(m.ones(2))


@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
def test_container_refusals(kind):
    make = getattr(nn, kind)
    net = make(nn.ReLU()) if kind == "Sequential" else make([nn.ReLU()])
    with pytest.raises(IndexError, match="out of range"):
        net[1]
    with pytest.raises(IndexError, match="out of range"):
        net[-2] = nn.ReLU()
    with pytest.raises(TypeError, match="must be an integer"):
        net["a"]
    with pytest.raises(TypeError, match="not a Module subclass"):
        net.append(3)
    with pytest.raises(TypeError, match="not a Module subclass"):
        net[0] = None
    with pytest.raises(TypeError, match="not a Module subclass"):
        net.insert(0, 3)
    assert len(net) == 1


def test_module_list_behaves_as_pytorch():
    texts = []
    for m in (nano, torch):
        n, log = m.nn, []
        several = n.ModuleList([n.ReLU(), n.Tanh()])
        several += [n.ReLU(), n.ReLU()]
        several.insert(1, n.Sigmoid())
        log += [repr(several), repr(several[-1]), repr(several[1:3]), len(several)]
        del several[0]
        log += [repr(several), repr(several.pop(-1)), repr(several)]
        del several[:2]
        log += [repr(several), repr(several + n.ModuleList([n.Linear(1, 1)]))]
        log.append([k for k, _ in several.named_modules()])
        texts.append(log)
    assert texts[0] == texts[1]


def test_module_dict_behaves_as_pytorch():
    texts = []
    for m in (nano, torch):
        n, log = m.nn, []
        d = n.ModuleDict({"a": n.ReLU()})
        d.update([("b", n.Linear(1, 1))])
        d["c"] = n.Tanh()
        log += [repr(d), list(d), list(d.keys()), len(d), "a" in d, list(d.state_dict())]
        log += [repr(d.pop("a")), [repr(x) for x in d.values()], [k for k, _ in d.items()]]
        del d["b"]
        log.append(repr(d))
        d.clear()
        log.append(repr(d))
        texts.append(log)
    assert texts[0] == texts[1]


# nn.functional ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"p": 1.0}, {"p": 3.0, "dim": 0}, {"p": math.inf}])
def test_normalize(options):
    data = np.random.default_rng(0).normal(size=(3, 4))
    data[0] = 0.0 if options.get("dim", 1) == 1 and options.get("p") != math.inf else data[0]
    results = []
    for m in (nano, torch):
        x = m.tensor(data, requires_grad=True)
        y = m.nn.functional.normalize(x, **options)
        (y * m.tensor(data + 1.0)).sum().backward()
        results.append((y.detach().numpy(), x.grad.numpy()[1:]))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("labels", [[0, 2], [[1, 0], [3, 3]], 1, []])
@pytest.mark.parametrize("classes", [-1, 5])
def test_one_hot(labels, classes):
    if labels == [] and classes == -1:
        with pytest.raises(RuntimeError, match="cannot be inferred"):
            F.one_hot(nano.zeros(0, dtype=nano.int64))
        return
    ours = F.one_hot(nano.tensor(labels, dtype=nano.int64), classes)
    theirs = TF.one_hot(torch.tensor(labels, dtype=torch.int64), classes)
    assert ours.tolist() == theirs.tolist()
    assert ours.dtype is nano.int64


@pytest.mark.parametrize(
    ("labels", "classes"), [([-1, 2], -1), ([1, 2], 2), ([1.0], -1), ([1], -2), ([1], 0)]
)
def test_one_hot_refusals(labels, classes):
    with pytest.raises(RuntimeError):
        TF.one_hot(torch.tensor(labels), classes)
    with pytest.raises(RuntimeError, match=r"\[one_hot\]"):
        F.one_hot(nano.tensor(labels), classes)


def test_pad_and_linear_are_handed_on():
    assert F.pad(nano.ones(1, 2), (1, 0)).tolist() == [[0.0, 1.0, 1.0]]
    assert F.linear(nano.ones(1, 2), nano.ones(3, 2)).tolist() == [[2.0, 2.0, 2.0]]


# nn.utils --------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_clip_grad_norm_equals_pytorch(norm, bound):
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=s).astype("float32") for s in ((3, 4), (5,))]
    results = []
    for m in (nano, torch):
        ps = [m.zeros(*g.shape, requires_grad=True) for g in grads] + [m.zeros(1)]
        for p, g in zip(ps, grads, strict=False):
            p.grad = m.tensor(g)
        total = m.nn.utils.clip_grad_norm_(ps, bound, norm)
        results.append([total.numpy(), *[p.grad.numpy() for p in ps[:2]]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_clip_grad_norm_of_nothing_and_of_nan():
    assert nn.utils.clip_grad_norm_([nano.ones(1)], 1.0).item() == 0.0
    p = nano.ones(2, requires_grad=True)
    p.grad = nano.tensor([float("nan"), 1.0])
    with pytest.raises(RuntimeError, match="total norm of the gradients is nan"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad.tolist()[1] == 1.0


def test_clip_grad_value():
    p = nano.ones(3, requires_grad=True)
    p.grad = nano.tensor([-5.0, 0.1, 5.0])
    nn.utils.clip_grad_value_([p, nano.ones(1)], 1.0)
    np.testing.assert_allclose(p.grad.numpy(), [-1.0, 0.1, 1.0], rtol=1e-6)


def test_the_order_of_convolutions_weights():
    def strides(m):
        inner = m.nn.Sequential(m.nn.ConvTranspose2d(3, 4, 2))
        net = m.nn.Sequential(m.nn.Conv2d(3, 4, 5), inner, m.nn.Linear(2, 3))
        weights = list(net.parameters())
        convert = m.nn.utils.convert_conv2d_weight_memory_format
        assert convert(net, m.channels_last) is net
        assert all(p is q for p, q in zip(net.parameters(), weights, strict=True))
        return [p.stride() for p in weights]

    assert strides(nano) == strides(torch)
