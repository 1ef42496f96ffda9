"""Arrays brought to another order in memory and back, and weights that are kept in it."""

import ctypes
import gc
import threading

import numpy as np
import pytest

from nano.backends.onednn import movement
from nano.backends.onednn.library import library
from nano.backends.onednn.memory import FLOAT32, channels_last, describe, dims, plain
from nano.backends.onednn.movement import Target, bring, packed

from .common import LAYOUTS, laid, needs_onednn, whole

pytestmark = needs_onednn
SHAPE = (2, 3, 4, 5)


def read(address, like):
    """The array at an address, in the shape and order of ``like``."""
    memory = (ctypes.c_char * like.nbytes).from_address(address)
    return np.frombuffer(memory, like.dtype).reshape(like.shape).copy()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bring(layout):
    x = whole(1, SHAPE)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    given = laid(x, layout)  # held: the address may be its own
    address = bring(given, channels_last(SHAPE, FLOAT32), "source")
    np.testing.assert_array_equal(read(address, last), last)


def test_what_lies_right_is_not_copied():
    x = whole(1, SHAPE)
    assert bring(x, plain(SHAPE, FLOAT32), "source") == x.ctypes.data
    last = laid(x, "channels last")
    assert bring(last, channels_last(SHAPE, FLOAT32), "source") == last.ctypes.data


@pytest.mark.parametrize("layout", ["c", "channels last", "column-major", "gaps"])
def test_target(layout):
    """What is written in one order arrives in the array, whatever its order."""
    x = np.ascontiguousarray(whole(1, SHAPE))
    y = laid(np.zeros(SHAPE, np.float32), layout)
    target = Target(y, plain(SHAPE, FLOAT32))
    assert (target.address == y.ctypes.data) == (layout == "c")
    ctypes.memmove(target.address, x.ctypes.data, x.nbytes)
    target.finish()
    np.testing.assert_array_equal(y, x)


class Owner:
    """Stands for the tensor that a weight belongs to."""


class TestPacked:
    def wanted(self):
        return channels_last(SHAPE, FLOAT32)

    def test_the_copy_is_kept_until_the_version_moves(self):
        owner, w = Owner(), whole(1, SHAPE)
        last = np.ascontiguousarray(w.transpose(0, 2, 3, 1))
        address = packed(w, self.wanted(), (owner, 0))
        np.testing.assert_array_equal(read(address, last), last)
        w += 1
        assert packed(w, self.wanted(), (owner, 0)) == address
        np.testing.assert_array_equal(read(address, last), last)
        assert packed(w, self.wanted(), (owner, 1)) == address
        np.testing.assert_array_equal(read(address, last), last + 1)

    def test_without_a_token_nothing_is_kept(self):
        w = whole(1, SHAPE)
        last = np.ascontiguousarray(w.transpose(0, 2, 3, 1))
        before = len(movement._kept.weights)
        packed(w, self.wanted(), None)
        w += 1
        np.testing.assert_array_equal(read(packed(w, self.wanted(), None), last), last + 1)
        assert len(movement._kept.weights) == before

    def test_it_goes_with_its_owner(self):
        owner, w = Owner(), whole(1, SHAPE)
        packed(w, self.wanted(), (owner, 0))
        before = len(movement._kept.weights)
        del owner
        gc.collect()
        assert len(movement._kept.weights) == before - 1

    def test_an_order_is_kept_once(self):
        """Primitives for other images have descriptors of their own, mostly of one order."""
        owner, w = Owner(), whole(1, SHAPE)
        create = movement.Descriptor
        addresses = set()
        for _ in range(3):
            _, c, h, width = SHAPE
            strides = (h * width * c, 1, width * c, c)
            handle = library().create(
                "dnnl_memory_desc_create_with_strides", 4, dims(SHAPE), 3, dims(strides)
            )
            addresses.add(packed(w, create(handle), (owner, 0)))
        assert len(addresses) == len(movement._kept.weights[owner]) == 1

    def test_threads_keep_their_own(self):
        """Else one would write into, or let go, what another is computing with."""
        owner, w, found = Owner(), whole(1, SHAPE), []
        here = packed(w, self.wanted(), (owner, 0))
        other = threading.Thread(
            target=lambda: found.append(packed(w, self.wanted(), (owner, 0)) != here)
        )
        other.start()
        other.join()
        assert found == [True]

    def test_parts_of_one_memory_are_told_apart(self):
        owner, both = Owner(), whole(1, (2, *SHAPE))
        for w in both:
            last = np.ascontiguousarray(w.transpose(0, 2, 3, 1))
            np.testing.assert_array_equal(read(packed(w, self.wanted(), (owner, 0)), last), last)

    def test_weights_in_the_right_order_are_used_where_they_lie(self):
        w = laid(whole(1, SHAPE), "channels last")
        assert describe(w) is self.wanted()
        assert packed(w, self.wanted(), (Owner(), 0)) == w.ctypes.data
