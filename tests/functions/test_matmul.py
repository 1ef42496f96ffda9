"""Matrix products, the linear map, Einstein sums."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nano
from nano.functions.matmul import MatMul, linear

from .harness import FLOATS, INTEGERS, WIDE, Case, assert_same, operator_tests

NUMBERS = (*FLOATS, *INTEGERS)


def product(*shapes, dtypes=WIDE, **options):
    return Case(f"matmul {shapes}", lambda m, x, y: x @ y, shapes, dtypes=dtypes, **options)


def apply_linear(m, *inputs):
    return torch.nn.functional.linear(*inputs) if m is torch else linear(*inputs)


CASES = [
    product((2, 3), (3, 4), dtypes=NUMBERS, numpy=np.matmul),
    product((3,), (3,), dtypes=NUMBERS, numpy=np.matmul),
    product((2, 3), (3,), dtypes=NUMBERS),
    product((3,), (3, 4), dtypes=NUMBERS),
    product((2, 5, 3), (3, 4), dtypes=NUMBERS),
    product((2, 5, 3), (2, 3, 4), dtypes=NUMBERS),
    product((5, 3), (2, 3, 4)),
    product((2, 5, 3), (3,)),
    product((3,), (2, 3, 4)),
    product((2, 1, 2, 3), (4, 3, 2)),
    product((1, 2, 3), (4, 3, 2)),
    product((2, 0), (0, 3)),
    product((0, 3), (3, 2)),
    product((2, 0, 3), (3, 2)),
    product((0, 2, 3), (0, 3, 2)),
    product((2, 3, 0), (0, 2)),
    product((0,), (0,)),
    product((0,), (0, 2)),
    Case("mm", lambda m, x, y: m.mm(x, y), [(2, 3), (3, 2)], dtypes=NUMBERS),
    Case("bmm", lambda m, x, y: m.bmm(x, y), [(2, 1, 3), (2, 3, 2)], dtypes=NUMBERS),
    Case("mv", lambda m, x, y: m.mv(x, y), [(2, 3), (3,)], dtypes=NUMBERS),
    Case("dot", lambda m, x, y: m.dot(x, y), [(3,), (3,)], dtypes=NUMBERS),
    Case("outer", lambda m, x, y: m.outer(x, y), [(3,), (2,)], dtypes=NUMBERS),
    Case("inner", lambda m, x, y: m.inner(x, y), [(2, 4, 3), (5, 3)], dtypes=WIDE),
    Case("inner 1-d", lambda m, x, y: m.inner(x, y), [(3,), (3,)], dtypes=WIDE),
    Case("inner 0-d", lambda m, x, y: m.inner(x, y), [(), (3,)], dtypes=WIDE),
    Case(
        "addmm",
        lambda m, x, y, z: m.addmm(x, y, z, beta=0.5, alpha=2),
        [(2,), (3, 4), (4, 2)],
        dtypes=WIDE,
    ),
    Case("linear", apply_linear, [(5, 3), (4, 3), (4,)], dtypes=FLOATS),
    Case("linear no bias", apply_linear, [(5, 3), (4, 3)], dtypes=WIDE),
    Case("linear 1-d", apply_linear, [(3,), (4, 3), (4,)], dtypes=WIDE),
    Case("linear 3-d", apply_linear, [(2, 5, 3), (4, 3), (4,)], dtypes=WIDE),
    Case("linear 1-d weight", apply_linear, [(2, 3), (3,)], dtypes=WIDE),
    Case("linear no rows", apply_linear, [(0, 3), (4, 3), (4,)], dtypes=WIDE),
    Case("linear 3-d no rows", apply_linear, [(2, 0, 3), (4, 3), (4,)], dtypes=WIDE),
    Case("linear no features", apply_linear, [(2, 0), (4, 0), (4,)], dtypes=WIDE),
]

TestMatMul = operator_tests(CASES)

EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 2)),
    ("...ij,...jk", (2, 1, 3, 4), (5, 4, 2)),
    ("i,i->", (3,), (3,)),
    ("i,i->i", (3,), (3,)),
    ("i,j->ij", (3,), (2,)),
    ("ij->ji", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->j", (2, 3)),
    ("ba", (2, 3)),
    ("...->...", (2, 3)),
    ("i...->...", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("ii,i->i", (3, 3), (3,)),
    ("ij,ij,ij->i", (2, 3), (2, 3), (2, 3)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    ("ij,kl->i", (2, 3), (3, 4)),
    ("ij,ij->ij", (2, 1), (2, 3)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
    (",i->i", (), (3,)),
    ("->", ()),
    ("ij,jk->ik", (2, 0), (0, 3)),
    (" i j , j k -> i k ", (2, 3), (3, 4)),
    ("aB,Bc->ca", (2, 3), (3, 4)),
]

TestEinsum = operator_tests(
    [
        Case(
            f"einsum {e} {shapes}",
            lambda m, *x, e=e: m.einsum(e, *x),
            shapes,
            # PyTorch has no reduced integer products of several operands worth a comparison.
            dtypes=FLOATS if len(shapes) < 3 else WIDE,
        )
        for e, *shapes in EQUATIONS
    ]
)


@pytest.mark.parametrize("tx", [False, True])
@pytest.mark.parametrize("ty", [False, True])
def test_transposed_operands(tx, ty):
    x = nano.randn(2, *((4, 3) if tx else (3, 4)), dtype=nano.float64, requires_grad=True)
    y = nano.randn(*((2, 4) if ty else (4, 2)), dtype=nano.float64, requires_grad=True)
    call = lambda x, y: MatMul.apply(x, y, transpose_x=tx, transpose_y=ty)  # noqa: E731
    a, b = (x.transpose(-1, -2) if tx else x), (y.transpose(-1, -2) if ty else y)
    assert nano.allclose(call(x, y), a @ b)
    assert nano.autograd.gradcheck(call, (x, y))
    assert nano.autograd.gradgradcheck(call, (x, y))


def test_sixteen_bits_are_summed_in_float32():
    x = nano.full((1, 4096), 1.0, dtype=nano.float16)
    y = nano.full((4096, 1), 0.25, dtype=nano.float16)
    assert (x @ y).item() == 1024.0
    assert linear(x, y.reshape(1, -1)).item() == 1024.0
    big = nano.ones(1, 4096, dtype=nano.bfloat16)
    assert (big @ big.reshape(-1, 1)).item() == 4096.0
    assert nano.einsum("ij,ij->i", big, big).item() == 4096.0


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((2, 3), (2, 3)),
        ((2,), (3,)),
        ((2, 3), (2,)),
        ((2,), (3, 2)),
        ((3, 2, 3), (2, 3, 3)),
        ((3, 2, 3), (2, 3)),
        ((), (2,)),
        ((2,), ()),
    ],
)
def test_misfitting_shapes(x, y):
    with pytest.raises(RuntimeError):
        torch.ones(x) @ torch.ones(y)
    with pytest.raises(nano.errors.ShapeError) as error:
        nano.ones(x) @ nano.ones(y)
    assert str(x) in str(error.value)
    assert str(y) in str(error.value)


def test_message_names_both_shapes():
    with pytest.raises(RuntimeError) as error:
        nano.ones(2, 3) @ nano.ones(4, 5)
    assert str(error.value).startswith(
        "[matmul] shapes (2, 3) and (4, 5) cannot be multiplied: 3 columns against 4 rows."
    )


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("mm", (2, 3), (3,)),
        ("mm", (2, 3), (2, 3)),
        ("bmm", (2, 3, 4), (1, 4, 2)),
        ("bmm", (2, 3), (3, 2)),
        ("mv", (2, 3), (2,)),
        ("mv", (3,), (3,)),
        ("dot", (2,), (3,)),
        ("dot", (2, 2), (2, 2)),
        ("inner", (2,), (3,)),
        ("outer", (2, 1), (3,)),
    ],
)
def test_named_forms_refuse_other_shapes(name, x, y):
    with pytest.raises(RuntimeError):
        getattr(torch, name)(torch.ones(x), torch.ones(y))
    with pytest.raises(nano.errors.ShapeError):
        getattr(nano, name)(nano.ones(x), nano.ones(y))


def test_dtypes_must_be_equal():
    for name in ("matmul", "mm"):
        with pytest.raises(RuntimeError, match=rf"\[{name}\].*float32 and nano.float64"):
            getattr(nano, name)(nano.ones(2, 2), nano.ones(2, 2, dtype=nano.float64))
    with pytest.raises(RuntimeError, match="booleans"):
        nano.ones(2, 2, dtype=nano.bool) @ nano.ones(2, 2, dtype=nano.bool)
    with pytest.raises(RuntimeError, match="float64"):
        linear(nano.ones(2, 2), nano.ones(2, 2), nano.ones(2, dtype=nano.float64))
    for m in (nano, torch):
        with pytest.raises(RuntimeError):
            m.addmm(m.ones(2, 2, dtype=m.float64), m.ones(2, 2), m.ones(2, 2))


def test_operator_and_what_is_no_operand():
    with pytest.raises(TypeError):
        nano.ones(2, 2) @ 3.0
    with pytest.raises(TypeError, match="other must be a Tensor"):
        nano.matmul(nano.ones(2, 2), [1.0])
    x = nano.ones(2, 2)
    y = x
    y @= nano.ones(2, 2)
    assert y.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert x.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_beta_zero_looks_not_at_the_input():
    nothing = nano.full((1, 1), float("nan"))
    assert nano.addmm(nothing, nano.ones(1, 1), nano.ones(1, 1), beta=0).item() == 1.0


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [((2, 3), (3, 2), None), ((2, 3), (2, 3), (3,)), ((), (2, 3), None), ((2, 3), (2, 3), (2, 2))],
)
def test_linear_refuses(x, weight, bias):
    with pytest.raises(nano.errors.ShapeError, match=r"\[linear\]"):
        linear(nano.ones(x), nano.ones(weight), None if bias is None else nano.ones(bias))


def test_linear_computes_no_gradient_that_is_not_wanted():
    x, w, b = nano.randn(4, 3), nano.randn(2, 3, requires_grad=True), nano.randn(2)
    y = linear(x, w, b)
    assert [f is None for f, _ in y.grad_fn.next_functions] == [True, False, True]
    y.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), np.tile(x.numpy().sum(0), (2, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk", [(2, 3), (2, 3)]),
        ("ij->k", [(2, 3)]),
        ("ij,jk->ik", [(2, 3)]),
        ("ijk->i", [(2, 3)]),
        ("ij->i", [(2, 3, 4)]),
        ("i1->i", [(2, 3)]),
        ("ii->i", [(2, 3)]),
        ("ij->ii", [(2, 3)]),
        ("......->...", [(2, 3)]),
        ("ij->i->j", [(2, 3)]),
    ],
)
def test_wrong_equations(equation, shapes):
    with pytest.raises(RuntimeError):
        torch.einsum(equation, *[torch.ones(s) for s in shapes])
    with pytest.raises(nano.errors.ShapeError, match=r"\[einsum\]"):
        nano.einsum(equation, *[nano.ones(s) for s in shapes])


def test_einsum_of_integers_and_of_a_list():
    a, b = nano.tensor([[1, 2], [3, 4]]), nano.tensor([1, 10])
    assert nano.einsum("ij,j->i", [a, b]).tolist() == [21, 43]
    with pytest.raises(RuntimeError, match="one dtype"):
        nano.einsum("ij,j->i", a, b.float())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_matmul_broadcasts_like_pytorch(data):
    n, k, m = (data.draw(st.integers(0, 3)) for _ in range(3))
    batch = data.draw(st.lists(st.integers(0, 3), max_size=2))
    shapes = []
    for matrix in ([n, k], [k, m]):
        kept = batch[data.draw(st.integers(0, len(batch))) :]
        shapes.append([1 if data.draw(st.booleans()) else size for size in kept] + matrix)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in shapes]
    ours = [nano.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, expected = ours[0] @ ours[1], theirs[0] @ theirs[1]
    assert_same(out, expected, (1e-12, 1e-12))
    out.sum().backward()
    expected.sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine.grad, other.grad, (1e-12, 1e-12))
