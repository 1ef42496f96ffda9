"""Products in the registers: any number of rows, from rows or columns, written or added."""

import numpy as np
import pytest

pytest.importorskip("numba")

from nano.backends.fused import tiles
from nano.backends.fused.jit import kernel


@kernel
def _products(rows, columns, depth, a, a_row, a_column, b, b_row, add, c, c_row):
    tiles.products(rows, columns, depth, a, a_row, a_column, b, b_row, add, c, c_row)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("columns", [16, 32, 48])
@pytest.mark.parametrize("rows", [1, 8, 19, 41])
def test_products_of_any_number_of_rows(rows, columns, add):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((rows, 7), np.float32), rng.standard_normal((7, columns), np.float32)
    before = rng.standard_normal((rows + 1, columns), np.float32)
    exact = a @ b + (before[:-1] if add else 0)
    wide = np.zeros((rows, 16), np.float32)  # with rows of one vector
    wide[:, :7] = a
    for x, row, column in ((a, 7, 1), (np.ascontiguousarray(a.T), 1, rows), (wide, 16, 1)):
        c = before.copy()
        _products.serial(
            *(rows, columns, 7, x.ctypes.data, row, column),
            *(b.ctypes.data, columns, add, c.ctypes.data, columns),
        )
        np.testing.assert_allclose(c[:-1], exact, rtol=0, atol=1e-5)  # sums of 7, some roundings
        assert np.array_equal(c[-1], before[-1])  # nothing behind
