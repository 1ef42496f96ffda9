"""Checkpoints: named tensors and JSON metadata in one safetensors file, never a pickle.

A file is written whole or not at all: to a temporary file beside it, flushed to
the disk, then renamed over it. A process killed at any moment leaves the
previous file as it was. A checksum in the metadata finds damage that keeps the
file's length. Nothing here knows of modules or optimizers.

Source: the safetensors format, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import dtypes
from .errors import CheckpointError, InputError, MissingCheckpointError, TypeMismatchError
from .tensor import Tensor, wrap

__all__ = ["flatten", "load", "save", "unflatten", "write_atomically"]

#: The dtypes of the format that nano has.
_FROM_FORMAT = {
    "F64": dtypes.float64,
    "F32": dtypes.float32,
    "F16": dtypes.float16,
    "BF16": dtypes.bfloat16,
    "I64": dtypes.int64,
    "I32": dtypes.int32,
    "I16": dtypes.int16,
    "I8": dtypes.int8,
    "U8": dtypes.uint8,
    "BOOL": dtypes.bool_,
}


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor | NDArray],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors and metadata to ``path``, whole or not at all.

    Args:
        path: the file; its folder must exist.
        tensors: by name; Tensors or arrays of nano's dtypes.
        metadata: anything that JSON can hold.

    Raises:
        TypeError: if a tensor or the metadata cannot be stored.
        RuntimeError: if the file cannot be written; the previous one, if any, stays.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "w.safetensors"
    >>> nano.checkpoint.save(file, {"w": nano.tensor([1.0, 2.0])}, {"epoch": 3})
    >>> nano.checkpoint.load(file)
    ({'w': tensor([1., 2.])}, {'epoch': 3})
    """
    import safetensors.numpy

    path = Path(path)
    arrays = {name: _as_array(name, tensors[name]) for name in sorted(tensors)}
    try:
        text = json.dumps(dict(metadata or {}))
    except TypeError as error:
        raise TypeMismatchError("checkpoint.save", f"metadata: {error}.") from None
    header = {"nano": text, "crc32": f"{_checksum(arrays, text):08x}"}
    content = safetensors.numpy.save(arrays, metadata=header)
    with write_atomically(path) as file:
        file.write(content)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file that :func:`save` or another program wrote.

    Args:
        path: the file.

    Returns:
        Tensors by name, and the metadata. Metadata of other programs is handed on as the
        strings that it is.

    Raises:
        FileNotFoundError: if there is no such file.
        RuntimeError: if it cannot be read, is cut short or damaged.
    """
    import safetensors

    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MissingCheckpointError("checkpoint.load", f"there is no file {path}.") from None
    except OSError as error:
        raise CheckpointError(
            "checkpoint.load", f"{path} cannot be read ({_reason(error)})."
        ) from None
    try:
        stored = safetensors.deserialize(content)
        header = _header(content)
    except (safetensors.SafetensorError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    arrays = {name: _from_format(path, name, entry) for name, entry in stored}
    metadata: dict[str, Any] = dict(header)
    if "nano" in header or "crc32" in header:
        text = header.get("nano", "")
        if header.get("crc32") != f"{_checksum(arrays, text):08x}":
            raise _damaged(path, "its checksum does not fit its contents")
        metadata = json.loads(text)
    return {name: wrap(a) for name, a in arrays.items()}, metadata


@contextmanager
def write_atomically(path: str | os.PathLike[str], owner: str = "checkpoint.save") -> Iterator[Any]:
    """Open a binary file to write that takes the place of ``path`` when it is complete.

    Raises:
        RuntimeError: if it cannot be written; what stood at ``path`` stays.
    """
    path = Path(path)
    # One fixed name: what a killed process leaves behind is overwritten by the next one.
    partial = path.with_name(f".{path.name}.partial")
    try:
        try:
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            owner,
            f"{path} cannot be written ({_reason(error)}).",
            hint="Check that its folder exists, is writable and has space.",
        ) from None


def flatten(value: Any, prefix: str) -> tuple[dict[str, Tensor], Any]:
    """Split a nested structure, such as an optimizer's state_dict, into tensors and JSON.

    Args:
        value: dicts (keys of any simple type), lists, tuples, Tensors, arrays, numbers,
            strings, booleans and None, nested at will.
        prefix: begins the tensors' names.

    Returns:
        Tensors by name, and what JSON can hold. :func:`unflatten` puts them together again,
        exactly: floats to the bit, integers as keys, tuples as tuples.

    >>> tensors, text = nano.checkpoint.flatten({0: (nano.tensor([1.0]), 0.1)}, "optimizer")
    >>> nano.checkpoint.unflatten(tensors, text)
    {0: (tensor([1.]), 0.1)}
    """
    tensors: dict[str, Tensor] = {}

    def encode(x: Any, name: str) -> Any:
        if isinstance(x, (Tensor, np.ndarray)):
            tensors[name] = wrap(_as_array(name, x).view())
            return {"array" if isinstance(x, np.ndarray) else "tensor": name}
        if x is None or type(x) in (bool, int, float, str):
            return x
        if isinstance(x, dict):
            pairs = [[encode(k, name), encode(v, f"{name}.{k}")] for k, v in x.items()]
            return {"dict": pairs}
        if isinstance(x, (list, tuple)):
            items = [encode(v, f"{name}.{i}") for i, v in enumerate(x)]
            return items if isinstance(x, list) else {"tuple": items}
        raise InputError(
            "checkpoint.flatten",
            f"{name} is a {type(x).__name__}, which a checkpoint cannot hold.",
            hint="It holds tensors, numbers, strings, booleans, None, lists, tuples and dicts.",
        )

    return tensors, encode(value, prefix)


def unflatten(tensors: Mapping[str, Tensor], encoded: Any) -> Any:
    """Put together again what :func:`flatten` split.

    Raises:
        RuntimeError: if a tensor is missing.
    """
    if isinstance(encoded, list):
        return [unflatten(tensors, x) for x in encoded]
    if not isinstance(encoded, dict):
        return encoded
    ((kind, content),) = encoded.items()
    return _DECODERS[kind](tensors, content)


def _tensor_named(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise CheckpointError("checkpoint.unflatten", f"the tensor {name!r} is missing.")
    return tensors[name]


_DECODERS: dict[str, Callable[[Mapping[str, Tensor], Any], Any]] = {
    "tensor": _tensor_named,
    "array": lambda tensors, name: _tensor_named(tensors, name).numpy(),
    "tuple": lambda tensors, items: tuple(unflatten(tensors, x) for x in items),
    "dict": lambda tensors, pairs: {unflatten(tensors, k): unflatten(tensors, v) for k, v in pairs},
}


def _as_array(name: str, value: Any) -> NDArray:
    """The elements, row by row without gaps, in a dtype that nano has."""
    array = value.detach()._data if isinstance(value, Tensor) else np.asarray(value)
    wanted = dtypes.from_numpy_dtype(array.dtype.newbyteorder("=")).numpy
    if array.flags.c_contiguous and array.dtype == wanted:
        return array
    return array.astype(wanted, order="C")


def _from_format(path: Path, name: str, entry: Mapping[str, Any]) -> NDArray:
    d = _FROM_FORMAT.get(entry["dtype"])
    if d is None:
        raise CheckpointError(
            "checkpoint.load", f"{path}: nano has no dtype {entry['dtype']}, which {name!r} has."
        )
    # A copy, so that the tensor can be written to.
    return np.frombuffer(bytearray(entry["data"]), d.numpy).reshape(entry["shape"])


def _header(content: bytes) -> dict[str, str]:
    """The free metadata: the format begins with the length of a JSON text, and the text."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]).get("__metadata__", {})


def _checksum(arrays: Mapping[str, NDArray], text: str) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        crc = zlib.crc32(f"{name}{a.dtype.name}{a.shape}".encode(), crc)
        crc = zlib.crc32(a.reshape(-1).view(np.uint8), crc)
    return crc


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        "checkpoint.load",
        f"{path} is cut short, damaged, or no safetensors file.",
        facts=why,
        hint="Use another copy, or train again.",
    )


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; only POSIX can open a folder for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
