"""Which convolutions give the statistics of their results, and that training goes the same way."""

import numpy as np
import pytest

import nano
from nano import nn
from nano.backends import is_available
from nano.compiler.moments import moments

from .both import REORDERED, assert_alike, normal
from .test_passes import graph_of, names

pytestmark = pytest.mark.skipif(
    not (is_available("fused") and is_available("onednn")), reason="needs Numba and oneDNN"
)


def images(i=0, channels=16):
    return normal(16, channels, 32, 32, seed=i).to(memory_format=nano.channels_last)


class Network(nn.Module):
    """Convolutions that give statistics, but the first, of too few channels for it."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(3, 16, 3, padding=1)] + [nn.Conv2d(16, 16, 3, padding=1) for _ in range(2)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(16) for _ in self.convs])

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x), activation="relu")
        return x.mean((2, 3))


def trained(without=()):
    nano.manual_seed(0)
    model = Network()
    optimizer = nano.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    run = nano.compile(step, without=("native", *without))
    losses = [run(images(i, 3)).item() for i in range(20)]
    return losses, model, [node.name for node in run.graph().nodes], str(run.report())


def test_training_goes_the_same_way():
    losses, model, found, report = trained()
    others, other, before, _ = trained(without=("moments",))
    assert before.count("BatchNorm") == 3
    assert found.count("Conv2dMoments") == found.count("BatchNormInference") == 2
    assert found.count("BatchNorm") == 1
    assert report.count("with mean and variance") == 2
    np.testing.assert_allclose(losses, others, rtol=REORDERED)
    # 20 steps hand on what the first differ by.
    assert_alike(model, other, 20 * REORDERED)


@pytest.mark.parametrize("changes", [False, True])
def test_a_result_that_changes_before_is_left(changes):
    conv, norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)

    def function(x):
        y = conv(x)
        if changes:
            y += 1
        return norm(y)

    with nano.no_grad():
        graph = graph_of(function, images())
        moments(graph)
    graph.check()
    assert ("BatchNorm" in names(graph)) is changes
    assert ("Conv2dMoments" in names(graph)) is not changes


def test_evaluation_has_none():
    conv, norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16).eval()
    with nano.no_grad():
        graph = graph_of(lambda x: norm(conv(x)), images())
        moments(graph)
    assert names(graph) == ["Conv2d", "BatchNormInference"]


@pytest.mark.parametrize("learns", [True, False])
def test_only_of_weights_that_stay_is_kept_what_is_made_of_them(learns):
    """Winograd's form of a weight is four times as large, and the next step has another one."""
    model = Network()

    def function(x):
        return model(x).square().mean()

    compiled = nano.compile(function, without="native")
    with nano.set_grad_enabled(learns):
        for i in range(3):
            loss = compiled(images(i, 3))
            if learns:
                loss.backward()
    calls = [line for line in compiled.source().splitlines() if "Conv2dMoments.forward" in line]
    assert len(calls) == 2
    assert all(("token=None" in line) is learns for line in calls)
