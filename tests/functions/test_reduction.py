"""Sums, means, products, variances, norms; largest, smallest and middle values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nano

from .harness import EVERY, FLOATS, INTEGERS, WIDE, Case, assert_same, operator_tests, to_array

# PyTorch warns where it divides by 0; nano leaves it at the NaN.
pytestmark = pytest.mark.filterwarnings("ignore:.*degrees of freedom.*")

NAN, INF = float("nan"), float("inf")
NUMBERS = (*FLOATS, *INTEGERS)


def forms(name, *, dtypes=FLOATS, several=True, **options):
    """The case of a reduction in each of its forms."""

    def case(label, call, shape=(2, 3, 4), dtypes=("float64", "float32"), **more):
        return Case(f"{name} {label}", call, shapes=[shape], dtypes=dtypes, **{**options, **more})

    f = lambda m: getattr(m, name)  # noqa: E731
    made = [
        case("all", lambda m, x: f(m)(x), dtypes=dtypes),
        case("dim", lambda m, x: f(m)(x, 1), dtypes=dtypes),
        case("negative dim keepdim", lambda m, x: f(m)(x, dim=-2, keepdim=True)),
        case("0-d", lambda m, x: f(m)(x), shape=()),
        case("one", lambda m, x: f(m)(x, 0), shape=(1, 3)),
        case("empty result", lambda m, x: f(m)(x, 1), shape=(0, 3)),
        case("large", lambda m, x: f(m)(x, 1), shape=(70, 70), gradgrad=False),
    ]
    if several:
        made += [
            case("dims", lambda m, x: f(m)(x, (0, -1))),
            case("dims keepdim", lambda m, x: f(m)(x, (0, 2), keepdim=True)),
        ]
    return made


def ties(rng):
    return [np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])]


def zeros(rng):
    return [np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 2.0], [0.5, 2.0, -1.0]])]


CASES = [
    *forms("sum", dtypes=EVERY),
    *forms("mean"),
    *forms("prod", dtypes=EVERY, several=False),
    *[c for c in forms("var") if "one" not in c.name and "0-d" not in c.name],
    *[c for c in forms("std") if "one" not in c.name and "0-d" not in c.name],
    *[c for c in forms("logsumexp", dtypes=EVERY) if c.name[10:] not in ("all", "0-d")],
    *forms("amax", dtypes=EVERY),
    *forms("amin", dtypes=EVERY),
    *forms("max", dtypes=EVERY, several=False),
    *forms("min", dtypes=EVERY, several=False),
    *forms("median", dtypes=NUMBERS, several=False),
    Case("norm all", lambda m, x: m.norm(x)),
    Case("norm dims", lambda m, x: m.norm(x, dim=(0, 1), keepdim=True)),
    Case("norm dtype", lambda m, x: m.norm(x, 2, -1, dtype=m.float64)),
    *forms("all", dtypes=EVERY, grad=False),
    *forms("any", dtypes=EVERY, grad=False),
    *forms("argmax", dtypes=NUMBERS, several=False, grad=False),
    *forms("argmin", dtypes=NUMBERS, several=False, grad=False),
    Case("sum empty", lambda m, x: m.sum(x, 1), shapes=[(2, 0)]),
    Case("prod empty", lambda m, x: m.prod(x, 1), shapes=[(2, 0)]),
    Case("mean empty", lambda m, x: m.mean(x, 1), shapes=[(2, 0)], grad=False),
    Case("all empty", lambda m, x: m.all(x, 1), shapes=[(2, 0)], grad=False),
    Case("logsumexp empty", lambda m, x: m.logsumexp(x, 1), shapes=[(2, 0)], grad=False),
    Case("sum dtype", lambda m, x: m.sum(x, 0, dtype=m.float64), dtypes=EVERY),
    Case("sum int dtype", lambda m, x: m.sum(x, dtype=m.int32), dtypes=EVERY, grad=False),
    Case(
        "mean dtype",
        lambda m, x: m.mean(x, dtype=m.float32),
        dtypes=("int64", "float16"),
        grad=False,
    ),
    Case("sum axis", lambda m, x: m.sum(x, axis=0, keepdims=True)),
    Case("prod zeros", lambda m, x: m.prod(x, 1), arrays=zeros),
    Case("prod zeros all", lambda m, x: m.prod(x), arrays=zeros),
    Case("prod middle", lambda m, x: m.prod(x, 1), shapes=[(2, 3, 2)]),
    Case("prod middle zeros", lambda m, x: m.prod(x * 0.0, 1), shapes=[(2, 2, 2)]),
    Case("var correction", lambda m, x: m.var(x, 1, correction=0)),
    Case("var half", lambda m, x: m.var(x, 1, correction=0.5)),
    Case("std biased", lambda m, x: m.std(x, 1, unbiased=False)),
    Case("std old form", lambda m, x: m.std(x, False)),
    Case("var_mean", lambda m, x: m.var_mean(x, 1, keepdim=True)),
    Case("std_mean", lambda m, x: m.std_mean(x, 0)),
    Case("amax ties", lambda m, x: m.amax(x, 1), arrays=ties, grad=False),
    Case("count_nonzero", lambda m, x: m.count_nonzero(x, 1), dtypes=EVERY, grad=False),
    *[
        Case(f"norm p={p}", lambda m, x, p=p: m.norm(x, p, 1), dtypes=WIDE, low=0.3)
        for p in (1, 2, 3, 0.5, 1.5, INF, -INF)
    ],
    Case("norm zero", lambda m, x: m.norm(x, 0, 1), grad=False),
]

TestReductions = operator_tests(CASES)


def both(values, dtype="float32"):
    ours = nano.tensor(values, dtype=getattr(nano, dtype))
    theirs = torch.tensor(values, dtype=getattr(torch, dtype))
    return ours.requires_grad_(), theirs.requires_grad_()


@pytest.mark.parametrize("values", [[[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], [1.0, NAN, 2.0, NAN]])
@pytest.mark.parametrize("name", ["max", "min", "amax", "amin", "median"])
@pytest.mark.parametrize("dim", [None, -1])
def test_ties_and_nan_get_pytorchs_gradient(name, values, dim):
    x, y = both(values)
    arguments = () if dim is None else (dim,)
    ours, theirs = getattr(nano, name)(x, *arguments), getattr(torch, name)(y, *arguments)
    if name in ("max", "min", "median") and dim is not None:
        np.testing.assert_array_equal(ours.values.detach(), theirs.values.detach())
        if name != "median":  # which of equal ones PyTorch's median names is not defined
            assert ours.indices.tolist() == theirs.indices.tolist()
            ours.values.sum().backward()
            theirs.values.sum().backward()
            assert_same(x.grad, y.grad, (0, 0))
        return
    ours.sum().backward()
    theirs.sum().backward()
    np.testing.assert_array_equal(to_array(ours), to_array(theirs))
    assert_same(x.grad, y.grad, (1e-7, 0))


SPECIAL = [
    [INF, 1.0, 2.0],
    [-INF, 1.0, 2.0],
    [INF, -INF, 1.0],
    [NAN, 1.0, 2.0],
    [-INF, -INF, -INF],
    [INF, INF, 1.0],
    [0.0, 0.0, 0.0],
    [2.0, 2.0, 2.0],
    [3e38, 3e38, 1.0],
]


@pytest.mark.parametrize("values", SPECIAL, ids=str)
@pytest.mark.parametrize(
    "name",
    ["sum", "mean", "prod", "var", "std", "logsumexp", "norm", "amax", "amin", "max", "min", "all"],
)
def test_special_values(name, values):
    x, y = both(values)
    arguments = (0,) if name in ("logsumexp", "var", "std") else ()
    ours, theirs = getattr(nano, name)(x, *arguments), getattr(torch, name)(y, *arguments)
    np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1e-6)
    if ours.requires_grad:
        ours.backward()
        theirs.backward()
        np.testing.assert_allclose(x.grad, y.grad, rtol=1e-6)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, INF])
def test_norm_at_zero(p):
    x, y = both([0.0, 0.0])
    nano.norm(x, p).backward()
    torch.norm(y, p).backward()
    np.testing.assert_array_equal(x.grad, y.grad)


@pytest.mark.parametrize("correction", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["var", "std"])
def test_few_elements(name, correction):
    for values in ([1.0], [1.0, 3.0]):
        x, y = both(values)
        ours = getattr(nano, name)(x, 0, correction=correction)
        theirs = getattr(torch, name)(y, 0, correction=correction)
        np.testing.assert_allclose(ours.item(), theirs.item(), rtol=1e-6)
        ours.backward()
        theirs.backward()
        np.testing.assert_allclose(x.grad, y.grad, rtol=1e-6)


def test_median_is_the_lower_one():
    t = nano.tensor([[5, 1, 4, 2], [3, 3, 0, 9]])
    values, indices = t.median(dim=1, keepdim=True)
    assert values.tolist() == [[2], [3]]
    assert nano.equal(t.gather(1, indices), values)
    assert t.median().item() == torch.tensor(t.numpy()).median().item()
    assert np.isnan(nano.median(nano.tensor([])).item())


def test_max_of_two_tensors():
    a, b = nano.tensor([1.0, 5.0]), nano.tensor([3.0, 2.0])
    assert nano.max(a, b).tolist() == [3.0, 5.0]
    assert nano.min(a, other=b).tolist() == [1.0, 2.0]
    assert a.max(b).tolist() == [3.0, 5.0]


def test_values_and_indices_have_names():
    result = nano.tensor([[1.0, 4.0], [3.0, 2.0]]).max(dim=1)
    assert result.values.tolist() == [4.0, 3.0]
    assert result.indices.tolist() == [1, 0]
    assert result.indices.dtype is nano.int64
    assert not nano.ones(2, requires_grad=True).max(0).indices.requires_grad


def test_changed_indices_do_no_harm():
    x = nano.tensor([[1.0, 2.0]], requires_grad=True)
    for keepdim in (False, True):
        x.grad = None
        values, indices = x.max(1, keepdim)
        indices.fill_(0)
        values.sum().backward()
        assert x.grad.tolist() == [[0.0, 1.0]]


def test_no_dims_means_all_of_them_except_for_questions():
    t, u = nano.ones(2, 3), torch.ones(2, 3)
    for name in ("sum", "mean", "amax", "all", "any"):
        assert_same(getattr(nano, name)(t, dim=()), getattr(torch, name)(u, dim=()), (0, 0))


def test_a_gradient_that_was_spread_can_be_written_to():
    for n in (3, 5000):
        x = nano.ones(n, requires_grad=True)
        x.sum().backward()
        x.grad.mul_(2.0)
        assert x.grad.tolist() == [2.0] * n


EMPTY, SQUARE = (2, 0), (2, 3)
WRONG = [
    ("sum", SQUARE, {"dim": 2}),
    ("sum", SQUARE, {"dim": (0, -2)}),
    ("sum", SQUARE, {"dim": "a"}),
    ("mean", SQUARE, {"dim": -3}),
    ("max", EMPTY, {}),
    ("max", EMPTY, {"dim": 1}),
    ("max", SQUARE, {"dim": 2}),
    ("max", SQUARE, {"dim": 0, "keepdim": 1}),
    ("amax", EMPTY, {}),
    ("amin", EMPTY, {"dim": 1}),
    ("argmax", EMPTY, {}),
    ("argmin", EMPTY, {"dim": 1}),
    ("argmin", SQUARE, {"dim": 7}),
    ("median", EMPTY, {"dim": 1}),
    ("prod", SQUARE, {"dim": (0, 1)}),
    ("norm", EMPTY, {"p": INF}),
    ("norm", EMPTY, {"p": INF, "dim": 1}),
]


@pytest.mark.parametrize(("name", "shape", "arguments"), WRONG, ids=str)
def test_errors_have_pytorchs_types(name, shape, arguments):
    with pytest.raises(Exception) as theirs:
        getattr(torch, name)(torch.ones(shape), **arguments)
    kinds = (TypeError, IndexError, RuntimeError, ValueError)
    kind = next(k for k in kinds if isinstance(theirs.value, k))
    with pytest.raises(kind, match=rf"\[{name}\]") as ours:
        getattr(nano, name)(nano.ones(shape), **arguments)
    assert isinstance(ours.value, nano.errors.NanoError)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *[(n, d) for n in ("mean", "var", "std", "norm") for d in ("int64", "bool")],
        *[(n, "bool") for n in ("argmax", "argmin", "median")],
    ],
)
def test_dtypes_that_are_refused(name, dtype):
    with pytest.raises(RuntimeError):
        getattr(torch, name)(torch.ones(2, dtype=getattr(torch, dtype)))
    with pytest.raises(RuntimeError, match=name):
        getattr(nano, name)(nano.ones(2, dtype=getattr(nano, dtype)))


def test_two_names_for_one_argument():
    with pytest.raises(TypeError, match="same argument"):
        nano.ones(2, 3).sum(dim=0, axis=1)
    with pytest.raises(TypeError, match="same"):
        nano.ones(2, 3).var(unbiased=True, correction=1)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "argmax", "all", "prod", "std", "median"])
def test_not_a_tensor(name):
    with pytest.raises(TypeError, match="must be a Tensor, got list"):
        getattr(nano, name)([1.0])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_shape_and_any_dims(data):
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    dims = data.draw(st.lists(st.integers(0, max(len(shape) - 1, 0)), unique=True, max_size=4))
    dims = [d - len(shape) if shape and data.draw(st.booleans()) else d for d in dims]
    keepdim = data.draw(st.booleans())
    if not shape and dims:
        dims = [0]
    name = data.draw(st.sampled_from(["sum", "mean", "var", "all", "any"]))
    a = np.random.default_rng(0).normal(size=shape)
    arguments = {"dim": tuple(dims), "keepdim": keepdim} if dims else {}
    ours = getattr(nano, name)(nano.tensor(a, requires_grad=True), **arguments)
    x = torch.tensor(a, requires_grad=True)
    theirs = getattr(torch, name)(x, **arguments)
    assert_same(ours, theirs, (1e-12, 1e-12))


def test_a_dim_may_be_a_0d_tensor_but_no_bool():
    x = nano.ones(2, 3)
    assert x.sum(nano.tensor(1)).tolist() == [3.0, 3.0]
    for call in (lambda: x.sum(True), lambda: x.argmax(True), lambda: x.sum((True,))):
        with pytest.raises(TypeError, match="dim must be an integer"):
            call()


@pytest.mark.parametrize("name", ["var_mean", "std_mean"])
@pytest.mark.parametrize("args", [(), (False,), (1, False, True), (1, True)])
def test_spread_and_mean(name, args):
    x = np.arange(6.0).reshape(2, 3) ** 2
    ours = getattr(nano, name)(nano.tensor(x), *args)
    theirs = getattr(torch, name)(torch.tensor(x), *args)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == tuple(b.shape)
        np.testing.assert_allclose(a.numpy(), b.numpy())  # float64: rounding only
