"""Random programs: operators, views, writes in place and gradients in any order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nano
from nano.compiler import regions, small

from .both import allowed, assert_alike

SHAPE = (3, 4)

#: Of one tensor.
UNARY = [
    lambda x: x.relu(),
    lambda x: x.tanh(),
    lambda x: x.sigmoid(),
    lambda x: x * 0.5,
    lambda x: 1 - x,
    lambda x: x.abs().sqrt(),
    lambda x: x.square().mean(0, keepdim=True).expand(*SHAPE),
    lambda x: x.softmax(1),
    lambda x: x.T.reshape(SHAPE),
    lambda x: x.view(-1).view(SHAPE),
    lambda x: nano.flip(x, (0,)),
    lambda x: nano.where(x > 0, x, x * 0.1),
    lambda x: nano.clamp_min(x, -0.5),
    lambda x: x.detach(),
    lambda x: x.clone(),
    lambda x: (x @ x.T) @ x * 0.1,
    lambda x: x.sum() * 0.01 + x,
    lambda x: nano.cat([x[1:], x[:1]]),
    lambda x: x - x.amax(1, keepdim=True),
]
#: Of two.
BINARY = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / (y.abs() + 1),
    lambda x, y: nano.maximum(x, y),
    lambda x, y: (x @ y.T) @ y * 0.1,
    lambda x, y: nano.stack([x, y]).mean(0),
    lambda x, y: nano.where(x > y, x, y * 2),
]
#: Writes into the first.
WRITES_BY_NAME = {
    "mul_": lambda x, y: x.mul_(0.5),
    "add_": lambda x, y: x.add_(y, alpha=0.1),
    "copy_ into a row": lambda x, y: x[0].copy_(y[1]),
    "mul_ of columns": lambda x, y: x[:, 1:3].mul_(2.0),
    "sub_ of a column": lambda x, y: x.T[1].sub_(1.0),
    "copy_": lambda x, y: x.copy_(y.tanh()),
    "relu_": lambda x, y: x.relu_(),
    "setitem": lambda x, y: x.__setitem__(0, 0.5),
}
WRITES = list(WRITES_BY_NAME.values())
PLACE = st.integers(0, 100)
STEP = st.one_of(
    st.tuples(st.just("unary"), st.integers(0, len(UNARY) - 1), PLACE, PLACE),
    st.tuples(st.just("binary"), st.integers(0, len(BINARY) - 1), PLACE, PLACE),
    st.tuples(st.just("write"), st.integers(0, len(WRITES) - 1), PLACE, PLACE),
)


def run(steps, x, y, weight, kept, returned):
    """What a program of these steps does; with gradients if the weight requires one."""
    values = [x, y, weight * 1, kept]
    for kind, number, i, j in steps:
        a, b = values[i % len(values)], values[j % len(values)]
        if kind == "unary":
            values.append(UNARY[number](a))
        elif kind == "binary":
            values.append(BINARY[number](a, b))
        else:
            # What is kept for later calls stays without history.
            outside = a is x or a is y or a is kept
            WRITES[number](a, b.detach().clone() if outside else b)
    total = sum((v.mean() for v in values[4:]), weight.sum() * 0.1)
    if weight.requires_grad:
        total.backward()
    return [values[i % len(values)].detach() for i in returned], total.detach()


PROGRAMS = {
    "steps": st.lists(STEP, min_size=1, max_size=12),
    "returned": st.lists(PLACE, max_size=3),
    "grad": st.booleans(),
}


@settings(max_examples=100, deadline=None)
@given(**PROGRAMS)
def test_random_programs(steps, returned, grad):
    compare(steps, returned, grad, without="native")


@settings(max_examples=15, deadline=None)  # each is compiled by Numba
@given(**PROGRAMS)
def test_random_native_programs(steps, returned, grad):
    compare(steps, returned, grad)


@settings(max_examples=10, deadline=None)
@given(**PROGRAMS)
def test_random_regions(steps, returned, grad):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small, "_LARGEST", 0)  # no program is small enough for one function
        patch.setattr(regions, "_FEWEST", 1)
        compare(steps, returned, grad)


def compare(steps, returned, grad, **options):
    """Run a program as it is and compiled, and compare results, arguments and what it keeps."""
    sides = []
    for _ in range(2):
        weight = nano.full(SHAPE, 0.7, requires_grad=grad)
        sides.append((weight, nano.full(SHAPE, 0.2)))

    def bind(weight, kept):
        return lambda x, y: run(steps, x, y, weight, kept, returned)

    eager, compiled = bind(*sides[0]), nano.compile(bind(*sides[1]), **options)
    margin = 0.0
    for step in range(4):
        rng = np.random.default_rng(step)
        drawn = [rng.standard_normal(SHAPE).astype(np.float32) for _ in range(2)]
        outcomes = []
        for function, things in zip((eager, compiled), sides, strict=True):
            inputs = [nano.tensor(a) for a in drawn]
            try:
                result = function(*inputs)
            except RuntimeError as error:
                if isinstance(error, nano.errors.GraphBreak):
                    raise
                outcomes.append((type(error), things))
            else:
                outcomes.append((result, inputs, things))
        margin = max(margin, allowed(compiled))
        assert_alike(outcomes[1], outcomes[0], margin, f"call {step}")
