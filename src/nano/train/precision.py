"""How many bits the products of a run have."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from ..dtypes import bfloat16
from ..errors import InputError
from ..functions.autocast import autocast

__all__ = ["PRECISIONS", "check_precision", "computing_in"]

PRECISIONS = ("float32", "bfloat16")


def check_precision(owner: str, precision: str) -> None:
    """Raises:
    ValueError: if it is none of ``PRECISIONS``.
    """
    if precision not in PRECISIONS:
        names = " or ".join(repr(name) for name in PRECISIONS)
        raise InputError(owner, f"precision must be {names}, got {precision!r}.")


def computing_in(precision: str) -> AbstractContextManager:
    """The context of a forward pass: with bfloat16 :class:`nano.autocast`, else none."""
    return autocast(dtype=bfloat16) if precision == "bfloat16" else nullcontext()
