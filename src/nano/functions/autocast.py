"""Automatic mixed precision: products in bfloat16, what needs digits in float32.

Inside ``nano.autocast()`` the functions that are products (linear, matmul, convolutions,
attention) bring their operands to 16 bits, and the losses and ``prod`` bring theirs to
float32. All others compute in what they get, of several dtypes in the widest.

Source: P. Micikevicius et al., "Mixed precision training", ICLR 2018, arXiv:1710.03740.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from ..autograd.grad_mode import mode
from ..dtypes import bfloat16, dtype, float16, float32, to_dtype
from ..errors import ArgumentError, InputError
from ..hook import Hook, hooks
from ..storage import storage_of
from ..tensor import Tensor

__all__ = ["autocast", "get_autocast_dtype", "is_autocast_enabled"]

F = TypeVar("F", bound=Callable[..., Any])


class _State(threading.local):
    """Of a thread: the dtype of products (None: as they come), and the casts of weights.

    ``casts`` holds, by the id of a leaf, the leaf, its version, the leaf in 16 bits, and the
    hooks that saw the cast.
    """

    dtype: dtype | None = None
    cache = True
    depth = 0

    def __init__(self) -> None:
        self.casts: dict[int, tuple[Tensor, int, Tensor, list[Hook]]] = {}


state = _State()


class autocast:  # noqa: N801  (PyTorch's name)
    """Let products run in 16 bits: a context manager and a decorator; each thread has its own.

    Parameters stay in float32. Each is cast once and used in 16 bits until the outermost
    region ends (or it is written in place); gradients arrive in float32 again. Call
    ``backward()`` outside.

    Args:
        device_type: only ``"cpu"``; may be left out.
        dtype: ``nano.bfloat16`` (the default) or ``nano.float16``.
        enabled: False to compute a part of a region as usual.
        cache_enabled: whether the casts of parameters are kept.

    Raises:
        RuntimeError: for another device.
        ValueError: if the device is no str.

    >>> layer = nano.nn.Linear(3, 2)
    >>> with nano.autocast(dtype=nano.bfloat16):
    ...     y = layer(nano.ones(1, 3))
    >>> y.dtype, layer.weight.dtype
    (nano.bfloat16, nano.float32)
    """

    def __init__(
        self,
        device_type: str = "cpu",
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if not isinstance(device_type, str):
            raise InputError(
                "autocast", f"expected device_type of type str, got {type(device_type).__name__}."
            )
        if device_type != "cpu":
            raise ArgumentError("autocast", f'there is only "cpu", got {device_type!r}.')
        wanted = bfloat16 if dtype is None else to_dtype(dtype)
        if enabled and wanted not in (bfloat16, float16):
            warnings.warn(
                f"In CPU autocast, but the target dtype is not supported. Disabling autocast.\n"
                f"CPU Autocast only supports dtypes of nano.bfloat16, nano.float16, not {wanted}.",
                stacklevel=2,
            )
            enabled = False
        self.device = device_type
        self.fast_dtype = wanted
        self._dtype = wanted if enabled else None
        self._cache = True if cache_enabled is None else cache_enabled
        self._before: list[tuple[Any, bool]] = []

    def __enter__(self) -> autocast:
        self._before.append((state.dtype, state.cache))
        state.dtype, state.cache = self._dtype, self._cache
        state.depth += 1
        return self

    def __exit__(self, *exc: object) -> None:
        state.dtype, state.cache = self._before.pop()
        state.depth -= 1
        if not state.depth:
            state.casts.clear()

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            region = autocast(self.device, self.fast_dtype, self._dtype is not None, self._cache)
            with region:
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


def is_autocast_enabled(device_type: str = "cpu") -> bool:
    """Whether this thread is in a region of :class:`autocast`.

    >>> nano.is_autocast_enabled()
    False
    """
    return state.dtype is not None


def get_autocast_dtype(device_type: str = "cpu") -> dtype:
    """The dtype that products have in :class:`autocast`, here or by default.

    >>> nano.get_autocast_dtype("cpu")
    nano.bfloat16
    """
    return state.dtype or bfloat16


def lowered(*operands: Any) -> tuple[Any, ...]:
    """The operands of a product as this thread's region wants them: floats in 16 bits.

    float64 stays, as do integers and what is no tensor.
    """
    wanted = state.dtype
    assert wanted is not None
    return tuple([_cast(x, wanted) if _is_narrow_float(x) else x for x in operands])


def raised(*operands: Any) -> tuple[Any, ...]:
    """The operands of a loss as this thread's region wants them: 16-bit floats in float32."""
    return tuple(
        [
            x.to(float32) if _is_narrow_float(x) and x._data.dtype.itemsize == 2 else x
            for x in operands
        ]
    )


def widest(*operands: Any) -> tuple[Any, ...]:
    """Operands that must share a dtype: 16-bit floats in float32, if one of them is float32."""
    dtypes = {x._data.dtype for x in operands if isinstance(x, Tensor)}
    return raised(*operands) if float32.numpy in dtypes else operands


def _is_narrow_float(x: Any) -> bool:
    return isinstance(x, Tensor) and x._data.dtype.kind in "fV" and x._data.dtype.itemsize < 8


def _cast(x: Tensor, wanted: dtype) -> Tensor:
    """``x`` in the dtype ``wanted``; a parameter's cast is kept, as it is used more than once."""
    if x._data.dtype == wanted.numpy:
        return x
    if not (state.cache and x._requires_grad and x._edge is None and mode.enabled):
        return x.to(wanted)
    version = storage_of(x).version
    kept = state.casts.get(id(x))
    # Whoever looks on must have seen the cast: a traced program would else miss it.
    if (
        kept is None
        or kept[0] is not x
        or kept[1] != version
        or kept[2].dtype != wanted
        or kept[3] != hooks
    ):
        kept = state.casts[id(x)] = (x, version, x.to(wanted), hooks[:])
    return kept[2]
