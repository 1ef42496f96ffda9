"""Putting together and taking apart."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nano

from .harness import EVERY, WIDE, Case, assert_same, operator_tests

TWO = [(2, 3), (2, 3)]

TestJoining = operator_tests(
    [
        Case("cat", lambda m, x, y: m.cat([x, y]), shapes=TWO, dtypes=EVERY),
        Case("cat last", lambda m, x, y: m.cat((x, y, x), -1), shapes=[(2, 3), (2, 1)]),
        Case("cat one", lambda m, x: m.cat([x])),
        Case("cat skips empty", lambda m, x: m.cat([m.zeros(0), x], 1)),
        Case("cat only empty", lambda m: m.cat([m.zeros(0), m.zeros(0)]), shapes=[], grad=False),
        Case("concat", lambda m, x, y: m.concat([x, y], 1), shapes=TWO),
        Case("stack", lambda m, x, y: m.stack([x, y]), shapes=TWO, dtypes=EVERY),
        Case("stack middle", lambda m, x, y: m.stack([x, y, x], 1), shapes=TWO),
        Case("stack last", lambda m, x, y: m.stack((x, y), -1), shapes=[(), ()]),
        Case("hstack", lambda m, x, y: m.hstack([x, y]), shapes=TWO),
        Case("hstack vectors", lambda m, x, y: m.hstack([x, y]), shapes=[(2,), ()]),
        Case("vstack", lambda m, x, y: m.vstack([x, y]), shapes=[(3,), (2, 3)]),
        Case("split", lambda m, x: m.split(x, 2, 1), shapes=[(2, 5)], dtypes=EVERY),
        Case("split sizes", lambda m, x: x.split([1, 0, 4], -1), shapes=[(2, 5)]),
        Case("split large", lambda m, x: x.split(9)),
        Case("chunk", lambda m, x: m.chunk(x, 3), shapes=[(7, 2)]),
        Case("chunk many", lambda m, x: x.chunk(4, 1), shapes=[(2, 5)]),
        Case("tensor_split", lambda m, x: m.tensor_split(x, 3), shapes=[(7, 2)]),
        Case("tensor_split at", lambda m, x: x.tensor_split((1, 4), 0), shapes=[(7, 2)]),
        Case("unbind", lambda m, x: m.unbind(x, 1), dtypes=WIDE),
    ]
)


@pytest.mark.parametrize("name", ["cat", "stack"])
def test_promotion(name):
    for a in ("uint8", "int8", "int64", "float16", "bfloat16", "float32", "float64", "bool"):
        for b in ("int8", "float16", "float32", "bool"):
            ours, theirs = (
                getattr(m, name)([m.ones(2, dtype=getattr(m, a)), m.zeros(2, dtype=getattr(m, b))])
                for m in (nano, torch)
            )
            assert_same(ours, theirs, (0, 0))
    for m in (nano, torch):
        empty = m.cat([m.zeros(0, dtype=m.float64), m.ones(2, 2)])
        assert empty.dtype is m.float64


def test_gradient_through_promotion():
    x = nano.ones(2, requires_grad=True)
    y = nano.ones(2, dtype=nano.float64, requires_grad=True)
    (nano.cat([x, y]) * nano.tensor([1.0, 2, 3, 4])).sum().backward()
    assert x.grad.dtype is nano.float32
    assert x.grad.tolist() == [1, 2]
    assert y.grad.tolist() == [3, 4]


@pytest.mark.parametrize("n", [0, 1, 4])
def test_dimensions_of_size_zero(n):
    for m in (nano, torch):
        x = m.zeros(0, 3)
        assert [tuple(p.shape) for p in x.chunk(2)] == [(0, 3)] * 2
        assert [tuple(p.shape) for p in x.split(2)] == [(0, 3)]
        assert x.unbind() == ()
        assert tuple(m.cat([x, m.ones(n, 3)]).shape) == (n, 3)


def test_parts_are_views():
    x = nano.zeros(4, 2)
    for parts in (x.split(2), x.chunk(2), x.unbind(), x.tensor_split(2)):
        parts[0].add_(1)
    assert x.tolist() == [[4, 4], [3, 3], [0, 0], [0, 0]]


BAD = {
    "cat none": lambda m: m.cat([]),
    "cat 0-d": lambda m: m.cat([m.tensor(1.0)]),
    "cat sizes": lambda m: m.cat([m.ones(2, 3), m.ones(3, 2)]),
    "cat dims": lambda m: m.cat([m.ones(2, 3), m.ones(3)]),
    "cat dim": lambda m: m.cat([m.ones(2, 3)], 2),
    "cat tensor": lambda m: m.cat(m.ones(2, 3)),
    "cat numbers": lambda m: m.cat([1, 2]),
    "stack none": lambda m: m.stack([]),
    "stack sizes": lambda m: m.stack([m.ones(2), m.ones(3)]),
    "stack dim": lambda m: m.stack([m.ones(2)], 2),
    "split 0": lambda m: m.ones(3).split(0),
    "split negative": lambda m: m.ones(3).split(-1),
    "split sum": lambda m: m.ones(3).split([1, 1]),
    "split negative size": lambda m: m.ones(3).split([4, -1]),
    "split 0-d": lambda m: m.tensor(1.0).split(1),
    "split dim": lambda m: m.ones(3).split(1, 1),
    "chunk 0": lambda m: m.ones(3).chunk(0),
    "chunk 0-d": lambda m: m.tensor(1.0).chunk(1),
    "tensor_split 0": lambda m: m.ones(3).tensor_split(0),
    "tensor_split 0-d": lambda m: m.tensor(1.0).tensor_split(1),
    "unbind 0-d": lambda m: m.tensor(1.0).unbind(),
    "unbind dim": lambda m: m.ones(3).unbind(1),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_pytorchs(name):
    with pytest.raises(Exception) as theirs:
        BAD[name](torch)
    with pytest.raises(type(theirs.value), match=r"^\["):
        BAD[name](nano)


@given(n=st.integers(0, 9), count=st.integers(1, 5), dim=st.integers(-2, 1))
def test_cat_undoes_chunk(n, count, dim):
    a = np.arange(n * n).reshape(n, n)
    ours, theirs = nano.tensor(a).chunk(count, dim), torch.tensor(a).chunk(count, dim)
    assert [tuple(p.shape) for p in ours] == [tuple(p.shape) for p in theirs]
    assert nano.cat(ours, dim).tolist() == a.tolist()
    cuts = nano.tensor(a).tensor_split(count, dim)
    assert [p.tolist() for p in cuts] == [
        p.tolist() for p in torch.tensor(a).tensor_split(count, dim)
    ]
