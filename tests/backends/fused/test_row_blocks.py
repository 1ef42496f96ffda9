"""What generated chains call that go through blocks of rows."""

import numpy as np
import pytest

from nano.backends import is_available

pytest.importorskip("numba")

from nano.backends.fused import row_blocks
from nano.backends.fused.jit import kernel

pytestmark = pytest.mark.skipif(not is_available("onednn"), reason="needs oneDNN")


@kernel
def _turned(w, y):
    row_blocks.turned(w, y)


@kernel
def _product(sgemm_at, x, w, turn, y):
    row_blocks.product(sgemm_at, x, w, turn, y)


@kernel
def _add_product(sgemm_at, x, y, add, total):
    row_blocks.add_product(sgemm_at, x, y, add, total)


@pytest.mark.parametrize("shape", [(16, 16), (48, 32), (1, 40), (37, 21), (16, 9), (5, 64)])
def test_a_transpose(shape):
    w = np.random.default_rng(0).standard_normal(shape, np.float32)
    y = np.full((shape[1] + 1, shape[0]), 7, np.float32)
    _turned.serial(w, y[:-1])
    assert np.array_equal(y[:-1], w.T)
    assert (y[-1] == 7).all()  # nothing behind


def test_products_of_rows_that_lie_apart():
    from nano.backends.fused.sgemm import address

    rng = np.random.default_rng(0)
    x, w, g = (rng.standard_normal(s, np.float32) for s in ((20, 30), (24, 40), (20, 40)))
    y = np.empty((20, 40), np.float32)
    # Sums of 24 and 20 numbers, which some roundings may have made otherwise.
    _product.serial(address(), x, w, False, y)
    np.testing.assert_allclose(y, x[:, :24] @ w, rtol=0, atol=1e-5)
    _product.serial(address(), x, np.ascontiguousarray(w.T), True, y)
    np.testing.assert_allclose(y, x[:, :24] @ w, rtol=0, atol=1e-5)
    total = np.full((24, 40), 3, np.float32)
    _add_product.serial(address(), x, g, True, total)
    np.testing.assert_allclose(total, x[:, :24].T @ g + 3, rtol=0, atol=1e-5)
    _add_product.serial(address(), x, g, False, total)
    np.testing.assert_allclose(total, x[:, :24].T @ g, rtol=0, atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_sums_of_parts(parts):
    """Those of float32 have their first part where the sum goes; those of float64 do not."""
    from nano.backends.fused.row_blocks import collect

    rng = np.random.default_rng(0)
    step = 64 * 8
    memory = np.zeros(parts * step, np.uint8)
    some, others = np.empty((parts, 13), np.float32), np.empty((parts, 7))
    for p in range(parts):
        some[p], others[p] = rng.standard_normal(13), rng.standard_normal(7)
        memory[p * step : p * step + 52] = some[p].view(np.uint8)
        memory[p * step + 64 : p * step + 120] = others[p].view(np.uint8)
    first, second = some[0].copy(), np.full(7, np.nan, np.float32)
    totals = np.array([(first.ctypes.data, 0, 13, 0), (second.ctypes.data, 64, 7, 1)], np.int64)
    collect(totals, parts, memory.ctypes.data, step)
    np.testing.assert_allclose(first, some.sum(0), rtol=1e-5, atol=1e-6)  # some roundings
    np.testing.assert_allclose(second, others.sum(0), rtol=1e-7, atol=1e-7)  # one rounding
