"""The handwritten digits that come inside scikit-learn: nothing to download."""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from ..tensor import wrap
from .sets import TensorDataset

__all__ = ["Digits"]

#: A pixel counts how many of 4x4 smaller ones are ink: 0 to 16.
_WHITE = 16.0
#: One image in this many is held out.
_HELD_OUT = 5


class Digits(TensorDataset):
    """1,797 images of digits, 8 x 8, by 43 people; pixels from 0 (paper) to 1 (ink).

    The images are ranked by class, in the order of the file within a class, and every fifth
    is held out: 360 images, in which each class is as frequent as in the other 1,437. The
    split is always the same.

    Args:
        train: the four fifths to train on, or the fifth that is held out.

    Shape: images (n, 1, 8, 8) float32, labels (n,) int64.

    Raises:
        RuntimeError: if scikit-learn is not installed.

    Source: E. Alpaydin and C. Kaynak 1998, "Optical Recognition of Handwritten Digits",
    UCI Machine Learning Repository (its test part).

    >>> len(nano.data.Digits(train=True)), len(nano.data.Digits(train=False))
    (1437, 360)
    """

    size = 8
    classes = tuple("0123456789")

    def __init__(self, train: bool = True) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DataError(
                "Digits",
                "these images come inside scikit-learn, which is not installed.",
                hint="pip install 'nano-dl[train]'",
            ) from None
        raw = load_digits()
        ranked = np.argsort(raw.target, kind="stable")
        held_out = np.zeros(len(ranked), bool)
        held_out[ranked[::_HELD_OUT]] = True
        chosen = ~held_out if train else held_out
        images = (raw.images[chosen] / _WHITE).astype(np.float32)[:, None]
        self.train = train
        super().__init__(wrap(images), wrap(raw.target[chosen].astype(np.int64)))
