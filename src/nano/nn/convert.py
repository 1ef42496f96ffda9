"""Changing the dtype of a Module's tensors in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..devices import device
from ..dtypes import dtype as Dtype
from ..dtypes import to_dtype
from ..errors import TypeMismatchError
from ..functions.conversion import to
from ..tensor import Tensor, wrap

__all__ = ["conversion_from"]


def conversion_from(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Tensor], None]:
    """A function that converts one tensor in place, from the arguments of ``Module.to``.

    Raises:
        TypeError: if the dtype is not floating point, or an argument is unknown.
    """
    wanted = _wanted_dtype(args, dict(kwargs))

    def convert(t: Tensor) -> None:
        if wanted is None or not t.is_floating_point() or t.dtype is wanted:
            return
        # The tensor stays the same object, so that optimizers and other modules keep it.
        t.data = to(wrap(t._data), wanted)
        if t._grad is not None:
            t._grad = to(t._grad.detach(), wanted)

    return convert


def _wanted_dtype(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Dtype | None:
    given = kwargs.pop("dtype", None)
    where = kwargs.pop("device", None)
    kwargs.pop("non_blocking", None)
    if kwargs:
        raise TypeMismatchError("Module.to", f"unexpected arguments {sorted(kwargs)}.")
    for a in args:
        if isinstance(a, Tensor):
            given = a.dtype
        elif isinstance(a, device) or (isinstance(a, str) and a.split(":")[0] in _DEVICES):
            where = a
        elif a is not None and not isinstance(a, bool):
            given = a
    if where is not None:
        device(where)
    if given is None:
        return None
    wanted = to_dtype(given)
    if not wanted.is_floating_point:
        raise TypeMismatchError(
            "Module.to",
            f"only floating-point dtypes are accepted, got {wanted}.",
            hint="Convert single buffers by assigning them anew.",
        )
    return wanted


#: Names that ``to`` takes for devices; all but the first are refused with an explanation.
_DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")
