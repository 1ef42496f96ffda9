"""A program lets go of its arrays: its peak is no higher than eager mode's."""

import tracemalloc

import nano
from nano import nn
from nano.nn import functional as F

from .both import normal


def test_peak_of_a_training_step():
    nano.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    optimizer = nano.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x, y = normal(8, 3, 32, 32), normal(8, 5)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    peaks = []
    for function in (step, nano.compile(step)):
        for _ in range(4):
            function(x, y)
        tracemalloc.start()
        try:
            function(x, y)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    eager, compiled = peaks
    # The activations of one layer alone are 524,288 bytes; a few thousand are Python's own.
    assert eager > 1_000_000
    assert compiled <= eager + 20_000
