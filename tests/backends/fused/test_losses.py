"""The loss of labels and its gradient beside the reference kernels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from nano.backends import explain, kernels
from nano.backends.fused import losses as fused
from nano.backends.reference import losses as reference

from .beside import BFLOAT16, same


def compare(log_p, labels, ignore_index, reduction):
    arguments = labels, None, ignore_index, reduction
    wanted = reference.nll_loss(log_p, *arguments)
    # A sum of n float32 numbers: rounded once here, and in each addition there.
    same(fused.nll_loss(log_p, *arguments), wanted)
    g = np.asarray(0.7, np.float32)
    arguments = labels, None, log_p.shape, ignore_index, reduction
    found = fused.nll_loss_backward(g, *arguments)
    np.testing.assert_array_equal(found, reference.nll_loss_backward(g, *arguments))
    assert found.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 300),
    classes=st.integers(1, 70),
    reduction=st.sampled_from(["mean", "sum"]),
    ignore_index=st.sampled_from([-100, 0, 3]),
    seed=st.integers(0, 100),
)
def test_equals_the_reference(rows, classes, reduction, ignore_index, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    labels[rng.random(rows) < 0.2] = ignore_index if ignore_index < classes else -100
    labels[labels == -100] = ignore_index
    log_p = -rng.random((rows, classes), dtype=np.float32)
    with np.errstate(invalid="ignore"):  # the mean of no labels is NaN
        compare(log_p, labels, ignore_index, reduction)


def test_special_values():
    labels = np.arange(200) % 7
    for value in (np.nan, -np.inf, np.inf):
        log_p = np.full((200, 7), -1, np.float32)
        log_p[3, 3] = value
        compare(log_p, labels, -100, "mean")
        log_p[3, 3], log_p[3, 4] = -1, value  # not picked
        compare(log_p, labels, -100, "sum")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_all_ignored(reduction):
    log_p, labels = np.ones((200, 7), np.float32), np.full(200, 2)
    with np.errstate(invalid="ignore"):
        compare(log_p, labels, 2, reduction)


@pytest.mark.parametrize("label", [-1, 7, 2**40])
def test_a_label_that_is_no_class(label):
    log_p, labels = np.ones((200, 7), np.float32), np.arange(200) % 7
    labels[150] = label
    with pytest.raises(IndexError, match=f"target {label} is out of bounds"):
        kernels.nll_loss(log_p, labels, None, -100, "mean")
    g = np.asarray(1, np.float32)
    with pytest.raises(IndexError, match=f"target {label} is out of bounds"):
        kernels.nll_loss_backward(g, labels, None, log_p.shape, -100, "mean")
    compare(log_p, labels, label, "mean")


def test_what_is_left_to_the_reference():
    x, labels = np.ones((200, 7), np.float32), np.arange(200) % 7
    weight = np.ones(7, np.float32)
    assert explain("nll_loss", x, labels, None, -100, "mean").startswith("nll_loss: fused")
    for arguments in (
        (x[:9], labels[:9], None, -100, "mean"),
        (x.astype(BFLOAT16), labels, None, -100, "mean"),
        (x[:, ::2], labels, None, -100, "mean"),
        (x, labels.astype(np.uint8), None, -100, "mean"),
        (np.ones((200, 7, 1), np.float32), labels[:, None], None, -100, "mean"),
        (x, labels, weight, -100, "mean"),
        (x, labels, None, -100, "none"),
    ):
        assert explain("nll_loss", *arguments).startswith("nll_loss: reference")
