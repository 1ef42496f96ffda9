"""One step of every optimizer, compiled, beside the reference kernels."""

import numpy as np
import pytest

pytest.importorskip("numba")
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends import explain
from nano.backends.fused import optimizers as fused
from nano.backends.reference import optimizers as reference

from ...functions.harness import odd_layouts

LARGE = [(300, 500), (7,), (), (0, 3), (64, 3, 3, 3), (4096,), (4097,)]
OPTIONS = {
    "sgd_step": [
        (0.1, 0, 0, 0, False, False, False),
        (0.1, 0, 0, 1e-2, False, True, False),
        (0.1, 0.9, 0, 0, False, False, False),
        (0.1, 0.9, 0.1, 1e-2, False, False, False),
        (0.1, 0.9, 0, 1e-2, True, True, False),
        (0.1, 0.9, 0.1, 1e-2, False, True, True),
    ],
    "adam_step": [
        (1e-2, 0.9, 0.999, 1e-8, 0, False, False),
        (1e-2, 0.8, 0.99, 1e-4, 1e-2, False, True),
        (1e-2, 0.9, 0.999, 1e-8, 1e-2, True, False),
    ],
    "rmsprop_step": [(1e-2, 0.99, 1e-8, 0, 0, False), (1e-2, 0.9, 1e-4, 1e-2, 0.9, True)],
    "adagrad_step": [(1e-2, 0, 1e-10, 0, False), (1e-2, 0.1, 1e-6, 1e-2, True)],
}
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]


def lists(name, options, shapes, rng, extra):
    """The lists of arrays that a kernel takes, and the counts of steps."""

    def normal():
        return [np.asarray(rng.standard_normal(s), np.float32) for s in shapes]

    def positive():
        return [np.asarray(np.square(a)) for a in normal()]

    steps = [int(rng.integers(1, 30)) for _ in shapes]
    if name == "sgd_step":
        return [normal(), normal(), normal() if options[1] else None], ()
    if name == "adam_step":
        return [normal(), normal(), normal(), positive(), positive() if extra else None], (steps,)
    if name == "rmsprop_step":
        # The square of the mean is well below the mean of the squares, as if it were theirs.
        squares = [np.asarray(a + 9) for a in positive()]
        means = [np.asarray(np.tanh(a)) for a in normal()]
        heavy = normal() if options[4] else None
        return [normal(), normal(), squares, means if extra else None, heavy], ()
    return [normal(), normal(), positive()], (steps,)


def copied(arrays):
    return [None if some is None else [a.copy() for a in some] for some in arrays]


def check(name, options, shapes, seed, extra=False, change=lambda arrays: None):
    arrays, steps = lists(name, options, shapes, np.random.default_rng(seed), extra)
    change(arrays)
    ours, theirs = copied(arrays), copied(arrays)
    ours[1] = arrays[1]  # in the layout that ``change`` gave them
    getattr(fused, name)(*ours, *steps, *options)
    with np.errstate(all="ignore"):
        getattr(reference, name)(*theirs, *steps, *options)
    for kept, wanted in zip(ours, theirs, strict=True):
        for a, b in zip(kept or (), wanted or (), strict=True):
            # A product and a sum are joined in one rounding: a few units in the last place
            # of the largest term, which is of the size of the weights.
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("extra", [False, True], ids=["", "extra state"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_large_groups(name, options, extra):
    check(name, options, LARGE, 0, extra)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@settings(max_examples=10, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 70), max_size=3).map(tuple), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_small_groups(name, options, shapes, seed):
    check(name, options, shapes, seed)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_of_any_layout(name):
    for layout in range(3):

        def change(arrays, layout=layout):
            arrays[1] = [odd_layouts(g)[layout] if g.ndim else g for g in arrays[1]]

        check(name, OPTIONS[name][-1], LARGE, 1, change=change)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_that_may_only_be_read(name):
    def change(arrays):
        for g in arrays[1]:
            g.flags.writeable = False

    check(name, OPTIONS[name][-1], LARGE, 2, change=change)


@pytest.mark.parametrize("name", OPTIONS)
def test_infinite_weights_and_gradients(name):
    def change(arrays):
        arrays[0][0][0, :3] = [np.inf, -np.inf, np.nan]
        arrays[1][0][1, :3] = [np.inf, -np.inf, np.nan]

    for options in OPTIONS[name]:
        check(name, options, LARGE, 3, True, change)


def test_what_is_left_to_the_reference():
    options = OPTIONS["sgd_step"][3]
    w = np.ones((200, 100), np.float32)
    assert "fused runs" in explain("sgd_step", [w], [w], [w], *options)
    small = w[:2].copy()
    assert "reference runs" in explain("sgd_step", [small], [small], [small], *options)
    wide = w.astype(np.float64)
    for lists in ([[wide]] * 3, [[w], [wide], [w]], [[w], [w], [wide]]):
        assert "reference runs" in explain("sgd_step", *lists, *options)
    for odd in odd_layouts(w):
        assert "reference runs" in explain("sgd_step", [odd], [w], [w], *options)
        assert "reference runs" in explain("sgd_step", [w], [w], [odd], *options)
