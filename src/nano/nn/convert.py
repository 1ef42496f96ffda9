"""Changing the dtype and the memory format of a Module's tensors in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..devices import device
from ..dtypes import dtype as Dtype
from ..dtypes import to_dtype
from ..errors import TypeMismatchError
from ..functions.conversion import to
from ..layouts import checked_format, preserve_format
from ..tensor import Tensor, wrap

__all__ = ["conversion_from"]


def conversion_from(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Tensor], None]:
    """A function that converts one tensor in place, from the arguments of ``Module.to``.

    Raises:
        TypeError: if the dtype is not floating point, or an argument is unknown.
    """
    options = dict(kwargs)
    order = checked_format("Module.to", options.pop("memory_format", None), preserve_format)
    wanted = _wanted_dtype(args, options)

    def convert(t: Tensor) -> None:
        d = wanted if wanted is not None and t.is_floating_point() else t.dtype
        # As in PyTorch: weights of convolutions are put in order, biases have none.
        new_order = order if t.ndim in (4, 5) else preserve_format
        data = to(wrap(t._data), d, memory_format=new_order)
        if data._data is t._data:
            return
        # The tensor stays the same object, so that optimizers and other modules keep it.
        t.data = data
        if t._grad is not None:
            t._grad = to(t._grad.detach(), d, memory_format=new_order)

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
