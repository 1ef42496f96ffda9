"""Copies at other places: pad, repeat, flip, roll, triangles."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nano

from .harness import EVERY, WIDE, Case, assert_same, operator_tests


def pad(m, x, *args, **kwargs):
    function = nano.pad if m is nano else torch.nn.functional.pad
    return function(x, *args, **kwargs)


def case(name, call, shape=(2, 3, 4), dtypes=WIDE, **options):
    return Case(name, call, shapes=[shape], dtypes=dtypes, **options)


CASES = [
    case("pad", lambda m, x: pad(m, x, (1, 2)), dtypes=EVERY),
    case("pad two", lambda m, x: pad(m, x, (1, 2, 0, 3), value=2.5)),
    case("pad all", lambda m, x: pad(m, x, (1, 0, 2, 1, 0, 3), "constant", 1)),
    case("pad crops", lambda m, x: pad(m, x, (-1, 2, 1, -2), value=3.0)),
    case("pad nothing", lambda m, x: pad(m, x, ())),
    case("pad inf", lambda m, x: pad(m, x, (1, 1), value=float("inf")), grad=False),
    case("pad reflect", lambda m, x: pad(m, x, (3, 2), "reflect")),
    case("pad reflect crops", lambda m, x: pad(m, x, (-1, 2), "reflect")),
    case("pad replicate", lambda m, x: pad(m, x, (3, 5), "replicate")),
    case("pad circular", lambda m, x: pad(m, x, (4, 3), "circular")),
    case("pad circular crops", lambda m, x: pad(m, x, (-1, 2), "circular")),
    case("pad image", lambda m, x: pad(m, x, (2, 1, 1, 2), "reflect"), (1, 2, 3, 4)),
    case("pad image circular", lambda m, x: pad(m, x, (2, 1, 1, 2), "circular"), (1, 2, 3, 4)),
    case("repeat", lambda m, x: x.repeat(2, 1, 3), (3, 2), dtypes=EVERY),
    case("repeat tuple", lambda m, x: x.repeat((2, 2)), (3, 1)),
    case("repeat zero", lambda m, x: x.repeat(0, 2), (3, 1)),
    case("repeat 0-d", lambda m, x: x.repeat(2), ()),
    case("repeat once", lambda m, x: x.repeat(1), (2,)),
    case("tile", lambda m, x: m.tile(x, (2,)), (3, 2)),
    case("flip", lambda m, x: m.flip(x, (0, -1)), dtypes=EVERY),
    case("flip varargs", lambda m, x: x.flip(1)),
    case("flip 0-d", lambda m, x: m.flip(x, ()), ()),
    case("fliplr", lambda m, x: m.fliplr(x)),
    case("flipud", lambda m, x: m.flipud(x)),
    case("roll", lambda m, x: m.roll(x, 2), dtypes=EVERY),
    case("roll dims", lambda m, x: m.roll(x, (1, -2), (0, 2))),
    case("roll dim twice", lambda m, x: m.roll(x, (1, -2), (2, 2))),
    case("roll 0-d", lambda m, x: m.roll(x, 1), ()),
    case("tril", lambda m, x: m.tril(x), (3, 4), dtypes=EVERY),
    case("tril up", lambda m, x: x.tril(1)),
    case("triu", lambda m, x: m.triu(x), (3, 4)),
    case("triu down", lambda m, x: x.triu(diagonal=-1)),
]

TestRearrange = operator_tests(CASES)


def test_copies_are_copies():
    x = nano.ones(2, 2)
    for y in (x.flip(()), x.repeat(1, 1), x.roll(0), nano.pad(x, (0, 0)), x.tril(5)):
        assert y.data_ptr() != x.data_ptr()


BAD = {
    "pad odd": lambda m: pad(m, m.zeros(3), (1,)),
    "pad many": lambda m: pad(m, m.zeros(3), (1, 1, 1, 1)),
    "pad crops too much": lambda m: pad(m, m.zeros(3), (-2, -2)),
    "pad crops past": lambda m: pad(m, m.zeros(3), (-5, 4)),
    "pad mode": lambda m: pad(m, m.zeros(1, 3), (1, 1), "foo"),
    "pad reflect": lambda m: pad(m, m.zeros(1, 3), (3, 1), "reflect"),
    "pad circular": lambda m: pad(m, m.zeros(1, 3), (4, 1), "circular"),
    "pad value": lambda m: pad(m, m.zeros(1, 3), (1, 1), "replicate", 2.0),
    "repeat": lambda m: m.zeros(2, 2).repeat(2),
    "repeat negative": lambda m: m.zeros(2).repeat(-2),
    "flip": lambda m: m.zeros(2).flip(1),
    "flip dup": lambda m: m.zeros(2).flip((0, 0)),
    "fliplr": lambda m: m.fliplr(m.zeros(2)),
    "roll": lambda m: m.zeros(2).roll((1, 2)),
    "roll length": lambda m: m.zeros(2).roll((1, 2), 0),
    "roll dim": lambda m: m.zeros(2).roll(1, 1),
    "tril": lambda m: m.zeros(2).tril(),
    "triu": lambda m: m.zeros(2).triu(),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_are_pytorchs(name):
    with pytest.raises(Exception) as theirs:
        BAD[name](torch)
    with pytest.raises(type(theirs.value), match=r"\[\w+\]"):
        BAD[name](nano)


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    data=st.data(),
)
def test_constant_pads_of_any_shape(shape, data):
    widths = []
    for n in shape[::-1]:
        low = data.draw(st.integers(-n, 3))
        widths += [low, data.draw(st.integers(max(-n, -n - low), 3))]
    ours = nano.arange(nano.ones(shape).numel()).reshape(shape)
    theirs = torch.arange(torch.ones(shape).numel()).reshape(shape)
    assert_same(pad(nano, ours, widths), pad(torch, theirs, widths), (0, 0))
