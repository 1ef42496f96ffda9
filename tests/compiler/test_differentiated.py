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
@pytest.mark.parametrize("steps", [4, 20])
def test_models(name, steps):
    build, shape = MODELS[name]

    def make():
        net = build()
        optimizer = nano.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
        return (lambda x, labels: net(x)), [net, optimizer]

    def outside(y, things):
        optimizer = things[1]
        optimizer.zero_grad()
        loss = F.cross_entropy(y, _data(shape, 3)[1])
        loss.backward()
        optimizer.step()
        return loss.detach()

    # Native functions add up in another order, which grows from step to step in a deep network:
    # in the deepest, two steps keep within the tolerance.
    left_out = () if steps == 4 else ("native", "regions")
    if steps == 4 and name in SLOW:
        steps = 2
    check(make, lambda i: _data(shape, i), outside=outside, steps=steps, without=left_out)


@pytest.mark.parametrize("case", DIFFERENTIABLE)
# Each native function takes a second to compile, and each loop.
@pytest.mark.parametrize(
    "without", [("native", "fuse"), pytest.param((), marks=pytest.mark.slow)], ids=["", "native"]
)
def test_operators(case, without):
    compiled = nano.compile(lambda *x: case.call(nano, *x), without=without)
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


# The graph around ------------------------------------------------------------------------


def test_results_carry_one_node():
    function, net = net_and_loss()
    compiled = nano.compile(function)
    for _ in range(3):
        x = normal(4, 3).requires_grad_()
        y = compiled(x)
    assert y.grad_fn.name() == "CompiledFunctionBackward"
    leaves = [n.variable for n, _ in y.grad_fn.next_functions]
    assert {id(t) for t in leaves} == {id(t) for t in (x, *net.parameters())}


def test_looking_at_it():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    compiled = nano.compile(lambda x: net(x), without="epilogues")
    x = normal(2, 2, 5, 5)
    for _ in range(3):
        compiled(x)
    assert compiled.source().count("def program(") == 2
    assert "Conv2dWeight" in compiled.passes()
    assert "Conv2dWeight" not in str(compiled.graph())
    found = compiled.report(x)
    assert "\nbackward: " in found.title
    assert {"Conv2d", "Conv2dWeight"} <= {row.name for row in found.rows}
    assert [row.seconds is not None for row in found.rows if "Conv2d" in row.name][:2] == [
        True,
        False,
    ]


def test_between_other_operators():
    def make():
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        return (lambda x: net(x)), net

    start = nn.Linear(3, 3)

    def outside(y, net):
        net.zero_grad()
        y.square().sum().backward()
        found = [p.grad.clone() for p in start.parameters()]
        start.zero_grad()
        return found

    # The argument has a history; the gradient goes on to what made it.
    check(make, lambda i: (start(normal(4, 3, seed=i)) * 2,), outside=outside)


def test_several_results():
    def make():
        w = nano.ones(3, requires_grad=True)
        v = nano.ones(3, requires_grad=True)

        def function(x):
            y = (w * x).exp()
            return {"y": y, "more": [y * v, x * 2, None, 3], "detached": y.detach(), "x": x}

        return function, [w, v]

    for used in ("y", "more", "both"):

        def outside(result, things, used=used):
            for t in things:
                t.grad = None
            total = 0.0
            if used != "more":
                total = result["y"].square().sum() + total
            if used != "y":
                total = result["more"][0].sum() + total
            total.backward()
            # Who gets no gradient has none, and not zeros.
            assert (things[1].grad is None) == (used == "y")

        check(make, lambda i: (normal(3, seed=i),), outside=outside, tolerance=REORDERED)


def test_an_unused_result_does_not_spoil_the_others():
    w = nano.zeros(2, requires_grad=True)
    compiled = nano.compile(lambda x: (w * x, w.sqrt() + w * x))
    for _ in range(4):
        w.grad = None
        compiled(nano.ones(2))[0].sum().backward()
        assert w.grad.tolist() == [1.0, 1.0]  # the other one's derivative is infinite at zero


VIEWS = [
    lambda x, w: x.view(-1),
    lambda x, w: x.T[0],
    lambda x, w: (x, x.view(4)),
    lambda x, w: x.unbind(),
    lambda x, w: ((x * w), (x * w).T),
    lambda x, w: (y := x * w, y.T),
    lambda x, w: (x * w).split(1),
    lambda x, w: (y := x * w, y.detach()),
]
#: Eager mode refuses to write into these, or to differentiate them then.
NOT_WRITTEN = [
    lambda x, w: (x[0], x[1] * w),
    lambda x, w: (w.view(1, 2), w * x),
]


@pytest.mark.parametrize("function", VIEWS + NOT_WRITTEN)
def test_results_that_are_views(function):
    w = nano.tensor([2.0, 3.0], requires_grad=True)
    compiled = nano.compile(lambda x: function(x, w))
    for i in range(5):
        found = []
        for run in (compiled, lambda x: function(x, w)):
            w.grad = None
            leaf = normal(2, 2, seed=i).requires_grad_()
            results = [y for y in outputs(run(leaf * 1)) if y.requires_grad]
            if i % 2 and function in VIEWS:
                # Those that show the same see it, and so do their histories.
                results[0].mul_(3.0)
            total = 0.0
            for k, y in enumerate(results):
                total = (y * (k + 1.0)).sum() + total
            total.backward()
            found.append(([y.detach() for y in results], leaf.grad, w.grad))
        assert_alike(*found, REORDERED)


def test_two_forwards_before_one_backward():
    function, net = net_and_loss()
    twin = nn.Sequential(*[type(m)(*a) for m, a in zip(net, SHAPES, strict=True)])
    twin.load_state_dict(net.state_dict())
    compiled = nano.compile(function)
    for i in range(6):
        for run, own in ((compiled, net), (lambda x: twin(x), twin)):
            own.zero_grad()
            first, second = run(normal(4, 3, seed=i)), run(normal(4, 3, seed=i + 50))
            (first.square().sum() + second.sum()).backward()
        assert_alike(net, twin, REORDERED)


SHAPES = [(3, 8), (8,), (), (8, 2)]


def test_backward_twice():
    w = nano.ones(3, requires_grad=True)
    compiled = nano.compile(lambda x: (w * x).exp())
    for _ in range(4):
        w.grad = None
        loss = compiled(nano.ones(3)).sum()
        loss.backward(retain_graph=True)
        once = w.grad.clone()
        loss.backward()
        assert_alike(w.grad, once * 2, REORDERED)
        with pytest.raises(RuntimeError, match="freed by an earlier backward"):
            loss.backward()


def test_changes_between_forward_and_backward_are_noticed():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    compiled = nano.compile(lambda x: net(x))
    for i in range(5):
        y = compiled(normal(4, 3, seed=i))
        with nano.no_grad():
            net[1].weight.mul_(0.5)
        with pytest.raises(RuntimeError, match="changed in place"):
            y.sum().backward()
    exponential = nano.compile(lambda x: (net[0](x)).exp())
    for i in range(4):
        x = normal(4, 3, seed=i)
        y = exponential(x)
        y.detach().mul_(2)
        with pytest.raises(RuntimeError, match="changed in place"):
            y.sum().backward()
        y = exponential(x)
        x.add_(1)
        with pytest.raises(RuntimeError, match="changed in place"):
            y.sum().backward()


def _small(x, weights):
    for w in weights:
        x = (x @ w).tanh()
    return x


def _in_regions(x, weights):
    for w in weights:
        x = F.layer_norm((x @ w).tanh(), (16,))
    return x.softmax(-1)


@pytest.mark.parametrize(("apply", "rows"), [(_small, 16), (_in_regions, 1200)])
def test_memory_replaced_between_forward_and_backward(apply, rows):
    """As without compiling, the derivative takes tensors from outside as they are then."""
    weights = [nano.randn(16, 16, requires_grad=True) for _ in range(3)]

    def function(x):
        return apply(x, weights)

    compiled = nano.compile(function)
    for i in range(4):
        compiled(normal(rows, 16, seed=i).requires_grad_()).sum().backward()

    def gradients(run):
        x = normal(rows, 16).requires_grad_()
        y = run(x)
        before = [w.data for w in weights]
        for w in (x, *weights):
            w.data = w.detach() * 0.5
        found = nano.autograd.grad(y.square().sum(), (x, *weights))
        for w, t in zip(weights, before, strict=True):
            w.data = t
        return found

    assert_alike(gradients(compiled), gradients(function), REORDERED)


def test_hooks_and_retained_gradients_outside():
    def make():
        net = nn.Linear(3, 2)
        net.weight.register_hook(lambda g: g * 0.5)
        return (lambda x: net(x)), net

    def outside(y, net):
        net.zero_grad()
        y.register_hook(lambda g: g + 1)
        y.retain_grad()
        y.sum().backward()
        return y.grad

    check(make, lambda i: (normal(4, 3, seed=i),), outside=outside)


def test_gradients_add_up():
    def make():
        net = nn.Linear(3, 2)
        return (lambda x: net(x)), net

    check(make, lambda i: (normal(4, 3, seed=i),), outside=lambda y, net: y.sum().backward())


def test_create_graph_and_second_derivatives():
    w = nano.ones(3, requires_grad=True)
    compiled = nano.compile(lambda x: (w * x).exp())
    for i in range(4):
        x = nano.ones(3, requires_grad=True)
        (g,) = nano.autograd.grad(compiled(x).sum(), x, create_graph=True)
        assert_alike(g.detach(), (w * x).exp().detach(), REORDERED)
        if i >= 2:
            with pytest.raises(RuntimeError, match="does not currently support double backward"):
                g.sum().backward()
            assert x.grad is None
            assert w.grad is None


def test_somebody_looks_on_at_the_derivative():
    w = nano.ones(3, requires_grad=True)
    compiled = nano.compile(lambda x: (w * x).exp())
    for _ in range(4):
        w.grad = None
        y = compiled(nano.ones(3)).sum()
        with nano.profiler.profile() as p:
            y.backward()
        assert len(p.key_averages())
        with pytest.raises(RuntimeError, match=r"NaN|nan|Inf|inf"), nano.autograd.detect_anomaly():
            compiled(nano.ones(3) * 1000).sum().backward()


def test_inside_of_another():
    net = nn.Linear(3, 2)
    inner = nano.compile(lambda x: net(x).relu())
    outer = nano.compile(lambda x: inner(x) * 2)
    for i in range(6):
        net.zero_grad()
        inner(normal(4, 3, seed=i)).sum().backward()
        outer(normal(4, 3, seed=i)).sum().backward()
        found = net.weight.grad
        net.zero_grad()
        (net(normal(4, 3, seed=i)).relu() * 3).sum().backward()
        assert_alike(found, net.weight.grad, REORDERED)


def test_derived_inside_of_another():
    net = nn.Linear(3, 2)
    inner = nano.compile(lambda x: net(x).tanh())

    def backward(y):
        y.sum().backward()

    for i in range(3):
        y = inner(normal(4, 3, seed=i))
    with pytest.raises(GraphBreak, match="another compiled function"):
        nano.compile(backward)(y)


# Modes -----------------------------------------------------------------------------------


def test_training_evaluation_and_no_grad_in_turn():
    def make():
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        return (lambda x: net(x)), net

    def between(i, net):
        net.train(i % 3 == 0)
        nano.set_grad_enabled(i % 3 != 2)

    try:
        check(
            make,
            lambda i: (normal(5, 3, seed=i),),
            between=between,
            outside=stepped_if_recorded,
            kinds=3,
            steps=24,
        )
    finally:
        nano.set_grad_enabled(True)


def stepped_if_recorded(y, net):
    with nano.enable_grad():
        return stepped(y, net)


def test_freezing_a_part_makes_another_program():
    def make():
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        return (lambda x: net(x)), net

    check(
        make,
        lambda i: (normal(5, 3, seed=i),),
        between=lambda i, net: net[0].requires_grad_(i < 6),
        outside=stepped,
        kinds=2,
        steps=12,
    )


@pytest.mark.parametrize(
    ("dtype", "without"), [("bfloat16", ()), ("bfloat16", "epilogues"), ("float16", ())]
)
def test_autocast(dtype, without):
    """With epilogues, the gradient of a bfloat16 weight is not rounded to 8 bits."""

    def make():
        net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())

        def use(x):
            with nano.autocast(dtype=getattr(nano, dtype)):
                return net(x)

        return use, net

    tolerance = 2**-8 if dtype == "bfloat16" and not without else None
    check(
        make,
        lambda i: (normal(2, 2, 5, 5, seed=i),),
        outside=stepped,
        tolerance=tolerance,
        without=without,
    )


def test_autocast_around():
    net = nn.Linear(3, 2)
    compiled = nano.compile(lambda x: net(x))
    for i in range(4):
        found = []
        for run in (compiled, net):
            net.zero_grad()
            with nano.autocast():
                y = run(normal(4, 3, seed=i))
            y.float().sum().backward()
            found.append((y.detach(), net.weight.grad))
        assert_alike(*found, REORDERED)


# What is refused -------------------------------------------------------------------------


def refused(function, *inputs, match):
    compiled = nano.compile(function)

    def call():
        for _ in range(8):
            compiled(*inputs)

    with pytest.raises(GraphBreak, match=match):
        call()


def test_what_is_refused():
    w = nano.ones(3, requires_grad=True)
    x = nano.ones(3)

    def hooked(x):
        y = w * x
        y.register_hook(lambda g: g * 2)
        return y.exp()

    refused(hooked, x, match="has a hook")

    def written(x):
        x.mul_(w)

    refused(written, nano.ones(3), match="argument is changed in place")
    total = nano.zeros(3)

    def added(x):
        total.add_(w * x)

    refused(added, x, match="something else each time|changed in place")
    refused(lambda x: nano.ones(3, requires_grad=True) * x, x, match="something else each time")

    def overwritten(x):
        y = (w * x).exp()
        z = y * 1
        y.mul_(2)
        return z + y.detach() + Broken.apply(z)

    refused(overwritten, x, match="cannot be differentiated")


class Broken(nano.autograd.Function):
    """x, with a derivative that fails."""

    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad_output):
        raise ValueError("no derivative here")


# Memory ----------------------------------------------------------------------------------


def test_nothing_stays_alive():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    compiled = nano.compile(lambda x: net(x))
    gc.collect()
    gc.disable()
    try:
        for i in range(6):
            y = compiled(normal(4, 3, seed=i))
            gone = weakref.ref(y._data), weakref.ref(y.grad_fn)
            if i % 2:
                y.sum().backward()
            del y
            assert gone[0]() is None
            assert gone[1]() is None
    finally:
        gc.enable()
