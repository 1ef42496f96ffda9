"""The reference kernels of attention against loops over their definition."""

import math

import ml_dtypes
import numpy as np
import pytest

from nano.backends.reference import attention as kernels


def attention_loops(q, k, v, mask, causal, scale):
    """softmax(scale q k^T + mask) v and log sum exp, for matrices, one query after another."""
    out, logs = np.zeros((len(q), v.shape[1])), []
    for i, query in enumerate(q):
        seen = {}
        for j, key in enumerate(k):
            shift = 0.0 if mask is None or mask.dtype == bool else float(mask[i, j])
            hidden = (causal and j > i) or (
                mask is not None and mask.dtype == bool and not mask[i, j]
            )
            if not hidden and shift != -math.inf:
                products = [float(a) * float(b) for a, b in zip(query, key, strict=True)]
                seen[j] = scale * math.fsum(products) + shift
        total = math.fsum(math.exp(s) for s in seen.values())
        for j, s in seen.items():
            out[i] += math.exp(s) / total * v[j].astype(np.float64)
        logs.append(math.log(total) if seen else 0.0)
    return out, np.array(logs)


def operands(dtype):
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(dtype) for s in ((4, 3), (5, 3), (5, 2))]


def masks():
    rng = np.random.default_rng(1)
    boolean = rng.uniform(size=(4, 5)) > 0.5
    boolean[2] = False
    return {
        "none": (None, False),
        "causal": (None, True),
        "boolean": (boolean, False),
        "additive": (np.where(boolean, rng.normal(size=(4, 5)), -np.inf).astype("float32"), False),
    }


@pytest.mark.parametrize("kind", masks())
@pytest.mark.parametrize(
    # The rounding of a result; in float32 and float64 also of sums in another order.
    ("dtype", "tolerance"),
    [(np.float64, 1e-6), (np.float32, 1e-5), (np.float16, 2e-3), (ml_dtypes.bfloat16, 1.6e-2)],
)
def test_attention_equals_loops(dtype, tolerance, kind):
    q, k, v = operands(dtype)
    mask, causal = masks()[kind]
    expected, logs = attention_loops(q, k, v, mask, causal, 0.7)
    out, top, log_total = kernels.attention(q, k, v, mask, causal, 0.7)
    assert out.dtype == q.dtype
    assert top.dtype == log_total.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(out.astype(np.float64), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(top + log_total, logs, rtol=1e-5, atol=1e-5)


def test_a_query_without_keys_gets_no_gradient():
    q, k, v = operands(np.float64)
    mask = np.zeros((4, 5), bool)
    mask[1:] = True
    out, *logs = kernels.attention(q, k, v, mask, False, 1.0)
    args = (np.ones_like(out), q, k, v, out, *logs, mask, False, 1.0)
    dq, dk, dv = kernels.attention_backward(*args)
    assert not dq[0].any()
    assert np.isfinite(dk).all()
    assert dq[1:].any()
    # The probabilities of each of the other three queries add up to 1.
    np.testing.assert_allclose(dv.sum(0), 3.0, rtol=1e-12)
