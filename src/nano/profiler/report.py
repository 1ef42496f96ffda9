"""What a profile saw, as a list of events, as a table of averages, and as a trace.

Times inside are whole nanoseconds; the attributes that PyTorch has too
(``self_cpu_time_total`` and so on) are microseconds, as there.
"""

from __future__ import annotations

import gzip
import json
import linecache
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..checkpoint import write_atomically
from ..errors import AttributeMissingError

__all__ = ["Event", "EventAverage", "EventList", "write_trace"]


class Event:
    """Something that ran.

    Attributes:
        name: of the Function, of the node (``AddBackward0``), of the kernel, or of your range.
        kind: "function", "backward", "kernel" or "range".
        backend: which backend ran a kernel; else empty.
        thread: the operating system's number of its thread.
        start, end: nanoseconds of ``time.perf_counter_ns``.
        parent: the event in which it ran, or None.
        forward: of a derivative, the event of its operator if that was seen.
        shapes, dtypes: of the arguments, with ``record_shapes``.
        line: (file, line, function) of who called, with ``with_stack``.
        module: the path of the layer that called, with ``with_modules``.
    """

    __slots__ = (
        "backend",
        "dtypes",
        "end",
        "forward",
        "inner",
        "kind",
        "line",
        "module",
        "name",
        "note",
        "parent",
        "shapes",
        "start",
        "thread",
    )

    def __init__(self, name: str, kind: str, backend: str = "") -> None:
        self.name = name
        self.kind = kind
        self.backend = backend
        self.thread = 0
        self.start = self.end = 0
        #: Nanoseconds spent in the events that ran directly inside.
        self.inner = 0
        self.parent: Event | None = None
        self.forward: Event | None = None
        self.shapes: tuple[Any, ...] = ()
        self.dtypes: tuple[Any, ...] = ()
        self.line: tuple[str, int, str] | None = None
        self.module = ""
        self.note = ""

    @property
    def key(self) -> str:
        """Its name; one for all steps of a schedule, as in PyTorch."""
        return "ProfilerStep*" if self.name.startswith("ProfilerStep#") else self.name

    @property
    def input_shapes(self) -> list[Any]:
        """The shapes of the arguments, as PyTorch gives them: lists, [] for what is no tensor."""
        return _lists(self.shapes)

    @property
    def input_dtypes(self) -> list[Any]:
        """The names of the arguments' dtypes; of what is no tensor, its Python type."""
        return _names(self.dtypes)

    @property
    def cpu_time_total(self) -> float:
        """Microseconds from start to end."""
        return (self.end - self.start) / 1000

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds without the events inside."""
        return (self.end - self.start - self.inner) / 1000

    @property
    def stack(self) -> list[str]:
        """The calling line, and the layer, as text."""
        found = []
        if self.line is not None:
            file, number, function = self.line
            code = linecache.getline(file, number).strip()
            found.append(f"{file}({number}): {function}" + (code and f": {code}"))
        if self.module:
            found.append(self.module)
        return found

    def __repr__(self) -> str:
        where = f" on {self.backend}" if self.backend else ""
        return f"<{self.kind} {self.name}{where}, {_duration(self.cpu_time_total)}>"


class EventAverage:
    """All events of one key, added up; times in microseconds."""

    def __init__(self, first: Event, by_shape: bool, by_stack: bool) -> None:
        self.key = first.key
        self.kind = first.kind
        self.backend = first.backend
        self.input_shapes = first.input_shapes if by_shape else []
        self.input_dtypes = first.input_dtypes if by_shape else []
        self.stack = first.stack if by_stack else []
        self.count = 0
        self.cpu_time_total = 0.0
        self.self_cpu_time_total = 0.0

    @property
    def cpu_time(self) -> float:
        """Microseconds of an average event, with what is inside."""
        return self.cpu_time_total / self.count

    def add(self, event: Event) -> None:
        """Count one more event."""
        self.count += 1
        self.cpu_time_total += event.cpu_time_total
        self.self_cpu_time_total += event.self_cpu_time_total

    def __repr__(self) -> str:
        where = f" on {self.backend}" if self.backend else ""
        return (
            f"<{self.kind} {self.key}{where}, {self.count} calls, "
            f"{_duration(self.cpu_time_total)}, self {_duration(self.self_cpu_time_total)}>"
        )


class EventList(list[Any]):
    """Events or averages, with the wall time (nanoseconds) of the profile they come from."""

    def __init__(self, entries: Iterable[Any] = (), wall: int = 0) -> None:
        super().__init__(entries)
        self.wall = wall

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds spent in all events; threads add up."""
        return sum(e.self_cpu_time_total for e in self)

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> EventList:
        """Events of the same name, kind and backend added up; see ``profile.key_averages``."""
        by_stack = group_by_stack_n > 0
        rows: dict[Any, EventAverage] = {}
        for event in self:
            key: tuple[Any, ...] = (event.key, event.kind, event.backend)
            if group_by_input_shape:
                key += (event.shapes, event.dtypes)
            if by_stack:
                key += (event.line, event.module)
            row = rows.get(key)
            if row is None:
                row = rows[key] = EventAverage(event, group_by_input_shape, by_stack)
            row.add(event)
        return EventList(rows.values(), self.wall)

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        max_shapes_column_width: int = 80,
        header: str | None = None,
    ) -> str:
        """The averages as text, as PyTorch prints them.

        Args:
            sort_by: an attribute of the rows, largest first: ``"self_cpu_time_total"``,
                ``"cpu_time_total"``, ``"cpu_time"``, ``"count"``. None: in the order seen.
            row_limit: show no more rows; -1 shows all.
            max_src_column_width: shorten calling lines to this many characters.
            max_name_column_width: shorten names.
            max_shapes_column_width: shorten shapes.
            header: a line above the table.

        Raises:
            AttributeError: if the rows have no such attribute.
        """
        averages = self if all(isinstance(e, EventAverage) for e in self) else self.key_averages()
        rows: list[EventAverage] = list(averages)
        if sort_by is not None:
            if sort_by not in _SORTABLE:
                raise AttributeMissingError(
                    "table", f"cannot sort by {sort_by!r}.", hint=f"There is {_SORTABLE}."
                )
            rows.sort(key=lambda row: getattr(row, sort_by), reverse=True)
        if row_limit >= 0:
            rows = rows[:row_limit]
        whole = averages.self_cpu_time_total
        columns: dict[str, list[str]] = {
            "Name": [_shortened(row.key, max_name_column_width) for row in rows],
            "Kind": [row.kind for row in rows],
            "Backend": [row.backend for row in rows],
            "Self CPU %": [_share(row.self_cpu_time_total, whole) for row in rows],
            "Self CPU": [_duration(row.self_cpu_time_total) for row in rows],
            "CPU total %": [_share(row.cpu_time_total, whole) for row in rows],
            "CPU total": [_duration(row.cpu_time_total) for row in rows],
            "CPU time avg": [_duration(row.cpu_time) for row in rows],
            "# of Calls": [str(row.count) for row in rows],
        }
        if any(row.input_shapes for row in rows):
            width = max_shapes_column_width
            columns["Input Shapes"] = [_shortened(str(row.input_shapes), width) for row in rows]
            columns["Input dtypes"] = [
                _shortened(", ".join(map(str, row.input_dtypes)), width) for row in rows
            ]
        if any(row.stack for row in rows):
            # The end of a path says more than its beginning.
            columns["Source Location"] = [
                _shortened(" · ".join(row.stack), max_src_column_width, keep_end=True)
                for row in rows
            ]
        # A table with nothing in a column, such as without kernels, leaves it out.
        columns = {title: c for title, c in columns.items() if not rows or any(c)}
        text = _columns(columns)
        lines = [f"Self CPU time total: {_duration(whole)}"]
        if self.wall:
            lines.append(f"Wall time: {_duration(self.wall / 1000)}")
        return (f"{header}\n" if header else "") + text + "\n".join(lines) + "\n"


_SORTABLE = ["self_cpu_time_total", "cpu_time_total", "cpu_time", "count"]
#: Columns of words; the others are numbers, and stand to the right.
_WORDS = {"Name", "Kind", "Backend", "Input Shapes", "Input dtypes", "Source Location"}


def _columns(columns: dict[str, list[str]]) -> str:
    widths = {title: max(map(len, [title, *cells])) for title, cells in columns.items()}

    def line(cells: Iterable[str]) -> str:
        padded = [
            cell.ljust(widths[title]) if title in _WORDS else cell.rjust(widths[title])
            for title, cell in zip(columns, cells, strict=True)
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths.values())
    body = [line(cells) for cells in zip(*columns.values(), strict=True)]
    return "\n".join([rule, line(columns), rule, *body, rule, ""])


def _duration(microseconds: float) -> str:
    """12.000us, 12.000ms or 12.000s."""
    for limit, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= limit:
            return f"{microseconds / limit:.3f}{unit}"
    return f"{microseconds:.3f}us"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "0.00%"


def _shortened(text: str, width: int, keep_end: bool = False) -> str:
    if len(text) <= width:
        return text
    return "..." + text[3 - width :] if keep_end else text[: width - 3] + "..."


def _lists(value: Any) -> Any:
    return [_lists(v) for v in value] if isinstance(value, tuple) else value


def _names(value: Any) -> Any:
    """Dtypes and types, in tuples of tuples, as lists of names."""
    if isinstance(value, tuple):
        return [_names(v) for v in value]
    return value.name if isinstance(value, np.dtype) else value.__name__


# The trace ------------------------------------------------------------------------------


def write_trace(
    events: EventList, begin: int, threads: dict[int, str], path: str | os.PathLike[str]
) -> None:
    """Write events in Chrome's trace format; see ``profile.export_chrome_trace``.

    Times are microseconds since ``begin``; ``threads`` are the names of the threads.

    Source: "Trace Event Format", Google, 2016.
    """
    entries = _trace(events, begin, threads)
    content = json.dumps({"traceEvents": entries, "displayTimeUnit": "ms"}).encode()
    if os.fspath(path).endswith(".gz"):
        content = gzip.compress(content)
    with write_atomically(path, "export_chrome_trace") as file:
        file.write(content)


def _trace(events: EventList, begin: int, threads: dict[int, str]) -> list[dict[str, Any]]:
    pid = os.getpid()
    entries: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "nano"}}
    ]
    for tid, name in threads.items():
        args = {"name": name}
        entries.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": args})
    seen = {id(event) for event in events}
    for number, event in enumerate(events):
        place = {"pid": pid, "tid": event.thread}
        ts = (event.start - begin) / 1000
        entries.append(
            {
                "ph": "X",
                "cat": event.kind,
                "name": event.name,
                "ts": ts,
                "dur": event.cpu_time_total,
                "args": _arguments(event),
                **place,
            }
        )
        made = event.forward
        if made is not None and id(made) in seen:
            # An arrow from an operator to its derivative.
            arrow = {"cat": "fwdbwd", "name": "fwdbwd", "id": number}
            start = {"pid": pid, "tid": made.thread, "ts": (made.start - begin) / 1000}
            entries.append({"ph": "s", **arrow, **start})
            entries.append({"ph": "f", "bp": "e", **arrow, **place, "ts": ts})
    return entries


def _arguments(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if event.backend:
        found["Backend"] = event.backend
    if event.shapes:
        found["Input Dims"] = event.input_shapes
        found["Input type"] = event.input_dtypes
    if event.line is not None:
        found["Call stack"] = event.stack[0]
    if event.module:
        found["Module"] = event.module
    if event.note:
        found["Note"] = event.note
    return found
