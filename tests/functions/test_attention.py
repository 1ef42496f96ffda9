"""Scaled dot-product attention against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import nano
import nano.nn.functional as F

from .harness import Case, operator_tests, to_array

Q, K, V = (2, 4, 3), (2, 5, 3), (2, 5, 2)


def attend(m, q, k, v, mask=None, **options):
    return m.nn.functional.scaled_dot_product_attention(q, k, v, mask, **options)


def with_keys(*shapes):
    """Random operands, and a boolean mask that hides all keys from the first query."""

    def draw(rng):
        mask = rng.uniform(size=(4, 5)) > 0.4
        mask[0] = False
        mask[1:, 2] = True
        return [rng.uniform(-2, 2, s) for s in shapes] + [mask]

    return draw


CASES = [
    Case("plain", attend, shapes=[Q, K, V]),
    Case("matrices", attend, shapes=[Q[1:], K[1:], V[1:]]),
    Case("heads", attend, shapes=[(2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)]),
    Case("causal", lambda m, *t: attend(m, *t, is_causal=True), shapes=[Q, K, V]),
    Case("causal wide", lambda m, *t: attend(m, *t, is_causal=True), shapes=[K, Q, (2, 4, 2)]),
    Case("scale", lambda m, *t: attend(m, *t, scale=0.3), shapes=[Q, K, V]),
    Case("boolean mask", attend, arrays=with_keys(Q, K, V)),
    # The mask gets a gradient too.
    Case("additive mask", attend, shapes=[Q, K, V, (4, 5)]),
    Case("additive mask, a batch", attend, shapes=[Q, K, V, (2, 1, 5)]),
    Case("broadcast", attend, shapes=[(4, 3), (2, 1, 5, 3), (1, 3, 5, 2)]),
    Case(
        "grouped queries",
        lambda m, *t: attend(m, *t, enable_gqa=True),
        shapes=[(2, 4, 3, 2), (2, 2, 3, 2), (2, 1, 3, 2)],
    ),
    Case("self", lambda m, x: attend(m, x, x, x), shapes=[(2, 3, 2)]),
    Case("no queries", attend, shapes=[(2, 0, 3), K, V], gradgrad=False),
    Case("no keys", attend, shapes=[Q, (2, 0, 3), (2, 0, 2)], gradgrad=False),
    Case("no batch", attend, shapes=[(0, 4, 3), (0, 5, 3), (0, 5, 2)], gradgrad=False),
    Case("no features", attend, shapes=[(2, 4, 0), (2, 5, 0), V], gradgrad=False),
]

TestAttention = operator_tests(CASES)


def test_a_constant_mask_gives_what_one_with_gradient_gives():
    rng = np.random.default_rng(0)
    q, k, v, mask = (nano.tensor(rng.normal(size=s)) for s in (Q, K, V, (4, 5)))
    fused = attend(nano, q, k, v, mask)
    composed = attend(nano, q, k, v, mask.requires_grad_())
    # float64, in another order of operations.
    np.testing.assert_allclose(to_array(fused), to_array(composed), rtol=1e-12)


@pytest.mark.parametrize("grad", [False, True])
def test_an_additive_mask_of_minus_infinity(grad):
    rng = np.random.default_rng(0)
    data = [rng.normal(size=s).astype("float32") for s in (Q, K, V)]
    mask = np.where(rng.uniform(size=(4, 5)) > 0.5, 0, -np.inf).astype("float32")
    mask[1] = -np.inf
    results = []
    for m in (nano, torch):
        q, k, v = (m.tensor(a, requires_grad=True) for a in data)
        y = attend(m, q, k, v, m.tensor(mask, requires_grad=grad))
        (y * y).sum().backward()
        results.append((y, q.grad, k.grad, v.grad))
    for ours, theirs in zip(*results, strict=True):
        assert np.isfinite(to_array(ours)).all()
        np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(4, 5, 3), (100, 130, 24)])  # reference and fused kernels
def test_a_query_whose_mask_is_the_lowest_number_everywhere(shape, dtype):
    rng = np.random.default_rng(0)
    queries, keys, width = shape
    data = [rng.normal(size=(2, n, width)).astype(dtype) for n in (queries, keys, keys)]
    mask = np.zeros((queries, keys), dtype)
    mask[1] = np.finfo(dtype).min
    mask[2] = -1e30
    results = []
    for m in (nano, torch):
        q, k, v = (m.tensor(a, requires_grad=True) for a in data)
        # PyTorch's fused kernel has the defect that this guards against; with a gradient of
        # the mask wanted, it takes its other path.
        y = attend(m, q, k, v, m.tensor(mask, requires_grad=m is torch))
        (y * y).sum().backward()
        results.append((y, q.grad, k.grad, v.grad))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=1e-4, atol=1e-5)


def test_large_scores_do_not_overflow():
    q = nano.full((1, 2, 4), 1e4)
    assert attend(nano, q, q, nano.ones(1, 2, 1)).tolist() == [[[1.0], [1.0]]]


def test_dropout_drops_probabilities():
    nano.manual_seed(0)
    v = nano.eye(200)
    p = attend(nano, nano.zeros(200, 1), nano.zeros(200, 1), v, dropout_p=0.25).numpy()
    kept = p != 0
    # 40,000 draws: three standard deviations of the share are 0.0065.
    assert abs(kept.mean() - 0.75) < 0.0065
    np.testing.assert_allclose(p[kept], 1 / 200 / 0.75, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_float32_mask_with_16_bit_operands(dtype):
    rng = np.random.default_rng(0)
    data = [rng.normal(size=s).astype("float32") for s in (Q, K, V)]
    mask = rng.normal(size=(4, 5)).astype("float32")
    results = []
    for m in (nano, torch):
        q, k, v = (m.tensor(a).to(getattr(m, dtype)) for a in data)
        results.append(attend(m, q, k, v, m.tensor(mask)))
    assert str(results[0].dtype) == f"nano.{dtype}"
    # Two units in the last place of bfloat16.
    np.testing.assert_allclose(*map(to_array, results), rtol=3e-2, atol=3e-2)


def _t(m, *shape, dtype="float32"):
    return m.ones(*shape, dtype=getattr(m, dtype))


REFUSALS = {
    "dropout": lambda m, f: f(*[_t(m, *s) for s in (Q, K, V)], dropout_p=1.5),
    "mask and causal": lambda m, f: f(
        *[_t(m, *s) for s in (Q, K, V)], _t(m, 4, 5, dtype="bool"), is_causal=True
    ),
    "1-d": lambda m, f: f(_t(m, 3), _t(m, 5, 3), _t(m, 5, 2)),
    "features": lambda m, f: f(_t(m, 4, 3), _t(m, 5, 2), _t(m, 5, 2)),
    "keys": lambda m, f: f(_t(m, 4, 3), _t(m, 5, 3), _t(m, 4, 2)),
    "batch": lambda m, f: f(_t(m, 3, 4, 3), _t(m, 2, 5, 3), _t(m, 2, 5, 2)),
    "dtypes": lambda m, f: f(_t(m, 4, 3), _t(m, 5, 3, dtype="float64"), _t(m, 5, 2)),
    "integers": lambda m, f: f(*[_t(m, *s, dtype="int64") for s in (Q, K, V)]),
    "float64 mask": lambda m, f: f(*[_t(m, *s) for s in (Q, K, V)], _t(m, 4, 5, dtype="float64")),
    "integer mask": lambda m, f: f(*[_t(m, *s) for s in (Q, K, V)], _t(m, 4, 5, dtype="int64")),
    "mask's shape": lambda m, f: f(*[_t(m, *s) for s in (Q, K, V)], _t(m, 4, 6)),
    "large mask": lambda m, f: f(*[_t(m, *s) for s in (Q, K, V)], _t(m, 7, 1, 4, 5)),
    "heads": lambda m, f: f(
        _t(m, 1, 5, 4, 3), _t(m, 1, 2, 4, 3), _t(m, 1, 2, 4, 3), enable_gqa=True
    ),
    "no tensor": lambda m, f: f(1, _t(m, 5, 3), _t(m, 5, 2)),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_as_in_pytorch(name):
    with pytest.raises(Exception) as theirs:
        REFUSALS[name](torch, TF.scaled_dot_product_attention)
    with pytest.raises(theirs.type, match=r"\[scaled_dot_product_attention\]"):
        REFUSALS[name](nano, F.scaled_dot_product_attention)
