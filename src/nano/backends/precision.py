"""How exactly products of float32 numbers are computed: a setting of the whole process."""

from __future__ import annotations

import warnings

from ..errors import ArgumentError

__all__ = [
    "get_float32_matmul_precision",
    "rounds_to_bfloat16",
    "set_float32_matmul_precision",
]

_NAMES = ("highest", "high", "medium")
_setting = "highest"


def get_float32_matmul_precision() -> str:
    """What :func:`set_float32_matmul_precision` has set.

    >>> nano.get_float32_matmul_precision()
    'highest'
    """
    return _setting


def set_float32_matmul_precision(precision: str) -> None:
    """How exactly float32 matrix products and convolutions are computed.

    Args:
        precision: ``"highest"`` (float32 throughout) or ``"high"``, which is the same on a
            CPU; or ``"medium"``: where the processor multiplies bfloat16 numbers and it is
            faster, the operands are rounded to bfloat16 (8 significant bits), and their
            products are added up in float32. Results stay float32.

    Raises:
        RuntimeError: if it is no str. Any other str has no effect but a warning, as in PyTorch.

    >>> nano.set_float32_matmul_precision("medium")
    >>> nano.get_float32_matmul_precision()
    'medium'
    >>> nano.set_float32_matmul_precision("highest")
    """
    global _setting
    if not isinstance(precision, str):
        raise ArgumentError(
            "set_float32_matmul_precision", f"expects a str, but got {type(precision).__name__}."
        )
    if precision not in _NAMES:
        warnings.warn(
            f"[set_float32_matmul_precision] {precision!r} is not one of 'highest', 'high' or "
            "'medium'; this call has no effect.",
            stacklevel=2,
        )
        return
    _setting = precision


def rounds_to_bfloat16() -> bool:
    """Whether float32 operands of a product may be rounded to bfloat16."""
    return _setting == "medium"
