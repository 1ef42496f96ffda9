"""Augmentation: images changed at random, a whole batch at a time, each image in its own way.

A transform is called with a batch of images and a generator, and draws all its numbers at
once. The names and arguments are torchvision's. ``dataset.transform`` is where one is put.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..errors import InputError, ShapeError, TypeMismatchError
from ..random import Generator, default_generator
from ..tensor import Tensor, wrap

__all__ = [
    "Compose",
    "Cutout",
    "Normalize",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "Transform",
]

#: Random erasing draws this many boxes for an image before it leaves the image as it is.
_ATTEMPTS = 10


class Transform:
    """Images in, images out; a subclass says ``change``.

    Called with images (n, c, h, w) of any dtype and layout in memory, and a
    :class:`nano.Generator` (the default generator if not given). The result lies
    channels-last in memory, as the images of a data set do; the images given stay as they are.

    >>> images = nano.zeros(2, 3, 8, 8, dtype=nano.uint8)
    >>> nano.data.RandomCrop(8, padding=1)(images, nano.Generator()).shape
    (2, 3, 8, 8)
    """

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        if not isinstance(images, Tensor):
            raise TypeMismatchError(
                type(self).__name__, f"expected a Tensor, got {type(images).__name__}."
            )
        if images.ndim != 4:
            raise ShapeError(
                type(self).__name__,
                f"expected a batch of images (n, c, h, w), got {images.shape}.",
                hint="One image is a batch of one: image[None].",
            )
        pixels = images.detach()._data.transpose(0, 2, 3, 1)
        changed = self.change(pixels, (generator or default_generator).numpy)
        return wrap(changed.transpose(0, 3, 1, 2))

    def change(self, images: NDArray, draw: np.random.Generator) -> NDArray:
        """The changed images, in memory of their own; both (n, h, w, c)."""
        raise NotImplementedError(f"{type(self).__name__} must define change")


class Compose(Transform):
    """One transform after the other.

    Put what moves pixels before :class:`Normalize`: bytes are a quarter of float32's.

    >>> t = nano.data.Compose([nano.data.RandomHorizontalFlip(1.0), nano.data.Normalize(0, 1)])
    >>> t(nano.tensor([[[[0, 51, 255]]]], dtype=nano.uint8))
    tensor([[[[1.0000, 0.2000, 0.0000]]]])
    """

    def __init__(self, transforms: Sequence[Callable[[Tensor, Generator | None], Tensor]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        for transform in self.transforms:
            images = transform(images, generator)
        return images


class Normalize(Transform):
    """(image - mean) / std for each channel, in float32; bytes are put on the scale 0 to 1 first.

    Args:
        mean, std: a number for each channel, or one for all.

    Raises:
        ValueError: if a deviation is zero.

    >>> nano.data.Normalize(0.5, 0.25)(nano.tensor([[[[0.25, 0.5, 1.0]]]]))
    tensor([[[[-1.,  0.,  2.]]]])
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean = np.atleast_1d(np.asarray(mean, np.float64))
        self.std = np.atleast_1d(np.asarray(std, np.float64))
        if self.mean.ndim > 1 or self.std.ndim > 1 or not (self.std > 0).all():
            raise InputError(
                "Normalize",
                f"mean and std must be numbers, one a channel, std positive: got {mean}, {std}.",
            )

    def change(self, images: NDArray, draw: np.random.Generator) -> NDArray:
        n, h, w, c = images.shape
        if {len(self.mean), len(self.std)} - {1, c}:
            raise ShapeError(
                "Normalize",
                f"images have {c} channels, but mean has {len(self.mean)} values and std "
                f"{len(self.std)}.",
            )
        scale = 1 / self.std
        shift = np.broadcast_to(-self.mean * scale, (c,)).astype(np.float32)
        if images.dtype == np.uint8:
            scale = scale / 255
        scale = np.broadcast_to(scale, (c,)).astype(np.float32)
        # The few numbers are repeated for each pixel of a row: NumPy's loops run along the last
        # dimension, and one of three elements costs five times as much.
        rows = images.reshape(n, h, w * c)
        out = np.multiply(rows, np.tile(scale, w), dtype=np.float32, casting="unsafe")
        out += np.tile(shift, w)
        return out.reshape(n, h, w, c)


_PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


class RandomCrop(Transform):
    """A part of each image, somewhere in it.

    Args:
        size: height and width of the part, or one number for both.
        padding: pixels added on each side before.
        fill: the value of those, if ``padding_mode`` is ``"constant"``.
        padding_mode: ``"constant"``; ``"edge"`` repeats the outermost pixels, ``"reflect"``
            mirrors the image at them, ``"symmetric"`` beside them.

    Raises:
        RuntimeError: if the padded image is smaller than the part.
        ValueError: for a size or padding that makes no sense, or another mode.

    Source: the augmentation for CIFAR-10 with padding 4, C.-Y. Lee et al. 2015,
    "Deeply-Supervised Nets".
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        padding: int = 0,
        fill: float = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.padding = padding
        self.fill = fill
        self.padding_mode = padding_mode
        if padding_mode not in _PADDING_MODES:
            raise InputError(
                "RandomCrop",
                f"padding_mode must be one of {', '.join(_PADDING_MODES)}, got {padding_mode!r}.",
            )
        if len(self.size) != 2 or min(self.size) < 1 or padding < 0:
            raise InputError(
                "RandomCrop",
                f"size must be positive and padding not negative, got {size} and {padding}.",
            )

    def change(self, images: NDArray, draw: np.random.Generator) -> NDArray:
        (n, h, w, c), p = images.shape, self.padding
        height, width = self.size
        tops, lefts = h + 2 * p - height + 1, w + 2 * p - width + 1
        if min(tops, lefts) < 1:
            raise ShapeError(
                "RandomCrop",
                f"images of {h} x {w} with padding {p} are smaller than {height} x {width}.",
            )
        around = (0, 0), (p, p), (p, p), (0, 0)
        if self.padding_mode == "constant":
            padded = np.full((n, h + 2 * p, w + 2 * p, c), self.fill, images.dtype)
            padded[:, p : p + h, p : p + w] = images
        else:
            padded = np.pad(images, around, self.padding_mode)
        # Every part that could be cut is a window in a view; a row of one is a run of memory.
        rows = padded.reshape(n, h + 2 * p, (w + 2 * p) * c)
        windows = sliding_window_view(rows, (height, width * c), axis=(1, 2))
        top, left = draw.integers(0, tops, n), draw.integers(0, lefts, n)
        return windows[np.arange(n), top, left * c].reshape(n, height, width, c)


class RandomHorizontalFlip(Transform):
    """Each image mirrored, left for right, with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = _probability("RandomHorizontalFlip", p)

    def change(self, images: NDArray, draw: np.random.Generator) -> NDArray:
        mirrored = draw.random(len(images)) < self.p
        out = np.array(images, order="C")
        out[mirrored] = images[mirrored].take(np.arange(images.shape[2])[::-1], axis=2)
        return out


class RandomErasing(Transform):
    """In each image, with probability ``p``, a box filled with one value.

    Args:
        p: the probability.
        scale: least and most area of the box, as a fraction of the image's.
        ratio: least and most height over width.
        value: what the box is filled with; after :class:`Normalize`, 0 is the mean colour.

    Source: Z. Zhong et al. 2017, "Random Erasing Data Augmentation".
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float = 0,
    ) -> None:
        self.p = _probability("RandomErasing", p)
        self.scale = _interval("RandomErasing", "scale", scale, 1.0)
        self.ratio = _interval("RandomErasing", "ratio", ratio, np.inf)
        self.value = value

    def change(self, images: NDArray, draw: np.random.Generator) -> NDArray:
        n, h, w, _ = images.shape
        chosen = draw.random(n) < self.p
        area = draw.uniform(*self.scale, (n, _ATTEMPTS)) * h * w
        ratio = np.exp(draw.uniform(*np.log(self.ratio), (n, _ATTEMPTS)))
        heights = np.rint(np.sqrt(area * ratio)).astype(int)
        widths = np.rint(np.sqrt(area / ratio)).astype(int)
        fits = (heights < h) & (widths < w)
        # For each image the first box that fits; where none does, it stays whole.
        first = (np.arange(n), fits.argmax(1))
        chosen &= fits[first]
        height, width = heights[first] * chosen, widths[first] * chosen
        top = (draw.random(n) * (h - height + 1)).astype(int)
        left = (draw.random(n) * (w - width + 1)).astype(int)
        return _filled(images, top, left, height, width, self.value)


class Cutout(Transform):
    """In each image a square filled with one value; its centre is any pixel, so that it may
    reach over the edge.

    Args:
        length: the side of the square; the paper's is 16 for CIFAR-10.
        value: what the square is filled with; after :class:`Normalize`, 0 is the mean colour.

    Source: T. DeVries and G. Taylor 2017, "Improved Regularization of Convolutional Neural
    Networks with Cutout".
    """

    def __init__(self, length: int = 16, value: float = 0) -> None:
        if length < 1:
            raise InputError("Cutout", f"length must be positive, got {length}.")
        self.length = length
        self.value = value

    def change(self, images: NDArray, draw: np.random.Generator) -> NDArray:
        n, h, w, _ = images.shape
        top = draw.integers(0, h, n) - self.length // 2
        left = draw.integers(0, w, n) - self.length // 2
        return _filled(images, top, left, self.length, self.length, self.value)


def _filled(
    images: NDArray,
    top: NDArray,
    left: NDArray,
    height: NDArray | int,
    width: NDArray | int,
    value: float,
) -> NDArray:
    """The images with a box in each set to ``value``."""
    n, h, w, c = images.shape
    rows, columns = np.arange(h), np.arange(w)
    top, left = top[:, None], left[:, None]
    in_rows = (rows >= top) & (rows < top + np.reshape(height, (-1, 1)))
    in_columns = (columns >= left) & (columns < left + np.reshape(width, (-1, 1)))
    box = in_rows[:, :, None] & in_columns.repeat(c, axis=1)[:, None, :]
    out = np.array(images, order="C")
    np.copyto(out.reshape(n, h, w * c), value, where=box, casting="unsafe")
    return out


def _probability(owner: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise InputError(owner, f"p must be between 0 and 1, got {p}.")
    return p


def _interval(owner: str, name: str, pair: Any, most: float) -> tuple[float, float]:
    low, high = pair
    if not 0 < low <= high <= most:
        raise InputError(owner, f"{name} must be (least, most), both positive, got {pair}.")
    return low, high
