"""Indexing, index assignment, and reading and writing at given positions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nano

from .harness import EVERY, WIDE, Case, assert_same, operator_tests, to_array


def longs(m, *values):
    return m.tensor(list(values))


#: What is written between the brackets, for either module.
KEYS = {
    "int": lambda m: 1,
    "negative": lambda m: -1,
    "ints": lambda m: (1, 2, 3),
    "slice": lambda m: slice(0, 1),
    "step": lambda m: (slice(None), slice(None, None, 2), slice(-3, None)),
    "empty slice": lambda m: slice(5, 2),
    "ellipsis": lambda m: (..., 1),
    "only ellipsis": lambda m: ...,
    "nothing": lambda m: (),
    "none": lambda m: (None, 0, ..., None),
    "list": lambda m: [1, 0, 1],
    "range of longs": lambda m: longs(m, 0, 1, 1),
    "two arrays": lambda m: (longs(m, 0, 1), longs(m, 2, 0)),
    "arrays apart": lambda m: (longs(m, 0, 1), slice(None), longs(m, 2, 0)),
    "int and array apart": lambda m: (0, slice(None), longs(m, 1, 2)),
    "array then int": lambda m: (longs(m, 1, 0), slice(None), -1),
    "broadcast arrays": lambda m: (m.tensor([[0], [1]]), longs(m, 2, 0, 1)),
    "array after slice": lambda m: (slice(1, None), longs(m, 2, 0)),
    "array after none": lambda m: (None, longs(m, 1, 0), ..., None),
    "0-d tensor": lambda m: m.tensor(1),
    "0-d tensors": lambda m: (m.tensor(0), slice(None), longs(m, 1, 2)),
    "numpy int": lambda m: np.int64(1),
    "numpy array": lambda m: np.array([1, 0]),
    "mask": lambda m: m.tensor([True, False]),
    "mask of two dims": lambda m: m.tensor([[True, False, True], [False, False, True]]),
    "mask behind": lambda m: (slice(None), m.tensor([True, False, True])),
    "mask and int": lambda m: (0, m.tensor([True, False, True])),
    "mask and array": lambda m: (longs(m, 1, 0), m.tensor([True, False, True])),
    "mask of nothing": lambda m: m.tensor([False, False]),
    "list of booleans": lambda m: [True, False],
    "true": lambda m: True,
    "false": lambda m: False,
    "true and array": lambda m: (slice(None), True, longs(m, 1, 2)),
    "0-d mask": lambda m: m.tensor(True),
    "tensor bounds": lambda m: slice(m.tensor(0), m.tensor(1)),
    "int32 array": lambda m: m.tensor([1, 0], dtype=m.int32),
    "negative array": lambda m: [-1, 0],
    "empty array": lambda m: m.zeros(0, dtype=m.int64),
}

TestGetitem = operator_tests(
    [
        Case(
            name,
            lambda m, x, key=key: x[key(m)],
            shapes=[(2, 3, 4)],
            dtypes=EVERY if name in ("step", "list", "mask") else WIDE,
            # Finite differences need elements: "nothing selected" has no slope.
            grad=name not in ("empty slice", "mask of nothing", "false", "empty array"),
        )
        for name, key in KEYS.items()
    ]
)


def test_gradient_of_a_source_longer_than_the_index():
    # PyTorch cannot do this one: its gradient has the shape of the index.
    index = nano.tensor([[2, 0], [1, 2]])
    for call in (nano.scatter, nano.scatter_add):
        x = nano.zeros(2, 3, dtype=nano.float64, requires_grad=True)
        source = nano.ones(3, 4, dtype=nano.float64, requires_grad=True)
        assert nano.autograd.gradcheck(lambda x, y, call=call: call(x, 1, index, y), [x, source])


def along(m, *shape):
    return m.tensor((np.arange(np.prod(shape)).reshape(shape) * 7) % 2)


TestAlong = operator_tests(
    [
        Case("gather", lambda m, x: m.gather(x, 1, along(m, 2, 5)), dtypes=EVERY),
        Case("gather less", lambda m, x: x.gather(-1, along(m, 1, 2))),
        Case("gather dim 0", lambda m, x: x.gather(0, along(m, 4, 3))),
        Case("gather 0-d", lambda m, x: x.gather(0, m.tensor([0, 0])), shapes=[()]),
        Case(
            "scatter",
            lambda m, x, y: m.scatter(x, 1, m.tensor([[2, 0], [1, 2]]), y),
            shapes=[(2, 3), (2, 2)],
        ),
        Case("scatter number", lambda m, x: x.scatter(0, m.tensor([[1, 0]]), 2.5)),
        Case("scatter value", lambda m, x: x.scatter(0, m.tensor([[1, 0]]), value=2.5)),
        Case(
            "scatter reduce",
            lambda m, x: x.scatter(0, m.tensor([[1, 0]]), 2.5, reduce="add"),
            grad=False,
        ),
        Case(
            "scatter_add",
            lambda m, x, y: m.scatter_add(x, 1, along(m, 2, 4), y),
            shapes=[(2, 3), (2, 4)],
            dtypes=(*WIDE, "int64"),
        ),
        Case("index_select", lambda m, x: m.index_select(x, 1, longs(m, 2, 0, 2)), dtypes=EVERY),
        Case("index_select one", lambda m, x: x.index_select(0, m.tensor(1))),
        Case(
            "index_add",
            lambda m, x, y: m.index_add(x, 1, longs(m, 2, 2), y, alpha=3),
            shapes=[(2, 3), (2, 2)],
        ),
        Case(
            "index_copy",
            lambda m, x, y: x.index_copy(0, longs(m, 1), y),
            shapes=[(2, 3), (1, 3)],
        ),
        Case("index_fill", lambda m, x: x.index_fill(1, longs(m, 0, 2), 5)),
        Case("take_along_dim", lambda m, x: m.take_along_dim(x, m.tensor([[1]]), 1)),
        Case("take_along_dim wide", lambda m, x: x.take_along_dim(along(m, 1, 3) - 1, 0)),
        Case("take_along_dim flat", lambda m, x: m.take_along_dim(x, m.tensor([[5, 0]]))),
        Case("masked_select", lambda m, x: m.masked_select(x, m.tensor([True, False, True]))),
        Case("masked_select 0-d", lambda m, x: x.masked_select(m.tensor(True)), shapes=[()]),
        Case("take", lambda m, x: m.take(x, m.tensor([[5, -1], [0, 5]]))),
    ]
)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
def test_nonzero(shape):
    a = np.random.default_rng(0).integers(0, 2, shape)
    ours, theirs = nano.nonzero(nano.tensor(a)), torch.nonzero(torch.tensor(a))
    assert_same(ours, theirs, (0, 0))
    for mine, other in zip(
        nano.nonzero(nano.tensor(a), as_tuple=True),
        torch.nonzero(torch.tensor(a), as_tuple=True),
        strict=True,
    ):
        assert_same(mine, other, (0, 0))


# Assignment ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["number", "same shape", "broadcast", "leading ones"])
@pytest.mark.parametrize("name", KEYS)
def test_assignment_with_gradients(name, kind):
    results = []
    for m in (nano, torch):
        x = m.tensor(np.arange(24.0).reshape(2, 3, 4).tolist(), requires_grad=True)
        y = x * 1
        key = KEYS[name](m)
        shape = tuple(y[key].shape)
        v = 7.5
        if kind != "number":
            shape = {"same shape": shape, "broadcast": (1,), "leading ones": (1, 1, *shape)}[kind]
            v = m.tensor((np.arange(np.prod(shape)).reshape(shape) + 30.0).tolist())
            v = v.reshape(shape).requires_grad_()
        y[key] = v
        weights = m.tensor(np.linspace(1, 2, 24).reshape(2, 3, 4)).to(y.dtype)
        (y * y * weights).sum().backward()
        grad = None
        if kind != "number":
            # What is written nowhere may have no gradient or zeros.
            grad = v.grad if v.grad is not None else m.zeros(v.shape)
        with m.no_grad():
            z = m.zeros(2, 3, 4)
            z[key] = v
        repeats = name in ("list", "range of longs")
        results.append([y, x.grad, z] + ([] if grad is None or repeats else [grad]))
    for mine, other in zip(*results, strict=True):
        assert_same(mine, other, (1e-6, 1e-6))


def test_assignment_without_history_writes_in_place():
    x = nano.zeros(3, 3)
    before = x.data_ptr()
    x[1] = 2
    x[:, [0, 2]] = nano.ones(3, 2)
    x[x == 0] = -1
    assert x.data_ptr() == before
    assert x._storage.version == 3
    assert x._edge is None
    assert x.tolist() == [[1, -1, 1], [1, 2, 1], [1, -1, 1]]


def test_numbers_take_the_dtype_of_the_tensor():
    for m in (nano, torch):
        x = m.arange(3)
        x[0] = 1.7
        x[1] = m.tensor(2.9)
        assert x.tolist() == [1, 2, 2]
        x[[True, False, False]] = 0
        assert x.tolist() == [0, 2, 2]


@pytest.mark.parametrize("kind", ["itself", "detached", "view", "detached view"])
def test_what_lies_there_already_is_assigned_with_its_history(kind):
    results = []
    for m in (nano, torch):
        leaf = m.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        x = leaf * 2
        y = x if "view" not in kind else x[:]
        z = y.detach() if "detached" in kind else y
        z[0] = y[0]
        (x.sum() + (z * 3).sum()).backward()
        results.append((z, leaf.grad))
        assert z.requires_grad
    for mine, other in zip(*results, strict=True):
        assert_same(mine, other, (0, 0))


@pytest.mark.parametrize(
    ("dtype", "recorded"),
    [("float16", False), ("float16", True), ("float64", True), ("int64", False)],
)
def test_one_value_of_another_dtype_fills_a_mask(dtype, recorded):
    results = []
    for m in (nano, torch):
        x = m.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]).to(getattr(m, dtype))
        v = m.tensor(7.5, dtype=m.float32, requires_grad=recorded)
        x[x > 2] = v
        x[m.tensor([False, True]), 0] = v.reshape(1)
        results.append(x)
        if recorded:
            x.sum().backward()
            results.append(v.grad)
        with pytest.raises(RuntimeError):
            x[m.tensor([0, 1])] = v.detach()
        with pytest.raises(RuntimeError):
            x[m.tensor([True, True])] = m.ones(2, 3)
    half = len(results) // 2
    for mine, other in zip(results[:half], results[half:], strict=True):
        assert_same(mine, other, (0, 0))


BAD_KEYS = {
    "too large": lambda m: 2,
    "too small": lambda m: (0, -4),
    "in array": lambda m: ([0, 2],),
    "too many": lambda m: (0, 0, 0, 0),
    "too many arrays": lambda m: ([0], [0], [0], [0]),
    "float": lambda m: 1.5,
    "float tensor": lambda m: m.tensor([1.0]),
    "negative step": lambda m: slice(None, None, -1),
    "mask size": lambda m: m.tensor([True, False, True]),
    "mask shape": lambda m: m.ones(2, 2, dtype=m.bool),
    "broadcast": lambda m: ([0, 1], [0, 1, 2]),
}


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("name", BAD_KEYS)
def test_wrong_keys(name, write):
    def use(m):
        x = m.zeros(2, 3, 4)
        if write:
            x[BAD_KEYS[name](m)] = 1.0
        else:
            x[BAD_KEYS[name](m)]

    with pytest.raises(Exception) as theirs:
        use(torch)
    with pytest.raises(type(theirs.value), match=r"\[index\]"):
        use(nano)


def test_messages_name_shape_and_index():
    with pytest.raises(IndexError, match=r"shape \(2, 3\) · index \[0, 1:2, 5\]"):
        nano.zeros(2, 3)[0, 1:2, 5]
    with pytest.raises(IndexError, match=r"out of range.*\n.*input \(3,\) · index \(1,\) · dim 0"):
        nano.zeros(3).gather(0, nano.tensor([7]))
    for key in ([[0], [1]], [slice(0, 1)], [None], [nano.tensor([1])]):
        with pytest.raises(IndexError, match="tuple"):
            nano.zeros(2, 3)[key]
    with pytest.raises(IndexError, match="one ellipsis"):
        nano.zeros(2, 3)[..., 0, ...]
    with pytest.raises(TypeError, match="str"):  # PyTorch's error too
        nano.zeros(2, 3)["a"]
    with pytest.raises(IndexError):
        nano.tensor(1.0)[0]


BAD_CALLS = {
    "set shape": lambda m: m.zeros(2, 3).__setitem__(0, m.zeros(5)),
    "set shape array": lambda m: m.zeros(2, 3).__setitem__([0], m.zeros(5)),
    "set shape mask": lambda m: m.zeros(3).__setitem__(m.ones(3).bool(), m.zeros(2)),
    "set dtype": lambda m: m.arange(3).__setitem__([0], m.tensor([1.5])),
    "set list": lambda m: m.zeros(3).__setitem__(0, [1.0]),
    "set string": lambda m: m.zeros(3).__setitem__(0, "a"),
    "set leaf": lambda m: m.zeros(3, requires_grad=True).__setitem__(0, 1.0),
    "set leaf array": lambda m: m.zeros(3, requires_grad=True).__setitem__([0], 1.0),
    "set leaf view": lambda m: m.zeros(3, requires_grad=True)[:2].__setitem__(0, 1.0),
    "set overflow": lambda m: m.zeros(3, dtype=m.int8).__setitem__(0, 300),
    "gather range": lambda m: m.zeros(3).gather(0, m.tensor([3])),
    "gather negative": lambda m: m.zeros(3).gather(0, m.tensor([-1])),
    "gather ndim": lambda m: m.zeros(3).gather(0, m.tensor([[0]])),
    "gather size": lambda m: m.zeros(2, 2).gather(0, m.zeros(1, 3, dtype=m.int64)),
    "gather dim": lambda m: m.zeros(2, 2).gather(2, m.zeros(1, 2, dtype=m.int64)),
    "gather dtype": lambda m: m.zeros(3).gather(0, m.tensor([0.0])),
    "scatter dtype": lambda m: m.zeros(3).scatter(0, m.tensor([0]), m.zeros(1).double()),
    "scatter src": lambda m: m.zeros(3).scatter(0, m.tensor([0, 1]), m.zeros(1)),
    "scatter range": lambda m: m.zeros(3).scatter(0, m.tensor([4]), 1.0),
    "index_select range": lambda m: m.zeros(3).index_select(0, m.tensor([3])),
    "index_select matrix": lambda m: m.zeros(3).index_select(0, m.tensor([[0]])),
    "index_select dtype": lambda m: m.zeros(3).index_select(0, m.tensor([0.0])),
    "index_add shape": lambda m: m.zeros(3, 2).index_add(0, m.tensor([0, 0]), m.zeros(1, 2)),
    "index_add range": lambda m: m.zeros(3).index_add(0, m.tensor([7]), m.zeros(1)),
    "index_add dtype": lambda m: m.zeros(3).index_add(0, m.tensor([0]), m.zeros(1).double()),
    "take_along_dim": lambda m: m.take_along_dim(m.zeros(3, 2), m.tensor([0]), 0),
    "masked_select": lambda m: m.masked_select(m.zeros(3), m.tensor([1, 0, 1])),
    "masked_select shape": lambda m: m.masked_select(m.zeros(3), m.tensor([True, False])),
    "take": lambda m: m.take(m.zeros(3), m.tensor([3])),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_errors_are_pytorchs(name):
    with pytest.raises(Exception) as theirs:
        BAD_CALLS[name](torch)
    with pytest.raises(type(theirs.value), match=r"^\[") as ours:
        BAD_CALLS[name](nano)
    assert isinstance(ours.value, nano.errors.NanoError)


def test_a_failed_assignment_changes_nothing():
    x = nano.zeros(2, 3)
    for key, value in ((0, nano.zeros(5)), ([0], nano.zeros(5)), (9, 1.0)):
        with pytest.raises((RuntimeError, IndexError)):
            x[key] = value
    assert x._storage is None or x._storage.version == 0
    assert not x.any()


def test_in_place_forms():
    index = [[0, 1, 1]]
    for name, make in {
        "scatter_": lambda m, x, i: x.scatter_(0, i, 5.0),
        "scatter_add_": lambda m, x, i: x.scatter_add_(0, i, m.ones(1, 3)),
        "index_add_": lambda m, x, i: x.index_add_(1, i[0], m.ones(2, 3), alpha=2),
        "index_fill_": lambda m, x, i: x.index_fill_(1, i[0], 9.0),
        "index_copy_": lambda m, x, i: x.index_copy_(0, i[0, :1], m.ones(1, 3)),
        "masked_fill_": lambda m, x, i: x.masked_fill_(x > 2, -1.0),
    }.items():
        results = []
        for m in (nano, torch):
            leaf = m.tensor([[1.0, 2, 3], [4, 5, 6]], requires_grad=True)
            x = leaf * 1
            assert make(m, x, m.tensor(index)) is x, name
            (x * x).sum().backward()
            results.append((x.tolist(), leaf.grad.tolist()))
        assert results[0] == results[1], name


# Any key ---------------------------------------------------------------------------------


@st.composite
def keys(draw, shape):
    """Items for some of the dimensions: what to write for (nano, torch)."""
    items, length = [], draw(st.integers(1, 3))
    for n in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["int", "slice", "array", "mask", "full"]))
        if kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            bound = st.none() | st.integers(-n - 1, n + 1)
            items.append(slice(draw(bound), draw(bound), draw(st.none() | st.integers(1, 3))))
        elif kind == "array":
            items.append(draw(st.lists(st.integers(-n, n - 1), min_size=length, max_size=length)))
        elif kind == "mask" and length <= n:
            items.append([i < length for i in draw(st.permutations(range(n)))])
        else:
            items.append(slice(None))
    for extra in draw(st.lists(st.sampled_from([None, "..."]), max_size=2, unique=True)):
        # An ellipsis before the last item would make the items stand for other dimensions.
        taken = sum([item is not None for item in items])
        first = 0 if not extra or taken == len(shape) else len(items)
        items.insert(draw(st.integers(first, len(items))), ... if extra else None)
    return tuple(items)


def written(m, key):
    return tuple(m.tensor(k) if isinstance(k, list) else k for k in key)


@settings(max_examples=150)
@given(st.data())
def test_any_key(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=4)))
    key = data.draw(keys(shape))
    a = np.arange(np.prod(shape), dtype="float64").reshape(shape) + 1
    ours, theirs = nano.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    got, expected = ours[written(nano, key)], theirs[written(torch, key)]
    assert_same(got, expected, (0, 0))
    (got * got).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_array_equal(to_array(ours.grad), to_array(theirs.grad))
    with nano.no_grad(), torch.no_grad():
        ours[written(nano, key)] = -1.0
        theirs[written(torch, key)] = -1.0
    np.testing.assert_array_equal(to_array(ours), to_array(theirs))


def test_a_tuple_inside_a_key_is_a_list():
    for m in (nano, torch):
        x = m.arange(6).reshape(2, 3)
        assert x[(1, 0),].tolist() == [[3, 4, 5], [0, 1, 2]]
        assert x[:, (0, 2)].tolist() == [[0, 2], [3, 5]]
