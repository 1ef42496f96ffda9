"""What a program spends its time on: a line a node, with kernels, bytes and what was fused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from ..backends import observe, unobserve
from ..functions.batch_norm import BatchNormBackwardOfSum
from ..functions.epilogue import Conv2dMoments, Conv2dWeightSums, Epilogue
from .codegen import Fused
from .formula import UnsupportedError
from .graph import Apply, Node
from .loops import check_operator
from .program import Program, Writer
from .regions import Region
from .row_blocks import RowBlocks

__all__ = ["Report", "Row", "report"]


@dataclass
class Row:
    """A node of the program.

    Attributes:
        name: what it does.
        kernels: who computed it, as ``matmul (onednn)``; empty if that was not watched.
        seconds: how long it took; None if it was not timed.
        nbytes: of the arrays that it reads and makes.
        line: the user's, ``file:number``.
        note: of which operators it was fused, or why it was not.
    """

    name: str
    nbytes: int
    line: str
    note: str = ""
    kernels: list[str] = field(default_factory=list)
    seconds: float | None = None


@dataclass
class Report:
    """The rows of a program, and how it runs; print it."""

    title: str
    rows: list[Row]
    seconds: float | None = None

    def __str__(self) -> str:
        lines = [self.title]
        if self.seconds is not None:
            lines.append(f"{_time(self.seconds)} in all")
        names = max([len(r.name) for r in self.rows], default=0)
        for row in self.rows:
            rate = ""
            if row.seconds:
                rate = f"{row.nbytes / row.seconds / 1e9:7.1f} GB/s"
            elif row.seconds is not None:
                rate = " " * 12
            shown = "" if row.seconds is None else f"{_time(row.seconds):>10}"
            notes = "; ".join(x for x in (", ".join(row.kernels), row.note) if x)
            place = row.line.rsplit("/", 1)[-1]
            text = f"{row.name:{names}}{shown}{_size(row.nbytes):>12}{rate}  {place:18}  {notes}"
            lines.append(text.rstrip())
        return "\n".join(lines)


def report(parts: Sequence[Program], why_large: str, tensors: Sequence[Any] | None) -> Report:
    """See ``Compiled.report``; of a function with a backward program, only the first is timed."""
    found = _of_part(parts[0], why_large, tensors)
    for part in parts[1:]:
        back = _of_part(part, why_large, None)
        found.title += f"\nbackward: {back.title}"
        found.rows += back.rows
    return found


def _of_part(program: Program, why_large: str, tensors: Sequence[Any] | None) -> Report:
    nodes = program.graph.nodes
    rows = [
        Row(n.name, sum(v.nbytes for v in {*n.reads(), *n.makes()}), n.line, _note(n))
        for n in nodes
    ]
    if program.native:
        title = f"one native function of {len(nodes)} steps"
    else:
        title = f"{len(nodes)} steps, one after the other, for {why_large or 'so it was asked'}"
    found = Report(title, rows)
    if tensors is not None:
        _time_rows(program, found, tensors)
    return found


#: What was joined to some operators.
_JOINED: dict[Any, str] = {
    Conv2dMoments: "with mean and variance",
    Conv2dWeightSums: "with the cast to float32",
    BatchNormBackwardOfSum: "with the sum of two gradients",
}


def _note(node: Node) -> str:
    """What was fused; of an element-wise operator that was not, why."""
    if isinstance(node, Fused):
        written = f", over {', '.join(v.name for v in node.over.values())}" if node.over else ""
        return "fused: " + ", ".join(m.name for m in node.members) + written
    if isinstance(node, Region):
        return "native: " + _counted(node.members)
    if isinstance(node, RowBlocks):
        return f"by blocks of {node.rows} rows: " + _counted(node.members)
    if not isinstance(node, Apply):
        return ""
    if issubclass(node.function, Epilogue):
        return _followed_by(node)
    if node.function in _JOINED or not node.function.formula:
        return _JOINED.get(node.function, "")
    try:
        check_operator(node)
    except UnsupportedError as reason:
        return f"not fused: {reason}"
    return "not fused: nothing beside it to join"


def _counted(members: list[Apply]) -> str:
    counts = Counter(m.name for m in members)
    return ", ".join(f"{n} {k}" if n > 1 else k for k, n in counts.items())


def _followed_by(node: Apply) -> str:
    """What was joined to a convolution or a product."""
    _, _, _, scale, residual = node.inputs
    activation = node.attributes["activation"]
    steps = [
        "" if scale is None else "batch norm",
        "" if residual is None else "residual",
        activation[0] if activation else "",
    ]
    return "with " + ", ".join(filter(None, steps)) if any(steps) else "with bias"


def _time_rows(program: Program, found: Report, tensors: Sequence[Any]) -> None:
    """Run the program once, and note for each node its time and its kernels."""
    if program.native:
        start = perf_counter()
        program.run(*tensors)
        found.seconds = perf_counter() - start
        return
    laps: list[float] = []
    kernels: list[list[str]] = [[]]

    def lap() -> None:
        laps.append(perf_counter())
        kernels.append([])

    def watch(name: str, backend: str, args: Any, kwargs: Any, proceed: Callable[[], Any]) -> Any:
        kernels[-1].append(f"{name} ({backend})")
        return proceed()

    timed = Program(program.graph, "report", _TimedWriter(program.graph, lap))
    observe(watch)
    try:
        timed.run(*tensors)
    finally:
        unobserve(watch)
    for i, row in enumerate(found.rows):
        row.seconds = laps[i + 1] - laps[i]
        row.kernels = kernels[i + 1]
    found.seconds = laps[-1] - laps[0]


class _TimedWriter(Writer):
    """Writes a program that takes the time after each node."""

    def __init__(self, graph: Any, lap: Callable[[], None]) -> None:
        super().__init__(graph)
        self.scope["lap"] = lap

    def body(self) -> None:
        self.line("lap()")
        super().body()

    def node(self, node: Node) -> list[str]:
        return [*super().node(node), "lap()"]


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def _size(nbytes: int) -> str:
    return f"{nbytes:,} B" if nbytes < 1 << 20 else f"{nbytes / 2**20:.1f} MiB"
