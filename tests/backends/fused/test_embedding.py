"""The embedding's gradient beside the reference kernel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from nano.backends import explain
from nano.backends.fused import embedding as fused
from nano.backends.reference import embedding as reference

from .beside import BFLOAT16, same


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 50),
    columns=st.integers(1, 200),
    shape=st.lists(st.integers(1, 12), max_size=3).map(tuple),
    dtype=st.sampled_from([np.float32, BFLOAT16]),
    kind=st.sampled_from([np.int64, np.int32]),
    data=st.data(),
)
def test_equals_the_reference(rows, columns, shape, dtype, kind, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 100)))
    index = np.asarray(rng.integers(0, rows, shape), kind)
    g = rng.standard_normal((*shape, columns)).astype(dtype)
    args = (g, index, rows, data.draw(st.integers(-1, rows - 1)))
    same(fused.embedding_backward(*args), reference.embedding_backward(*args))


def test_on_all_threads_and_from_any_layout():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 65, (2048, 2))[:, ::-1]
    g = rng.standard_normal((300, 2048, 2)).astype(np.float32).transpose(1, 2, 0)
    same(
        fused.embedding_backward(g, index, 65, 3), reference.embedding_backward(g, index, 65, 3),
        scale=4,
    )  # fmt: skip
    assert "fused runs" in explain("embedding_backward", g, index, 65, 3)


def test_nan_and_infinity_reach_their_rows():
    index = np.array([0, 1, 1, 2])
    g = np.ones((4, 3), np.float32)
    g[1, 1], g[3, 2] = np.nan, np.inf
    found = fused.embedding_backward(g, index, 4, -1)
    np.testing.assert_array_equal(found, [[1, 1, 1], [2, np.nan, 2], [1, 1, np.inf], [0, 0, 0]])
