"""Metrics: accuracy and the counts of the confusion matrix."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import nano
from nano.train import accuracy, confusion_counts


@pytest.mark.parametrize(("n", "classes"), [(200, 7), (1, 3), (50, 300)])
@pytest.mark.parametrize("dtype", [nano.uint8, nano.int64])
def test_counts_are_those_of_scikit_learn(n, classes, dtype):
    if dtype is nano.uint8:
        classes = min(classes, 256)
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(n, classes)).astype(np.float32)
    targets = rng.integers(0, classes, n)
    got = confusion_counts(nano.tensor(outputs), nano.tensor(targets, dtype=dtype))
    wanted = confusion_matrix(targets, outputs.argmax(1), labels=range(classes))
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, wanted)
    right = accuracy(nano.tensor(outputs), nano.tensor(targets))
    assert np.trace(got) / n == pytest.approx(right)


def test_batches_add_up():
    outputs, targets = nano.randn(20, 4), nano.randint(0, 4, (20,))
    parts = sum(confusion_counts(outputs[i : i + 7], targets[i : i + 7]) for i in (0, 7, 14))
    np.testing.assert_array_equal(parts, confusion_counts(outputs, targets))
    assert (
        confusion_counts(nano.zeros(0, 3), nano.zeros(0, dtype=nano.int64)).tolist()
        == [[0] * 3] * 3
    )


def test_faults():
    for wrong in (-1, 3):
        with pytest.raises(IndexError, match="3 classes"):
            confusion_counts(nano.zeros(2, 3), nano.tensor([0, wrong]))
    for outputs, targets in ((nano.zeros(2, 3), nano.zeros(3)), (nano.zeros(2), nano.zeros(2))):
        with pytest.raises(RuntimeError, match=r"outputs \(n, classes\)"):
            confusion_counts(outputs, targets)
