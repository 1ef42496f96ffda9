"""How an array prints: PyTorch's layout, four digits, long tensors summarised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, floor, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

__all__ = ["format_array", "printoptions", "set_printoptions"]

_options: dict[str, Any] = {
    "precision": 4,
    "threshold": 1000,
    "edgeitems": 3,
    "linewidth": 80,
    "sci_mode": None,
}


def set_printoptions(**options: Any) -> None:
    """Change how tensors print.

    Args:
        precision: digits after the point.
        threshold: with more elements than this, only the edges are shown.
        edgeitems: how many elements an edge has.
        linewidth: characters in a line.
        sci_mode: whether to write 1.0000e+05; None decides by the values.
    """
    for name in options:
        if name not in _options:
            raise InputError(
                "set_printoptions", f"no option {name!r}.", hint=f"It takes {sorted(_options)}."
            )
    _options.update(options)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """:func:`set_printoptions` for the length of a ``with`` block."""
    before = dict(_options)
    try:
        set_printoptions(**options)
        yield
    finally:
        _options.update(before)


class _Number:
    """Formats the numbers of one array to one width."""

    def __init__(self, shown: NDArray) -> None:
        self.precision = _options["precision"]
        self.floating = shown.dtype.kind in "fV"
        self.width = 1
        self.scientific = False
        self.whole = False
        if not self.floating:
            self.width = max((len(self(x)) for x in shown.ravel().tolist()), default=1)
            return
        values = [float(x) for x in shown.ravel()]
        finite = [abs(x) for x in values if isfinite(x) and x != 0]
        if finite:
            small, large = min(finite), max(finite)
            too_wide = large / small > 1000.0 or large > 1e8
            self.whole = all(x == ceil(x) for x in finite)
            self.scientific = too_wide if self.whole else too_wide or small < 1e-4
        if _options["sci_mode"] is not None:
            self.scientific = _options["sci_mode"]
        # PyTorch takes the width from the non-zero finite numbers alone.
        counted = [x for x in values if isfinite(x) and x != 0]
        self.width = max((len(self(x)) for x in counted), default=1)
        if not finite:
            self.whole = True

    def __call__(self, x: Any) -> str:
        if not self.floating:
            return str(x).rjust(self.width)
        if self.scientific:
            text = f"{x:.{self.precision}e}"
        elif self.whole:
            text = f"{x:.0f}" + ("." if isfinite(x) else "")
        else:
            text = f"{x:.{self.precision}f}"
        return text.rjust(self.width)


def _edges(x: NDArray) -> NDArray:
    """Only the elements that a summary shows."""
    k = _options["edgeitems"]
    for axis, n in enumerate(x.shape):
        if n > 2 * k:
            x = np.take(x, [*range(k), *range(n - k, n)], axis=axis)
    return x


def _vector(x: NDArray, indent: int, summarize: bool, number: _Number) -> str:
    k = _options["edgeitems"]
    to_python = float if number.floating else lambda v: v.item()
    parts = [number(to_python(v)) for v in x] if not summarize or len(x) <= 2 * k else None
    if parts is None:
        head, tail = x[:k], x[-k:]
        parts = [number(to_python(v)) for v in head] + [" ..."]
        parts += [number(to_python(v)) for v in tail]
    per_line = max(1, floor((_options["linewidth"] - indent) / (number.width + 2)))
    lines = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(x: NDArray, indent: int, summarize: bool, number: _Number) -> str:
    if x.ndim == 0:
        return number(float(x) if number.floating else x.item())
    if x.ndim == 1:
        return _vector(x, indent, summarize, number)
    k = _options["edgeitems"]
    if summarize and len(x) > 2 * k:
        rows = [_nested(row, indent + 1, True, number) for row in x[:k]]
        rows.append("...")
        rows += [_nested(row, indent + 1, True, number) for row in x[-k:]]
    else:
        rows = [_nested(row, indent + 1, summarize, number) for row in x]
    return "[" + ("," + "\n" * (x.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def format_array(x: NDArray, prefix: str, suffixes: list[str]) -> str:
    """``prefix`` + the elements + ``suffixes``, as PyTorch lays them out.

    >>> print(format_array(np.array([1.0, 2.5]), "tensor(", ["requires_grad=True"]))
    tensor([1.0000, 2.5000], requires_grad=True)
    """
    indent = len(prefix)
    if x.size == 0:
        body = "[]"
        if x.ndim != 1:
            suffixes = [f"size={x.shape}", *suffixes]
    else:
        summarize = x.size > _options["threshold"]
        body = _nested(x, indent, summarize, _Number(_edges(x) if summarize else x))
    text = prefix + body
    last_line = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if last_line + len(suffix) + 2 > _options["linewidth"]:
            text += ",\n" + " " * indent + suffix
            last_line = indent + len(suffix)
        else:
            text += ", " + suffix
            last_line += len(suffix) + 2
    return text + ")"
