"""MNIST: the reader of its file format, and the download.

The files' contents are checked, not their wrapping: a file packed again by
someone else is as good as the official one.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import config
from ..errors import DataError
from ..tensor import wrap
from .download import fetch
from .sets import TensorDataset

__all__ = ["MNIST", "MNIST_MEAN", "MNIST_STD", "read_idx"]

#: Mean and standard deviation of all pixels of the 60,000 training images, on the scale 0 to 1.
MNIST_MEAN = 0.1307
MNIST_STD = 0.3081

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

#: MD5 of the unpacked official files.
CONTENTS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

_IDX_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


class MNIST(TensorDataset):
    """60,000 images of handwritten digits to train on and 10,000 to test with, 28 x 28.

    Args:
        root: the folder of the four IDX files, packed (``.gz``) or plain. If not given, it is
            ``mnist`` in :func:`nano.config.data_dir`, and files that are missing there are
            downloaded.
        train: the training images, or the test images.
        normalise: give the pixels mean 0 and deviation 1 with ``MNIST_MEAN`` and
            ``MNIST_STD``; otherwise they go from 0 (paper) to 1 (ink).

    Shape: images (n, 1, 28, 28) float32, labels (n,) int64.

    Raises:
        RuntimeError: if a file is missing and cannot be had, cut short, damaged, or does not
            hold what the official file holds.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
    """

    size = 28
    classes = tuple("0123456789")

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        normalise: bool = True,
    ) -> None:
        part = "train" if train else "t10k"
        pixels = read_idx(_locate(root, f"{part}-images-idx3-ubyte"), check=True)
        labels = read_idx(_locate(root, f"{part}-labels-idx1-ubyte"), check=True)
        images = pixels[:, None].astype(np.float32)
        images /= 255
        if normalise:
            images -= np.float32(MNIST_MEAN)
            images /= np.float32(MNIST_STD)
        self.train = train
        super().__init__(wrap(images), wrap(labels.astype(np.int64)))


def read_idx(path: str | os.PathLike[str], check: bool = False) -> NDArray:
    """The array in an IDX file, packed with gzip or plain.

    Args:
        path: the file.
        check: also compare the contents with those of the official MNIST file of that name.

    Raises:
        RuntimeError: if the file is missing, cut short, damaged, or no IDX file.

    Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format": two zero bytes, one for
    the dtype, one for the number of dimensions; the sizes as big-endian int32; the elements.
    """
    path = Path(path)
    content = _unpacked(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise _fault(path, "is no IDX file", f"it begins with {content[:4].hex(' ') or 'nothing'}")
    d = np.dtype(_IDX_DTYPES[content[2]])
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise _fault(path, "is cut short", f"its header has {len(content)} bytes of {start}")
    shape = tuple(np.frombuffer(content, ">i4", content[3], 4).tolist())
    expected = start + math.prod(shape) * d.itemsize
    if min(shape, default=0) < 0 or len(content) > expected:
        raise _fault(
            path, "is damaged", f"{len(content)} bytes, but {expected} for the sizes {shape}"
        )
    if len(content) < expected:
        raise _fault(path, "is cut short", f"{len(content)} bytes of {expected} for sizes {shape}")
    name = path.name.removesuffix(".gz")
    if check and hashlib.md5(content, usedforsecurity=False).hexdigest() != CONTENTS[name]:
        raise _fault(path, "does not hold the official contents", f"MD5 should be {CONTENTS[name]}")
    array = np.frombuffer(content, d, offset=start).reshape(shape)
    return array.astype(d.newbyteorder("="))


def _unpacked(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == _GZIP_MAGIC else content
    except FileNotFoundError:
        raise DataError("read_idx", f"there is no file {path}.") from None
    except EOFError:
        raise _fault(path, "is cut short", "its gzip wrapping ends too early") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise _fault(path, "is damaged", str(error)) from None
    except OSError as error:
        raise DataError("read_idx", f"{path} cannot be read ({error.strerror}).") from None


def _fault(path: Path, what: str, facts: str) -> DataError:
    return DataError(
        "read_idx", f"{path} {what}.", facts=facts, hint="Remove it and fetch it again."
    )


def _locate(root: str | os.PathLike[str] | None, name: str) -> Path:
    """The file of that name, packed or plain; downloaded if no folder was given."""
    folder = config.data_dir() / "mnist" if root is None else Path(root)
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    if root is None:
        return _download(folder, name)
    raise DataError(
        "MNIST",
        f"neither {name} nor {name}.gz is in {folder}.",
        hint="Give the folder that holds the four IDX files, or none to download them.",
    )


def _download(folder: Path, name: str) -> Path:
    target = folder / f"{name}.gz"
    fetch(
        "MNIST",
        target,
        [mirror + target.name for mirror in MIRRORS],
        lambda partial: read_idx(partial, check=True),
        "Put the four IDX files into a folder and give it with --data, or set NANO_DATA.",
    )
    return target
