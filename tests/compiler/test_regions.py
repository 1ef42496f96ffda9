"""Groups of small operators as native functions within a larger program."""

import numpy as np
import pytest

import nano
from nano import nn, optim
from nano.backends import is_available
from nano.compiler.regions import Region
from nano.nn import functional as F

from .both import REORDERED, check, normal

pytestmark = pytest.mark.skipif(not is_available("fused"), reason="Numba is not there")


def make(layers=1, dropout=0.0):
    """A whole step of a convolutional network, and what it works on."""
    blocks = [[nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()] for _ in range(layers)]
    head = [nn.Flatten(), nn.Linear(4 * 36, 24), nn.ReLU(), nn.Linear(24, 5)]
    net = nn.Sequential(*(x for block in blocks for x in block), *head)
    moving = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step(x, y):
        moving.zero_grad()
        loss = F.cross_entropy(net(x), y)
        if dropout:
            loss = loss + F.dropout(x, dropout).mean()
        loss.backward()
        moving.step()
        return loss.detach()

    return step, [net, moving]


def batch(i, n=8):
    labels = np.random.default_rng(i).integers(0, 5, n)
    return normal(n, 4, 6, 6, seed=i), nano.from_numpy(labels)


def found(compiled):
    return [n for n in compiled.graph().nodes if isinstance(n, Region)]


def test_a_step():
    compiled = check(make, batch, tolerance=REORDERED)
    (region,) = found(compiled)
    names = [m.name for m in region.members]
    assert {"Linear", "Relu", "MovingAverage", "NllLoss", "MatMul", "ReluBackward"} <= {*names}
    assert names.count("MovingAverage") == 2
    # A region is one step, and the only one that holds these.
    left = {n.name for n in compiled.graph().nodes}
    assert not left & {"Linear", "MovingAverage", "NllLoss", "Relu", "MatMul"}
    assert compiled.source().count("def native(at):") == 1
    row = next(r for r in compiled.report(*batch(0)).rows if r.name.startswith("Native["))
    assert "2 MovingAverage" in row.note
    assert row.seconds > 0


@pytest.mark.parametrize("name", ["regions", "native"])
def test_without(name):
    step, _ = make()
    compiled = nano.compile(step, without=name)
    for i in range(3):
        compiled(*batch(i))
    assert not found(compiled)


def test_operators_that_are_alike_share_a_loop():
    compiled = check(lambda: make(layers=4), batch, steps=6, tolerance=REORDERED)
    source = compiled.source()
    assert "and 3 more like it" in source  # counts of batches
    assert source.count("for node in range(4):") >= 2


def test_a_label_that_is_no_class_changes_nothing():
    step, (net, moving) = make(dropout=0.5)
    other, _ = make(dropout=0.5)
    compiled = nano.compile(step)
    for i in range(4):
        compiled(*batch(i))
    assert found(compiled)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    kept = [t.clone() for s in moving.state.values() for t in s.values()]
    x, y = batch(5)
    y[3] = 5
    drawn = []
    for function in (other, compiled):
        nano.manual_seed(3)
        with pytest.raises(IndexError, match="out of bounds"):
            function(x, y)
        drawn.append(nano.rand(1).item())
    assert drawn[0] == drawn[1], "random numbers were drawn that eager mode does not draw"
    for k, v in net.state_dict().items():
        assert nano.equal(v, before[k]), k
    after = [t for s in moving.state.values() for t in s.values()]
    assert all(nano.equal(a, b) for a, b in zip(after, kept, strict=True))
    compiled(*batch(6))


def test_arrays_that_lie_otherwise():
    """A kernel of another backend may lay out its result otherwise than it was traced."""
    compiled = check(make, batch, steps=3, tolerance=REORDERED)
    (region,) = found(compiled)
    rng = np.random.default_rng(0)
    arrays = []
    for v in region.inputs:
        if v.kind == "captured":
            arrays.append(v.content._data)
        elif v.dtype == np.int64:
            arrays.append(rng.integers(0, 5, v.shape))
        else:
            arrays.append(rng.random(v.shape, np.float32))
    wanted = region.run(*arrays)
    others = [
        x if v.kind == "captured" else np.ascontiguousarray(x.T).T
        for v, x in zip(region.inputs, arrays, strict=True)
    ]
    assert any(a.strides != b.strides for a, b in zip(arrays, others, strict=True))
    for v, a, b in zip(region.outputs, region.run(*others), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=REORDERED, atol=REORDERED)
        assert b.dtype == v.dtype
        assert b.strides == v.strides


def test_results_own_their_memory():
    """What stays in .grad holds no more memory than its own."""
    step, (net, _) = make()
    compiled = nano.compile(step)
    for i in range(4):
        compiled(*batch(i))
    for name, p in net.named_parameters():
        assert p.grad._data.base is None or p.grad._data.base.nbytes == p.grad._data.nbytes, name


def test_a_value_is_read_before_it_is_overwritten():
    def both():
        weight = normal(3, 3, seed=1)
        state = normal(4, 3, seed=2)

        def step(x):
            y = ((state * 2 + 1) @ weight).relu()
            state.copy_(x)
            z = ((state * 2 + 1) @ weight).relu()
            return nano.flip(y, (0,)), nano.flip(z, (0,)), (y - z).amax(0)

        return step, [state]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nano.compiler.regions._FEWEST", 1)
        compiled = check(both, lambda i: (normal(4, 3, seed=i),), tolerance=REORDERED, steps=5)
    assert found(compiled)


def test_threads_may_run_it_at_once():
    from concurrent.futures import ThreadPoolExecutor

    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 8), nn.Tanh())
    compiled = nano.compile(lambda x: (net(x) * 2 + 1).softmax(1))
    inputs = [normal(8, 4, 6, 6, seed=i) for i in range(40)]
    with nano.no_grad():
        expected = [compiled(x) for x in inputs]
    assert found(compiled)

    def run(x):
        with nano.no_grad():
            return compiled(x)

    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(run, inputs), expected, strict=True):
            np.testing.assert_allclose(got.numpy(), wanted.numpy(), REORDERED, REORDERED)
