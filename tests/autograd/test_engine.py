"""The backward pass: order, accumulation, freeing, hooks, and what it refuses."""

import gc
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nano
from nano.autograd import Function


def test_a_node_waits_for_all_its_consumers():
    """A diamond: were a node run for each arrival, the work would double at every level."""
    runs = []

    class Count(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, grad_output):
            runs.append(1)
            return grad_output

    x = nano.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(30):
        y = Count.apply(y)
        y = y + y
    y.backward()
    assert len(runs) == 30
    assert x.grad.item() == 2.0**30


@pytest.mark.parametrize("length", [100_000])
def test_a_long_chain_needs_no_recursion(length):
    x = nano.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(length):
        y = y + 1.0
    y.backward(retain_graph=True)
    assert x.grad.item() == 1.0
    del y  # freeing the graph must not recurse either


def test_a_long_chain_is_freed_without_backward():
    y = nano.tensor(1.0, requires_grad=True)
    for _ in range(100_000):
        y = nano.exp(y * 0.0)
    del y


def test_a_long_chain_with_create_graph():
    x = nano.tensor(2.0, requires_grad=True)
    y = x
    for _ in range(3000):
        y = y * 1.0
    (g,) = nano.autograd.grad(y * y, x, create_graph=True)
    assert sys.getrecursionlimit() < 3000
    g.backward()
    assert x.grad.item() == 2.0


def test_gradients_accumulate_in_leaves():
    x = nano.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(3):
        (x * x).sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_leaves_never_share_a_gradient():
    """``a + b`` hands the same gradient to both; changing one must not change the other."""
    a = nano.ones(2, requires_grad=True)
    b = nano.ones(2, requires_grad=True)
    start = nano.ones(2)
    (a + b).backward(start)
    a.grad.mul_(5.0)
    assert b.grad.tolist() == [1.0, 1.0]
    assert start.tolist() == [1.0, 1.0]
    (a + b).backward(start)
    assert a.grad.tolist() == [6.0, 6.0]
    assert b.grad.tolist() == [2.0, 2.0]
    assert start.tolist() == [1.0, 1.0]


def test_a_gradient_seen_by_a_hook_stays_as_it_was():
    kept = []
    x = nano.ones(2, requires_grad=True)
    x.register_hook(lambda g: kept.append(g))
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert kept[0].tolist() == [2.0, 2.0]
    assert x.grad.tolist() == [4.0, 4.0]


def test_a_saved_tensor_handed_back_as_gradient_is_not_adopted():
    class Odd(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.constant = nano.full(x.shape, 3.0)
            return x * 3

        @staticmethod
        def backward(ctx, grad_output):
            return ctx.constant

    x = nano.ones(2, requires_grad=True)
    y = Odd.apply(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_second_backward_is_refused_unless_the_graph_is_kept():
    x = nano.tensor(3.0, requires_grad=True)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12.0
    with pytest.raises(RuntimeError, match=r"freed.*\n.*MulBackward0.*\n.*retain_graph=True"):
        y.backward()
    assert x.grad.item() == 12.0


def test_buffers_are_freed_while_the_sweep_passes():
    """Each node saves 8 MB; as many again must not appear while the gradients flow back."""
    x = nano.ones(1_000_000, dtype=nano.float64, requires_grad=True)
    tracemalloc.start()
    y = x
    for _ in range(8):
        y = nano.exp(y * 0.1)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    y.backward(nano.ones(1_000_000, dtype=nano.float64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 5 * 8_000_000


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: nano.ones(2, requires_grad=True).backward(), "only for scalar outputs"),
        (lambda: nano.ones(()).backward(), "does not require grad"),
        (
            lambda: nano.ones(2, requires_grad=True).backward(nano.ones(3)),
            r"the gradient has shape \(3,\), the tensor \(2,\)",
        ),
        (
            lambda: nano.autograd.backward([nano.ones((), requires_grad=True)], [None, None]),
            "got 1 tensors and 2 gradients",
        ),
        (
            lambda: nano.autograd.grad(
                nano.ones((), requires_grad=True) * 1, nano.ones((), requires_grad=True)
            ),
            "input 0 was not used",
        ),
        (
            lambda: nano.ones((), requires_grad=True).backward(inputs=[]),
            "inputs is empty",
        ),
    ],
)
def test_refusals(run, message):
    with pytest.raises(RuntimeError, match=message):
        run()


def test_grad_leaves_grad_alone():
    x = nano.tensor(2.0, requires_grad=True)
    w = nano.tensor(3.0, requires_grad=True)
    mid = x * w
    out = mid * mid
    g_mid, g_x = nano.autograd.grad(out, [mid, x])
    assert (g_mid.item(), g_x.item()) == (12.0, 36.0)
    assert x.grad is None
    assert w.grad is None


def test_grad_of_the_same_input_twice_and_of_itself():
    x = nano.tensor(2.0, requires_grad=True)
    a, b = nano.autograd.grad(x * x, [x, x])
    assert a.item() == b.item() == 4.0
    (one,) = nano.autograd.grad(x, x)
    assert one.item() == 1.0


def test_grad_unused_and_materialized():
    x = nano.tensor(2.0, requires_grad=True)
    z = nano.ones(3, requires_grad=True)
    assert nano.autograd.grad(x * x, [x, z], allow_unused=True)[1] is None
    g = nano.autograd.grad(x * x, [x, z], materialize_grads=True)[1]
    assert g.tolist() == [0.0, 0.0, 0.0]


def test_only_the_needed_part_of_the_graph_runs():
    class Bomb(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad_output):
            raise AssertionError("nobody asked for this gradient")

    x, z = nano.tensor(2.0, requires_grad=True), nano.tensor(1.0, requires_grad=True)
    y = x * Bomb.apply(z)
    assert nano.autograd.grad(y, x)[0].item() == 1.0
    y = x * Bomb.apply(z)
    y.backward(inputs=[x])
    assert x.grad.item() == 1.0


def test_backward_with_inputs_reaches_non_leaves():
    x = nano.tensor(2.0, requires_grad=True)
    mid = x * 3
    (mid * mid).backward(inputs=[mid])
    assert mid.grad.item() == 12.0
    assert x.grad is None


def test_hessian_of_a_product():
    x = nano.tensor([1.0, 2.0], dtype=nano.float64, requires_grad=True)
    y = x[0] ** 2 * x[1] ** 3
    (g,) = nano.autograd.grad(y, x, create_graph=True)
    rows = [nano.autograd.grad(g[i], x, retain_graph=True)[0].tolist() for i in range(2)]
    assert rows == [[16.0, 24.0], [24.0, 12.0]]


def test_gradient_penalty_equals_pytorch():
    rng = np.random.default_rng(0)
    w0, x0 = rng.standard_normal((4, 3)), rng.standard_normal((5, 4))
    results = []
    for m in (nano, torch):
        w = m.tensor(w0, requires_grad=True)
        x = m.tensor(x0, requires_grad=True)
        out = m.tanh(x @ w).sum()
        (g,) = m.autograd.grad(out, x, create_graph=True)
        ((g**2).sum() + out).backward()
        results.append(w.grad.numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)


def test_hooks_change_and_can_be_removed():
    x = nano.tensor(1.0, requires_grad=True)
    y = x * 2
    first = y.register_hook(lambda g: g * 10)
    with x.register_hook(lambda g: g + 1):
        (y * 1).backward(retain_graph=True)
    assert x.grad.item() == 21.0
    first.remove()
    x.grad = None
    (y * 1).backward()
    assert x.grad.item() == 2.0
    with pytest.raises(RuntimeError, match="does not require gradients"):
        nano.ones(2).register_hook(print)


def test_a_hook_sees_the_whole_sum_once():
    seen = []
    x = nano.tensor(1.0, requires_grad=True)
    y = x * 1
    y.register_hook(lambda g: seen.append(g.item()))
    x.register_hook(lambda g: seen.append(g.item()))
    (y * 2 + y * 3 + x).backward()
    assert seen == [5.0, 6.0]


def test_retain_grad():
    x = nano.tensor(1.0, requires_grad=True)
    y = x * 2
    y.retain_grad()
    (y * 3).backward()
    assert y.grad.item() == 3.0
    with pytest.raises(RuntimeError):
        nano.ones(1).retain_grad()


def test_gradients_take_the_dtype_of_their_leaf():
    x = nano.ones(2, dtype=nano.float16, requires_grad=True)
    w = nano.ones(2, dtype=nano.float32, requires_grad=True)
    (x * w).sum().backward()
    assert x.grad.dtype is nano.float16
    assert w.grad.dtype is nano.float32


def test_grad_setter_checks():
    x = nano.ones(2, requires_grad=True)
    x.grad = nano.zeros(2)
    x.grad = None
    with pytest.raises(RuntimeError, match=r"expected \(2,\)"):
        x.grad = nano.zeros(3)
    with pytest.raises(TypeError, match="Tensor or None"):
        x.grad = 1.0


def test_saved_tensor_changed_in_place_names_both_operators():
    x = nano.ones(2, requires_grad=True)
    y = nano.exp(x)
    z = y * 2
    y.add_(1.0)
    with pytest.raises(RuntimeError, match=r"saved by ExpBackward0 · changed by add_"):
        z.sum().backward()
    assert x.grad is None


def test_training_loop_holds_its_memory_without_the_collector():
    rng = np.random.default_rng(0)
    model = nano.nn.Sequential(nano.nn.Linear(4, 8), nano.nn.ReLU(), nano.nn.Linear(8, 3))
    optimizer = nano.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = nano.tensor(rng.standard_normal((16, 4)), dtype=nano.float32)
    y = nano.tensor(rng.integers(0, 3, 16))

    def steps(n):
        for _ in range(n):
            optimizer.zero_grad()
            nano.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    gc.collect()
    gc.disable()
    try:
        steps(20)
        before = len(gc.get_objects())
        steps(200)
        assert len(gc.get_objects()) <= before + 5
    finally:
        gc.enable()


def test_threads_do_not_disturb_each_other():
    errors = []

    def work(seed):
        try:
            rng = np.random.default_rng(seed)
            for _ in range(50):
                x = nano.tensor(rng.standard_normal(10), requires_grad=True)
                with nano.no_grad():
                    assert not (x * 2).requires_grad
                (x * x).sum().backward()
                np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors


@st.composite
def programs(draw):
    """A random graph: each step names an operator and which earlier values it uses."""
    steps = []
    for i in range(draw(st.integers(1, 12))):
        op = draw(st.sampled_from(["add", "mul", "sub", "tanh", "exp", "neg", "sum", "maximum"]))
        steps.append((op, draw(st.integers(0, i + 1)), draw(st.integers(0, i + 1))))
    return steps


@settings(max_examples=100, deadline=None)
@given(programs())
def test_random_graphs_equal_pytorch(steps):
    rng = np.random.default_rng(len(steps))
    starts = [rng.uniform(-1, 1, (2, 3)), rng.uniform(-1, 1, (3,))]
    grads = []
    for m in (nano, torch):
        leaves = [m.tensor(a, requires_grad=True) for a in starts]
        values = list(leaves)
        for op, i, j in steps:
            a, b = values[i], values[j]
            if op in ("add", "mul", "sub", "maximum"):
                values.append(m.tanh(getattr(m, op)(a, b)))
            elif op == "sum":
                values.append(a.sum() * 0.1 + b)
            else:
                values.append(m.tanh(getattr(m, op)(a)))
        sum(v.sum() for v in values[-3:]).backward()
        grads.append([x.grad for x in leaves])
    for ours, theirs in zip(*grads, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-10, atol=1e-12)


def test_a_gradient_kept_with_create_graph_is_a_tensor_of_its_own():
    x = nano.ones(5000, requires_grad=True)
    x.sum().backward(create_graph=True)  # the gradient of a sum is one number, broadcast
    with nano.no_grad():
        x.grad.zero_()
    assert x.grad.sum().item() == 0.0
    y = nano.tensor(3.0, requires_grad=True)
    (y * y).backward(create_graph=True)
    y.grad.backward()
    assert y.grad.item() == 8.0  # 2 y = 6, and its derivative 2 added


def test_a_pass_that_fails_changes_no_grad():
    """The leaf `w` is reached before the node that fails; it must not have been added to."""

    class Fails(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad_output):
            raise ValueError("no")

    w = nano.tensor(1.0, requires_grad=True)
    x = nano.tensor(1.0, requires_grad=True)
    for first, second in ((w, Fails.apply(x)), (Fails.apply(x), w)):
        kept = first * 1 + second * 1
        kept.retain_grad()
        with pytest.raises(ValueError, match="no"):
            kept.backward()
        assert w.grad is None
        assert kept.grad is None
    loss = w + x * x
    loss.backward()
    for order in (w + x * x, x * x + w):
        order.backward()
        before = (w.grad.item(), x.grad.item())
        with pytest.raises(RuntimeError, match="freed"):
            order.backward()
        assert (w.grad.item(), x.grad.item()) == before


def test_grad_of_no_inputs_and_hooks_of_a_wrong_type():
    x = nano.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="inputs is empty"):
        nano.autograd.grad(x.sum(), [])
    with pytest.raises(RuntimeError, match="batched"):
        nano.autograd.grad(x.sum(), x, is_grads_batched=True)
    x.register_hook(lambda grad: 3)
    with pytest.raises(TypeError, match="got int"):
        x.sum().backward()


def test_inputs_that_retain_their_gradient_get_it_once():
    for m in (nano, torch):
        x = m.tensor([2.0, 3.0], requires_grad=True)
        y = x * 2
        y.retain_grad()
        (y * y).sum().backward(inputs=[y, x])
        assert y.grad.tolist() == [8.0, 12.0]
        assert x.grad.tolist() == [16.0, 24.0]
    x = nano.tensor([2.0, 3.0], requires_grad=True)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward(inputs=y)
    assert y.grad.tolist() == [8.0, 12.0]


def test_an_expanded_grad_is_not_added_to():
    for m in (nano, torch):
        w = m.tensor([1.0, 2.0, 3.0], requires_grad=True)
        w.grad = m.tensor([1.0]).expand(3)
        with pytest.raises(RuntimeError):
            (w * m.tensor([1.0, 2.0, 3.0])).sum().backward()
        assert w.grad.tolist() == [1.0, 1.0, 1.0]


def test_a_given_gradient_takes_the_dtype_of_its_tensor():
    for m in (nano, torch):
        x = m.tensor([1.0, 2.0], requires_grad=True)
        (g,) = m.autograd.grad(x * 2, x, m.tensor([3.0, 4.0], dtype=m.float64))
        assert g.dtype is m.float32
