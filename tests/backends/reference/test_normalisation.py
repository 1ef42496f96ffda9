"""Batch and layer normalisation against their definitions in loops."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.backends.reference.batch_norm import batch_norm, batch_norm_loops
from nano.backends.reference.layer_norm import layer_norm, layer_norm_loops

#: float64: some units in the last place, for sums are done in another order.
_TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}
_size = st.integers(1, 4)


@settings(deadline=None, max_examples=30)
@given(st.tuples(st.integers(2, 4), _size, _size, _size), st.booleans(), st.integers(0, 99))
def test_batch_norm(shape, channels_last, seed):
    draw = np.random.default_rng(seed).standard_normal
    x, residual = draw(shape), draw(shape)
    weight, bias = draw(shape[1]), draw(shape[1])
    wanted = batch_norm_loops(x, weight, bias, 1e-3, residual)
    if channels_last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y, mean, var = batch_norm(x, weight, bias, 1e-3, residual, "relu")
    np.testing.assert_allclose(y, wanted, **_TOLERANCE)
    np.testing.assert_allclose(mean, x.mean((0, 2, 3)), **_TOLERANCE)
    np.testing.assert_allclose(var, x.var((0, 2, 3)), **_TOLERANCE)


@settings(deadline=None, max_examples=30)
@given(_size, st.integers(1, 9), st.integers(0, 99))
def test_layer_norm(n, d, seed):
    draw = np.random.default_rng(seed).standard_normal
    x, weight, bias = draw((n, d)), draw(d), draw(d)
    y, _, _ = layer_norm(x, weight, bias, 1, 1e-3)
    np.testing.assert_allclose(y, layer_norm_loops(x, weight, bias, 1e-3), **_TOLERANCE)
