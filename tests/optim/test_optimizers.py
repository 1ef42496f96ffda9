"""Optimizers against PyTorch: the same numbers, 50 steps."""

import copy
import itertools

import numpy as np
import pytest
import torch

import nano
from nano.tensor import wrap

SGD_OPTIONS = [
    {"lr": 0.1},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.5},
    {"lr": 0.1, "weight_decay": 0.1},
    {"lr": 0.1, "maximize": True},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1, "maximize": True},
    {},
]
ADAM_OPTIONS = [
    {},
    {"lr": 0.05, "betas": (0.8, 0.9)},
    {"lr": 0.05, "eps": 1e-3},
    {"lr": 0.05, "weight_decay": 0.1},
    {"lr": 0.05, "amsgrad": True},
    {"lr": 0.05, "maximize": True},
    {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True, "maximize": True},
]
RMSPROP_OPTIONS = [
    {},
    {"lr": 0.05, "alpha": 0.8},
    {"lr": 0.05, "alpha": 0.3},
    {"lr": 0.05, "eps": 1e-3},
    {"lr": 0.05, "weight_decay": 0.1},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.05, "centered": True},
    {"lr": 0.05, "maximize": True},
    {"momentum": 0.5, "centered": True, "weight_decay": 0.1, "maximize": True},
]
ADAGRAD_OPTIONS = [
    {},
    {"lr": 0.1, "lr_decay": 0.1},
    {"lr": 0.1, "initial_accumulator_value": 0.5},
    {"lr": 0.1, "eps": 1e-2},
    {"lr": 0.1, "weight_decay": 0.1},
    {"lr": 0.1, "maximize": True},
    {"lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1, "maximize": True},
]
TABLE = [
    *[("SGD", o) for o in SGD_OPTIONS],
    *[(n, o) for n, o in itertools.product(("Adam", "AdamW"), ADAM_OPTIONS)],
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    *[("RMSprop", o) for o in RMSPROP_OPTIONS],
    *[("Adagrad", o) for o in ADAGRAD_OPTIONS],
]


def start(dtype):
    """Parameters of several shapes, for nano and for PyTorch."""
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.normal(size=s)).astype(dtype) for s in ((3, 4), (4,), ())]
    ours = [nano.tensor(a, requires_grad=True) for a in arrays]
    return ours, [torch.tensor(a, requires_grad=True) for a in arrays]


def set_grads(ours, theirs, step):
    rng = np.random.default_rng(step + 1)
    for p, q in zip(ours, theirs, strict=True):
        g = np.asarray(rng.normal(size=p.shape)).astype(p.detach().numpy().dtype)
        p.grad, q.grad = nano.tensor(g), torch.tensor(g)


def assert_equal(ours, theirs, tolerance):
    for p, q in zip(ours, theirs, strict=True):
        a, b = p.detach().numpy(), q.detach().numpy()
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), TABLE, ids=str)
# 1e-6 is promised; float64 shows that the order of the operations is PyTorch's too.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-13)])
def test_fifty_steps_equal_pytorch(name, options, dtype, tolerance):
    ours, theirs = start(dtype)
    before = [p.tolist() for p in ours]
    mine = getattr(nano.optim, name)(ours, **options)
    other = getattr(torch.optim, name)(theirs, **options)
    for step in range(50):
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
    assert_equal(ours, theirs, tolerance)
    assert [p.tolist() for p in ours] != before


@pytest.mark.parametrize(("name", "options"), TABLE, ids=str)
def test_state_dict_has_the_layout_of_pytorch(name, options):
    ours, theirs = start("float32")
    mine = getattr(nano.optim, name)(ours, **options)
    other = getattr(torch.optim, name)(theirs, **options)
    for step in range(3):
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
    mine, other = mine.state_dict(), other.state_dict()
    assert list(mine["state"]) == list(other["state"])
    for number, entries in other["state"].items():
        assert set(mine["state"][number]) == set(entries)
        for key, value in entries.items():
            np.testing.assert_allclose(
                mine["state"][number][key].numpy(), value.numpy(), rtol=1e-5, atol=1e-6
            )
    (group,), (expected,) = mine["param_groups"], other["param_groups"]
    assert group == {k: v for k, v in expected.items() if k in group}
    assert group["params"] == [0, 1, 2]


@pytest.mark.parametrize(("name", "options"), TABLE, ids=str)
def test_state_dicts_go_from_one_to_the_other(name, options):
    ours, theirs = start("float64")
    mine = getattr(nano.optim, name)(ours, **options)
    other = getattr(torch.optim, name)(theirs, **options)
    for step in range(3):
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
    to_them = mine.state_dict()
    to_them["state"] = {
        number: {key: torch.tensor(x.numpy()) for key, x in entries.items()}
        for number, entries in to_them["state"].items()
    }
    to_us = copy.deepcopy(other.state_dict())
    mine = getattr(nano.optim, name)(ours, lr=123.0)
    other = getattr(torch.optim, name)(theirs, lr=123.0)
    mine.load_state_dict(to_us)
    other.load_state_dict(to_them)
    for entries in mine.state.values():
        assert all(isinstance(x, nano.Tensor) for x in entries.values())
    for step in range(3, 6):
        set_grads(ours, theirs, step)
        mine.step()
        other.step()
    assert_equal(ours, theirs, 1e-13)


@pytest.mark.parametrize(("name", "options"), TABLE, ids=str)
def test_going_on_from_a_state_dict_changes_nothing(name, options):
    ours, theirs = start("float32")
    optimizer = getattr(nano.optim, name)(ours, **options)
    for step in range(3):
        set_grads(ours, theirs, step)
        optimizer.step()
    kept = copy.deepcopy(optimizer.state_dict())
    copies = [nano.tensor(p.detach(), requires_grad=True) for p in ours]
    resumed = getattr(nano.optim, name)(copies, lr=123.0)
    resumed.load_state_dict(kept)
    for step in range(3, 6):
        set_grads(ours, theirs, step)
        set_grads(copies, theirs, step)
        optimizer.step()
        resumed.step()
    assert [p.tolist() for p in copies] == [p.tolist() for p in ours]
    # What was loaded is a copy: the steps did not write into it.
    for entries in kept["state"].values():
        assert entries.get("step", nano.tensor(3.0)).item() == 3.0


@pytest.mark.parametrize(("name", "options"), TABLE[:12] + TABLE[24:], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "gradient transposed", "all transposed", "gaps"])
def test_large_parameters_go_block_by_block(name, options, layout):
    rng = np.random.default_rng(0)
    w, g = (rng.normal(size=(230, 301)).astype("float32") for _ in range(2))
    if layout != "contiguous":
        g = np.asfortranarray(g)
    if layout == "all transposed":
        w = np.asfortranarray(w)
    p = nano.from_numpy(w.copy(order="K"))
    if layout == "gaps":
        p = nano.from_numpy(np.repeat(w, 2, axis=1))[:, ::2].detach()
    p.requires_grad_()
    q = torch.tensor(w, requires_grad=True)
    mine = getattr(nano.optim, name)([p], **options)
    other = getattr(torch.optim, name)([q], **options)
    for _ in range(3):
        p.grad, q.grad = nano.from_numpy(g), torch.from_numpy(g)
        mine.step()
        other.step()
    assert_equal([p], [q], 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("Adam", {"lr": 0.1}),
        ("RMSprop", {"lr": 0.01, "momentum": 0.9}),
        ("Adagrad", {"lr": 0.1}),
    ],
)
def test_sixteen_bit_parameters_keep_their_dtype(name, options, dtype):
    p = nano.ones(3, dtype=getattr(nano, dtype), requires_grad=True)
    q = torch.ones(3, dtype=getattr(torch, dtype), requires_grad=True)
    mine = getattr(nano.optim, name)([p], **options)
    other = getattr(torch.optim, name)([q], **options)
    for _ in range(3):
        p.grad, q.grad = nano.ones(3, dtype=p.dtype), torch.ones(3, dtype=q.dtype)
        mine.step()
        other.step()
    assert str(p.dtype) == f"nano.{dtype}"
    assert str(mine.state_dict()["state"][0].popitem()[1].dtype) == f"nano.{dtype}"
    # Either side rounds after each of a handful of operations, to 2^-8 for bfloat16.
    np.testing.assert_allclose(
        p.detach().float().numpy(), q.detach().float().numpy(), rtol=3e-2, atol=3e-2
    )


def test_parameters_without_gradient_stay_and_have_no_state():
    a, b = nano.ones(2, requires_grad=True), nano.ones(2, requires_grad=True)
    optimizer = nano.optim.Adam([a, b], lr=0.1)
    a.sum().backward()
    optimizer.step()
    assert b.tolist() == [1.0, 1.0]
    assert a.tolist() != [1.0, 1.0]
    assert list(optimizer.state_dict()["state"]) == [0]


def test_a_step_counts_as_a_change_in_place():
    w = nano.ones(2, requires_grad=True)
    optimizer = nano.optim.SGD([w], lr=0.1)
    y = (w * w).sum()
    w.grad = nano.ones(2)
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"changed by SGD\.step"):
        y.backward()


def test_zero_grad():
    w = nano.ones(2, requires_grad=True)
    optimizer = nano.optim.SGD([w], lr=0.1)
    w.grad = nano.tensor([float("nan"), 1.0])
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert w.grad is None


def test_closure_is_called_with_gradients_on():
    w = nano.tensor([1.0], requires_grad=True)
    optimizer = nano.optim.SGD([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with nano.no_grad():
        assert optimizer.step(closure).item() == 1.0
    assert w.item() == pytest.approx(0.8)


def test_groups_have_options_of_their_own():
    a, b, c = (nano.ones(1, requires_grad=True) for _ in range(3))
    optimizer = nano.optim.SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.1, momentum=0.0)
    optimizer.add_param_group({"params": [c], "lr": 2.0})
    for p in (a, b, c):
        p.grad = nano.ones(1)
    optimizer.step()
    assert [round(p.item(), 6) for p in (a, b, c)] == [0.9, 0.0, -1.0]
    assert [g["params"] for g in optimizer.state_dict()["param_groups"]] == [[0], [1], [2]]


def test_named_parameters():
    layer = nano.nn.Linear(1, 1)
    optimizer = nano.optim.SGD(layer.named_parameters(), lr=0.1)
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_repr_equals_pytorch():
    text = repr(nano.optim.SGD([nano.ones(1)], lr=0.1))
    expected = repr(torch.optim.SGD([torch.ones(1)], lr=0.1)).split("\n")
    # PyTorch's choices of implementation do not exist here.
    absent = ("differentiable", "foreach", "fused")
    assert text == "\n".join(x for x in expected if not x.strip().startswith(absent))


BAD = [
    ("SGD", {"lr": -1.0}),
    ("SGD", {"lr": 1.0, "momentum": -1.0}),
    ("SGD", {"lr": 1.0, "weight_decay": -1.0}),
    ("SGD", {"lr": 1.0, "nesterov": True}),
    ("SGD", {"lr": 1.0, "nesterov": True, "momentum": 0.9, "dampening": 0.1}),
    ("Adam", {"lr": -1.0}),
    ("Adam", {"eps": -1.0}),
    ("Adam", {"betas": (1.0, 0.9)}),
    ("Adam", {"betas": (0.9, -0.1)}),
    ("AdamW", {"weight_decay": -1.0}),
    ("RMSprop", {"lr": -1.0}),
    ("RMSprop", {"alpha": -1.0}),
    ("RMSprop", {"eps": -1.0}),
    ("RMSprop", {"momentum": -1.0}),
    ("RMSprop", {"weight_decay": -1.0}),
    ("Adagrad", {"lr": -1.0}),
    ("Adagrad", {"lr_decay": -1.0}),
    ("Adagrad", {"eps": -1.0}),
    ("Adagrad", {"initial_accumulator_value": -1.0}),
    ("Adagrad", {"weight_decay": -1.0}),
]


@pytest.mark.parametrize(("name", "options"), BAD, ids=str)
def test_options_that_make_no_sense(name, options):
    with pytest.raises(ValueError):
        getattr(torch.optim, name)([torch.ones(1)], **options)
    with pytest.raises(ValueError, match=rf"\[{name}\]"):
        getattr(nano.optim, name)([nano.ones(1)], **options)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_choices_of_implementation_are_taken_as_by_pytorch(name):
    for m in (nano, torch):
        make = getattr(m.optim, name)
        params = [m.ones(1, requires_grad=True)]
        make(params, foreach=True)
        make(params, foreach=False)
        if name != "RMSprop":
            make(params, fused=True)
            with pytest.raises(RuntimeError, match=r"fused.*foreach"):
                make(params, fused=True, foreach=True)
        with pytest.raises(ValueError, match="1-element"):
            make(params, lr=m.ones(2))


def test_the_rate_may_be_a_tensor():
    results = []
    for m in (nano, torch):
        p = m.ones(1, requires_grad=True)
        optimizer = m.optim.SGD([p], lr=m.tensor(0.5))
        p.grad = m.ones(1)
        optimizer.step()
        results.append(p.item())
    assert results == [0.5, 0.5]


def test_options_of_a_group_are_checked_too():
    with pytest.raises(ValueError, match="learning rate"):
        nano.optim.SGD([{"params": [nano.ones(1)], "lr": -1.0}], lr=0.1)


W = nano.ones(1, requires_grad=True)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "empty parameter list"),
        (W, TypeError, "iterable of Tensors"),
        ([1], TypeError, "one of them is int"),
        ([W * 2], ValueError, "can't optimize a non-leaf Tensor"),
        ([W, W], ValueError, "more than once"),
        ([{"params": [W]}, {"params": [W]}], ValueError, "more than once"),
        ([{"params": {W}}], TypeError, "order"),
    ],
)
def test_parameters_that_are_refused(params, error, message):
    with pytest.raises(error, match=message):
        nano.optim.SGD(params, lr=0.1)


def test_a_state_dict_that_does_not_fit_changes_nothing():
    a, b = nano.ones(2, requires_grad=True), nano.ones(3, requires_grad=True)
    one = nano.optim.SGD([a], lr=0.1, momentum=0.9)
    a.grad = nano.ones(2)
    one.step()
    kept = one.state_dict()
    with pytest.raises(ValueError, match="doesn't match the size"):
        nano.optim.SGD([a, b], lr=0.5).load_state_dict(kept)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        nano.optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.5).load_state_dict(kept)
    other = nano.optim.SGD([b], lr=0.5)
    with pytest.raises(RuntimeError, match=r"momentum_buffer of parameter 0 has shape \(2,\)"):
        other.load_state_dict(kept)
    assert other.param_groups[0]["lr"] == 0.5
    assert not other.state_dict()["state"]


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_a_gradient_of_another_shape_moves_nothing(kind):
    params = [nano.ones(2, requires_grad=True), nano.ones(3, requires_grad=True)]
    optimizer = getattr(nano.optim, kind)(params, lr=0.1)
    for p in params:
        p.grad = nano.ones(*p.shape)
    params[1].data = nano.ones(4)
    with pytest.raises(RuntimeError, match=r"shape \(4,\), but its gradient \(3,\)"):
        optimizer.step()
    assert params[0].tolist() == [1, 1]
    # Adagrad's state exists from the beginning; no step must have been counted.
    assert all(state["step"].item() == 0 for state in optimizer.state.values())


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop", "Adagrad"])
def test_a_state_of_another_shape_moves_nothing(kind):
    params = [nano.ones(2, requires_grad=True), nano.ones(3, requires_grad=True)]
    options = {"momentum": 0.9} if kind in ("SGD", "RMSprop") else {}
    optimizer = getattr(nano.optim, kind)([{"params": [p]} for p in params], lr=0.1, **options)
    for p in params:
        p.grad = nano.ones(*p.shape)
    optimizer.step()
    before = params[0].tolist()
    params[1].data, params[1].grad = nano.ones(4), None
    params[1].grad = nano.ones(4)
    with pytest.raises(RuntimeError, match=r"shape \(4,\), but its \w+ \(3,\)"):
        optimizer.step()
    assert params[0].tolist() == before


def test_one_call_of_a_kernel_moves_a_group(monkeypatch):
    calls = []
    real = nano.backends.kernels.sgd_step

    def spy(parameters, *rest):
        calls.append((len(parameters), rest[-1]))
        real(parameters, *rest)

    monkeypatch.setattr(nano.backends.kernels, "sgd_step", spy)
    params = [nano.ones(2, requires_grad=True) for _ in range(3)]
    optimizer = nano.optim.SGD(params, lr=0.1, momentum=0.9)
    for p in params[:2]:
        p.grad = nano.ones(2)
    optimizer.step()
    params[2].grad = nano.ones(2)
    optimizer.step()
    # The third parameter comes a step later: its buffer holds nothing yet.
    assert calls == [(2, True), (1, True), (2, False)]


def test_what_is_no_state_dict():
    optimizer = nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=0.1)
    with pytest.raises(TypeError, match="mapping"):
        optimizer.load_state_dict(None)
    for given, key in (({}, "param_groups"), ({"param_groups": []}, "state")):
        with pytest.raises(KeyError, match=key):
            optimizer.load_state_dict(given)
    with pytest.raises(KeyError, match="params"):
        optimizer.add_param_group({"lr": 1.0})


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_memory_that_cannot_be_written_is_refused(name):
    """So large that compiled loops run, which would write through the address."""
    array = np.zeros(1 << 15, np.float32)
    array.flags.writeable = False
    locked = nano.nn.Parameter(nano.tensor(0.0))
    locked.data = wrap(array)
    expanded = nano.nn.Parameter(nano.ones(1).expand(1 << 15))
    for p in (locked, expanded):
        free = nano.ones(3, requires_grad=True)
        free.grad, p.grad = nano.ones(3), nano.ones(1 << 15)
        with pytest.raises(RuntimeError, match=r"read-only|expanded"):
            getattr(nano.optim, name)([free, p], lr=0.1).step()
        assert free.tolist() == [1.0] * 3
    assert not array.any()
