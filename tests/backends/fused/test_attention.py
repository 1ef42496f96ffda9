"""Attention beside the reference kernel, which has all scores at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from nano.backends import explain
from nano.backends.fused import attention as fused
from nano.backends.reference import attention as reference

from .beside import BFLOAT16, same

SCALE = 0.3


def drawn(lead, queries, keys, e, ev, dtype=np.float32, heads_inside=False):
    """q, k, v and a gradient; ``heads_inside``: as views of (batch, length, heads, width)."""
    rng = np.random.default_rng(0)

    def array(n, m):
        if heads_inside:
            return rng.standard_normal((lead[0], n, lead[1], m)).astype(dtype).swapaxes(1, 2)
        return rng.standard_normal((*lead, n, m)).astype(dtype)

    return array(queries, e), array(keys, e), array(keys, ev), array(queries, ev)


def compare(q, k, v, g, mask=None, causal=False):
    found = fused.attention(q, k, v, mask, causal, SCALE)
    same(found, reference.attention(q, k, v, mask, causal, SCALE), q.dtype)
    args = (g, q, k, v, *found, mask, causal, SCALE)
    # With a single key, gradients of q and k are differences of equal numbers of size 1.
    same(fused.attention_backward(*args), reference.attention_backward(*args), q.dtype, 10, 1.0)
    return found[0]


@settings(max_examples=30, deadline=None)
@given(
    lead=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    queries=st.integers(1, 150),
    keys=st.integers(1, 150),
    e=st.integers(1, 40),
    ev=st.integers(1, 40),
    causal=st.booleans(),
    dtype=st.sampled_from([np.float32, BFLOAT16]),
)
def test_equals_the_reference(lead, queries, keys, e, ev, causal, dtype):
    compare(*drawn(lead, queries, keys, e, ev, dtype), causal=causal)


@pytest.mark.parametrize("causal", [True, False])
def test_results_lie_as_the_queries_do(causal):
    q, k, v, g = drawn((4, 4), 130, 130, 32, 32, heads_inside=True)
    out = compare(q, k, v, g, causal=causal)
    assert out.strides == q.strides
    # Parts of one array, as a layer makes them, and reversed, repeated and transposed ones.
    packed = np.random.default_rng(0).standard_normal((4, 100, 3, 4, 32)).astype(np.float32)
    q, k, v = packed.transpose(2, 0, 3, 1, 4)
    compare(q, k, v, q[..., ::-1], causal=causal)
    compare(q[::-1], k[:, :, ::-1], np.broadcast_to(v[:1], v.shape), q, causal=causal)
    compare(q.swapaxes(2, 3).copy().swapaxes(2, 3), k, v, q, causal=causal)


@pytest.mark.parametrize("kind", ["bool", "float", "bfloat16"])
@pytest.mark.parametrize(
    "shape", [(100, 130), (4, 1, 100, 130), (1, 2, 1, 130), (130,), (100, 1), ()]
)
def test_masks(shape, kind):
    rng = np.random.default_rng(1)
    mask = np.asarray(rng.standard_normal(shape), np.float32)
    mask = mask > -0.5 if kind == "bool" else mask.astype(BFLOAT16 if kind != "float" else None)
    compare(*drawn((4, 2), 100, 130, 24, 16), mask=np.asarray(mask))


def test_a_query_without_a_key_gives_zero():
    q, k, v, g = drawn((2,), 100, 130, 24, 16)
    mask = np.ones((100, 130), bool)
    mask[17] = False
    out = compare(q, k, v, g, mask=mask)
    assert (out[:, 17] == 0).all()


@pytest.mark.parametrize("low", [np.finfo(np.float32).min, -1e30])
def test_a_mask_of_the_lowest_number_gives_the_mean(low):
    q, k, v, g = drawn((2,), 100, 130, 24, 16)
    mask = np.zeros((100, 130), np.float32)
    mask[17] = low
    out = compare(q, k, v, g, mask=mask)
    np.testing.assert_allclose(out[:, 17], v.mean(1), rtol=0, atol=1e-6)  # of numbers near 1


def test_nan_stays_in_its_row():
    q, k, v, _ = drawn((2,), 100, 130, 24, 16)
    q[0, 5, 3] = np.nan
    found = fused.attention(q, k, v, None, False, SCALE)
    same(found, reference.attention(q, k, v, None, False, SCALE))
    assert np.isnan(found[0][0, 5]).all()
    assert np.isfinite(found[0][0, 4]).all()


def test_what_is_refused():
    q, k, v, _ = drawn((2,), 100, 130, 24, 16)
    assert "fused runs" in explain("attention", q, k, v, None, False, SCALE)
    assert "fewer" in explain("attention", q[:, :1], k, v, None, False, SCALE)
    wide = [a.astype(np.float64) for a in (q, k, v)]
    assert "float64" in explain("attention", *wide, None, False, SCALE)
    assert "nothing" in explain("attention", q[:0], k[:0], v[:0], None, False, SCALE)
