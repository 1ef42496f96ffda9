"""Tensors out of nothing: constants, ranges, random numbers."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import nano

from .harness import EVERY, FLOATS, INTEGERS, assert_same

FILLED = ("zeros", "ones")


@pytest.mark.parametrize("name", FILLED)
@pytest.mark.parametrize("size", [(), (3,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("dtype", [None, *EVERY])
def test_zeros_and_ones(name, size, dtype):
    ours = getattr(nano, name)(size, dtype=dtype and getattr(nano, dtype))
    theirs = getattr(torch, name)(size, dtype=dtype and getattr(torch, dtype))
    assert_same(ours, theirs, (0, 0))
    assert_same(getattr(nano, name)(size=size, dtype=ours.dtype), theirs, (0, 0))
    if size:
        assert_same(getattr(nano, name)(*size, dtype=ours.dtype), theirs, (0, 0))


@pytest.mark.parametrize("value", [True, 3, -1, 2.5, math.inf])
@pytest.mark.parametrize("dtype", [None, "float32", "int64", "uint8", "bool", "bfloat16"])
def test_full(value, dtype):
    if (value == math.inf and dtype in ("int64", "uint8")) or (value == -1 and dtype == "uint8"):
        return
    ours = nano.full((2, 3), value, dtype=dtype and getattr(nano, dtype))
    theirs = torch.full((2, 3), value, dtype=dtype and getattr(torch, dtype))
    assert_same(ours, theirs, (0, 0))
    assert nano.full((2,), nano.tensor(3)).tolist() == [3, 3]


RANGES = [
    (5,),
    (0,),
    (2.5,),
    (1, 4),
    (4, 1, -1),
    (0, 1, 0.1),
    (1, 2, 0.25),
    (5, 5),
    (0, 10, 3),
    (10, 0, -3),
    (-3, 3),
    (0, -1, -0.3),
    (True,),
    (1.0, 6.0, 2),
]


@pytest.mark.parametrize("bounds", RANGES, ids=str)
@pytest.mark.parametrize("dtype", [None, *FLOATS, *INTEGERS])
def test_arange(bounds, dtype):
    if dtype == "uint8" and min(bounds) < 0:
        return
    if dtype in INTEGERS and any(0 < abs(b) < 1 for b in bounds):
        return  # the step would be cut to 0
    ours = nano.arange(*bounds, dtype=dtype and getattr(nano, dtype))
    theirs = torch.arange(*bounds, dtype=dtype and getattr(torch, dtype))
    assert_same(ours, theirs, (1e-6, 1e-6))


@pytest.mark.parametrize("bounds", [(0, 1, 5), (3, -2, 7), (1.5, 1.5, 3), (2, 9, 1), (0, 1, 0)])
@pytest.mark.parametrize("dtype", [None, *FLOATS, "int64", "int8"])
def test_linspace(bounds, dtype):
    ours = nano.linspace(*bounds, dtype=dtype and getattr(nano, dtype))
    theirs = torch.linspace(*bounds, dtype=dtype and getattr(torch, dtype))
    assert_same(ours, theirs, (8e-3, 8e-3) if dtype in FLOATS[2:] else (1e-6, 1e-6))


def test_linspace_meets_both_ends():
    t = nano.linspace(0.1, 0.7, 11)
    assert t[0].item() == np.float32(0.1)
    assert t[-1].item() == np.float32(0.7)


@pytest.mark.parametrize("size", [(3,), (2, 4), (4, 2), (0,), (0, 3)])
def test_eye(size):
    assert_same(nano.eye(*size), torch.eye(*size), (0, 0))


def test_default_dtype_and_gradients():
    nano.set_default_dtype(nano.float64)
    try:
        for t in (nano.zeros(1), nano.rand(1), nano.arange(1.0), nano.full((1,), 1.0), nano.eye(1)):
            assert t.dtype is nano.float64
        assert nano.arange(3).dtype is nano.int64
    finally:
        nano.set_default_dtype(nano.float32)
    for make in (nano.zeros, nano.ones, nano.rand, nano.randn, nano.uniform, nano.empty):
        t = make(2, requires_grad=True, device="cpu")
        assert t.requires_grad
        assert t.is_leaf


@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "full", "rand", "randn"])
def test_like(name):
    x = nano.ones(2, 3, dtype=nano.float64)
    value = (7,) if name == "full" else ()
    t = getattr(nano, f"{name}_like")(x, *value)
    assert t.shape == (2, 3)
    assert t.dtype is nano.float64
    assert getattr(nano, f"{name}_like")(x, *value, dtype=nano.float32).dtype is nano.float32
    with pytest.raises(TypeError, match=f"{name}_like"):
        getattr(nano, f"{name}_like")([1.0], *value)
    if name in ("zeros", "ones", "full"):
        theirs = getattr(torch, f"{name}_like")(torch.ones(2, 3, dtype=torch.float64), *value)
        assert_same(t, theirs, (0, 0))


def test_randint_like():
    t = nano.randint_like(nano.ones(50, dtype=nano.int8), 3, 5)
    assert t.dtype is nano.int8
    assert set(t.tolist()) == {3, 4}


def test_new_ones_of_a_tensor():
    x = nano.ones(2, dtype=nano.int16)
    assert x.new_zeros(2, 3).dtype is nano.int16
    assert x.new_ones((2,)).tolist() == [1, 1]
    assert x.new_full((2,), 5).tolist() == [5, 5]
    assert x.new_empty(4).shape == (4,)
    assert x.new_tensor([1, 2], dtype=nano.float32).dtype is nano.float32


REFUSED = [
    (RuntimeError, lambda m: m.zeros(-1)),
    (RuntimeError, lambda m: m.ones(2, -3)),
    (TypeError, lambda m: m.zeros("a")),
    (TypeError, lambda m: m.zeros(2.5)),
    (TypeError, lambda m: m.full((2,), "a")),
    (RuntimeError, lambda m: m.arange(3, 1)),
    (RuntimeError, lambda m: m.arange(0, 3, 0)),
    (RuntimeError, lambda m: m.arange(0, math.inf)),
    (RuntimeError, lambda m: m.linspace(0, 1, -1)),
    (TypeError, lambda m: m.linspace(0, 1, "a")),
    (RuntimeError, lambda m: m.eye(-1)),
    (RuntimeError, lambda m: m.zeros(2, dtype=m.int64, requires_grad=True)),
    (RuntimeError, lambda m: m.rand(2, dtype=m.int64)),
    (RuntimeError, lambda m: m.randn(2, dtype=m.int64)),
    (RuntimeError, lambda m: m.randint(3, 3, (2,))),
    (RuntimeError, lambda m: m.randint(300, (2,), dtype=m.uint8)),
    (TypeError, lambda m: m.randint(3)),
    (TypeError, lambda m: m.randint(0.5, 3, (2,))),
    (RuntimeError, lambda m: m.randperm(-1)),
    (RuntimeError, lambda m: m.normal(0.0, -1.0, (2,))),
    (RuntimeError, lambda m: m.normal(m.zeros(2), m.full((2,), -1.0))),
    (RuntimeError, lambda m: m.normal(m.zeros(2), m.ones(3))),
    (RuntimeError, lambda m: m.bernoulli(m.tensor([2.0]))),
    (RuntimeError, lambda m: m.bernoulli(m.tensor([1]))),
    (RuntimeError, lambda m: m.multinomial(m.zeros(2), 1)),
    (RuntimeError, lambda m: m.multinomial(m.tensor([1.0, -1.0]), 1)),
    (RuntimeError, lambda m: m.multinomial(m.ones(2), 3)),
    (RuntimeError, lambda m: m.multinomial(m.ones(2), 0)),
    (RuntimeError, lambda m: m.zeros(2).uniform_(1, 0)),
    (RuntimeError, lambda m: m.zeros(2).normal_(0, -1)),
    (RuntimeError, lambda m: m.zeros(2, dtype=m.int64).normal_()),
    (RuntimeError, lambda m: m.zeros(2).bernoulli_(2)),
    (RuntimeError, lambda m: m.zeros(2, requires_grad=True).normal_()),
    (TypeError, lambda m: m.set_rng_state(3)),
    (RuntimeError, lambda m: m.set_rng_state(m.zeros(3, dtype=m.uint8))),
    (TypeError, lambda m: m.rand(2, generator=3)),
]


@pytest.mark.parametrize(("kind", "call"), REFUSED)
def test_errors_have_pytorchs_types(kind, call):
    with pytest.raises(kind):
        call(torch)
    with pytest.raises(kind) as error:
        call(nano)
    assert isinstance(error.value, nano.errors.NanoError)


def test_only_the_cpu():
    with pytest.raises(RuntimeError, match="CPU only"):
        nano.zeros(2, device="cuda")


# Random numbers: what is drawn is tested against its distribution (Kolmogorov-Smirnov), with
# a fixed seed; a p-value below 1e-4 would have been bad luck once in 10,000 seeds.


def seeded(n=0):
    return nano.Generator().manual_seed(n)


def fits(sample, distribution):
    return stats.kstest(sample.double().numpy().ravel(), distribution).pvalue > 1e-4


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_distributions(dtype):
    options = {"dtype": getattr(nano, dtype)}
    n = (100, 100)
    assert fits(nano.rand(n, generator=seeded(), **options), stats.uniform.cdf)
    assert fits(nano.randn(n, generator=seeded(), **options), stats.norm.cdf)
    drawn = nano.uniform(*n, low=-2.0, high=3.0, generator=seeded(), **options)
    assert fits(drawn, stats.uniform(-2, 5).cdf)
    drawn = nano.gaussian(*n, mean=2.0, std=0.5, generator=seeded(), **options)
    assert fits(drawn, stats.norm(2, 0.5).cdf)
    assert fits(nano.normal(2.0, 0.5, n, generator=seeded()), stats.norm(2, 0.5).cdf)
    empty = nano.empty(n, **options)
    assert fits(empty.uniform_(-2, 3, generator=seeded()), stats.uniform(-2, 5).cdf)
    assert fits(empty.normal_(2, 0.5, generator=seeded()), stats.norm(2, 0.5).cdf)
    assert empty.dtype is options["dtype"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_draws_stay_below_one(dtype):
    t = nano.rand(50_000, dtype=getattr(nano, dtype), generator=seeded())
    assert t.float().max().item() < 1
    assert 0.48 < t.float().mean().item() < 0.52
    t = nano.uniform(50_000, low=1.0, high=1.01, dtype=getattr(nano, dtype), generator=seeded())
    assert t.float().max().item() < nano.tensor(1.01).to(t.dtype).item()
    assert (
        abs(nano.randn(50_000, dtype=t.dtype, generator=seeded()).float().std().item() - 1) < 0.02
    )


def test_normal_with_tensors():
    mean = nano.tensor([0.0, 100.0, -100.0])
    drawn = nano.normal(mean, 1.0, generator=seeded())
    assert nano.isclose(drawn, mean, rtol=0, atol=6).all()
    assert nano.normal(1.0, nano.zeros(2, 2)).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert nano.normal(nano.zeros(2, 1), nano.ones(3)).shape == (2, 3)
    with pytest.raises(TypeError, match="size"):
        nano.normal(0.0, 1.0)


def test_whole_numbers():
    drawn = nano.randint(-2, 3, (5000,), generator=seeded())
    values, counts = np.unique(drawn.numpy(), return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    assert stats.chisquare(counts).pvalue > 1e-4
    assert drawn.dtype is nano.int64
    assert nano.randint(5, (2, 3)).shape == (2, 3)
    assert nano.randint(low=0, high=2, size=(2,), dtype=nano.float32).dtype is nano.float32
    assert sorted(nano.randperm(20).tolist()) == list(range(20))
    assert nano.randperm(0).tolist() == []
    assert nano.randperm(5, dtype=nano.int32).dtype is nano.int32


def test_bernoulli():
    p = nano.full((10_000,), 0.3)
    for drawn in (
        nano.bernoulli(p, generator=seeded()),
        nano.zeros(10_000).bernoulli_(0.3, generator=seeded()),
        nano.zeros(10_000).bernoulli_(p, generator=seeded()),
        nano.bernoulli(nano.zeros(10_000), 0.3, generator=seeded()),
    ):
        assert set(drawn.tolist()) == {0.0, 1.0}
        assert abs(drawn.mean().item() - 0.3) < 0.02
    assert nano.zeros(2, dtype=nano.int64).bernoulli_(1.0).tolist() == [1, 1]


def test_multinomial():
    weights = nano.tensor([1.0, 0.0, 3.0, 4.0])
    drawn = nano.multinomial(weights, 8000, replacement=True, generator=seeded())
    counts = np.bincount(drawn.numpy(), minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], [1000, 3000, 4000]).pvalue > 1e-4
    rows = nano.tensor([[1.0, 0.0, 3.0, 4.0]] * 4000)
    drawn = nano.multinomial(rows, 3, generator=seeded())
    assert drawn.shape == (4000, 3)
    assert (np.sort(drawn.numpy(), 1) == [0, 2, 3]).all()
    first = np.bincount(drawn.numpy()[:, 0], minlength=4)
    assert stats.chisquare(first[[0, 2, 3]], [500, 1500, 2000]).pvalue > 1e-4


@pytest.mark.parametrize("a", [0.0, 0.5])
def test_kaiming_uniform(a):
    w = nano.kaiming_uniform(200, 10, 3, 3, a=a, generator=seeded())
    bound = math.sqrt(6 / ((1 + a * a) * 90))
    assert w.shape == (200, 10, 3, 3)
    assert fits(w, stats.uniform(-bound, 2 * bound).cdf)
    ours = torch.empty(200, 10, 3, 3)
    torch.nn.init.kaiming_uniform_(ours, a=a)
    assert abs(ours.abs().max().item() - w.abs().max().item()) < 1e-3
    with pytest.raises(ValueError, match="at least one input"):
        nano.kaiming_uniform(3)


def test_in_place_draws_forget_the_past():
    x = nano.ones(2, requires_grad=True)
    y = x * 2
    y.normal_()
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0]
    z = nano.zeros(2)
    assert z.uniform_(**{"from": 3, "to": 4}) is z
    assert (z >= 3).all()
    with pytest.raises(TypeError, match="unknown"):
        z.uniform_(form=3)


def test_seeds_and_states():
    nano.manual_seed(3)
    state = nano.get_rng_state()
    assert state.dtype is nano.uint8
    first = [nano.rand(2), nano.randn(2), nano.randint(9, (5,)), nano.randperm(5)]
    nano.manual_seed(3)
    second = [nano.rand(2), nano.randn(2), nano.randint(9, (5,)), nano.randperm(5)]
    nano.set_rng_state(state)
    third = [nano.rand(2), nano.randn(2), nano.randint(9, (5,)), nano.randperm(5)]
    for a, b, c in zip(first, second, third, strict=True):
        assert nano.equal(a, b)
        assert nano.equal(a, c)
    assert not nano.equal(first[0], nano.rand(2))


@pytest.mark.parametrize("name", ["zeros", "ones", "empty", "rand", "randn"])
def test_a_size_is_needed_and_given_once(name):
    make = getattr(nano, name)
    with pytest.raises(TypeError, match="size is missing"):
        make()
    with pytest.raises(TypeError, match="given twice"):
        make(2, size=(2,))


@pytest.mark.parametrize("value", [300, -300, float("nan"), float("inf")])
def test_a_number_must_fit_the_dtype(value):
    t = nano.tensor([1, 2], dtype=nano.uint8)
    for call in (
        lambda: nano.full((2,), value, dtype=nano.uint8),
        lambda: nano.full_like(t, value),
        lambda: nano.tensor([1, value], dtype=nano.uint8),
        lambda: t.fill_(value),
        lambda: t.masked_fill(t == 1, value),
    ):
        with pytest.raises(RuntimeError, match="cannot be converted"):
            call()
    assert t.tolist() == [1, 2]


def test_a_negative_number_wraps_around_in_an_unsigned_dtype():
    for m in (nano, torch):
        t = m.tensor([1, 2], dtype=m.uint8)
        t[0] = -1
        assert t.tolist() == [255, 2]
        assert t.fill_(-2).tolist() == [254, 254]
        assert m.tensor([-3], dtype=m.uint8).tolist() == [253]


@pytest.mark.parametrize(
    "data", [None, [None], {}, [object()], ["a"], "a", [1, "a"], [2**63], 2**64, {1, 2}]
)
def test_what_is_no_number_raises_what_pytorch_raises(data):
    kinds = (RuntimeError, TypeError, ValueError)
    with pytest.raises(kinds) as theirs:
        torch.tensor(data)
    with pytest.raises(next(k for k in kinds if isinstance(theirs.value, k))):
        nano.tensor(data)
