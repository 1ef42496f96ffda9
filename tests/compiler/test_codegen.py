"""Loops of groups against the operators one by one.

Arithmetic, comparisons and choices are the same bit for bit. Curves (exp, tanh ...) are NumPy's
for small arrays and our own polynomials in a loop: 4 units in the last place, and for bfloat16
one place after each of them.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nano
from nano.backends.fused import jit
from nano.backends.fused.generated import generated_kernel
from nano.compiler.codegen import Fused
from nano.compiler.formula import UnsupportedError, formula_of, term
from nano.compiler.formula import expression as written
from nano.compiler.fuse import fuse
from nano.functions.activation import LeakyRelu
from nano.functions.binary import Add, DivFloor, Pow
from nano.functions.unary import Relu

from .traced import names, run, tensor, traced

CURVES = {nano.float32: 4 * 2.0**-23, nano.bfloat16: 2.0**-7, nano.float64: 0.0}


def fused(function, *tensors):
    """The only loop of a function's graph, and the graphs before and after fusing."""
    before, _ = traced(function, *tensors)
    after, _ = traced(function, *tensors)
    fuse(after)
    after.check()
    loops = [n for n in after.nodes if isinstance(n, Fused)]
    assert len(loops) == len(after.nodes) == 1, str(after)
    return loops[0], before, after


def compare(before, after, *tensors, rtol=0.0):
    arrays = [t._data for t in tensors]
    with np.errstate(all="ignore"):
        wanted, got = run(before, *arrays), run(after, *arrays)
    for v, x, y in zip(before.returned(), wanted, got, strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape == v.shape
        real = [n > 1 for n in x.shape]
        if x.size:
            assert [s for s, r in zip(x.strides, real, strict=True) if r] == [
                s for s, r in zip(y.strides, real, strict=True) if r
            ]
        if x.dtype.kind in "fV":
            x, y = x.astype(np.float64), y.astype(np.float64)
        if rtol:
            np.testing.assert_allclose(y, x, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(y, x)


SPECIAL = [0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e-30, 3.5, -2.5]


def special(dtype):
    x, y = np.meshgrid(SPECIAL, SPECIAL)
    return nano.tensor(x.tolist(), dtype=dtype), nano.tensor(y.tolist(), dtype=dtype)


EXACT = {
    "arithmetic": lambda x, y: (x + y) * 2.0 - x / y,
    "bounds": lambda x, y: nano.maximum(x, y) - nano.minimum(x, -y),
    "clamp": lambda x, y: x.clamp(-1.0, 2.0) + y.clamp(min=0.5) + x.clamp(max=0.25),
    "relu": lambda x, y: x.relu() * y,
    "sign": lambda x, y: (x.abs() + y.sign()) * y,
    "steps": lambda x, y: (x.floor() + y.ceil()) * (x + y).round(),
    "root": lambda x, y: x.abs().sqrt() + y.square(),
    "choice": lambda x, y: nano.where((x > y) & ~(x == 1.0) | x.isnan(), x, -y),
    "tests": lambda x, y: (x.isinf() ^ y.isfinite()) & (x != y) & (x <= y),
    "leaky": lambda x, y: nano.nn.functional.leaky_relu(x, 0.1) + y,
    "convert": lambda x, y: (x > y).to(x.dtype) * y + (x < 0).to(x.dtype),
    "truth": lambda x, y: nano.logical_not(x - y).bool() | (y + 1.0).bool(),
    "clone": lambda x, y: x.clone() + y,
}
CURVED = {
    "exp": lambda x, y: (x.clamp(-20, 20)).exp() + y,
    "log": lambda x, y: (x.abs() + 1.5).log() * y,
    "near": lambda x, y: x.abs().log1p() + y.clamp(-20, 20).expm1(),
    "tanh": lambda x, y: x.tanh() + y.sigmoid(),
    "silu": lambda x, y: nano.nn.functional.silu(x) * y,
    "gelu": lambda x, y: nano.nn.functional.gelu(x) * y,
    "gelu tanh": lambda x, y: nano.nn.functional.gelu(x, approximate="tanh") * y,
}


@pytest.mark.parametrize("dtype", [nano.float32, nano.float64, nano.bfloat16], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_arithmetic_is_the_operators_own(name, dtype):
    x, y = special(dtype)
    loop, before, after = fused(EXACT[name], x, y)
    assert len(loop.members) > 1
    compare(before, after, x, y)


@pytest.mark.parametrize("dtype", [nano.float32, nano.float64], ids=str)
def test_powers_without_logarithms(dtype):
    x, y = special(dtype)
    _, before, after = fused(lambda x, y: x**2 + y**-1.0 + x**1.0, x, y)
    compare(before, after, x, y, rtol=CURVES[nano.float32] if dtype is nano.float32 else 1e-15)


@pytest.mark.parametrize("dtype", [nano.float32, nano.bfloat16], ids=str)
@pytest.mark.parametrize("name", CURVED)
def test_curves_are_near(name, dtype):
    x, y = tensor((40, 30), dtype, 1), tensor((40, 30), dtype, 2)
    _, before, after = fused(CURVED[name], x, y)
    compare(before, after, x, y, rtol=CURVES[dtype])


def test_curves_at_the_ends():
    x, y = special(nano.float32)
    for function in (
        lambda x, y: (x.exp(), y.log(), x.exp() + y),
        lambda x, y: (x.log1p(), x.expm1(), x.log1p() + y),
        lambda x, y: (x.tanh(), x.sigmoid(), x.tanh() + y),
    ):
        before, _ = traced(function, x, y)
        after, _ = traced(function, x, y)
        fuse(after)
        compare(before, after, x, y, rtol=CURVES[nano.float32])


def derivative(function):
    def both(x, g):
        x = x.detach()
        x.requires_grad = True
        y = function(x * 1.5)
        return nano.autograd.grad(y, x, grad_outputs=g)[0]

    return both


@pytest.mark.parametrize("dtype", [nano.float32, nano.bfloat16], ids=str)
@pytest.mark.parametrize(
    "function",
    [
        nano.relu,
        nano.nn.functional.leaky_relu,
        nano.nn.functional.silu,
        nano.nn.functional.gelu,
        lambda x: nano.nn.functional.gelu(x, approximate="tanh"),
        nano.sigmoid,
        nano.tanh,
    ],
    ids=["relu", "leaky_relu", "silu", "gelu", "gelu_tanh", "sigmoid", "tanh"],
)
def test_derivatives(function, dtype):
    x, g = tensor((30, 50), dtype, 1), tensor((30, 50), dtype, 2)
    _, before, after = fused(derivative(function), x, g)
    # The slopes are sums that cancel, times the slope of what is inside.
    compare(before, after, x, g, rtol=(8 if dtype is nano.float32 else 2) * CURVES[dtype])


# Layouts ------------------------------------------------------------------------------------

LAYOUTS = ["rows", "channels", "turned", "sliced"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", [*LAYOUTS, "expanded"])
def test_layouts(layout, other):
    dtype = nano.bfloat16 if other == "channels" else nano.float32
    shape = (5, 6, 7, 8)
    x = tensor(shape, dtype, 1, layout)
    y = tensor((6, 1, 8), dtype, 2) if other == "expanded" else tensor(shape, dtype, 2, other)
    if other == "expanded":
        y._data = np.broadcast_to(y._data, shape)
    _, before, after = fused(lambda x, y: (x * y + x).relu() - y, x, y)
    compare(before, after, x, y)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (0,), (3, 0, 2), (1, 5, 1)])
def test_small_shapes(shape):
    x, y = tensor(shape, seed=1), tensor(shape, seed=2)
    _, before, after = fused(lambda x, y: ((x + y) * x - y).relu(), x, y)
    compare(before, after, x, y)


def test_other_strides_than_traced():
    x, y = tensor((4, 5, 6), seed=1), tensor((4, 5, 6), seed=2)
    loop, before, _ = fused(lambda x, y: ((x + y) * x - y).relu(), x, y)
    z = tensor((4, 5, 6), seed=3, layout="sliced")
    (wanted,) = run(before, z._data, y._data)
    for _ in range(2):
        np.testing.assert_array_equal(loop.run(z._data, y._data), wanted)
    np.testing.assert_array_equal(loop.run(y._data, y._data), run(before, y._data, y._data)[0])


def test_all_threads():
    x, y = tensor((700, 600), seed=1), tensor((600,), seed=2)
    loop, before, after = fused(lambda x, y: (x * y + x).relu() - 1.0, x, y)
    assert loop._loop.work() > jit._WORTH_WAKING
    compare(before, after, x, y)
    x, y = tensor((7, 60, 31, 50), seed=1, layout="sliced"), tensor((60, 1, 50), seed=2)
    _, before, after = fused(lambda x, y: (x * y + x).relu() - 1.0, x, y)
    compare(before, after, x, y)


# Sums ---------------------------------------------------------------------------------------

SUMS = {
    "all": lambda x, y: ((x * y + x).sum(), (x * y).mean()),
    "columns": lambda x, y: ((x * y + x).sum((0, 1)), (x * y).mean((0, 1), keepdim=True)),
    "rows": lambda x, y: ((x * y + x).sum(-1), (x * y).mean(-1, keepdim=True)),
    "with outputs": lambda x, y: (z := x * y + x, z.sum(-1), z.relu()),
    "last two": lambda x, y: (z := x * y + x, z.sum((1, 2))),
}


@pytest.mark.parametrize("shape", [(3, 5, 7), (20, 30, 40), (2, 3, 9000), (40, 50, 200)])
@pytest.mark.parametrize("dtype", [nano.float32, nano.float64, nano.bfloat16], ids=str)
@pytest.mark.parametrize("name", SUMS)
def test_sums(name, dtype, shape):
    x, y = tensor(shape, dtype, 1), tensor(shape, dtype, 2)
    loop, _, _ = fused(SUMS[name], x, y)
    # Its terms are the operators' own; they are added as exactly as float64 can.
    wide = {}
    results = []
    for v, a in zip(loop.inputs, (x, y), strict=True):
        wide[v] = a._data
    for m in loop.members:
        given = [wide.get(v, v) for v in m.inputs]
        if m.name in ("Sum", "Mean"):
            axis = m.attributes.get("dim")
            keep = m.attributes.get("keepdim", False)
            terms = given[0].astype(np.float64)
            operator = np.sum if m.name == "Sum" else np.mean
            wide[m.outputs[0]] = operator(terms, axis, keepdims=keep)
        else:
            ctx = type("Ctx", (), {"needs_input_grad": (False,) * 2, "save_for_backward": id})()
            ctx.save_for_backward = lambda *a: None
            wide[m.outputs[0]] = m.function.forward(ctx, *given)
    results = loop.run(x._data, y._data)
    largest = max(np.abs(v.astype(np.float64)).max() for v in wide.values())
    for v, got in zip(loop.outputs, results, strict=True):
        assert got.dtype == v.dtype
        assert got.shape == v.shape
        rounding = 2.0**-8 if dtype is nano.bfloat16 else 0.0
        limit = 1e-6 * largest if dtype is not nano.float64 else 1e-13 * largest
        np.testing.assert_allclose(
            got.astype(np.float64), wide[v].astype(np.float64), rtol=rounding, atol=limit
        )


def test_sums_over_channels_last_images():
    x, y = tensor((4, 6, 5, 5), layout="channels"), tensor((4, 6, 5, 5), seed=1, layout="channels")
    loop, before, after = fused(lambda x, y: (z := x * y + x, z.sum((0, 2, 3))), x, y)
    assert loop._loop.reduced == "columns"
    compare(before, after, x, y, rtol=1e-5)


def test_sums_that_do_not_lie_in_rows_or_columns_stay():
    x, y = tensor((4, 6, 5)), tensor((4, 6, 5), seed=1)
    graph, _ = traced(lambda x, y: (x * y + x).sum(1), x, y)
    fuse(graph)
    assert names(graph) == [["Mul", "Add"], "Sum"]


# Random graphs ------------------------------------------------------------------------------

STEPS = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    nano.maximum,
    nano.minimum,
    lambda a, b: nano.where(a > b, a, b * 0.5),
    lambda a, b: a.relu() + b,
    lambda a, b: a.abs() - b,
    lambda a, b: -a + b.clone(),
    lambda a, b: (a <= b).to(a.dtype) * b,
]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_random_graphs(data):
    full = tuple(data.draw(st.lists(st.integers(1, 4), min_size=0, max_size=4)))
    dtype = data.draw(st.sampled_from([nano.float32, nano.float64, nano.bfloat16]))
    given_tensors = []
    for i in range(data.draw(st.integers(1, 4))):
        shape = [n if data.draw(st.booleans()) else 1 for n in full]
        shape = shape[data.draw(st.integers(0, len(shape))) :] if i else full
        layout = data.draw(st.sampled_from(LAYOUTS))
        given_tensors.append(tensor(tuple(shape), dtype, i, layout))
    plan = data.draw(
        st.lists(
            st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9)),
            min_size=1,
            max_size=8,
        )
    )
    shown = data.draw(st.sets(st.integers(0, 7), max_size=3))

    def function(*tensors):
        made = list(tensors)
        for step, a, b in plan:
            made.append(STEPS[step](made[a % len(made)], made[b % len(made)]))
        own = made[len(tensors) :]
        return (*(t for i, t in enumerate(own) if i in shown), made[-1])

    before, _ = traced(function, *given_tensors)
    after, _ = traced(function, *given_tensors)
    fuse(after)
    after.check()
    compare(before, after, *given_tensors)


# Source -------------------------------------------------------------------------------------


def test_source_names_operators_and_lines():
    x, y = tensor((4, 5), seed=1), tensor((5,), seed=2)
    loop, _, _ = fused(lambda x, y: ((x + y) * x).relu(), x, y)
    lines = loop.source.splitlines()
    assert lines[0] == "def fused_add_mul_relu(n0, n1, x0, x1, y0):"
    assert [line.split() for line in lines if "Mul" in line] == [
        ["t1", "=", "t0", "*", "a0", "#", "v3", "=", "Mul", "train.py:2"]
    ]
    assert loop.name == "Fused[Add, Mul, Relu]"


def test_equal_groups_share_a_kernel():
    def half(x, y):
        return ((x + y) * x).relu()

    x, y = tensor((4, 5)), tensor((4, 5), seed=1)
    first, _, _ = fused(half, x, y)
    z = tensor((7, 3))
    second, _, _ = fused(half, z, z + 1.0)
    text = first._loop.text()
    assert text == second._loop.text()
    assert generated_kernel(text, first._loop.name) is generated_kernel(text, second._loop.name)


def test_formulas_that_cannot_be_written():
    x = term("x", "real")

    def refuse(function, operands, attributes, reason, wide="f32"):
        with pytest.raises(UnsupportedError, match=reason):
            written(function, operands, attributes, wide, wide)

    refuse(Pow, [x, x], {}, "power")
    refuse(Add, [x, term("b", "truth")], {}, "arithmetic with truth")
    refuse(DivFloor, [x, x], {}, "no formula")
    refuse(nano.functions.unary.Exp, [x], {}, "float64", "f64")
    refuse(nano.functions.rounding.Round, [x], {"decimals": 2}, "decimals")

    class Doubled(Relu):
        @staticmethod
        def forward(ctx, x):
            return x + x

    assert formula_of(Relu)
    assert not formula_of(Doubled)
    assert written(LeakyRelu, [x], {"negative_slope": 0.1}, "f32", "f32") == (
        "x if x > f32(0) else x * f32(0.1)",
        "real",
    )


# The disk -----------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
from tests.compiler.test_codegen import fused, tensor
loop, before, _ = fused(lambda x, y: ((x + y) * x).relu(), tensor((4, 5)), tensor((4, 5)))
x = np.ones((4, 5), np.float32)
print(loop.run(x, x).sum())
from nano.backends.fused.generated import generated_kernel
kernel = generated_kernel(loop._loop.text(), loop._loop.name)
print(sum(kernel.serial.stats.cache_hits.values()))
"""


def in_a_process(cache):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    source = os.path.dirname(os.path.dirname(nano.__file__))
    env = os.environ | {"NANO_CACHE_DIR": str(cache), "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(root=root)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_next_process_finds_the_compiled_loop(tmp_path):
    assert in_a_process(tmp_path) == ["40.0", "0"]
    assert in_a_process(tmp_path) == ["40.0", "1"]


def test_without_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert in_a_process(tmp_path / "file" / "below") == ["40.0", "0"]
