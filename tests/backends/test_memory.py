"""Memory: freed arrays are used again, and a warm training step asks the system for none."""

import resource
import sys

import numpy as np
import pytest

import nano
import nano.nn.functional as F
from nano.backends import memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc's mallopt, and page faults")


def test_channels_last_lies_so():
    x = memory.channels_last((2, 3, 4, 5), np.float32)
    assert x.shape == (2, 3, 4, 5)
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous


def _page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@linux
def test_large_arrays_come_from_freed_memory():
    def work():
        return np.ones(4 << 20, np.float32).sum()  # 16 MiB, 4,096 pages

    work()
    before = _page_faults()
    for _ in range(10):
        work()
    # Without keeping, each round would touch 4,096 fresh pages.
    assert _page_faults() - before < 1000


@linux
def test_a_warm_training_step_touches_no_fresh_pages():
    model = nano.models.resnet20()
    optimizer = nano.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = nano.randn(32, 3, 32, 32), nano.zeros(32, dtype=nano.int64)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    for _ in range(4):
        step()
    before = _page_faults()
    for _ in range(3):
        step()
    # The step's activations alone are some 10,000 pages. A few faults are Python's own.
    assert _page_faults() - before < 300


def test_images_as_pixels():
    x = memory.channels_last((2, 3, 4, 5), np.float32)
    pixels = memory.as_pixels(x)
    assert pixels.shape == (2, 4, 5, 3)
    assert np.shares_memory(pixels, x)
    planes = np.arange(120.0).reshape(2, 3, 4, 5)
    pixels = memory.as_pixels(planes)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels[1, 2, 3], planes[1, :, 2, 3])


def test_aligned_memory_begins_a_line_of_the_cache():
    for nbytes in (0, 1, 64, 1000):
        found = memory.aligned(nbytes)
        assert found.nbytes == nbytes
        assert found.ctypes.data % 64 == 0 or not nbytes
