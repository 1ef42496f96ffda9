"""What the command line shows of a network: how often it is right, and what it sees in a picture.

Rich is imported where it is used, as the command also has to say when it is missing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .autograd import no_grad
from .functions.joining import stack
from .nn.functional import log_softmax, softmax
from .recipes import Recipe
from .train import confusion_counts
from .train.precision import computing_in

__all__ = ["Results", "evaluate", "print_guess", "print_results", "probabilities"]

#: From no light to full light.
_SHADES = " .:-=+*#%@"
#: How much of a pixel's brightness is due to its red, green and blue (ITU-R BT.601).
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Results:
    """Of one pass over a data set.

    Attributes:
        counts: (classes, classes) int64, a row for each right class, a column for each guess.
        loss: the mean over the images.
        seconds: that it took.
    """

    counts: NDArray
    loss: float
    seconds: float


def evaluate(recipe: Recipe, model: Any, data: Any, precision: str, views: bool = False) -> Results:
    """One pass over ``data`` in evaluation mode.

    ``views``: the logarithms of the probabilities are the means of those for all of the recipe's
    views of each image.
    """
    model.eval()
    counts = np.zeros((len(recipe.classes),) * 2, np.int64)
    loss = 0.0
    started = time.perf_counter()
    with no_grad(), computing_in(precision):
        for images, labels in recipe.loader(data):
            if views and recipe.views:
                outputs = stack([log_softmax(model(x).float(), 1) for x in recipe.views(images)])
                outputs = outputs.mean(0)
            else:
                outputs = model(images)
            loss += recipe.loss(outputs, labels).item() * len(labels)
            counts += confusion_counts(outputs, labels)
    return Results(counts, loss / len(data), time.perf_counter() - started)


def print_results(console: Any, title: str, classes: tuple[str, ...], results: Results) -> None:
    """A table with a row for each class and one for all."""
    from rich.table import Table

    console.print(f"\n{title}", style="bold", markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("class", "images", "right", "accuracy"):
        table.add_column(heading, justify="right")
    count, right = results.counts.sum(1), results.counts.diagonal()
    for name, n, r in zip(classes, count, right, strict=True):
        table.add_row(name, str(n), str(r), f"{r / n:.2%}" if n else "none")
    table.add_section()
    total, hits = int(count.sum()), int(right.sum())
    table.add_row("all", str(total), str(hits), f"{hits / total:.2%}", style="bold")
    console.print(table)
    console.print(
        f"Accuracy {hits / total:.2%}, mean loss {results.loss:.4f}, in {results.seconds:.2f} s.",
        highlight=False,
    )


# One picture ------------------------------------------------------------------------------


def probabilities(recipe: Recipe, model: Any, pixels: NDArray, precision: str) -> list[float]:
    """Of each class, for one picture as ``recipe.picture`` reads it."""
    model.eval()
    with no_grad():
        with computing_in(precision):
            outputs = model(recipe.images(pixels))
        return softmax(outputs.float(), dim=1).tolist()[0]


def print_guess(
    console: Any, pixels: NDArray, classes: tuple[str, ...], chances: list[float]
) -> None:
    """The picture as the network saw it, what it is, and how probable each class is."""
    _print_picture(console, pixels)
    best = max(range(len(chances)), key=chances.__getitem__)
    name = classes[best]
    article = "an" if name[0] in "aeiou" else "a"
    console.print(f"\nThis is {article} [bold]{name}[/bold] ({chances[best]:.1%}).\n")
    block = "█" if _has_blocks(console) else "#"
    width = max(map(len, classes))
    for i, (name, p) in enumerate(zip(classes, chances, strict=True)):
        bar = block * round(p * min(40, max(console.width - width - 13, 1)))
        line = f"{name:{width}}  {p:7.2%}  {bar}"
        console.print(line, style="bold green" if i == best else None, highlight=False)


def _has_blocks(console: Any) -> bool:
    return console.encoding.startswith("utf")


def _print_picture(console: Any, pixels: NDArray) -> None:
    """In colour where the terminal can, else with signs that are more or less black."""
    if pixels.ndim == 3:
        if console.is_terminal and console.color_system and _has_blocks(console):
            return _print_colours(console, pixels)
        pixels = pixels @ _BRIGHTNESS
    for row in pixels:
        signs = "".join(_SHADES[min(int(p * 10), 9)] * 2 for p in row)
        console.print("  " + signs, highlight=False, markup=False)
    return None


def _print_colours(console: Any, pixels: NDArray) -> None:
    """Two rows of pixels a line: a half block in the upper one's colour on the lower one's."""
    from rich.color import Color
    from rich.segment import Segment, Segments
    from rich.style import Style

    levels = np.rint(pixels * 255).astype(int)
    for i in range(0, len(levels) - 1, 2):
        line = [Segment("  ")]
        for upper, lower in zip(levels[i].tolist(), levels[i + 1].tolist(), strict=True):
            style = Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
            line.append(Segment("▀", style))
        console.print(Segments(line))
