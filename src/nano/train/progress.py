"""What one sees while training: a live bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Progress"]


class Progress(Callback):
    """Shows loss, accuracy and the time left, and a line for each epoch done.

    Args:
        console: rich's Console to draw on; standard output if not given.
    """

    def __init__(self, console: Any = None) -> None:
        self._console = console
        self._bar: Any = None

    def on_fit_start(self, trainer: Trainer) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        self._console = self._console or Console()
        self._width = len(str(trainer.epochs))
        self._drawn = 0.0
        if self._console.is_terminal:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[means]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(
                "training", total=trainer.total_steps, completed=trainer.step, means=""
            )
            self._bar.start()

    def on_batch_end(self, trainer: Trainer) -> None:
        now = time.perf_counter()
        # Ten times a second is all that an eye needs, and rich costs more than a small batch.
        if self._bar is not None and now - self._drawn > 0.1:
            self._drawn = now
            means = "  ".join(_value(k, v) for k, v in trainer.running.items())
            self._bar.update(
                self._task,
                completed=trainer.step,
                means=means,
                description=f"epoch {trainer.epoch + 1}/{trainer.epochs}",
            )

    def on_epoch_end(self, trainer: Trainer) -> None:
        row = trainer.history[-1]
        parts = [f"epoch {row['epoch']:{self._width}d}/{trainer.epochs}"]
        for of, title in (("train_", "train"), ("held_out_", "held-out")):
            values = {k[len(of) :]: v for k, v in row.items() if k.startswith(of)}
            if values:
                parts.append(title + " " + " ".join(_value(k, v) for k, v in values.items()))
        parts.append(f"{row['seconds']:.1f} s")
        if trainer.best is row:
            parts.append("best")
        self._console.print(" · ".join(parts), highlight=False, soft_wrap=True)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _value(name: str, value: float) -> str:
    return f"{name} {value:7.2%}" if name == "accuracy" else f"{name} {value:.4f}"
