"""oneDNN's C API through ctypes: finding the library, and the functions that nano calls.

Nothing is loaded before :func:`library` is first called. Where the library is
absent, broken, or the processor is not one that it is good for, ``library``
raises :class:`UnavailableError` with the reason, and the reference kernels serve.

Source: the oneDNN developer guide, "C API" (https://uxlfoundation.github.io/oneDNN).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char,
    c_char_p,
    c_float,
    c_int,
    c_int64,
    c_uint,
    c_void_p,
)
from pathlib import Path
from typing import Any

from .. import threads

__all__ = ["Dims", "Library", "OneDnnError", "UnavailableError", "library"]

#: Dimensions and strides: an array of as many numbers as a tensor can have dimensions.
Dims = c_int64 * 12

_Handle = c_void_p
_Out = POINTER(c_void_p)
_DimsIn = POINTER(c_int64)

#: The instruction sets that oneDNN calls so, from the oldest that it is fast on.
_ISA_NAMES = {
    0x7: "AVX2",
    0xF: "AVX2 with VNNI",
    0x27: "AVX-512",
    0x67: "AVX-512 with VNNI",
    0xE7: "AVX-512 with bfloat16",
    0x1EF: "AVX-512 with float16",
    0xFEF: "AMX",
}
_AVX2 = 0x7
_BF16_BITS = 0xE7


class UnavailableError(Exception):
    """Why oneDNN is not used."""


class OneDnnError(RuntimeError):
    """A oneDNN call failed; ``status`` is its number, 3 for "not implemented"."""

    def __init__(self, call: str, status: int) -> None:
        super().__init__(f"[onednn] {call} failed with status {status}")
        self.status = status


class ExecArg(Structure):
    """``dnnl_exec_arg_t``: which argument of a primitive, and its memory object."""

    _fields_ = (("arg", c_int), ("memory", c_void_p))


#: name: argument types. All return a status but those in _PLAIN.
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "dnnl_engine_create": (_Out, c_int, ctypes.c_size_t),
    "dnnl_stream_create": (_Out, _Handle, c_uint),
    "dnnl_memory_desc_create_with_strides": (_Out, c_int, _DimsIn, c_int, _DimsIn),
    "dnnl_memory_desc_create_with_tag": (_Out, c_int, _DimsIn, c_int, c_int),
    "dnnl_memory_desc_clone": (_Out, _Handle),
    "dnnl_memory_desc_destroy": (_Handle,),
    "dnnl_memory_create": (_Out, _Handle, _Handle, c_void_p),
    "dnnl_memory_set_data_handle": (_Handle, c_void_p),
    "dnnl_memory_destroy": (_Handle,),
    "dnnl_primitive_desc_query": (_Handle, c_int, c_int, c_void_p),
    "dnnl_primitive_desc_destroy": (_Handle,),
    "dnnl_primitive_create": (_Out, _Handle),
    "dnnl_primitive_execute": (_Handle, _Handle, c_int, POINTER(ExecArg)),
    "dnnl_primitive_destroy": (_Handle,),
    "dnnl_primitive_attr_create": (_Out,),
    "dnnl_primitive_attr_destroy": (_Handle,),
    "dnnl_primitive_attr_set_fpmath_mode": (_Handle, c_int),
    "dnnl_primitive_attr_set_post_ops": (_Handle, _Handle),
    "dnnl_post_ops_create": (_Out,),
    "dnnl_post_ops_destroy": (_Handle,),
    "dnnl_post_ops_append_eltwise": (_Handle, c_int, c_float, c_float),
    "dnnl_post_ops_append_binary": (_Handle, c_int, _Handle),
    "dnnl_reorder_primitive_desc_create": (_Out, *[_Handle] * 5),
    "dnnl_convolution_forward_primitive_desc_create": (
        *(_Out, _Handle, c_int, c_int, *[_Handle] * 4, *[_DimsIn] * 4, _Handle),
    ),
    "dnnl_convolution_backward_data_primitive_desc_create": (
        *(_Out, _Handle, c_int, *[_Handle] * 3, *[_DimsIn] * 4, *[_Handle] * 2),
    ),
    "dnnl_convolution_backward_weights_primitive_desc_create": (
        *(_Out, _Handle, c_int, *[_Handle] * 4, *[_DimsIn] * 4, *[_Handle] * 2),
    ),
    "dnnl_matmul_primitive_desc_create": (_Out, *[_Handle] * 6),
    "dnnl_pooling_forward_primitive_desc_create": (
        *(_Out, _Handle, c_int, c_int, *[_Handle] * 2, *[_DimsIn] * 5, _Handle),
    ),
    "dnnl_pooling_backward_primitive_desc_create": (
        *(_Out, _Handle, c_int, *[_Handle] * 2, *[_DimsIn] * 5, *[_Handle] * 2),
    ),
    "dnnl_batch_normalization_forward_primitive_desc_create": (
        *(_Out, _Handle, c_int, *[_Handle] * 2, c_float, c_uint, _Handle),
    ),
    "dnnl_batch_normalization_backward_primitive_desc_create": (
        *(_Out, _Handle, c_int, *[_Handle] * 3, c_float, c_uint, *[_Handle] * 2),
    ),
    "dnnl_layer_normalization_forward_primitive_desc_create": (
        *(_Out, _Handle, c_int, *[_Handle] * 3, c_float, c_uint, _Handle),
    ),
    "dnnl_layer_normalization_backward_primitive_desc_create": (
        *(_Out, _Handle, c_int, *[_Handle] * 4, c_float, c_uint, *[_Handle] * 2),
    ),
    "dnnl_sgemm": (
        *(c_char, c_char, *[c_int64] * 3, c_float, c_void_p, c_int64, c_void_p),
        *(c_int64, c_float, c_void_p, c_int64),
    ),
}
#: Functions that return something else than a status.
_PLAIN: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "dnnl_memory_desc_get_size": (ctypes.c_size_t, (_Handle,)),
    "dnnl_memory_desc_equal": (c_int, (_Handle, _Handle)),
    "dnnl_primitive_desc_query_md": (_Handle, (_Handle, c_int, c_int)),
    "dnnl_get_effective_cpu_isa": (c_int, ()),
}


class _Version(Structure):
    _fields_ = (
        *(("major", c_int), ("minor", c_int), ("patch", c_int), ("hash", c_char_p)),
        *(("cpu_runtime", c_uint), ("gpu_runtime", c_uint)),
    )


class Library:
    """The loaded library: ``call`` and ``create`` check the status of every call.

    Attributes:
        path: of the shared object.
        version: such as ``"3.2.0"``.
        isa: the instruction set that it makes code for, in words.
        has_bfloat16: whether the processor multiplies bfloat16 numbers itself.
        engine: the handle of the CPU.
    """

    def __init__(self, path: str) -> None:
        try:
            if _is_cut_off(path):
                raise UnavailableError(f"{path} is not whole; install it again")
            self._dll = ctypes.CDLL(path)
        except OSError as error:
            raise UnavailableError(f"{path} cannot be loaded: {error}") from None
        self.path = path
        try:
            self._declare()
        except AttributeError as error:
            raise UnavailableError(f"{path} is not oneDNN 3 ({error})") from None
        if self.isa_bits & _AVX2 != _AVX2:
            raise UnavailableError("the processor has no AVX2, which oneDNN is fast with")
        self.isa = max((bits, name) for bits, name in _ISA_NAMES.items() if self._has(bits))[1]
        self.has_bfloat16 = self._has(_BF16_BITS)
        self.engine = self.create("dnnl_engine_create", 1, 0)
        self._local = threading.local()

    def _has(self, bits: int) -> bool:
        return self.isa_bits & bits == bits

    def _declare(self) -> None:
        version = self._dll.dnnl_version
        version.restype = POINTER(_Version)
        v = version().contents
        self.version = f"{v.major}.{v.minor}.{v.patch}"
        if v.major != 3:
            raise UnavailableError(f"{self.path} is oneDNN {self.version}; nano is written for 3.x")
        self._functions: dict[str, Any] = {}
        for name, types in _PROTOTYPES.items():
            function = getattr(self._dll, name)
            function.argtypes, function.restype = types, c_int
            self._functions[name] = function
        for name, (result, types) in _PLAIN.items():
            function = getattr(self._dll, name)
            function.argtypes, function.restype = types, result
            self._functions[name] = function
        self.isa_bits = self.plain("dnnl_get_effective_cpu_isa")
        self.execute = self._functions["dnnl_primitive_execute"]
        self.set_data_handle = self._functions["dnnl_memory_set_data_handle"]
        self.sgemm = self._functions["dnnl_sgemm"]

    def plain(self, name: str, *args: Any) -> Any:
        """Call a function that returns a value."""
        return self._functions[name](*args)

    def call(self, name: str, *args: Any) -> None:
        """Call a function that returns a status.

        Raises:
            OneDnnError: if the status says so.
        """
        status = self._functions[name](*args)
        if status:
            raise OneDnnError(name, status)

    def create(self, name: str, *args: Any) -> c_void_p:
        """Call a function whose first argument is where it puts what it made."""
        handle = c_void_p()
        self.call(name, byref(handle), *args)
        return handle

    @property
    def stream(self) -> c_void_p:
        """This thread's queue of work: a stream must not be shared between threads."""
        try:
            return self._local.stream
        except AttributeError:
            self._local.stream = self.create("dnnl_stream_create", self.engine, 1)
            return self._local.stream


def _candidates() -> list[str]:
    """Where the library may be, the likeliest first."""
    named = os.environ.get("NANO_ONEDNN")
    if named:
        return [named]
    found = []
    from importlib import metadata

    try:
        files = metadata.files("onednn-cpu-gomp") or []
        found += [str(f.locate()) for f in files if f.name == "libdnnl.so.3"]
    except metadata.PackageNotFoundError:
        pass
    found.append(str(Path(sys.prefix) / "lib" / "libdnnl.so.3"))
    return [f for f in found if Path(f).is_file()]


def _is_cut_off(path: str) -> bool:
    """Whether a shared library of 64 bits ends before its last part, as after a full disk.

    Loading such a file would end the process. What is no such library is left to the loader.

    Source: the ELF-64 object file format, "File header".
    """
    with open(path, "rb") as file:
        header = file.read(64)
        end = file.seek(0, os.SEEK_END)
    if not header.startswith(b"\x7fELF\x02\x01"):
        return False
    if len(header) < 64:
        return True
    (sections,) = struct.unpack_from("<Q", header, 40)
    size, count = struct.unpack_from("<HH", header, 58)
    return sections + size * count > end


_loaded: Library | None = None
_refused: UnavailableError | None = None
_lock = threading.Lock()


def library() -> Library:
    """The library, loaded on the first call.

    Raises:
        UnavailableError: with the reason, the same on every call.
    """
    global _loaded, _refused
    if _loaded is not None:
        return _loaded
    with _lock:
        if _refused is not None:
            raise _refused
        if _loaded is None:
            try:
                _loaded = _load()
            except UnavailableError as reason:
                _refused = reason
                raise
    return _loaded


def _load() -> Library:
    if os.environ.get("NANO_ONEDNN") == "off":
        raise UnavailableError("switched off by NANO_ONEDNN=off")
    candidates = _candidates()
    if not candidates:
        raise UnavailableError("not installed; `pip install onednn-cpu-gomp` brings it")
    if not Path(candidates[0]).is_file():
        raise UnavailableError(f"NANO_ONEDNN names {candidates[0]}, which is no file")
    threads.before_openmp_loads()
    loaded = Library(candidates[0])
    threads.start()
    return loaded
