"""The pass that lets chains of operators go through blocks of rows, from one to the next.

Between a network's layers that mix rows, such as attention, all is done row by row: products by
matrices of weights, what is done to single elements, layer normalisation; and backward likewise,
where gradients of weights are sums over the rows. Each such operator by itself writes its result
to memory, from where the next reads it, and all threads wait for each other in between. A chain of
them takes a block of rows at a time through all, and waits once. See :mod:`row_loops` for the
function, and :mod:`row_steps` for the operators that it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends import is_available, precision
from .graph import Accumulate, Apply, Graph, Memory, Node, Value, is_change
from .native import is_view_of_an_input
from .regions import Members
from .row_loops import BLOCK, RowLoops, multiplications
from .row_steps import Step, row_counts, step_of

__all__ = ["RowBlocks", "row_blocks"]

#: Of fewer rows, the threads get too few blocks.
_FEWEST_ROWS = 4 * BLOCK
#: A block's product takes longer than its call; and each part of the rows has all sums of its own,
#: which have to stay in the cache.
_SMALLEST_MATRIX, _LARGEST_MATRIX = 1 << 13, 1 << 18
#: With fewer products and normalisations, little is handed on; more products take long to compile.
_FEWEST, _MOST = 2, 16
_ROWS_OF_A_PART = 64


def row_blocks(graph: Graph) -> None:
    """Replace chains of operators on the same rows by one :class:`RowBlocks` each, in place.

    Without oneDNN and Numba, and where products may be rounded to bfloat16, all stay as they are.
    """
    if not (is_available("fused") and is_available("onednn")) or precision.rounds_to_bfloat16():
        return
    counts = sorted({n for node in graph.nodes for n in row_counts(node)})
    for rows in counts:
        if rows >= _FEWEST_ROWS:
            _Chains(graph, rows).replace()


class _Chains:
    """Finds the chains that go over so many rows."""

    def __init__(self, graph: Graph, rows: int) -> None:
        self._graph, self._rows = graph, rows
        self._nodes: list[Any] = list(graph.nodes)
        self._steps: dict[int, Step] = {}
        self._consumers: dict[Value, list[int]] = {}
        #: For each place, how many steps before it change what is outside.
        self._changes: list[int] = []
        #: Memory that such a step may change.
        self._open: set[Memory] = set()
        self._returned = set(graph.returned())
        changes = 0
        for place, node in enumerate(self._nodes):
            self._changes.append(changes)
            changes += is_change(node)
            for v in node.reads():
                self._consumers.setdefault(v, []).append(place)
                if isinstance(node, Accumulate):
                    self._open.add(v.memory)
            step = step_of(node, rows)
            if step is not None and _fits(step):
                self._steps[place] = step

    def replace(self) -> None:
        """Put each chain where its last member stood."""
        for places in self._found():
            node = self._chain(places)
            for p in places:
                self._nodes[p] = None
            self._nodes[places[-1]] = node
            for v in node.makes():
                v.node = node
        self._graph.nodes = [n for n in self._nodes if n is not None]

    def _found(self) -> list[list[int]]:
        growing: list[list[int]] = []
        for p in self._steps:
            home = [p]
            for group in reversed(list(growing)):
                joined = sorted([*group, *home])
                if self._near(group, home) and self._legal(joined):
                    growing.remove(group)
                    home = joined
            growing.append(home)
            growing.sort(key=lambda places: places[-1])
        chains = [self._without_views(g) for g in growing]
        return [c for c in chains if self._products(c) and self._worth(c) >= _FEWEST]

    def _worth(self, places: list[int]) -> int:
        kinds = [self._steps[p].kind for p in places]
        return sum(kinds.count(k) for k in ("product", "add_product", "normalise", "slopes"))

    def _products(self, places: list[int]) -> int:
        return sum(multiplications(self._steps[p]) > 0 for p in places)

    def _near(self, group: list[int], more: list[int]) -> bool:
        """Whether some of the latter read tables that some of the former make or read."""
        wanted = {v for p in more for v in self._steps[p].tables}
        return any(
            v in wanted for p in group for v in (*self._steps[p].makes, *self._steps[p].tables)
        )

    def _legal(self, places: list[int]) -> bool:
        """Whether these can run at the last one's place, block by block."""
        last, members = places[-1], set(places)
        if self._products(places) > _MOST:
            return False
        tables = {v for p in places for v in self._steps[p].makes}
        sums = {v for p in places for v in self._steps[p].sums}
        for p in places:
            step, node = self._steps[p], self._nodes[p]
            for v in node.makes():
                users = [q for q in self._consumers.get(v, []) if q not in members]
                if users and min(users) < last:
                    return False
            # What is used as a whole must be there before, and a sum is there behind.
            if any(v in tables or v in sums for v in step.shared):
                return False
            for v in step.tables:
                if v in sums:
                    return False
            for v in node.reads():
                changeable = v.memory.outside or v.memory in self._open
                if v not in tables and changeable and self._changes[p] != self._changes[last]:
                    return False
        return True

    def _without_views(self, places: list[int]) -> list[int]:
        """Without views that can stay where they are: by themselves they cost nothing.

        Those behind all other members can, and those of what is there before, if others read them.
        """
        kept = list(places)
        made = {v for p in places if self._steps[p].kind != "view" for v in self._steps[p].makes}
        for p in places:
            if self._steps[p].kind == "view" and self._steps[p].tables[0] in made:
                made.update(self._steps[p].makes)
        for p in reversed(places):
            if self._steps[p].kind != "view":
                continue
            (v,) = self._steps[p].makes
            users = self._consumers.get(v, [])
            inside = users and v not in self._returned and all(q in kept for q in users)
            if p == kept[-1] or not (v in made or inside):
                kept.remove(p)
        return kept

    def _chain(self, places: list[int]) -> RowBlocks:
        members = [self._nodes[p] for p in places]
        made = dict.fromkeys(v for n in members for v in n.makes())
        inputs = dict.fromkeys(v for n in members for v in n.reads() if v not in made)
        inside = set(places)
        outputs = [
            v
            for v in made
            if v in self._returned or any(q not in inside for q in self._consumers.get(v, []))
        ]
        return RowBlocks(
            members=members,
            steps=[self._steps[p] for p in places],
            rows=self._rows,
            inputs=list(inputs),
            outputs=list(outputs),
            line=members[-1].line,
            phase=members[-1].phase,
        )


def _fits(step: Step) -> bool:
    """Whether its matrices are neither too small nor too large."""
    if step.kind == "product":
        return _SMALLEST_MATRIX <= step.shared[0].size <= _LARGEST_MATRIX
    if step.kind == "add_product":
        return _SMALLEST_MATRIX <= step.sums[0].size <= _LARGEST_MATRIX
    return True


# The node ---------------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class RowBlocks(Node):
    """Operators that run as one function over blocks of rows, compiled on the first call.

    Attributes:
        members: in order.
        rows: of all tables.
        exact: False: it adds up in another order than the operators do.
    """

    members: list[Apply]
    steps: list[Step]
    rows: int
    exact: bool = field(init=False, default=False)
    _loops: RowLoops = field(init=False)
    _host: Callable[..., Any] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._loops = RowLoops(self.steps, self.outputs, self.rows)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        names = list(dict.fromkeys(m.name for m in self.members if not is_view_of_an_input(m)))
        return "Rows[" + ", ".join(names[:4] + ["..."] * (len(names) > 4)) + "]"

    @property
    def source(self) -> str:
        """The function's text, with the operators and the user's lines beside it."""
        return self._loops.source

    def run(self, *arrays: Any) -> Any:
        """From the arrays of ``inputs`` to that of the output, or a tuple of them.

        For arrays that lie otherwise than traced, the operators run one after the other.
        """
        host = self._host
        if host is None:
            host = self._host = self._written()
        return host(*arrays)

    def _written(self) -> Callable[..., Any]:
        """The function from arrays to arrays around the compiled one."""
        from ..backends import threads
        from ..backends.fused.addresses import address_of
        from ..backends.fused.row_blocks import collect, over_parts
        from ..backends.fused.sgemm import address

        members = Members(self)
        exec(members.source(), members.scope)
        scope: dict[str, Any] = {
            "address": address_of,
            "chain": self._loops.compiled(),
            "collect": collect,
            "over_parts": over_parts,
            "empty": np.empty,
            "f32": np.dtype(np.float32),
            "members": members.scope["members"],
            "np": np,
            "this_thread": threads.this_thread,
            "strides": tuple([v.strides for v in self.inputs]),
        }
        inputs = ", ".join(v.name for v in self.inputs)
        lines = [
            f"def run({inputs}):",
            f"if ({''.join(f'{v.name}.strides, ' for v in self.inputs)}) != strides:",
            f"    return members({inputs})",
            f"parts = min(this_thread(), {self.rows // _ROWS_OF_A_PART})",
            f"scratch = empty(parts * {self._loops.scratch} + 64, 'u1')",
            "inside = address(scratch)",
            "inside += -inside % 64",
        ]
        roots = dict.fromkeys(self._loops.root(v) for v in self.makes())
        lines += [f"{v.name} = empty({v.shape}, f32)" for v in roots]
        given = {"sgemm": str(address()), "scratch": "inside"}
        at = [given.get(x) or f"address({x.name})" for x in self._loops.places]  # type: ignore
        totals = [
            f"(address({v.name}), {own}, {v.size}, {wide:d}), "
            for v, own, wide in self._loops.totals
        ]
        lines += [
            f"at = np.array(({', '.join(at)}), np.int64)",
            "over_parts(chain, at, parts)",
        ]
        if totals:
            lines.append(f"totals = np.array(({''.join(totals)}), np.int64)")
            lines.append(f"collect(totals, parts, inside, {self._loops.scratch})")
        for v in self.makes():
            root = self._loops.root(v)
            if root is not v:
                lines.append(f"{v.name} = {root.name}.reshape({v.shape})")
        lines.append(f"return {', '.join(v.name for v in self.makes())}")
        text = "\n    ".join(lines)
        exec(compile(text, f"<call of {self.name}>", "exec"), scope)
        return scope["run"]  # type: ignore[no-any-return]
