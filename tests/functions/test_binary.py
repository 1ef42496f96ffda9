"""Arithmetic of two operands."""

import operator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nano

from .harness import EVERY, FLOATS, INTEGERS, Case, assert_same, operator_tests, to_array

NAN, INF = float("nan"), float("inf")
NUMBERS = (*FLOATS, *INTEGERS)
NAMES = ("add", "sub", "mul", "div", "pow", "floor_divide", "remainder", "fmod")
OPERATORS = ("add", "sub", "mul", "truediv", "pow", "floordiv", "mod")


def away_from_zero(rng, *shapes):
    return [rng.uniform(0.5, 2.5, s) * rng.choice([-1, 1], s) for s in shapes]


def two(name, *shapes, label="", **options):
    return Case(
        f"{name} {label or shapes}", lambda m, x, y: getattr(m, name)(x, y), shapes, **options
    )


def divided(name, *shapes, low=1.0, **options):
    """Divisors and divided numbers that stay away from 0 and from the jumps."""

    def draw(rng):
        y = rng.uniform(low, low + 2, shapes[1])
        return [rng.integers(-3, 4, shapes[0]) * 1.0 + 0.3, y]

    return Case(f"{name} {shapes}", lambda m, x, y: getattr(m, name)(x, y), arrays=draw, **options)


SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((0, 3), (3,)), ((), ())]

CASES = [
    *[two("add", *s, dtypes=EVERY) for s in SHAPES],
    *[two("sub", *s, dtypes=NUMBERS) for s in SHAPES],
    *[two("mul", *s, dtypes=EVERY) for s in SHAPES],
    *[two("div", *s, low=0.5, dtypes=NUMBERS) for s in SHAPES],
    *[two("pow", *s, low=0.5, dtypes=NUMBERS) for s in SHAPES],
    *[two("maximum", *s, dtypes=EVERY) for s in SHAPES],
    *[two("minimum", *s, dtypes=EVERY) for s in SHAPES],
    *[divided("floor_divide", *s, dtypes=("float64", *INTEGERS), grad=False) for s in SHAPES],
    *[divided("remainder", *s, dtypes=("float64", *INTEGERS)) for s in SHAPES],
    *[divided("fmod", *s, dtypes=("float64", *INTEGERS)) for s in SHAPES],
    Case("add alpha", lambda m, x, y: m.add(x, y, alpha=2), [(2,), (2,)], dtypes=NUMBERS),
    Case("sub alpha", lambda m, x, y: m.sub(x, y, alpha=0.5), [(2,), (2,)]),
    *[
        Case(
            f"div {mode}",
            lambda m, x, y, mode=mode: m.div(x, y, rounding_mode=mode),
            arrays=lambda rng: away_from_zero(rng, (3, 4), (3, 4)),
            dtypes=("float64", "float32", *INTEGERS),
            grad=False,
        )
        for mode in ("floor", "trunc")
    ],
    *[
        Case(
            f"{name} {number!r} on the {side}",
            (lambda m, x, o=op, n=number: o(x, n))
            if side == "right"
            else (lambda m, x, o=op, n=number: o(n, x)),
            low=0.3,
            high=1.8,
            dtypes=("float64", "float32", "int64") if name != "pow" else ("float64", "float32"),
            grad=name not in ("floordiv", "mod"),
        )
        for name in OPERATORS
        for op in [getattr(operator, name)]
        for number in (2, 2.5)
        for side in ("right", "left")
        if not (name in ("floordiv", "mod", "truediv") and side == "left")
    ],
    Case("square by power", lambda m, x: x**2),
    Case("cube by power", lambda m, x: x**3),
    Case("power zero", lambda m, x: x**0, gradgrad=False),
    Case("number over x", lambda m, x: 2 / x, low=0.5),
    Case("number floordiv", lambda m, x: 7 // x, low=1.0, high=3.0, grad=False),
]

TestBinary = operator_tests(CASES)


def values_of(dtype, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 4, 6)
    return (values % 2 if dtype == "bool" else values).tolist()


def tensors(m, dtypes, ndims):
    made = []
    for seed, (dtype, ndim) in enumerate(zip(dtypes, ndims, strict=True)):
        values = values_of(dtype, seed)
        made.append(m.tensor(values if ndim else 1, dtype=getattr(m, dtype)))
    return made


def outcome(call, *arguments):
    """The result, or the error."""
    try:
        return call(*arguments)
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        return error


def compare(ours, theirs, what):
    """Same result, or both an error that a handler for the other's would catch."""
    assert isinstance(ours, Exception) == isinstance(theirs, Exception), (what, ours, theirs)
    if isinstance(ours, Exception):
        kinds = (RuntimeError, TypeError, ValueError)
        assert [isinstance(ours, k) for k in kinds] == [isinstance(theirs, k) for k in kinds], what
        return
    try:
        assert_same(ours, theirs, (1e-2, 1e-3))
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None


@pytest.mark.parametrize("name", [*NAMES, "maximum", "minimum"])
@pytest.mark.parametrize("ndims", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_every_pair_of_dtypes(name, ndims):
    for a in EVERY:
        for b in EVERY:
            if name not in ("add", "mul", "maximum", "minimum") and b == "bool":
                continue  # a divisor False is an error of its own, below
            ours = outcome(getattr(nano, name), *tensors(nano, (a, b), ndims))
            theirs = outcome(getattr(torch, name), *tensors(torch, (a, b), ndims))
            compare(ours, theirs, (name, a, b, ndims))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("number", [True, 2, 2.5])
@pytest.mark.parametrize("ndim", [0, 1])
def test_every_dtype_with_a_number(name, number, ndim):
    op = getattr(operator, name)
    for dtype in EVERY:
        if (name, number, dtype) == ("pow", True, "bool"):
            continue  # PyTorch takes this one power of booleans, and no other
        x, y = tensors(nano, (dtype,), (ndim,))[0], tensors(torch, (dtype,), (ndim,))[0]
        compare(outcome(op, x, number), outcome(op, y, number), (name, dtype))
        if dtype != "bool" or name in ("add", "mul"):
            compare(outcome(op, number, x), outcome(op, number, y), (name, dtype))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("other", ["float64", "float32", "int64", "uint8", "bool", 2, 2.5, True])
def test_in_place_forms(name, other):
    op = getattr(operator, f"i{name}")
    for dtype in EVERY:
        if other == "bool" and name not in ("add", "mul", "sub"):
            continue
        if (name, other, dtype) == ("pow", True, "bool"):
            continue  # PyTorch takes this one power of booleans, and no other

        def run(m, dtype=dtype):
            x = m.tensor(values_of(dtype, 0), dtype=getattr(m, dtype))
            y = other
            if isinstance(other, str):
                y = m.tensor(values_of(other, 1), dtype=getattr(m, other))
            z = op(x, y)
            assert z is x
            return x

        compare(outcome(run, nano), outcome(run, torch), (name, dtype, other))


def test_in_place_methods():
    for name in NAMES:
        x, y = nano.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])
        assert getattr(x, f"{name}_")(2.0) is x
        assert_same(x, getattr(y, f"{name}_")(2.0), (1e-6, 0))


def test_in_place_result_must_fit():
    with pytest.raises(RuntimeError, match="does not fit"):
        nano.ones(3).add_(nano.ones(2, 3))
    with pytest.raises(RuntimeError, match="can't be cast"):
        nano.ones(3, dtype=nano.int64).mul_(0.5)


GRID = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, INF, -INF, NAN, 1e30, -1e-30]


@pytest.mark.parametrize("name", [*NAMES, "maximum", "minimum"])
def test_special_values(name):
    # Of 1e30 / 1e-30, PyTorch's vectorised remainder is NaN, its scalar one is not.
    grid = GRID[:-2] if name in ("remainder", "fmod") else GRID
    a, b = np.meshgrid(np.float32(grid), np.float32(grid))
    ours = getattr(nano, name)(nano.tensor(a), nano.tensor(b))
    theirs = getattr(torch, name)(torch.tensor(a), torch.tensor(b))
    np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1e-6)


@pytest.mark.parametrize("mode", ["floor", "trunc"])
def test_special_values_of_rounded_division(mode):
    a, b = np.meshgrid(np.float32(GRID), np.float32(GRID))
    ours = nano.div(nano.tensor(a), nano.tensor(b), rounding_mode=mode)
    theirs = torch.div(torch.tensor(a), torch.tensor(b), rounding_mode=mode)
    np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1e-6)


@pytest.mark.parametrize("name", ["div", "pow", "maximum", "minimum", "mul"])
def test_gradients_at_special_places(name):
    pairs = [(0.0, 2.0), (2.0, 0.0), (0.0, 0.0), (1.0, 1.0), (-1.0, 2.0), (0.0, 1.0), (0.0, 3.0)]
    a, b = np.float32(pairs).T
    x, y = nano.tensor(a, requires_grad=True), nano.tensor(b, requires_grad=True)
    p, q = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    getattr(nano, name)(x, y).sum().backward()
    getattr(torch, name)(p, q).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(y.grad.numpy(), q.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -1, -1.5, 0.0])
def test_gradient_of_a_power_at_zero(exponent):
    values = [0.0, 1.0, 2.0]
    x, y = nano.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    (x**exponent).sum().backward()
    (y**exponent).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("base", [0.0, 2.0, 2, -1.5])
def test_gradient_of_a_number_to_a_power(base):
    values = [0.0, 1.0, 2.0]
    x, y = nano.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    (base**x).sum().backward()
    (base**y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_divided_by_zero(name, dtype):
    x = nano.ones(2, dtype=getattr(nano, dtype))
    for zero in (0, nano.zeros(2, dtype=x.dtype)):
        with pytest.raises(RuntimeError, match="divided by zero"):
            getattr(nano, name)(x, zero)
    assert (x / 0).tolist() == [INF, INF]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap_around(dtype):
    info = np.iinfo(dtype)
    values = [info.max, info.min, 1]
    x = nano.tensor(values, dtype=getattr(nano, dtype))
    y = torch.tensor(values, dtype=getattr(torch, dtype))
    for op in (operator.add, operator.mul, operator.sub):
        assert op(x, 2).tolist() == op(y, 2).tolist()
        assert op(x, 300).tolist() == op(y, 300).tolist()
    for op in (operator.floordiv, operator.mod):
        assert op(x, 3).tolist() == op(y, 3).tolist()


def test_arrays_and_numpy_numbers():
    t = nano.tensor([1.0, 2.0])
    assert (t * np.float64(2)).dtype is nano.float32
    assert (np.float64(2) * t).tolist() == [2.0, 4.0]
    assert isinstance(np.float32(2) + t, nano.Tensor)
    assert (t + np.int64(1)).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("name", [*NAMES, "maximum", "minimum"])
def test_shapes_that_do_not_fit(name):
    with pytest.raises(RuntimeError, match=rf"\[{name}\] shapes \(2,\) and \(3,\) cannot"):
        getattr(nano, name)(nano.ones(2), nano.ones(3))


def test_what_is_no_operand():
    for name in OPERATORS:
        with pytest.raises(TypeError):
            getattr(operator, name)(nano.ones(2), "a")
        with pytest.raises(TypeError):
            getattr(operator, name)([1.0], nano.ones(2))
    with pytest.raises(TypeError, match="operands must be Tensors or numbers, got list"):
        nano.add(nano.ones(2), [1.0])
    with pytest.raises(TypeError, match="other must be a Tensor"):
        nano.maximum(nano.ones(2), 1.0)


def test_refused_arguments():
    with pytest.raises(RuntimeError, match="negative integer powers"):
        nano.tensor([2]) ** -1
    with pytest.raises(RuntimeError, match="alpha must be an integer"):
        nano.add(nano.tensor([2]), nano.tensor([2]), alpha=0.5)
    with pytest.raises(RuntimeError, match="subtracted"):
        nano.tensor([True]) - nano.tensor([True])
    with pytest.raises(RuntimeError, match="rounding_mode"):
        nano.div(nano.ones(1), 2, rounding_mode="up")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_broadcasting(data):
    shape = data.draw(st.lists(st.integers(0, 3), max_size=4))
    shapes = []
    for _ in range(2):
        kept = shape[data.draw(st.integers(0, len(shape))) :]
        shapes.append([1 if data.draw(st.booleans()) else n for n in kept])
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in shapes]
    name = data.draw(st.sampled_from(["add", "sub", "mul", "div", "maximum"]))
    ours = [nano.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, expected = getattr(nano, name)(*ours), getattr(torch, name)(*theirs)
    assert_same(out, expected, (1e-12, 1e-12))
    out.sum().backward()
    expected.sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert_same(mine.grad, other.grad, (1e-10, 1e-10))


def test_two_numbers_make_a_tensor():
    for name in ("add", "sub", "mul", "div", "floor_divide"):
        assert_same(getattr(nano, name)(7, 2), getattr(torch, name)(7, 2), (0, 0))


def test_a_number_of_numpy_has_no_width():
    for value in (np.float64(2), np.float32(2), np.int64(2)):
        ours, theirs = nano.tensor([1, 2]) * value, torch.tensor([1, 2]) * value
        assert_same(ours, theirs, (0, 0))


def test_arrays_in_operators():
    x = y = nano.tensor([1.0, 2.0])
    x += np.ones(2, np.float32)
    assert x is y
    assert x.tolist() == [2.0, 3.0]
    assert isinstance(nano.ones(2) @ np.ones(2, np.float32), nano.Tensor)


def test_integers_to_negative_powers_in_a_tensor():
    base, power = [1, -1, -1, 0, 2, 3], [-3, -3, -2, -1, -1, 2]
    assert_same(
        nano.pow(nano.tensor(base), nano.tensor(power)),
        torch.pow(torch.tensor(base), torch.tensor(power)),
        (0, 0),
    )
    assert nano.pow(-1, nano.tensor([-3, -2])).tolist() == [-1, 1]


def test_extremes_beside_nan_pass_the_gradient_to_both():
    for name in ("maximum", "minimum"):
        grads = []
        for m in (nano, torch):
            x = m.tensor([1.0, float("nan"), 2.0], requires_grad=True)
            y = m.tensor([float("nan"), 2.0, 2.0], requires_grad=True)
            getattr(m, name)(x, y).sum().backward()
            grads.append((x.grad.tolist(), y.grad.tolist()))
        assert grads[0] == grads[1]


def test_rounded_quotients_have_the_gradient_zero():
    for mode in ("floor", "trunc"):
        x = nano.tensor([[5.0, -5.0]], requires_grad=True)
        y = nano.tensor([[2.0], [3.0]], requires_grad=True)
        nano.div(x, y, rounding_mode=mode).sum().backward()
        assert x.grad.tolist() == [[0.0, 0.0]]
        assert y.grad.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("number", [2**64, 2**70, -(2**63) - 1])
def test_integers_of_more_than_64_bits(number):
    for m in (nano, torch):
        t = m.arange(3)
        for compute in (lambda t, n: t + n, lambda t, n: t == n, lambda t, n: t.clamp(max=n)):
            with pytest.raises(OverflowError):
                compute(t, number)
        with pytest.raises(OverflowError):
            t += number
        assert t.tolist() == [0, 1, 2]


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63)])
def test_integers_of_64_bits_wrap_around(number):
    assert (nano.arange(3) + number).tolist() == (torch.arange(3) + number).tolist()
