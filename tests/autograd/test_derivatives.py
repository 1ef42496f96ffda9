"""Undoing a broadcast."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import nano
from nano.autograd.derivatives import sum_to_shape


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0))
def test_the_sum_is_the_transpose_of_the_broadcast(shapes):
    small, result = shapes.input_shapes[0], shapes.result_shape
    g = np.random.default_rng(0).standard_normal(result)
    x = np.random.default_rng(1).standard_normal(small)
    summed = sum_to_shape(nano.tensor(g), small)
    assert summed.shape == small
    # <g, broadcast(x)> = <sum(g), x>
    np.testing.assert_allclose(
        np.sum(g * np.broadcast_to(x, result)), np.sum(summed.numpy() * x), atol=1e-12
    )


def test_the_same_shape_is_the_same_tensor():
    g = nano.ones(2, 3)
    assert sum_to_shape(g, (2, 3)) is g
    assert sum_to_shape(g, (1, 3)).tolist() == [[2.0, 2.0, 2.0]]
    assert sum_to_shape(g, ()).item() == pytest.approx(6.0)
