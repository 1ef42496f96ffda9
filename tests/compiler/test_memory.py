"""A program lets go of its arrays: its peak is no higher than eager mode's."""

import resource
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
        nn.Linear(16, 5000),
        nn.Linear(5000, 5),
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
            for _ in range(2):  # the gradients of the step before are there too
                function(x, y)
            tracemalloc.reset_peak()
            function(x, y)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    eager, compiled = peaks
    # The activations of one layer alone are 524,288 bytes, and the gradients 440,000; a few
    # thousand are Python's own.
    assert eager > 1_000_000
    assert compiled <= eager + 20_000


def test_page_faults():
    """Once warm, memory that a step has freed serves the next."""
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(14400, 4))
    optimizer = nano.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    @nano.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, y = normal(32, 3, 32, 32), normal(32, 4)
    for _ in range(10):
        step(x, y)
    faults = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        step(x, y)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    # The system may take a page away at any time, but not at each step. The activations of a
    # layer alone are 450 pages.
    assert sorted(faults)[5] < 5, faults
