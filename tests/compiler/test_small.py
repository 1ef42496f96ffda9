"""Programs that run as one native function."""

import shutil
import subprocess

import numpy as np
import pytest

import nano
import nano.nn.functional as F
from nano import nn, optim
from nano.backends import is_available

from .both import REORDERED, check, normal

pytestmark = pytest.mark.skipif(not is_available("fused"), reason="Numba is not there")

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "heavy": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.01),
}


def make(optimizer=OPTIMIZERS["heavy"], sizes=(2, 16, 16, 3), loss=F.cross_entropy):
    """A whole step of a small perceptron, and what it works on."""
    net = nano.models.MLP(sizes)
    moving = optimizer(net.parameters())

    def step(x, y):
        moving.zero_grad()
        value = loss(net(x), y)
        value.backward()
        moving.step()
        return value.detach()

    return step, [net, moving]


def batch(i, n=4, features=2, classes=3):
    labels = np.random.default_rng(i).integers(0, classes, n)
    return normal(n, features, seed=i), nano.from_numpy(labels)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    compiled = check(lambda: make(OPTIMIZERS[name]), batch)
    assert compiled._latest.native
    assert "def native(at):" in compiled.source()


def test_products_of_onednn():
    compiled = check(
        lambda: make(sizes=(96, 48, 64, 3)), lambda i: batch(i, n=32, features=96), steps=22
    )
    assert ("sgemm(" in compiled._latest.native) == is_available("onednn")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_labels(reduction):
    def loss(scores, y):
        return F.cross_entropy(scores, y, ignore_index=1, reduction=reduction)

    compiled = check(lambda: make(loss=loss), batch)
    assert compiled._latest.native


def test_a_label_that_is_no_class_changes_nothing():
    step, (net, moving) = make()
    compiled = nano.compile(step)
    for i in range(4):
        compiled(*batch(i))
    assert compiled._latest.native
    before = {k: v.clone() for k, v in net.state_dict().items()}
    kept = [t.clone() for s in moving.state.values() for t in s.values()]
    with pytest.raises(IndexError, match="out of bounds"):
        compiled(normal(4, 2), nano.tensor([0, 1, 3, 0]))
    for k, v in net.state_dict().items():
        assert nano.equal(v, before[k]), k
    after = [t for s in moving.state.values() for t in s.values()]
    assert all(nano.equal(a, b) for a, b in zip(after, kept, strict=True))
    compiled(*batch(5))


def test_a_gradient_that_somebody_holds_stays():
    step, (net, _) = make()
    compiled = nano.compile(step)
    for i in range(4):
        compiled(*batch(i))
    p = next(net.parameters())
    held, array = p.grad, p.grad.numpy()
    before = array.copy()
    compiled(*batch(7))
    assert p.grad is not held
    np.testing.assert_array_equal(array, before)
    view = p.grad.numpy()[1:]
    before = view.copy()
    compiled(*batch(8))
    np.testing.assert_array_equal(view, before)


def test_a_gradient_that_is_given_other_memory():
    step, (net, _) = make()
    compiled = nano.compile(step)
    for i in range(4):
        compiled(*batch(i))
    p = next(net.parameters())
    old = p.grad.numpy()
    before = old.copy()
    p.grad.data = nano.zeros(p.shape)
    compiled(*batch(7))
    np.testing.assert_array_equal(old, before)
    assert p.grad.abs().max() > 0


def test_a_parameter_that_lies_column_by_column():
    def both():
        weight = nn.Parameter(normal(4, 4, seed=1).T)
        assert not weight.is_contiguous()
        moving = optim.SGD([weight], lr=0.1, momentum=0.9)

        def step(x):
            moving.zero_grad()
            loss = (weight * weight * x).sum()
            loss.backward()
            moving.step()
            return loss.detach()

        return step, [weight, moving]

    check(both, lambda i: (normal(4, 4, seed=i),))


def test_a_view_whose_operator_does_more():
    class Positive(nano.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if x.min() <= 0:
                raise ValueError("not positive")
            return x

        @staticmethod
        def backward(ctx, grad_output):
            return grad_output

    compiled = nano.compile(lambda x: Positive.apply(x * 1.0) + 1.0)
    for _ in range(3):
        compiled(nano.ones(3))
    with pytest.raises(ValueError, match="not positive"):
        compiled(-nano.ones(3))


def test_results_are_new_each_time():
    step, _ = make()
    compiled = nano.compile(step)
    losses = [compiled(*batch(i)) for i in range(8)]
    assert len({t.item() for t in losses}) == 8


def test_options_and_state_may_change():
    def between(i, things):
        net, moving = things
        if i == 8:
            moving.param_groups[0]["lr"] = 0.01
        if i == 11:
            moving.param_groups[0]["momentum"] = 0.0
        if i == 14:
            moving.param_groups[0]["momentum"] = 0.5
            moving.load_state_dict(moving.state_dict())
        if i == 17:
            next(net.parameters()).grad = None

    check(make, batch, between=between, tolerance=REORDERED)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: (x.softmax(1) * w).sum(0),
        lambda x, w: x.mean() + w.sum(1, keepdim=True),
        lambda x, w: (x @ w.T).tanh().exp().log_softmax(0),
        lambda x, w: nano.where(x > w, x, w * 2.0).abs().sqrt(),
        lambda x, w: x.T.reshape(-1)[2:] * w.reshape(-1)[2:],
        lambda x, w: (x - w.mean(1, keepdim=True)) / (w.var(1, keepdim=True) + 1e-5).sqrt(),
        lambda x, w: x.clone().add_(w).t(),
    ],
)
def test_operators(function):
    def both():
        def run(x, w):
            leaf = w.detach().requires_grad_()
            y = function(x, leaf)
            (grad,) = nano.autograd.grad((y * y).sum(), leaf)
            return y.detach(), grad

        return run, []

    check(both, lambda i: (normal(3, 5, seed=i), normal(3, 5, seed=i + 99)), steps=6)


def test_what_is_too_large_runs_operator_by_operator():
    compiled = check(lambda: make(sizes=(2, 2048, 2048, 3)), lambda i: batch(i, n=256), steps=4)
    assert not compiled._latest.native
    assert "bytes" in str(compiled.report())


def test_a_picture():
    step, _ = make()
    compiled = nano.compile(step)
    for i in range(3):
        compiled(*batch(i))
    graph = compiled.graph()
    text = graph.dot()
    assert text.startswith("digraph program {")
    assert text.count("{") == text.count("}") == 1
    names = {f"n{i}" for i in range(len(graph.nodes))} | {v.name for v in graph.values}
    for line in text.splitlines():
        if "->" in line:
            start, end = line.split("[")[0].strip().split(" -> ")
            assert start in names
            assert end in names | {"return"}
    for node in graph.nodes:
        assert f'label="{node.name}' in text
    shutil.which("dot") and subprocess.run(
        ["dot", "-Tsvg"], input=text, text=True, check=True, capture_output=True
    )


def test_report():
    step, _ = make()
    compiled = nano.compile(step)
    with pytest.raises(ValueError, match="no program"):
        compiled.report()
    for i in range(3):
        compiled(*batch(i))
    assert "one native function" in str(compiled.report())
    assert compiled.report(*batch(3)).seconds > 0
    with pytest.raises(ValueError, match="these arguments"):
        compiled.report(*batch(3, n=5))


def test_report_of_a_larger_one():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 2))
    compiled = nano.compile(lambda x: (net(x).sigmoid() + 1.0).sum(), without="regions")
    with nano.no_grad():
        for i in range(3):
            compiled(normal(2, 1, 8, 8, seed=i))
        found = compiled.report(normal(2, 1, 8, 8))
    text = str(found)
    assert "conv2d_epilogue (" in text
    assert "fused: Sigmoid, Add" in text
    assert "test_small.py:" in text
    assert found.seconds >= sum(r.seconds for r in found.rows) * 0.99
