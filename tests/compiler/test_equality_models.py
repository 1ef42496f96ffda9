"""Every model, trained, and used: compiled equals eager over 20 calls."""

import numpy as np
import pytest

import nano
from nano.nn import functional as F

from .both import check, normal

MODELS = {
    "MLP": (lambda: nano.models.MLP([12, 8, 10]), (4, 12)),
    "lenet": (nano.models.lenet, (2, 1, 28, 28)),
    "alexnet": (nano.models.alexnet, (2, 1, 28, 28)),
    "alexnet no dropout": (lambda: nano.models.alexnet(dropout=0.0), (2, 1, 28, 28)),
    "resnet18": (lambda: nano.models.resnet18(10, "cifar"), (2, 3, 16, 16)),
    "resnet34": (lambda: nano.models.resnet34(10, "cifar"), (2, 3, 16, 16)),
    **{
        name: (getattr(nano.models, name), (2, 3, 16, 16))
        for name in ("resnet20", "resnet32", "resnet44", "resnet56")
    },
}
SLOW = {"resnet18", "resnet34", "resnet32", "resnet44", "resnet56"}


@pytest.fixture(autouse=True)
def _one_thread():
    """Small batches, and maybe other work on the machine: threads would wait for each other."""
    before = nano.get_num_threads()
    nano.set_num_threads(1)
    yield
    nano.set_num_threads(before)


def _data(shape, i):
    labels = np.random.default_rng(i).integers(0, 10, shape[0])
    return normal(*shape, seed=i), nano.tensor(labels)


def trained(build):
    def make():
        net = build()
        optimizer = nano.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)

        def step(x, labels):
            optimizer.zero_grad()
            scores = net(x)
            loss = F.cross_entropy(scores, labels)
            loss.backward()
            optimizer.step()
            return loss.detach(), scores.detach()

        return step, [net, optimizer]

    return make


TRAINED = [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MODELS]


@pytest.mark.parametrize("name", TRAINED)
def test_training(name):
    build, shape = MODELS[name]
    check(trained(build), lambda i: _data(shape, i))


@pytest.mark.parametrize("name", [n for n in MODELS if n not in SLOW])
def test_use(name):
    build, shape = MODELS[name]

    def make():
        net = build().eval()
        return nano.no_grad()(lambda x: net(x)), net

    check(make, lambda i: _data(shape, i)[:1])
