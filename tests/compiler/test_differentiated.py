"""Compiled functions whose results are differentiated by the caller."""

import gc
import weakref

import numpy as np
import pytest

import nano
from nano import nn
from nano.errors import GraphBreak
from nano.nn import functional as F

from .both import REORDERED, allowed, assert_alike, check, normal
from .test_equality_layers import LAYERS, LOSSES
from .test_equality_models import MODELS, SLOW, _data, _one_thread
from .test_equality_operators import DIFFERENTIABLE, drawn, outputs, to_nano

_one_thread = _one_thread


def net_and_loss():
    """A small network, as it is called, and a step that is taken outside."""
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    return (lambda x: net(x)), net


def stepped(y, net):
    """Loss, gradients and a step of gradient descent; what the gradients were."""
    for p in net.parameters():
        p.grad = None
    if y.requires_grad:
        y.float().square().mean().backward()
    with nano.no_grad():
        for p in net.parameters():
            if p.grad is not None:
                p.sub_(p.grad * 0.01)
    return y.detach()


# Layers, models, operators ---------------------------------------------------------------


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_layers(name, mode):
    build, shape = LAYERS[name]

    def make():
        layer = build().train(mode == "train")
        return (lambda x: layer(x)), layer

    check(make, lambda i: (normal(*shape, seed=i).requires_grad_(),), outside=stepped)


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses(name):
    build, kind = LOSSES[name]

    def make():
        loss = build()
        return (lambda x, target: loss(x, target)), loss

    def arguments(i):
        rng = np.random.default_rng(i)
        target = {
            "numbers": rng.normal(size=(4, 3)).astype("float32"),
            "shares": rng.uniform(0.1, 0.9, (4, 3)).astype("float32"),
            "labels": rng.integers(0, 3, 4),
        }[kind]
        x = rng.uniform(0.1, 0.9, (4, 3)).astype("float32")
        return nano.tensor(x, requires_grad=True), nano.tensor(target)

    check(make, arguments, outside=lambda y, _: y.sum().backward())


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MODELS]
)
def test_models(name):
    build, shape = MODELS[name]

    def make():
        net = build()
        optimizer = nano.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
        return (lambda x, labels: net(x)), [net, optimizer]

    def outside(y, things):
        net, optimizer = things
        optimizer.zero_grad()
        loss = F.cross_entropy(y, _data(shape, 3)[1])
        loss.backward()
        optimizer.step()
        return loss.detach()

    check(make, lambda i: _data(shape, i), outside=outside)


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_operators(case):
    compiled = nano.compile(lambda *x: case.call(nano, *x))
    for step in range(4):
        found = []
        for function in (compiled, lambda *x: case.call(nano, *x)):
            tensors = [to_nano(a, "float32", True) for a in drawn(case, step)]
            results = outputs(function(*tensors))
            total = 0.0
            for i, y in enumerate(results):
                if y.requires_grad:
                    total = (y * (y.detach() * (i + 0.5))).sum() + total
            wanted = [t for t in tensors if t.requires_grad]
            found.append((results, nano.autograd.grad(total, wanted, allow_unused=True)))
        assert_alike(*found, max(allowed(compiled), REORDERED))
    assert compiled.graph()
