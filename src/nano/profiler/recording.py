"""Watch a stretch of a program: what ran, when, in which thread, and inside what.

Operators and derivatives come through the hook of ``Function.apply``, kernels through
the registry's observers. What is open in a thread lies on a stack of its own: an event's
parent is the one below it.
"""

from __future__ import annotations

import enum
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable
from time import perf_counter_ns
from types import FrameType
from typing import Any

import numpy as np

from ..autograd.engine import running
from ..autograd.function import Function
from ..backends import observe, unobserve
from ..errors import ArgumentError, InputError
from ..hook import add_hook, remove_hook
from ..nn.module import Module
from ..tensor import Tensor
from .report import Event, EventList, write_trace
from .schedule import ProfilerAction

__all__ = ["ProfilerActivity", "profile", "record_function"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class ProfilerActivity(enum.Enum):
    """What can be watched: the CPU, for there is nothing else."""

    CPU = 0


class _Stack(threading.local):
    """The events that are open in this thread, the innermost last; made anew in each thread."""

    def __init__(self, names: dict[int, str]) -> None:
        self.open: list[Event] = []
        self.thread = threading.get_native_id()
        names[self.thread] = threading.current_thread().name


class profile:  # noqa: N801  (PyTorch's name)
    """Note every operator, derivative and kernel of all threads until the end.

    Args:
        activities: accepted as in PyTorch; nano has the CPU alone.
        schedule: which steps to note, see :func:`schedule`; you call ``step()`` after each.
            Reports are of the last cycle.
        on_trace_ready: called with this object at the end, or at the end of each cycle.
        record_shapes: note shapes and dtypes of the arguments.
        with_stack: note your own line that called; of a derivative, the line of its operator.
        with_modules: note the path of the layer that called, such as ``AlexNet.features.0``.

    Raises:
        RuntimeError: if another profile is running.

    An operator (``MatMul``) holds its kernel (``matmul``), and a derivative
    (``MatMulBackward0``) holds the operators that it is written with. *Self* is an
    event's time without what it holds, *total* is with it. Each event costs about 1.5
    microseconds, so that small operators look slower than they are; shapes and lines
    cost about 0.7 more each. Without a profile nothing is spent.

    >>> x = nano.ones(64, 64, requires_grad=True)
    >>> with nano.profiler.profile(record_shapes=True) as prof:
    ...     (x @ x).sum().backward()
    >>> for row in prof.key_averages():
    ...     print(row.kind, row.key, row.backend, row.count)
    function MatMul  3
    kernel matmul reference 3
    function Sum  1
    kernel sum reference 1
    ...
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
    ) -> None:
        for activity in activities or ():
            if not isinstance(activity, ProfilerActivity):
                raise InputError(
                    "profile", f"activities must be ProfilerActivity.CPU, got {activity!r}."
                )
        self.schedule = schedule
        self.on_trace_ready = on_trace_ready
        self.step_num = 0
        self.record_shapes = record_shapes
        self.with_stack = with_stack
        self.with_modules = with_modules
        self._seeks = with_stack or with_modules
        self._noted: list[Event] = []
        self._events: EventList | None = None
        self._names: dict[int, str] = {}
        self._stack = _Stack(self._names)
        self._begin = 0
        self._recording = False
        self._step: Event | None = None
        self._step_opened: list[Event] = []

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin; also what ``with`` does."""
        global _active
        with _switching:
            if _active is not None:
                raise ArgumentError(
                    "profile",
                    "another profile is running.",
                    hint="End it first; one profile sees all threads and all operators.",
                )
            _active = self
        self._events = None
        self.step_num = 0
        if self._action().records:
            self._begin_cycle()

    def stop(self) -> None:
        """End; what is still open, here or in other threads, is left out."""
        global _active
        if _active is not self:
            raise ArgumentError("profile", "stop() without a start().")
        self._end_step()
        ended = self._recording
        if ended:
            self._end_cycle()
        _active = None
        if ended and self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def step(self) -> None:
        """Say that a step of the training has ended, and the next one begins."""
        before = self._action()
        self._end_step()
        self.step_num += 1
        now = self._action()
        if self._recording and (before is ProfilerAction.RECORD_AND_SAVE or not now.records):
            self._end_cycle()
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)
        if _active is self and now.records:
            if self._recording:
                self._begin_step()
            else:
                self._begin_cycle()

    def _action(self) -> ProfilerAction:
        return ProfilerAction.RECORD if self.schedule is None else self.schedule(self.step_num)

    def _begin_cycle(self) -> None:
        self._noted = []
        self._events = None
        self._names = {}
        self._stack = _Stack(self._names)
        observe(self._on_kernel)
        add_hook(self._on_function)
        self._recording = True
        self._begin = perf_counter_ns()
        self._begin_step()

    def _end_cycle(self) -> None:
        wall = perf_counter_ns() - self._begin
        self._recording = False
        unobserve(self._on_kernel)
        remove_hook(self._on_function)
        # A thread that ended an event of an earlier cycle meanwhile may have noted it here.
        noted = [event for event in self._noted if event.start >= self._begin]
        self._noted = []
        noted.sort(key=lambda event: event.start)
        self._events = EventList(noted, wall)

    def _begin_step(self) -> None:
        """Open a range for a step; as in PyTorch, only if there is a schedule."""
        if self.schedule is not None:
            self._step = Event(f"ProfilerStep#{self.step_num}", "range")
            self._step_opened = self._begin_event(self._step)

    def _end_step(self) -> None:
        if self._step is not None:
            self._end_event(self._step, self._step_opened)
            self._step = None

    # What was seen ----------------------------------------------------------------------

    def events(self) -> EventList:
        """Every event, in the order in which they began.

        Raises:
            RuntimeError: if the profile has not ended.
        """
        if self._events is None:
            raise ArgumentError(
                "profile", "nothing to report yet.", hint="Ask after the end of the with block."
            )
        return self._events

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> EventList:
        """Events of the same name added up; ``print(prof.key_averages().table())``.

        Args:
            group_by_input_shape: a row for each combination of shapes and dtypes;
                needs ``record_shapes``.
            group_by_stack_n: more than 0: a row for each calling line and layer; needs
                ``with_stack`` or ``with_modules``.
        """
        return self.events().key_averages(group_by_input_shape, group_by_stack_n)

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a trace that chrome://tracing and https://ui.perfetto.dev show.

        The file is written whole or not at all; compressed if its name ends in ``.gz``.

        Raises:
            RuntimeError: if it cannot be written, or the profile has not ended.
        """
        write_trace(self.events(), self._begin, self._names, path)

    # Watching ---------------------------------------------------------------------------

    def _on_function(
        self,
        function: Any,
        inputs: tuple[Any, ...],
        attributes: dict[str, Any],
        proceed: Callable[[], Any],
    ) -> Any:
        if not isinstance(function, type):
            if isinstance(function, Function):
                return self._on_derivative(function, inputs, proceed)
            return proceed()
        event = Event(function.__name__, "function")
        if self.record_shapes:
            event.shapes, event.dtypes = _describe(inputs)
        if self._seeks:
            node = running.node
            made = None if node is None else getattr(node, "profiled", None)
            self._place(event, made)
        outputs = self._note(event, proceed)
        # Nodes remember their operator, for the line and for the arrow in the trace.
        for t in outputs if type(outputs) is tuple else (outputs,):
            if isinstance(t, Tensor) and t._edge is not None and t._edge[1] >= 0:
                made_by = t._edge[0]
                if not hasattr(made_by, "profiled"):
                    made_by.profiled = event
        return outputs

    def _on_derivative(
        self, node: Function, grad_outputs: tuple[Any, ...], proceed: Callable[[], Any]
    ) -> Any:
        event = Event(node.name(), "backward")
        if self.record_shapes:
            event.shapes, event.dtypes = _describe(grad_outputs)
        event.forward = getattr(node, "profiled", None)
        if self._seeks:
            self._place(event, event.forward)
        return self._note(event, proceed)

    def _on_kernel(
        self,
        name: str,
        backend: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        proceed: Callable[[], Any],
    ) -> Any:
        event = Event(name, "kernel", backend)
        if self.record_shapes:
            event.shapes, event.dtypes = _describe(args)
        if self._seeks:
            opened = self._stack.open
            around = opened[-1] if opened and opened[-1].kind != "range" else None
            self._place(event, around)
        return self._note(event, proceed)

    def _note(self, event: Event, proceed: Callable[[], Any]) -> Any:
        opened = self._begin_event(event)
        try:
            return proceed()
        finally:
            self._end_event(event, opened)

    def _begin_event(self, event: Event) -> list[Event]:
        stack = self._stack
        opened = stack.open
        if opened:
            event.parent = opened[-1]
        opened.append(event)
        event.thread = stack.thread
        event.start = perf_counter_ns()
        return opened

    def _end_event(self, event: Event, opened: list[Event]) -> None:
        event.end = end = perf_counter_ns()
        # A range may be closed out of turn; an event inside it that is still open stays.
        if opened[-1] is event:
            opened.pop()
        else:
            opened.remove(event)
        if event.parent is not None:
            event.parent.inner += end - event.start
        self._noted.append(event)

    def _place(self, event: Event, like: Event | None) -> None:
        """Note line and layer: those of ``like``, or of who calls now."""
        if like is not None:
            event.line, event.module = like.line, like.module
        else:
            event.line, event.module = _caller(self.with_stack, self.with_modules)


_active: profile | None = None
_switching = threading.Lock()


class record_function:  # noqa: N801  (PyTorch's name)
    """Give a stretch of your program a name in the profile; a decorator too.

    Outside of a profile it does nothing.

    >>> with nano.profiler.profile() as prof:
    ...     with nano.profiler.record_function("my part"):
    ...         y = nano.ones(2) + 1
    >>> print([e.name for e in prof.events()])
    ['my part', 'Add', 'add']
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name = name
        self.args = args
        self._opened: tuple[profile, Event, list[Event]] | None = None

    def __enter__(self) -> record_function:
        watching = _active
        if watching is not None and watching._recording:
            event = Event(self.name, "range")
            event.note = self.args or ""
            if watching._seeks:
                watching._place(event, None)
            self._opened = watching, event, watching._begin_event(event)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._opened is not None:
            watching, event, opened = self._opened
            self._opened = None
            watching._end_event(event, opened)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*args, **kwargs)

        return named


def _describe(arguments: Iterable[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The shapes and the dtypes of arguments; of a list of arrays, a tuple of theirs.

    What is no array has the shape () and its Python type. Names come later: this runs
    inside of what is measured.
    """
    shapes: list[Any] = []
    dtypes: list[Any] = []
    for x in arguments:
        array = x._data if isinstance(x, Tensor) else x
        if isinstance(array, np.ndarray):
            shapes.append(array.shape)
            dtypes.append(array.dtype)
        elif type(array) is list and any(isinstance(a, np.ndarray) for a in array):
            inner = _describe(array)
            shapes.append(inner[0])
            dtypes.append(inner[1])
        else:
            shapes.append(())
            dtypes.append(type(array))
    return tuple(shapes), tuple(dtypes)


def _caller(line: bool, modules: bool) -> tuple[tuple[str, int, str] | None, str]:
    """The innermost line that is not nano's own, and the path of the layers that are running."""
    place = None
    calls: list[Module] = []
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        code = frame.f_code
        if modules and code is _MODULE_CALL:
            calls.append(frame.f_locals["self"])
        elif line and place is None and not code.co_filename.startswith(_PACKAGE):
            place = code.co_filename, frame.f_lineno, code.co_name
            if not modules:
                break
        frame = frame.f_back
    path = ""
    outer: Module | None = None
    for module in reversed(calls):
        names = () if outer is None else outer._modules.items()
        name = next((n for n, child in names if child is module), type(module).__name__)
        path = f"{path}.{name}" if path else name
        outer = module
    return place, path


_MODULE_CALL = Module.__call__.__code__
