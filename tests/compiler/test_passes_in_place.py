"""Which loops write over what they read, and that nothing else sees it."""

import numpy as np
import pytest

import nano
from nano.backends import is_available

from .both import EXACT, REORDERED, assert_alike, check, normal

pytestmark = pytest.mark.skipif(not is_available("fused"), reason="needs Numba")

SHAPE = (64, 400)  # 51,200 bytes in bfloat16


def loops(function, *x, without=()):
    """The nodes of the compiled function that are loops."""
    run = nano.compile(function, without=("native", *without))
    for _ in range(3):
        run(*x)
    return [node for node in run.graph().nodes if node.name.startswith("Fused")], run


def norms(x, y):
    """Two loops with a sum between them, so that they are not one."""
    z = (x - y) * x
    return (z - z.sum()) * y


def test_the_last_reader_writes_over():
    (first, second), run = loops(norms, normal(*SHAPE), normal(*SHAPE, seed=1))
    assert not first.over  # what it reads comes from outside
    (y,) = second.over
    assert second.outputs == [y]
    assert second.over[y] in first.outputs
    assert f" over {second.over[y].name}" in str(run.graph())
    assert "over v" in str(run.report(normal(*SHAPE), normal(*SHAPE, seed=1)))
    assert "x0[i] = " in second.source or "x1[i] = " in second.source
    check(
        lambda: (norms, None),
        lambda i: (normal(*SHAPE, seed=i), normal(*SHAPE, seed=i + 50)),
        without="native",
    )


@pytest.mark.parametrize("dtype", [nano.float32, nano.float64, nano.bfloat16], ids=str)
def test_equals_fresh_arrays(dtype):
    x, y = (normal(*SHAPE, seed=i).to(dtype) for i in range(2))
    (_, second), run = loops(norms, x, y)
    others, without = loops(norms, x, y, without=["in_place"])
    assert second.over
    assert not any(node.over for node in others)
    for _ in range(3):
        assert_alike(run(x, y), without(x, y), EXACT)


def with_a_view(x, y):
    z = (x - y) * x
    row = z[3]
    return (z - z.sum()) * y, row * 2


def read_later(x, y):
    z = (x - y) * x
    return (z - z.sum()) * y, z.sum(1).tanh() @ z


def returned(x, y):
    z = (x - y) * x
    return (z - z.sum()) * y, z


def broadcast(x, y):
    z = (x[0] - y[0]) * x[0]
    return (z - z.sum()) * y


def small(x, y):
    return norms(x[:2], y[:2])


def turned(x, y):
    z = (x - y) * x
    return (z.transpose(0, 1) - z.sum()) * y.transpose(0, 1)


@pytest.mark.parametrize("function", [with_a_view, read_later, returned, broadcast, small, turned])
def test_what_somebody_still_looks_at_stays(function):
    x, y = normal(*SHAPE), normal(*SHAPE, seed=1)
    found, run = loops(function, x, y)
    assert found
    assert not any(node.over for node in found)
    for _ in range(2):
        assert_alike(run(x, y), function(x, y), REORDERED)


def test_each_input_is_written_over_once():
    def function(x, y):
        z, w = (x - y) * x, (x + y) * y
        total = z.sum() + w.sum()
        a = (z - total) * w
        return a, a + w, a - z

    found, run = loops(function, normal(*SHAPE), normal(*SHAPE, seed=1))
    over = [v for node in found for v in node.over.values()]
    assert len(over) == len(set(over)) == 2
    x, y = normal(*SHAPE, seed=2), normal(*SHAPE, seed=3)
    assert_alike(run(x, y), function(x, y), REORDERED)


class Shown(nano.autograd.Function):
    """A user's own operator, which keeps what it gives."""

    kept = np.ones(SHAPE, np.float32)

    @staticmethod
    def forward(ctx, x):
        return Shown.kept

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output


def test_results_of_users_operators_stay():
    def function(x):
        z = Shown.apply(x)
        return (z - x) * x

    (loop,), _ = loops(function, normal(*SHAPE))
    assert not loop.over
    assert (Shown.kept == 1).all()


def test_training_goes_the_same_way():
    def trained(*without):
        nano.manual_seed(0)
        layer = nano.nn.Linear(400, 400)
        optimizer = nano.optim.SGD(layer.parameters(), 0.1)

        def step(x):
            optimizer.zero_grad()
            z = layer(x)
            z = z * nano.tanh((1 + z.exp()).log())  # Mish
            z = (z - z.mean()) * z.sigmoid()
            loss = z.square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = nano.compile(step, without=without)
        losses = [run(normal(64, 400, seed=i)) for i in range(5)]
        over = sum(len(getattr(node, "over", ())) for node in run.graph().nodes)
        return losses, layer, over

    losses, layer, over = trained("native", "row_blocks")
    others, other, none = trained("native", "row_blocks", "in_place")
    assert over > 0
    assert none == 0
    assert_alike(losses, others, EXACT)
    assert_alike(layer, other, EXACT)
