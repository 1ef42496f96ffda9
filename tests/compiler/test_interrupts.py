"""An interrupt leaves a whole step, or none, wherever it comes."""

import signal
import sys
import threading

import numpy as np
import pytest

import nano
from nano import nn, optim
from nano.compiler.hold import hold, release
from nano.nn import functional as F

from .both import normal

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals go elsewhere"
)


@pytest.fixture(autouse=True)
def _usual_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_at(count, function, *arguments):
    """Interrupt a program before its line number ``count``; whether there was one so late."""
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if not frame.f_code.co_filename.startswith("<nano.compile"):
            return None
        if event == "line":
            seen += 1
            if seen == count:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments)
    except KeyboardInterrupt:
        assert seen >= count
    finally:
        sys.settrace(before)
    return seen >= count


@pytest.mark.parametrize("kind", ["one function", "a list of calls"])
def test_anywhere(kind):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    if kind == "one function":
        net = nn.Sequential(net[0], nn.ReLU(), net[3])
    moving = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @nano.compile
    def step(x, y):
        moving.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        moving.step()
        return loss.detach()

    batch = normal(8, 3), nano.tensor([0, 1] * 4)
    for _ in range(4):
        step(*batch)
    if nano.backends.is_available("fused"):
        assert bool(step._latest.native) == (kind == "one function")
    tensors = [*net.state_dict().values(), *(s["momentum_buffer"] for s in moving.state.values())]

    def state():
        return [t.numpy().copy() for t in tensors]

    def set_to(arrays):
        for t, a in zip(tensors, arrays, strict=True):
            t.numpy()[...] = a

    before = state()
    step(*batch)
    after = state()
    assert sum(map(np.array_equal, before, after)) <= len(tensors) // 3
    seen = set()
    line = 1
    while True:
        set_to(before)
        if not interrupted_at(line, step, *batch):
            break
        now = state()
        whole = all(map(np.array_equal, now, after))
        none = all(map(np.array_equal, now, before))
        assert whole or none, f"line {line} of\n{step.source()}"
        seen.add(whole)
        line += 1
    assert seen == {True, False}


def test_what_the_user_wants_done_is_done():
    calls = []
    signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    held = hold()
    signal.raise_signal(signal.SIGINT)
    assert not calls
    release(held)
    assert calls == [signal.SIGINT]
    held = hold()
    release(held)
    assert calls == [signal.SIGINT]
    signal.raise_signal(signal.SIGINT)
    assert calls == [signal.SIGINT] * 2


def test_other_threads_and_other_handlers():
    found = []
    thread = threading.Thread(target=lambda: found.append(hold()))
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert found == [None]
    assert hold() is None
    release(None)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
