"""Training curves: loss and accuracy over the epochs, drawn into one picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from .picture import write

__all__ = ["draw_curves"]

_TRAIN, _HELD_OUT = "#4c72b0", "#dd8452"


def draw_curves(
    history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], title: str = ""
) -> None:
    """Draw the history of a Trainer: the loss on the left, the accuracy on the right.

    Args:
        history: a row for each epoch.
        path: the picture to write; it appears whole or not at all.
        title: above both panels.

    Raises:
        ValueError: if the history is empty.
        RuntimeError: if the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not history:
        raise InputError("draw_curves", "the history is empty: no epoch was finished.")
    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    _panel(loss, history, "loss", 1.0)
    loss.set_ylabel("mean cross-entropy loss (nats)")
    loss.set_yscale("log")
    if "train_accuracy" in history[0]:
        _panel(accuracy, history, "accuracy", 100.0)
        accuracy.set_ylabel("accuracy (%)")
    else:
        accuracy.set_visible(False)
    if title:
        figure.suptitle(title)
    write(figure, path, "draw_curves")


def _panel(axes: Any, history: Sequence[Mapping[str, Any]], name: str, scale: float) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    # A single epoch is a point, and a line through one point is invisible.
    marker = "o" if len(epochs) <= 40 else ""
    for of, label, colour in (("train_", "training", _TRAIN), ("held_out_", "held-out", _HELD_OUT)):
        if of + name in history[0]:
            values = [row[of + name] * scale for row in history]
            axes.plot(epochs, values, marker=marker, markersize=3, color=colour, label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
