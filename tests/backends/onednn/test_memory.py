"""Descriptors: which arrays oneDNN can be told of, and which are the same to it."""

import gc

import numpy as np
import pytest

from nano.backends.onednn import library as binding
from nano.backends.onednn.memory import FLOAT32, Descriptor, channels_last, describe, plain, strided

from .common import needs_onednn

pytestmark = needs_onednn


@pytest.fixture
def image():
    return np.zeros((2, 3, 4, 5), np.float32)


def test_size_counts_what_lies_between(image):
    assert describe(image).nbytes == image.nbytes
    assert describe(np.zeros(8, np.float32)[::2]).nbytes == 8 * 4


def test_orders_in_memory_differ(image):
    last = image.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    assert describe(last) is channels_last(image.shape, FLOAT32)
    assert describe(last) != describe(image)
    assert describe(image) == plain(image.shape, FLOAT32)
    assert describe(image) != "something else"


@pytest.mark.parametrize("shape", [(4, 1, 5, 6), (4, 5, 1, 1), (1, 1, 1, 1), (1, 4, 1, 3)])
def test_strides_of_single_elements_do_not_matter(shape):
    a = np.zeros(shape, np.float32)
    last = a.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    odd = np.lib.stride_tricks.as_strided(
        last, shape, [999 * 4 if n == 1 else s for n, s in zip(shape, last.strides, strict=True)]
    )
    assert describe(last) is describe(odd) is channels_last(shape, FLOAT32)


def test_what_oneDNN_cannot_describe(image):
    assert describe(image[::-1]) is None
    assert describe(np.broadcast_to(image[:1], image.shape)) is None
    windows = np.lib.stride_tricks.sliding_window_view(np.zeros(9, np.float32), 3)
    assert describe(windows) is None
    record = np.zeros(4, [("a", np.float32), ("b", np.uint8)])
    assert describe(record["a"]) is None  # 5 bytes from one to the next


def test_forgotten_descriptors_are_given_back(monkeypatch):
    """What lru_cache drops must not stay in the library's memory."""
    lib, given_back = binding.library(), []
    call = lib.call
    monkeypatch.setattr(lib, "call", lambda name, *a: (given_back.append(name), call(name, *a)))
    d = strided.__wrapped__((2, 3), FLOAT32, (3, 1))
    assert isinstance(d, Descriptor)
    del d
    gc.collect()
    assert "dnnl_memory_desc_destroy" in given_back
