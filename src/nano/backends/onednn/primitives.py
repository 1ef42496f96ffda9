"""A oneDNN primitive: an operation compiled for one set of shapes, ready to run.

Building one takes up to some milliseconds, running it a few microseconds more than
its work; so they are kept by what they were built for. They hold memory objects that
are pointed at the arrays of each call, and are therefore kept per thread.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from numpy.typing import NDArray

from .. import threads
from ..memory import aligned
from .library import ExecArg, library
from .memory import Descriptor

__all__ = ["Plan", "Primitive", "cached", "reorder", "rounding", "scratch"]

# Arguments of primitives (DNNL_ARG_...).
SRC, DST, WEIGHTS, BIAS = 1, 17, 33, 41
MEAN, VARIANCE, SCALE, SHIFT, WORKSPACE = 49, 50, 51, 52, 64
DIFF_SRC, DIFF_DST, DIFF_WEIGHTS = 129, 145, 161
DIFF_SCALE, DIFF_SHIFT = 255, 256

# Queries of a primitive descriptor for the memory it wants (dnnl_query_..._md).
_QUERIES = {SRC: 129, DIFF_SRC: 130, WEIGHTS: 131, DIFF_WEIGHTS: 132, DST: 133, DIFF_DST: 134}
_QUERIES[WORKSPACE] = 135
_QUERY_IMPLEMENTATION, _QUERY_ARGUMENT = 8, 255

FPMATH_BF16 = 1  # dnnl_fpmath_mode_bf16

# dnnl_prop_kind_t
FORWARD_TRAINING, FORWARD_INFERENCE, BACKWARD = 64, 96, 128


class Plan:
    """A primitive descriptor: which implementation oneDNN chose, and the memory it wants."""

    def __init__(self, creator: str, *args: Any) -> None:
        self.handle = library().create(creator, *args)

    def __del__(self, at_exit: Callable[[], bool] = sys.is_finalizing) -> None:
        if hasattr(self, "handle") and not at_exit():
            library().call("dnnl_primitive_desc_destroy", self.handle)

    def wants(self, argument: int) -> Descriptor:
        """The memory of an argument, in the order that the implementation chose."""
        query, index = _QUERIES.get(argument, _QUERY_ARGUMENT), 0
        if query == _QUERY_ARGUMENT:
            index = argument
        found = library().plain("dnnl_primitive_desc_query_md", self.handle, query, index)
        # What the query gives belongs to the plan: the copy outlives it.
        return Descriptor(library().create("dnnl_memory_desc_clone", found))

    def implementation(self) -> str:
        """Its name in oneDNN, such as ``brgconv:avx512_core``."""
        text = ctypes.c_char_p()
        library().call(
            "dnnl_primitive_desc_query", self.handle, _QUERY_IMPLEMENTATION, 0, ctypes.byref(text)
        )
        return (text.value or b"").decode()


class Primitive:
    """An operation for fixed shapes.

    Args:
        plan: its primitive descriptor.
        arguments: its arguments and their memory, in the order in which a call gives them.
    """

    __slots__ = ("_args", "_count", "_execute", "_handle", "_memories", "_set", "implementation")

    def __init__(self, plan: Plan, arguments: dict[int, Descriptor]) -> None:
        lib = library()
        self.implementation = plan.implementation()
        self._handle, self._memories = None, []
        for descriptor in arguments.values():
            self._memories.append(
                lib.create("dnnl_memory_create", descriptor.handle, lib.engine, None)
            )
        self._handle = lib.create("dnnl_primitive_create", plan.handle)
        self._count = len(self._memories)
        pairs = zip(arguments, self._memories, strict=True)
        self._args = (ExecArg * self._count)(*[ExecArg(a, m) for a, m in pairs])
        self._execute, self._set = lib.execute, lib.set_data_handle

    def __call__(self, *addresses: int) -> None:
        """Run it on memory at these addresses, one for each argument."""
        threads.this_thread()
        set_handle = self._set
        for memory, address in zip(self._memories, addresses, strict=True):
            set_handle(memory, address)
        status = self._execute(self._handle, library().stream, self._count, self._args)
        if status:
            raise RuntimeError(f"[onednn] {self.implementation} failed with status {status}")

    def __del__(self, at_exit: Callable[[], bool] = sys.is_finalizing) -> None:
        if at_exit():
            return
        lib = library()
        for memory in self._memories:
            lib.call("dnnl_memory_destroy", memory)
        if self._handle is not None:
            lib.call("dnnl_primitive_destroy", self._handle)


# What is kept ---------------------------------------------------------------------------

_KEPT = 1024


class _Kept(threading.local):
    """This thread's primitives, the least recently used first, and its scratch memory."""

    def __init__(self) -> None:
        self.threads = 0
        self.primitives: OrderedDict[Hashable, Any] = OrderedDict()
        self.scratch: dict[str, NDArray] = {}


_kept = _Kept()


def cached(key: Hashable, build: Callable[[], Any]) -> Any:
    """What ``build()`` makes, built once a key and thread."""
    count = threads.this_thread()
    primitives = _kept.primitives
    if _kept.threads != count:
        # A primitive is built for a number of threads; after a fork, waiting for those of
        # the parent would never end.
        primitives.clear()
        _kept.threads = count
    found = primitives.get(key)
    if found is None:
        found = primitives[key] = build()
        if len(primitives) > _KEPT:
            primitives.popitem(last=False)
    else:
        primitives.move_to_end(key)
    return found


@cache
def rounding() -> Any:
    """The attribute that lets a primitive round float32 operands to bfloat16."""
    lib = library()
    attributes = lib.create("dnnl_primitive_attr_create")
    lib.call("dnnl_primitive_attr_set_fpmath_mode", attributes, FPMATH_BF16)
    return attributes


def scratch(name: str, nbytes: int) -> int:
    """The address of this thread's memory of that name, which the next caller overwrites."""
    buffer = _kept.scratch.get(name)
    if buffer is None or buffer.nbytes < nbytes:
        _kept.scratch[name] = buffer = aligned(nbytes)
    return buffer.ctypes.data


def reorder(source: Descriptor, target: Descriptor) -> Primitive:
    """A primitive that copies from one order (or type) to another."""
    lib = library()

    def build() -> Primitive:
        plan = Plan(
            "dnnl_reorder_primitive_desc_create",
            *(source.handle, lib.engine, target.handle, lib.engine, None),
        )
        return Primitive(plan, {SRC: source, DST: target})

    return cached(("reorder", source, target), build)
