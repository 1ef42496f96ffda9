"""``nano.compile``: which program runs at which call, and when a new one is made."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import GraphBreak, InputError
from ..hook import hooks
from ..tensor import Tensor
from .codegen import Fused
from .compare import Reading, difference, read_from_outside, settle_constants
from .differentiated import Differentiated
from .formula import UnsupportedError
from .graph import Effect, Graph
from .guards import Guards, quick_test, signature
from .joint import settle_leaves
from .passes import JOINT, LARGE_PASSES, PASSES
from .program import Program
from .regions import Region
from .report import Report, report
from .row_blocks import RowBlocks
from .small import small_program
from .surroundings import PLAIN
from .trace import Trace, trace
from .trees import leaves

__all__ = ["Compiled"]

#: Programs that a function may have, for so many kinds of arguments.
LIMIT = 8
#: So often two runs may differ from each other; then it is an error.
_PATIENCE = 4


@dataclass(eq=False)
class _Watched:
    """A run that was watched, and what must be as it was for the next one to be like it."""

    graph: Graph
    guards: Guards
    readings: list[Reading]


@dataclass(eq=False)
class _Made:
    """A program, when it may run, and a quick test of the arguments, if there is one."""

    program: Program | Differentiated
    guards: Guards
    test: Callable[[tuple[Any, ...]], bool] | None


class _Entry:
    """What is known for one kind of arguments.

    Attributes:
        made: programs, each for other surroundings (layers in training, and in evaluation).
        watched: runs that have no program yet.
        misses: how often two runs in the same surroundings were not alike.
        count: how many programs were made.
        hopeless: whether to leave it at running the function.
    """

    __slots__ = ("count", "hopeless", "made", "misses", "watched")

    def __init__(self) -> None:
        self.made: list[_Made] = []
        self.watched: list[_Watched] = []
        self.misses = 0
        self.count = 0
        self.hopeless = False


class Compiled:
    """A function that is run as a program where there is one; see :func:`nano.compile`."""

    def __init__(
        self,
        function: Callable[..., Any],
        fallback: bool = False,
        limit: int = LIMIT,
        without: Iterable[str] = (),
        name: str = "",
    ) -> None:
        functools.update_wrapper(self, function)
        self._name = name or getattr(function, "__qualname__", type(function).__name__)
        self._function = function
        self._fallback = fallback
        self._limit = limit
        self._passes, self._large_passes = _passes(without)
        self._native = "native" not in without
        self._entries: dict[Any, _Entry] = {}
        self._warned: set[str] = set()
        self._latest: Program | Differentiated | None = None
        self._why_large = ""
        #: What the latest call used, if a quick test tells whether the next one is alike.
        self._quick: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if hooks:  # somebody looks on: a profile, anomaly mode, or another function's trace
            return self._function(*args, **kwargs)
        latest = self._quick
        if latest is not None and not kwargs and latest.test(args) and latest.guards.holds():
            return latest.program.run(*args)
        given = list(leaves((args, kwargs)))
        key = self._key(args, kwargs, given)
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= self._limit:
                self._warn(
                    "limit",
                    f"{self._name} was called with more than {self._limit} kinds of arguments; it "
                    "runs uncompiled for the others. Pad batches to one size, or raise limit=.",
                )
                return self._function(*args, **kwargs)
            entry = self._entries[key] = _Entry()
        for made in entry.made:
            if made.guards.holds():
                self._latest = made.program
                self._quick = made if made.test is not None and not kwargs else None
                return made.program.run(*_tensors(given))
        if entry.hopeless:
            return self._function(*args, **kwargs)
        return self._look(entry, args, kwargs, _tensors(given))

    def _key(self, args: Any, kwargs: dict[str, Any], given: list[Any]) -> Any:
        structure = (
            tuple(map(_structure, args)),
            tuple((k, _structure(x)) for k, x in kwargs.items()),
        )
        return structure, signature(given)

    def _warn(self, once: str, text: str) -> None:
        if once not in self._warned:
            self._warned.add(once)
            warnings.warn(f"nano.compile: {text}", stacklevel=_level_of_the_user())

    # Making programs --------------------------------------------------------------------

    def _look(self, entry: _Entry, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """Run the function itself and watch; when it did the same twice, make the program."""
        earlier = next((w for w in entry.watched if w.guards.broken() is None), None)
        found = trace(self._function, args, kwargs, tensors, self._fallback)
        if earlier is not None and found.broken is None:
            found.broken = read_from_outside(earlier.readings, found.readings)
        if found.broken is not None:
            self._break(entry, found.broken)
            return found.result
        given = [x for x in leaves((args, kwargs)) if not _is_plain(x)]
        if earlier is not None:
            entry.watched.remove(earlier)
            reason = difference(earlier.graph, found.graph)
            changed = earlier.guards.broken()
            if not reason and changed is not None:
                reason = f"it changes {changed.what} as it runs, which a program would not"
            if not reason:
                settle_constants(earlier.graph, found.graph)
                reason = settle_leaves(earlier.graph, found.graph)
            if not reason:
                flat = all(isinstance(x, Tensor) for x in args) and not kwargs
                test = quick_test(list(args)) if flat else None
                self._finish(entry, found, given, earlier.guards.growing(), test)
                return found.result
            entry.misses += 1
            if entry.misses >= _PATIENCE:
                self._give_up(entry, reason)
        guards = Guards(self._function, found.modules, given)
        entry.watched.append(_Watched(found.graph, guards, found.readings))
        self._forget_old(entry)
        return found.result

    def _forget_old(self, entry: _Entry) -> None:
        """Hold no more programs and runs than are allowed; make no more either."""
        del entry.watched[: -self._limit]
        entry.made = [m for m in entry.made if not m.guards.gone]
        if entry.count > self._limit or len(entry.made) > self._limit:
            changed = entry.made[-1].guards.broken() if entry.made else None
            what = "the memory of its tensors" if changed is None else changed.what
            entry.hopeless = True
            self._warn(
                "anew",
                f"{self._name} was compiled {entry.count} times, for it depends on what changes "
                f"({what}); otherwise than before it runs uncompiled from now on. Make that an "
                "argument, or raise limit=.",
            )

    def _give_up(self, entry: _Entry, reason: str) -> None:
        error = GraphBreak(
            "compile",
            f"{self._name} does something else each time.",
            facts=reason,
            hint="What changes from call to call must be an argument; or say "
            "nano.compile(fn, fallback=True).",
        )
        self._break(entry, error)

    def _break(self, entry: _Entry, error: GraphBreak) -> None:
        """Refuse to make a program; or, if so wished, warn once and run uncompiled from now on."""
        if not self._fallback:
            raise error
        entry.hopeless = True
        self._warn("break", f"{self._name} runs uncompiled. {error}")

    def _finish(
        self, entry: _Entry, found: Trace, given: Any, growing: frozenset[int], test: Any
    ) -> None:
        graph = found.graph
        captured = [v for v in graph.values if v.kind == "captured"]
        calls = [node.call for node in graph.nodes if isinstance(node, Effect)]
        history = [("as traced", str(graph))]
        program: Any
        if graph.derivative is None:
            program = self._make(graph, history)
        else:
            _run({k: run for k, run in self._passes.items() if k in JOINT}, graph, history)
            program = Differentiated(graph, self._make, history)
        guards = Guards(self._function, found.modules, given, captured, calls, growing)
        entry.made.insert(0, _Made(program, guards, test))
        entry.count += 1
        self._latest = program

    def _make(self, graph: Graph, history: list[tuple[str, str]]) -> Program:
        """The program of a graph, once all passes have gone over it."""
        _run(self._passes, graph, history)
        program = self._small(graph) if self._native else None
        if program is None:
            _run(self._large_passes, graph, history)
            program = Program(graph, self._name)
        program.history = history
        return program

    def _small(self, graph: Graph) -> Program | None:
        """The program as one native function, if it can be."""
        try:
            return small_program(graph, Program(graph, self._name), self._name)
        except UnsupportedError as reason:
            self._why_large = str(reason)
            return None

    # To look at -------------------------------------------------------------------------

    def _program(self) -> Program | Differentiated:
        if self._latest is None:
            raise InputError(
                "compile",
                f"{self._name} has no program yet.",
                hint="Call it twice with the same kind of arguments: it is watched in the first "
                "two runs.",
            )
        return self._latest

    def graph(self) -> Graph:
        """What the latest program computes; print it."""
        return self._program().graph

    def passes(self) -> str:
        """The latest program's graph as it was traced, and after each pass that changed it."""
        return "\n\n".join(f"{name}:\n{text}" for name, text in self._program().history)

    def source(self) -> str:
        """The text of the latest program, with that of its native function or its loops."""
        program = self._program()
        texts = []
        for part in program.parts:
            loops = [
                n.source for n in part.graph.nodes if isinstance(n, (Fused, Region, RowBlocks))
            ]
            texts += [part.source, *filter(None, [part.native]), *loops]
        return "\n\n".join(texts)

    def report(self, *args: Any, **kwargs: Any) -> Report:
        """What the latest program does: its nodes, bytes, what was fused and why not; print it.

        Args:
            args, kwargs: if given, the program for them runs once more, as by a call, and each
                node's time and kernels are noted too.

        Raises:
            ValueError: if there is no program yet, or none for such arguments.
        """
        if not args and not kwargs:
            return report(self._program().parts, self._why_large, None)
        given = list(leaves((args, kwargs)))
        entry = self._entries.get(self._key(args, kwargs, given))
        ready = [m for m in entry.made if m.guards.holds()] if entry else []
        if not ready:
            raise InputError(
                "compile",
                f"{self._name} has no program for these arguments.",
                hint="Call it with them three times first.",
            )
        return report(ready[0].program.parts, self._why_large, _tensors(given))

    def __repr__(self) -> str:
        ready = sum(len(e.made) for e in self._entries.values())
        return f"<nano.compile {self._name}: {ready} programs>"


def _level_of_the_user() -> int:
    """``stacklevel`` of the line, outside of nano, that called what calls this."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_Passes = dict[str, Callable[[Graph], None]]


def _run(passes: _Passes, graph: Graph, history: list[tuple[str, str]]) -> None:
    """Let the passes change the graph, and note what they made of it."""
    for name, run in passes.items():
        run(graph)
        graph.check()
        _note_change(history, name, graph)


def _note_change(history: list[tuple[str, str]], name: str, graph: Graph) -> None:
    """Note what a pass has made of the graph, if it is another."""
    text = str(graph)
    if text != history[-1][1]:
        history.append((name, text))


def _is_plain(x: Any) -> bool:
    return isinstance(x, Tensor) or type(x) in PLAIN


def _tensors(given: list[Any]) -> list[Tensor]:
    """The Tensors among the arguments, each once."""
    return list({id(x): x for x in given if isinstance(x, Tensor)}.values())


def _structure(x: Any) -> Any:
    """How an argument is nested."""
    if isinstance(x, dict):
        return tuple((k, _structure(y)) for k, y in x.items())
    if isinstance(x, (tuple, list)):
        return type(x), tuple(map(_structure, x))
    return None


def _passes(without: Iterable[str]) -> tuple[_Passes, _Passes]:
    """The passes that are not left out: over all programs, and over large ones."""
    left_out = {without} if isinstance(without, str) else set(without)
    unknown = left_out - PASSES.keys() - LARGE_PASSES.keys() - {"native"}
    if unknown:
        raise InputError(
            "compile",
            f"there is no pass named {min(unknown)!r}.",
            facts=f"there are {', '.join([*PASSES, *LARGE_PASSES])} and native",
        )
    if "native" in left_out:
        left_out.add("regions")
    first, then = (
        {name: run for name, run in table.items() if name not in left_out}
        for table in (PASSES, LARGE_PASSES)
    )
    return first, then
