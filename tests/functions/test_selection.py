"""where, clamp, sort, topk, unique, cumsum."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nano

from .harness import EVERY, FLOATS, INTEGERS, WIDE, Case, assert_same, operator_tests

NAN, INF = float("nan"), float("inf")
MASK = [[True, False, True], [False, False, True]]


def distinct(*shape):
    """Arrays whose elements all differ, so that an order is not a matter of luck."""
    return lambda rng: [rng.permutation(int(np.prod(shape))).reshape(shape) / 4.0 - 2.0]


def result(r):
    return r.values, r.indices


TestSelection = operator_tests(
    [
        Case(
            "where",
            lambda m, x, y: m.where(m.tensor(MASK), x, y),
            shapes=[(2, 3), (2, 3)],
            dtypes=EVERY,
        ),
        Case(
            "where broadcast",
            lambda m, x, y: m.where(m.tensor([[True], [False]]), x, y),
            shapes=[(3,), (2, 1)],
        ),
        Case("where number", lambda m, x: m.where(m.tensor(MASK), x, 0.5), dtypes=EVERY),
        Case("where method", lambda m, x: x.where(m.tensor(MASK), -1), dtypes=EVERY),
        Case("masked_fill", lambda m, x: m.masked_fill(x, m.tensor(MASK), 3), dtypes=EVERY),
        Case("masked_fill inf", lambda m, x: x.masked_fill(m.tensor(MASK), -INF), grad=False),
        Case(
            "masked_fill tensor",
            lambda m, x, y: x.masked_fill(m.tensor([True, False, True]), y),
            shapes=[(2, 3), ()],
        ),
        Case("masked_fill wide", lambda m, x: x.masked_fill(m.tensor(MASK), 1), shapes=[(3,)]),
        Case("clamp", lambda m, x: m.clamp(x, -0.5, 0.7), dtypes=(*FLOATS, *INTEGERS)),
        Case("clamp ints", lambda m, x: m.clamp(x, -1, 1), dtypes=(*WIDE, "int64", "int8")),
        Case("clamp min", lambda m, x: x.clamp(min=0.1), dtypes=WIDE),
        Case("clamp max", lambda m, x: x.clamp(max=0.1), dtypes=WIDE),
        Case("clip", lambda m, x: m.clip(x, -0.5, 0.5)),
        Case("clamp_min", lambda m, x: m.clamp_min(x, 0.3)),
        Case("clamp_max", lambda m, x: m.clamp_max(x, 0.3)),
        Case("clamp crossed", lambda m, x: m.clamp(x, 1.0, -1.0)),
        Case(
            "clamp tensors",
            lambda m, x, y, z: m.clamp(x, y, z),
            shapes=[(4, 5), (5,), (4, 1)],
            dtypes=WIDE,
        ),
        Case("clamp min tensor", lambda m, x, y: m.clamp(x, min=y), shapes=[(4, 5), (4, 5)]),
        Case("sort", lambda m, x: result(m.sort(x)), arrays=distinct(3, 4), dtypes=WIDE),
        Case(
            "sort down",
            lambda m, x: result(x.sort(0, descending=True)),
            arrays=distinct(3, 4),
            dtypes=FLOATS,
        ),
        Case("sort 0-d", lambda m, x: result(m.sort(x)), shapes=[()]),
        Case("argsort", lambda m, x: m.argsort(x, 0), arrays=distinct(3, 4), grad=False),
        Case("msort", lambda m, x: m.msort(x), arrays=distinct(3, 4)),
        Case("topk", lambda m, x: result(m.topk(x, 2)), arrays=distinct(3, 5), dtypes=WIDE),
        Case(
            "topk smallest",
            lambda m, x: result(x.topk(2, 0, largest=False)),
            arrays=distinct(3, 5),
            dtypes=FLOATS,
        ),
        Case("topk all", lambda m, x: result(x.topk(5)), arrays=distinct(3, 5)),
        Case("topk none", lambda m, x: result(x.topk(0)), arrays=distinct(3, 5), grad=False),
        Case("topk 0-d", lambda m, x: result(x.topk(1)), shapes=[()]),
        Case("cumsum", lambda m, x: m.cumsum(x, 1), shapes=[(2, 5)], dtypes=EVERY),
        Case("cumsum dtype", lambda m, x: x.cumsum(0, dtype=m.float64), dtypes=WIDE),
        Case("cumsum 0-d", lambda m, x: x.cumsum(0), shapes=[()]),
    ]
)


def test_where_with_one_argument_gives_positions():
    ours = nano.where(nano.tensor(MASK))
    theirs = torch.where(torch.tensor(MASK))
    assert [i.tolist() for i in ours] == [i.tolist() for i in theirs]


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, 2), (1.0, 2), (True, 2), ("float64", 1.0), ("int32", 1.5), ("uint8", "int8")],
)
def test_where_promotes(a, b):
    def call(m):
        x, y = (m.ones(2, dtype=getattr(m, v)) if isinstance(v, str) else v for v in (a, b))
        return m.where(m.tensor([True, False]), x, y)

    assert_same(call(nano), call(torch), (0, 0))


def test_where_keeps_the_gradient_of_what_is_not_taken_out():
    for m in (nano, torch):
        x = m.tensor([0.0, 4.0], requires_grad=True)
        m.where(x > 0, 1 / x, x).sum().backward()
        assert np.isnan(x.grad.tolist()[0])  # 0 * inf, the known trap: in PyTorch too
        x.grad = None
        m.where(x > 0, x, m.tensor(INF)).sum().backward()
        assert x.grad.tolist() == [0, 1]


@pytest.mark.parametrize("bounds", [{"min": 0.0, "max": 1.0}, {"min": 0.0}, {"max": 1.0}])
def test_clamp_at_its_bounds_and_with_nan(bounds):
    grads = []
    for m in (nano, torch):
        x = m.tensor([NAN, -1.0, 0.0, 0.5, 1.0, 2.0, INF, -INF], requires_grad=True)
        y = m.clamp(x, **bounds)
        y.sum().backward()
        grads.append((y.detach(), x.grad))
    assert_same(grads[0][0], grads[1][0], (0, 0))
    assert_same(grads[0][1], grads[1][1], (0, 0))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "uint8", "bool"])
def test_sort_is_stable_and_puts_nan_last(descending, dtype):
    values = [3.0, 1, 0, 3, 1, 2, 0, 1] + ([NAN, -1, NAN, INF] if "float" in dtype else [])
    ours = nano.tensor(values).to(getattr(nano, dtype)).sort(stable=True, descending=descending)
    theirs = torch.tensor(values).to(getattr(torch, dtype)).sort(stable=True, descending=descending)
    assert ours.indices.tolist() == theirs.indices.tolist()
    assert_same(ours.values, theirs.values, (0, 0))
    values, indices = ours
    assert values is ours.values
    assert not indices.requires_grad


@pytest.mark.parametrize("largest", [True, False])
def test_topk_with_nan(largest):
    values = [1.0, NAN, 5.0, -INF, 3.0]
    ours = nano.tensor(values).topk(3, largest=largest)
    theirs = torch.tensor(values).topk(3, largest=largest)
    assert_same(ours.values, theirs.values, (0, 0))
    assert ours.indices.tolist() == theirs.indices.tolist()


@pytest.mark.parametrize("dim", [None, 0, 1])
@pytest.mark.parametrize("dtype", ["int64", "float32", "bfloat16", "bool"])
def test_unique(dim, dtype):
    values = [[1, 2, 1], [0, 2, 0], [1, 2, 1]]
    ours, theirs = (
        m.unique(
            m.tensor(values).to(getattr(m, dtype)),
            return_inverse=True,
            return_counts=True,
            dim=dim,
        )
        for m in (nano, torch)
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine, other, (0, 0))


def test_unique_keeps_every_nan():
    assert nano.unique(nano.tensor([NAN, 1.0, NAN])).shape == (3,)
    assert torch.unique(torch.tensor([NAN, 1.0, NAN])).shape == (3,)


BAD = {
    "where": lambda m: m.where(m.tensor([1]), 1.0, 2.0),
    "where shape": lambda m: m.where(m.tensor([True, False]), m.ones(3), m.ones(2)),
    "where string": lambda m: m.where(m.tensor([True]), "a", 1.0),
    "masked_fill": lambda m: m.ones(3).masked_fill(m.tensor([1, 0, 1]), 0),
    "masked_fill value": lambda m: m.ones(3).masked_fill(m.ones(3).bool(), m.ones(1)),
    "masked_fill inf": lambda m: m.arange(3).masked_fill(m.ones(3).bool(), INF),
    "masked_fill shape": lambda m: m.ones(3).masked_fill(m.ones(2).bool(), 0),
    "masked_fill_ shape": lambda m: m.ones(3).masked_fill_(m.ones(2, 3).bool(), 0),
    "clamp": lambda m: m.clamp(m.ones(3)),
    "clamp shape": lambda m: m.clamp(m.ones(3), m.ones(2)),
    "clamp string": lambda m: m.clamp(m.ones(3), "a"),
    "sort": lambda m: m.sort(m.ones(3), 1),
    "topk": lambda m: m.topk(m.ones(3), 4),
    "topk dim": lambda m: m.topk(m.ones(3), 1, 1),
    "cumsum": lambda m: m.cumsum(m.ones(3), 1),
    "unique": lambda m: m.unique(m.ones(3), dim=1),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_pytorchs(name):
    with pytest.raises(Exception) as theirs:
        BAD[name](torch)
    with pytest.raises(type(theirs.value), match=r"^\["):
        BAD[name](nano)


@given(
    hnp.arrays("int8", hnp.array_shapes(max_dims=3, min_side=0, max_side=5)),
    st.integers(0, 2),
    st.booleans(),
)
def test_sort_of_any_shape(a, dim, descending):
    dim %= a.ndim
    ours = nano.sort(nano.tensor(a), dim, descending)
    theirs = torch.sort(torch.tensor(a), dim=dim, descending=descending, stable=True)
    assert_same(ours.indices, theirs.indices, (0, 0))
    assert_same(ours.values, theirs.values, (0, 0))
