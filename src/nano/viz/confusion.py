"""The confusion matrix as a picture: which classes a model takes for which."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, ShapeError
from .picture import write

__all__ = ["confusion_matrix"]

_RIGHT, _WRONG = "Blues", "Reds"
_INK = "#22303c"
#: With more classes, the numbers would be too small to read; the colours stay.
_MOST_WITH_NUMBERS = 25
#: Part of a row above which the number is white: the cell is dark there.
_DARK = 0.6
#: Mistakes are few: this part of a row has the darkest red.
_WORST = 0.3


def confusion_matrix(
    counts: Any,
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    title: str = "",
) -> None:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one.

    Each cell holds a count and its part of the row in per cent. The diagonal, what was right,
    is blue; mistakes are red, and as dark as the part of the row that went wrong there. Beside
    the rows stands how many samples a class has, below the columns its precision: the part of
    those predicted as it that are it.

    Args:
        counts: (classes, classes) integers, as :func:`nano.train.confusion_counts` makes them.
        path: the picture to write; it appears whole or not at all.
        classes: their names; their numbers if not given.
        title: above it.

    Raises:
        RuntimeError: if ``counts`` is not square, or the picture cannot be written.
        ValueError: if there are counts below 0, or not as many names as rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.asarray(counts)
    names = _checked(counts, classes)
    n = len(names)
    totals = counts.sum(1, keepdims=True)
    parts = counts / np.maximum(totals, 1)

    has_numbers = n <= _MOST_WITH_NUMBERS
    side = 2.6 + n * (0.75 if has_numbers else 0.16)
    figure = Figure(figsize=(side + 0.6, side), dpi=150, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(_colours(parts), aspect="equal")
    _labels(axes, names, counts, has_numbers)
    if has_numbers:
        _numbers(axes, counts, parts)
    hits, total = int(np.trace(counts)), int(counts.sum())
    summary = f"{hits:,} of {total:,} right"
    if total:
        summary += f" · accuracy {hits / total:.2%}"
    axes.annotate(
        summary, (0.5, 1), xytext=(0, 8), xycoords="axes fraction", textcoords="offset points",
        ha="center", color=_INK, fontsize=10,
    )  # fmt: skip
    axes.set_title(title, color=_INK, fontsize=13, pad=28)
    write(figure, path, "confusion_matrix")


def _checked(counts: NDArray, classes: Sequence[str] | None) -> list[str]:
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ShapeError(
            "confusion_matrix", f"counts must be square, (classes, classes), got {counts.shape}."
        )
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise InputError("confusion_matrix", "counts must be integers, none below 0.")
    names = [str(i) for i in range(len(counts))] if classes is None else list(classes)
    if len(names) != len(counts):
        raise InputError(
            "confusion_matrix", f"there are {len(names)} names for {len(counts)} classes."
        )
    return names


def _colours(parts: NDArray) -> NDArray:
    from matplotlib import colormaps

    # From pale to dark, but not to black: numbers are to be read on it.
    colours = colormaps[_WRONG](0.75 * np.minimum(parts / _WORST, 1) ** 0.75)
    i = np.arange(len(parts))
    colours[i, i] = colormaps[_RIGHT](0.08 + parts[i, i] * 0.77)
    colours[parts == 0] = 1  # an empty cell is as white as paper
    return colours


def _labels(axes: Any, names: list[str], counts: NDArray, has_numbers: bool) -> None:
    n = len(names)
    # The width of a cell.
    long = max(len(name) for name in names) > (10 if has_numbers else 1)
    ticks = np.arange(n)
    small = 8.5 if has_numbers else 6
    precision = np.diagonal(counts) / np.maximum(counts.sum(0), 1)
    below, beside = names, names
    if has_numbers:
        seldom = counts.sum(0) == 0
        below = [
            f"{name}\n{'–' if s else _per_cent(p)}"
            for name, p, s in zip(names, precision, seldom, strict=True)
        ]
        beside = [f"{name}  ({t:,})" for name, t in zip(names, counts.sum(1), strict=True)]
    axes.set_xticks(ticks, below, fontsize=small, color=_INK)
    axes.set_yticks(ticks, beside, fontsize=small, color=_INK)
    if long:
        axes.tick_params(axis="x", labelrotation=45 if has_numbers else 90)
    axes.set_xlabel(
        "predicted class, and how often rightly (precision)" if has_numbers else "predicted class",
        color=_INK,
        labelpad=8,
    )
    axes.set_ylabel("true class, and its samples" if has_numbers else "true class",
                    color=_INK, labelpad=8)  # fmt: skip
    # White lines between the cells.
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6eaed", linewidth=1 if has_numbers else 0.3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _numbers(axes: Any, counts: NDArray, parts: NDArray) -> None:
    for (i, j), count in np.ndenumerate(counts):
        if not count:
            continue
        dark = parts[i, j] > (_DARK if i == j else _WORST * _DARK)
        colour = "white" if dark else _INK
        weight = "bold" if i == j else "normal"
        axes.text(j, i - 0.13, f"{count:,}", ha="center", va="center", color=colour,
                  fontsize=9.5, weight=weight)  # fmt: skip
        axes.text(j, i + 0.22, _per_cent(parts[i, j]), ha="center", va="center", color=colour,
                  fontsize=7, alpha=0.85)  # fmt: skip


def _per_cent(part: float) -> str:
    """In three digits, and 100 only where it is."""
    return "100%" if part == 1 else f"{min(part, 0.9994):.1%}"
