"""Embedding against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import nano
import nano.nn.functional as F

from .harness import Case, operator_tests, to_array


def indices(*shape, dtype=np.int64):
    """Integers below 4, of which some repeat, and a table of 4 rows."""
    return lambda rng: [rng.integers(0, 4, shape).astype(dtype), rng.uniform(-2, 2, (4, 3))]


def look_up(m, index, weight, **options):
    return m.nn.functional.embedding(index, weight, **options)


CASES = [
    Case("rows", look_up, arrays=indices(2, 5)),
    Case("int32", look_up, arrays=indices(6, dtype=np.int32)),
    Case("one", look_up, arrays=indices()),
    Case("none", look_up, arrays=indices(0, 2), gradgrad=False),
]
COMPARED = [
    # What these give to backward() is not the derivative of the forward pass.
    Case("padding", lambda m, *t: look_up(m, *t, padding_idx=0), arrays=indices(3, 4), grad=False),
    Case(
        "frequency",
        lambda m, *t: look_up(m, *t, scale_grad_by_freq=True, padding_idx=1),
        arrays=indices(3, 4),
        grad=False,
    ),
]

TestEmbedding = operator_tests(CASES)
TestEmbeddingForward = operator_tests(COMPARED)


@pytest.mark.parametrize("padding", [1, -3])
def test_padding_gets_no_gradient(padding):
    index = np.array([[0, 1, 1], [3, 1, 3]])
    v = np.random.default_rng(0).normal(size=(4, 2))
    results = []
    for m in (nano, torch):
        w = m.tensor(v, requires_grad=True)
        g = m.tensor(np.full((2, 3, 2), 3.0), requires_grad=True)
        (grad,) = m.autograd.grad(
            look_up(m, m.tensor(index), w, padding_idx=padding), w, g, create_graph=True
        )
        # The gradient is linear in g; its own derivative leaves the padding out too.
        (again,) = m.autograd.grad((grad * m.tensor(v)).sum(), g)
        results.append((to_array(grad), to_array(again)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert results[0][0][1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_gradient_scaled_by_frequency(dtype):
    index = np.array([[0, 1, 1], [3, 1, 3]])
    results = []
    for m in (nano, torch):
        w = m.ones(4, 2, dtype=getattr(m, dtype)).requires_grad_()
        y = look_up(m, m.tensor(index), w, scale_grad_by_freq=True, padding_idx=0)
        (y * 3).sum().backward()
        results.append(w.grad)
    ours, theirs = results
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    # A third is rounded before it is added up three times.
    np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1.6e-2)
    assert ours.tolist()[0] == [0.0, 0.0]


def test_repeated_rows_add_up_in_float32():
    w = nano.zeros(2, 1, dtype=nano.bfloat16, requires_grad=True)
    F.embedding(nano.zeros(1000, dtype=nano.int64), w).sum().backward()
    # In bfloat16 the sum would stop at 256.
    assert w.grad.tolist() == [[1000.0], [0.0]]


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
def test_max_norm(norm_type):
    table = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    results = []
    for m in (nano, torch):
        w = m.tensor(table.copy(), requires_grad=True)
        y = look_up(m, m.tensor([0, 3, 3]), w, max_norm=0.5, norm_type=norm_type)
        y.sum().backward()
        results.append((y, w, w.grad))
        assert w._version == 1
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1e-5)
    assert results[0][1].tolist()[1] == table[1].tolist()


def test_sparse_gradients_are_refused():
    with pytest.raises(RuntimeError, match="no sparse gradients"):
        F.embedding(nano.tensor([0]), nano.ones(2, 2), sparse=True)


REFUSALS = {
    "above": lambda m, f: f(m.tensor([2]), m.ones(2, 3)),
    "below": lambda m, f: f(m.tensor([-1]), m.ones(2, 3)),
    "int16": lambda m, f: f(m.tensor([0], dtype=m.int16), m.ones(2, 3)),
    "floats": lambda m, f: f(m.tensor([0.0]), m.ones(2, 3)),
    "1-d weight": lambda m, f: f(m.tensor([0]), m.ones(2)),
    "padding": lambda m, f: f(m.tensor([0]), m.ones(2, 3), padding_idx=2),
    "negative padding": lambda m, f: f(m.tensor([0]), m.ones(2, 3), padding_idx=-3),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_as_in_pytorch(name):
    with pytest.raises(Exception) as theirs:
        REFUSALS[name](torch, TF.embedding)
    with pytest.raises(theirs.type, match=r"\[embedding\]"):
        REFUSALS[name](nano, F.embedding)
