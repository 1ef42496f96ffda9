"""Primitives are kept, per thread and number of threads, and not for ever."""

import threading

import numpy as np
import pytest

import nano
from nano.backends import kernels
from nano.backends.onednn import matmul, primitives
from nano.backends.onednn.library import OneDnnError, library
from nano.backends.onednn.memory import FLOAT32, channels_last, plain
from nano.backends.onednn.primitives import DST, SRC, Plan, Primitive, cached, reorder, scratch

from .common import needs_onednn, whole

pytestmark = needs_onednn
SHAPE = (2, 3, 4, 5)


def test_built_once_a_key():
    built = []
    for _ in range(3):
        assert cached("a key of this test", lambda: built.append(1) or "thing") == "thing"
    assert len(built) == 1


def test_the_least_recently_used_goes(monkeypatch):
    monkeypatch.setattr(primitives, "_KEPT", 2)
    monkeypatch.setattr(primitives, "_kept", primitives._Kept())
    for key in ("a", "b", "a", "c"):
        cached(key, lambda key=key: key)
    assert list(primitives._kept.primitives) == ["a", "c"]


def test_each_thread_has_its_own():
    """A primitive's memory objects point at the arrays of one call at a time."""
    mine = cached("one a thread", object)
    theirs = []
    worker = threading.Thread(target=lambda: theirs.append(cached("one a thread", object)))
    worker.start()
    worker.join()
    assert theirs[0] is not mine
    assert cached("one a thread", object) is mine


def test_another_number_of_threads_needs_others():
    before = nano.get_num_threads()
    mine = cached("one a number", object)
    nano.set_num_threads(before + 1)
    try:
        assert cached("one a number", object) is not mine
    finally:
        nano.set_num_threads(before)


def test_scratch_memory_grows_and_is_aligned():
    small = scratch("of this test", 100)
    assert small % 64 == 0
    assert scratch("of this test", 50) == small
    assert scratch("of this test", 10_000) % 64 == 0


def test_a_primitive_that_cannot_be_built_leaves_nothing_behind(monkeypatch):
    """Its destructor must not stumble over what is missing; pytest would fail on that."""
    lib = library()
    d = plain(SHAPE, FLOAT32)
    plan = Plan(
        "dnnl_reorder_primitive_desc_create", *(d.handle, lib.engine, d.handle, lib.engine, None)
    )
    create = lib.create

    def failing(name, *args):
        if name == "dnnl_primitive_create":
            raise OneDnnError(name, 1)
        return create(name, *args)

    monkeypatch.setattr(lib, "create", failing)
    with pytest.raises(OneDnnError, match="dnnl_primitive_create failed with status 1"):
        Primitive(plan, {SRC: d, DST: d})


def test_an_impossible_plan_says_so():
    d = plain(SHAPE, FLOAT32)
    with pytest.raises(OneDnnError, match="dnnl_matmul_primitive_desc_create"):
        Plan(
            "dnnl_matmul_primitive_desc_create",
            *(library().engine, d.handle, d.handle, None, d.handle, None),
        )


def test_reorder():
    x = whole(1, SHAPE)
    y = np.empty((2, 4, 5, 3), np.float32)
    run = reorder(plain(SHAPE, FLOAT32), channels_last(SHAPE, FLOAT32))
    run(x.ctypes.data, y.ctypes.data)
    np.testing.assert_array_equal(y, x.transpose(0, 2, 3, 1))


def test_several_python_threads_at_once():
    """Each with its own primitives and its own team; results as in one."""
    x, w = whole(1, (4, 32, 10, 10)), whole(2, (32, 32, 3, 3))
    a, b = whole(3, (8, 96, 64)), whole(4, (8, 64, 96))
    how = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)

    def work():
        return (
            kernels.conv2d(x, w, None, *how),
            kernels.conv2d_weight(x, x, (3, 3), *how),
            matmul.matmul(a, b),
            matmul.matmul(a[0], b[0]),
        )

    wanted, wrong = work(), []

    def repeat():
        try:
            for _ in range(20):
                for got, right in zip(work(), wanted, strict=True):
                    np.testing.assert_array_equal(got, right)
        except BaseException as error:
            wrong.append(error)

    workers = [threading.Thread(target=repeat) for _ in range(4)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    assert not wrong
