"""Muon against its definition by singular values, and against PyTorch."""

import numpy as np
import pytest
import torch

import nano

OPTIONS = [
    {},
    {"lr": 0.02, "nesterov": False},
    {"lr": 0.02, "momentum": 0.8, "ns_steps": 3},
    {"lr": 0.02, "weight_decay": 0.5, "adjust_lr_fn": "match_rms_adamw"},
    {"lr": 0.02, "ns_coefficients": (1.5, -0.5, 0.0), "adjust_lr_fn": "original"},
]
SHAPES = [(6, 15), (15, 6), (8, 8), (5, 3, 3, 3), (4, 4, 1)]


def by_singular_values(u, coefficients, steps):
    """The polynomial of Newton and Schulz acts on each singular value alone."""
    a, b, c = coefficients
    left, s, right = np.linalg.svd(u, full_matrices=False)
    s = s / np.sqrt((s * s).sum())
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return (left * s) @ right


def expected(start, grads, group):
    """All steps, written from the formulas."""
    w, average = start.copy(), np.zeros_like(start)
    rows, columns = len(w), w[0].size
    ratio = max(1, rows / columns) ** 0.5
    if group["adjust_lr_fn"] == "match_rms_adamw":
        ratio = 0.2 * max(rows, columns) ** 0.5
    m = group["momentum"]
    for g in grads:
        average = m * average + (1 - m) * g
        u = m * average + (1 - m) * g if group["nesterov"] else average
        o = by_singular_values(u.reshape(rows, -1), group["ns_coefficients"], group["ns_steps"])
        w = w * (1 - group["lr"] * group["weight_decay"])
        w = w - group["lr"] * ratio * o.reshape(w.shape)
    return w


def moved(p, optimizer, grads):
    for g in grads:
        p.grad = nano.tensor(g)
        optimizer.step()
    return p.detach().numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_are_those_of_the_definition(shape, options):
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=shape), rng.normal(size=(20, *shape))
    p = nano.tensor(start, requires_grad=True)
    optimizer = nano.optim.Muon([p], **options)
    w = moved(p, optimizer, grads)
    # float64: the decomposition and the products differ by rounding, 20 times.
    np.testing.assert_allclose(
        w, expected(start, grads, optimizer.param_groups[0]), rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) == 2])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_are_near_those_of_pytorch(shape, options):
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape).astype(np.float32)
    grads = rng.normal(size=(20, *shape)).astype(np.float32)
    p, q = nano.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    optimizer = nano.optim.Muon([p], **options)
    theirs = torch.optim.Muon([q], **options)
    w = moved(p, optimizer, grads)
    for g in grads:
        q.grad = torch.tensor(g)
        theirs.step()
    # PyTorch's direction, of entries up to 1, is rounded to bfloat16 (2^-9) in each product.
    path = 20 * optimizer.param_groups[0]["lr"]
    np.testing.assert_allclose(w, q.detach().numpy(), rtol=0, atol=2**-5 * path)
    assert np.abs(w - start).max() > path / 8
    ours, other = optimizer.state_dict(), theirs.state_dict()
    np.testing.assert_allclose(
        ours["state"][0]["momentum_buffer"].numpy(),
        other["state"][0]["momentum_buffer"].numpy(),
        rtol=1e-5,
        atol=1e-6,
    )
    (group,), (known,) = ours["param_groups"], other["param_groups"]
    assert known == {k: v for k, v in group.items() if k != "orthogonalize"}


def test_parameters_of_one_shape_do_not_mix():
    rng = np.random.default_rng(0)
    shapes = [(3, 5), (5, 3), (3, 5), (3, 1, 5)]
    starts = [rng.normal(size=s) for s in shapes]
    grads = [rng.normal(size=s) for s in shapes]
    together = [nano.tensor(a, requires_grad=True) for a in starts]
    for p, g in zip(together, grads, strict=True):
        p.grad = nano.tensor(g)
    nano.optim.Muon(together, lr=0.1).step()
    for p, a, g in zip(together, starts, grads, strict=True):
        alone = nano.tensor(a, requires_grad=True)
        moved(alone, nano.optim.Muon([alone], lr=0.1), [g])
        np.testing.assert_allclose(p.detach().numpy(), alone.detach().numpy(), rtol=1e-12)


def test_a_group_may_go_without_being_made_orthogonal():
    rng = np.random.default_rng(0)
    start, grads = rng.normal(size=3), rng.normal(size=(10, 3))
    p, q = (nano.tensor(start, requires_grad=True) for _ in range(2))
    matrix = nano.ones(2, 2, requires_grad=True)
    groups = [{"params": [matrix]}, {"params": [p], "orthogonalize": False}]
    optimizer = nano.optim.Muon(groups, lr=0.5, momentum=0.9, weight_decay=0)
    sgd = nano.optim.SGD([q], lr=0.5 * (1 - 0.9), momentum=0.9, nesterov=True)
    a, b = moved(p, optimizer, grads), moved(q, sgd, grads)
    # SGD's buffer begins with g, the average with (1 - momentum) g: the same but for the factor.
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_zero_gradients_move_nothing():
    p = nano.ones(2, 3, requires_grad=True)
    w = moved(p, nano.optim.Muon([p], lr=0.1, weight_decay=0), [np.zeros((2, 3), np.float32)])
    assert (w == 1).all()


@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
def test_memory_of_any_order(order):
    values = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    format = getattr(nano, order)
    p = nano.tensor(values).to(memory_format=format).requires_grad_()
    optimizer = nano.optim.Muon([p], lr=0.1)
    p.grad = nano.tensor(values).to(memory_format=format)
    optimizer.step()
    w = expected(values, [values], optimizer.param_groups[0])
    np.testing.assert_allclose(p.detach().numpy(), w, rtol=0, atol=1e-5)
    assert p.is_contiguous(memory_format=format)
    assert optimizer.state[p]["momentum_buffer"].is_contiguous(memory_format=format)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -1.0},
        {"momentum": -1.0},
        {"weight_decay": -1.0},
        {"adjust_lr_fn": "other"},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options):
    for m in (nano, torch):
        with pytest.raises(ValueError):
            m.optim.Muon([m.ones(2, 2)], **options)


@pytest.mark.parametrize("options", [{"ns_steps": 100}, {"ns_coefficients": (1.0, 2.0)}], ids=str)
def test_options_that_pytorch_refuses_at_the_first_step(options):
    with pytest.raises(ValueError, match=r"\[Muon\]"):
        nano.optim.Muon([nano.ones(2, 2)], **options)
    p = torch.ones(2, 2, requires_grad=True)
    p.grad = torch.ones(2, 2)
    with pytest.raises(ValueError):
        torch.optim.Muon([p], **options).step()


def test_vectors_are_refused():
    for m in (nano, torch):
        with pytest.raises(ValueError):
            m.optim.Muon([m.ones(3)])
    optimizer = nano.optim.Muon([nano.ones(2, 2)])
    with pytest.raises(ValueError, match="orthogonalize=False"):
        optimizer.add_param_group({"params": nano.ones(3)})
    assert len(optimizer.param_groups) == 1
