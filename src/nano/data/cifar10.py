"""CIFAR-10: the readers of its layouts, and the download.

Official are two, one of pickles and one of plain bytes, each as a folder or as the archive that
is downloaded; a third archive holds the images as JPEG. What comes out of an archive is kept in
nano's cache, so that it is unpacked once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import config
from ..errors import DataError
from ..tensor import Tensor, wrap
from . import plain_pickle
from .download import fetch
from .sets import TensorDataset
from .transforms import Normalize

__all__ = ["CIFAR10", "CIFAR10_MEAN", "CIFAR10_STD"]

#: Mean and standard deviation of the pixels of the 50,000 training images, red, green and blue,
#: on the scale 0 to 1.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

ADDRESS = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE = "cifar-10-python.tar.gz"
#: Of the official archive.
MD5 = "c58f30108f718f92721af3b95e74349a"

_SIZE = 32
_PIXELS = 3 * _SIZE * _SIZE
_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
)  # fmt: skip
#: The files of a part, without the ending ".bin" of the binary layout.
_FILES = {True: [f"data_batch_{i}" for i in range(1, 6)], False: ["test_batch"]}

#: (n, 32, 32, 3) uint8 and (n,) int64
_Samples = tuple[NDArray, NDArray]


class CIFAR10(TensorDataset):
    """60,000 colour photographs of ten kinds of things, 32 x 32: 50,000 to train on, 10,000 to
    test with.

    They are kept as bytes, and made into numbers when they are asked for. Augmentation goes
    into ``transform``; with ``DataLoader(..., in_memory=True)`` it gets whole batches::

        nano.data.CIFAR10(transform=Compose([
            RandomCrop(32, padding=4),
            RandomHorizontalFlip(),
            Normalize(CIFAR10_MEAN, CIFAR10_STD),
        ]))

    Args:
        root: a folder that holds one of ``cifar-10-batches-py``, ``cifar-10-batches-bin`` (or
            is one), ``cifar-10-python.tar.gz``, ``cifar-10-binary.tar.gz`` and
            ``cifar-10-jpeg.tar.gz``, looked for in this order. If not given, it is ``cifar10``
            in :func:`nano.config.data_dir`.
        train: the training images, or the test images.
        download: if none of them is there, fetch ``cifar-10-python.tar.gz`` (170 MB).
        transform: from a batch of images, uint8, and a generator to the images of samples;
            :class:`Normalize` with ``CIFAR10_MEAN`` and ``CIFAR10_STD`` if not given.

    Attributes:
        data: (n, 32, 32, 3) uint8, an array.
        targets: the labels, a list of n integers.
        classes, class_to_idx: the names of the labels, and back.

    Shape: images (3, 32, 32) float32, labels () int64.

    Raises:
        RuntimeError: if files are missing and cannot be had, are cut short or damaged, or hold
            anything but what they should.

    Source: A. Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    size = _SIZE
    classes = _CLASSES
    class_to_idx: ClassVar[dict[str, int]] = dict(zip(_CLASSES, range(len(_CLASSES)), strict=True))

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        download: bool = False,
        *,
        transform: Callable[..., Tensor] | None = None,
    ) -> None:
        folder = config.data_dir() / "cifar10" if root is None else Path(root)
        samples = _read(folder, train)
        if samples is None and download:
            _download(folder)
            samples = _read(folder, train)
        if samples is None:
            raise DataError(
                "CIFAR10",
                f"{folder} holds none of {ARCHIVE}, cifar-10-batches-py and their like.",
                hint="Give the folder that does, or download=True.",
            )
        self.data, labels = samples
        self.targets = labels.tolist()
        self.train = train
        super().__init__(
            wrap(self.data.transpose(0, 3, 1, 2)),
            wrap(labels),
            transform=transform or Normalize(CIFAR10_MEAN, CIFAR10_STD),
        )


# Where they are ---------------------------------------------------------------------------


def _read(root: Path, train: bool) -> _Samples | None:
    """The samples in a folder, in the first layout that is there; None if none is."""
    names = _FILES[train]
    for layout, ending, parse in _LAYOUTS:
        for folder in (root, root / layout):
            if (folder / (names[0] + ending)).is_file():
                files = [folder / (name + ending) for name in names]
                return _joined(parse(_content(file), str(file)) for file in files)
    for archive, read in _ARCHIVES.items():
        if (root / archive).is_file():
            return _unpacked_once(root / archive, train, read)
    return None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise DataError("CIFAR10", f"{file.name} is missing in {file.parent}.") from None
    except OSError as error:
        raise DataError("CIFAR10", f"{file} cannot be read ({error.strerror}).") from None


def _joined(batches: Iterable[_Samples]) -> _Samples:
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _download(folder: Path) -> None:
    def check(file: Path) -> None:
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "md5").hexdigest()
        if digest != MD5:
            raise _fault(
                str(file), "is not the official archive", f"its MD5 is {digest}, not {MD5}"
            )

    fetch(
        "CIFAR10",
        folder / ARCHIVE,
        [ADDRESS + ARCHIVE],
        check,
        f"Put {ARCHIVE} into a folder and give it with --data, or set NANO_DATA.",
    )


def _fault(place: str, what: str, facts: str = "") -> DataError:
    return DataError(
        "CIFAR10", f"{place} {what}.", facts=facts, hint="Remove it and fetch it again."
    )


# What a file of the official layouts holds --------------------------------------------------


def _from_pickle(content: bytes, place: str) -> _Samples:
    """A dict with ``data``, (n, 3072) bytes, and ``labels``, n integers."""
    try:
        batch = plain_pickle.load(content)
        planes = np.asarray(batch[b"data"])
        labels = np.asarray(batch[b"labels"])
    except Exception as error:  # a damaged pickle can fail in every way
        facts = f"{type(error).__name__}: {error}"
        raise _fault(place, "is no batch of CIFAR-10", facts) from None
    return _checked(planes, labels, place)


def _from_bytes(content: bytes, place: str) -> _Samples:
    """For each image a byte for its label and 3,072 for its pixels."""
    if len(content) % (1 + _PIXELS):
        raise _fault(place, "is cut short", f"its {len(content)} bytes are no whole images")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return _checked(rows[:, 1:], rows[:, 0], place)


def _checked(planes: NDArray, labels: NDArray, place: str) -> _Samples:
    """The images, from the red, the green and the blue plane of each."""
    n = len(labels) if labels.ndim == 1 else -1
    if planes.dtype != np.uint8 or planes.shape != (n, _PIXELS) or labels.dtype.kind not in "iu":
        raise _fault(
            place,
            "is no batch of CIFAR-10",
            f"data {planes.dtype} {planes.shape}, labels {labels.dtype} {labels.shape}",
        )
    if not n or labels.min() < 0 or labels.max() >= len(_CLASSES):
        raise _fault(place, "is damaged", "it has no images, or labels that are not 0 to 9")
    images = planes.reshape(n, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int64)


_LAYOUTS = (
    ("cifar-10-batches-py", "", _from_pickle),
    ("cifar-10-batches-bin", ".bin", _from_bytes),
)


# Archives -----------------------------------------------------------------------------------


def _unpacked_once(archive: Path, train: bool, read: Callable[[Path, bool], _Samples]) -> _Samples:
    """The samples in an archive: from the cache, or read and put there if it can be written."""
    about = archive.stat()
    stamp = f"{archive.resolve()} {about.st_size} {about.st_mtime_ns}"
    name = f"{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npz"
    part = "train" if train else "test"
    kept = config.cache_dir() / "unpacked" / f"{archive.name.split('.')[0]}-{part}-{name}"
    # Whatever is wrong with the cache, the archive is there.
    with suppress(Exception), open(kept, "rb") as file, np.load(file) as arrays:
        return arrays["images"], arrays["labels"]
    images, labels = read(archive, train)
    partial = kept.with_name(f".{os.getpid()}.{kept.name}")
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(partial, images=images, labels=labels)
            os.replace(partial, kept)
        finally:
            partial.unlink(missing_ok=True)
    return images, labels


def _from_python_archive(archive: Path, train: bool) -> _Samples:
    return _from_archive(archive, _FILES[train], _from_pickle)


def _from_binary_archive(archive: Path, train: bool) -> _Samples:
    return _from_archive(archive, [f"{name}.bin" for name in _FILES[train]], _from_bytes)


def _from_archive(
    archive: Path, names: list[str], parse: Callable[[bytes, str], _Samples]
) -> _Samples:
    found = {}
    for path, content in _members(archive):
        name = path.rpartition("/")[2]
        if name in names:
            found[name] = parse(content, f"{name} in {archive}")
    if missing := [name for name in names if name not in found]:
        raise _fault(str(archive), f"holds no {missing[0]}")
    return _joined(found[name] for name in names)


def _from_jpeg_archive(archive: Path, train: bool) -> _Samples:
    """Files ``train/CLASS/NUMBER.jpg`` and ``test/CLASS/NUMBER.jpg``.

    In the order of their numbers, so that the classes take turns.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            "CIFAR10",
            f"reading {archive.name} needs the package pillow.",
            hint="pip install 'nano-dl[train]'",
        ) from None
    found = []
    for path, content in _members(archive, ending=".jpg"):
        part, kind, number = ("", "", *path.split("/"))[-3:]
        if part == ("train" if train else "test") and kind in _CLASSES:
            try:
                with Image.open(io.BytesIO(content)) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise _fault(f"{path} in {archive}", "is damaged", str(error)) from None
            if pixels.shape != (_SIZE, _SIZE, 3):
                raise _fault(f"{path} in {archive}", "is not 32 x 32", f"it is {pixels.shape}")
            found.append((number, _CLASSES.index(kind), pixels))
    if not found:
        raise _fault(str(archive), "holds no images train/CLASS/NUMBER.jpg")
    found.sort(key=lambda sample: sample[:2])
    _, labels, images = zip(*found, strict=True)
    return np.stack(images), np.array(labels, np.int64)


def _members(archive: Path, ending: str = "") -> Iterator[tuple[str, bytes]]:
    """The path and the content of each file in an archive; nothing is written to the disk."""
    try:
        with gzip.open(archive) as unzipped:
            with tarfile.open(fileobj=unzipped, mode="r|") as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(ending):
                        file = tar.extractfile(member)
                        assert file is not None  # as it is of a plain file
                        yield member.name, file.read()
            # The checksum stands behind the archive's own end, and is checked when it is read.
            while unzipped.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _fault(str(archive), "is cut short, damaged, or no archive", str(error)) from None


_ARCHIVES = {
    ARCHIVE: _from_python_archive,
    "cifar-10-binary.tar.gz": _from_binary_archive,
    "cifar-10-jpeg.tar.gz": _from_jpeg_archive,
}
