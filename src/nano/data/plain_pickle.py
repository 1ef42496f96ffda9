"""Pickles that hold plain data, read without running what is in them.

A pickle is a program: it may name any function of any module, and have it called. Here it may
name NumPy's arrays and nothing else; dicts, lists, numbers and strings need no names.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

__all__ = ["load"]


def load(content: bytes) -> Any:
    """What a pickle of Python 2 or 3 holds: dicts, lists, tuples, numbers, strings, arrays.

    Strings of Python 2 become bytes.

    Raises:
        pickle.UnpicklingError: if it names anything else; nothing of it has run then.
        Exception: of many kinds, if it is damaged.
    """
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Made anew for each pickle, which can set attributes of what it is given.
        def new_array(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
            return np.ndarray((0,), "b")  # its state, which follows, has all the rest

        def from_buffer(content: Any, dtype: np.dtype, shape: Any, order: Any) -> np.ndarray:
            return np.frombuffer(content, dtype).reshape(shape, order=order)

        def latin1(text: str, encoding: str) -> bytes:
            return text.encode("latin1")  # Python 3's way to write bytes for Python 2

        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): new_array,
            ("numpy.core.numeric", "_frombuffer"): from_buffer,
            ("numpy", "ndarray"): "ndarray",  # only ever handed to new_array
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): latin1,
        }
        # NumPy 1 and 2 call the same module by two names.
        found = allowed.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"it wants to use {module}.{name}, which is not allowed")
        return found
