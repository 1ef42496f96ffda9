"""The pass that joins element-wise operators, and the sums that follow them, into loops.

A chain of operators reads and writes memory once for each; as one loop, once in all. Groups
grow in the order of the program: an operator joins the groups that make its operands, or one
that reads what it reads. A group runs at the place of its last member; so nothing outside of
it that uses what it makes may stand before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backends import is_available
from .codegen import Fused
from .formula import UnsupportedError
from .graph import Accumulate, Apply, Graph, Node, Value, is_change
from .loops import check_operator, is_reduction, iterated

__all__ = ["fuse"]

#: A loop of more operators compiles for seconds, and keeps no more numbers in registers.
MAX_OPERATORS = 32
#: Arrays that are read and written side by side. The processor foresees about as many.
MAX_INPUTS, MAX_OUTPUTS = 12, 6


def fuse(graph: Graph) -> None:
    """Replace groups of operators by one :class:`Fused` each, in place.

    Without Numba, all stay as they are.
    """
    if not is_available("fused"):
        return
    _sums_early(graph)
    grouping = _Grouping(graph)
    for group in grouping.groups():
        _replace(graph, group, grouping)
    graph.nodes = [n for n in graph.nodes if n is not None]


def _sums_early(graph: Graph) -> None:
    """Let each sum follow the operator that makes what is summed, whose loop it may join.

    The gradient of a bias comes behind the products of its layer, which read the same array.
    """
    behind: dict[int, list[Node]] = {}
    rest: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Apply) and is_reduction(node):
            x = next(node.reads())
            maker = x.node
            if isinstance(maker, Apply) and maker.function.formula and not x.memory.written:
                behind.setdefault(id(maker), []).append(node)
                continue
        rest.append(node)
    graph.nodes = [n for node in rest for n in (node, *behind.get(id(node), ()))]


class _Group:
    """Members by their places in the program."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.places: list[int] = []


class _Grouping:
    def __init__(self, graph: Graph) -> None:
        self._nodes = list(graph.nodes)
        self._place_of = {id(node): place for place, node in enumerate(self._nodes)}
        self._consumers: dict[Value, list[int]] = {}
        #: For each place, after how many steps that change what is outside it stands.
        self._changes: list[int] = []
        #: Values that such a step may change.
        self._open: set[int] = set()
        self._returned = set(graph.returned())
        changes = 0
        for place, node in enumerate(self._nodes):
            self._changes.append(changes)
            if is_change(node):
                changes += 1
            for v in node.reads():
                self._consumers.setdefault(v, []).append(place)
                if isinstance(node, Accumulate):
                    self._open.add(id(v.memory))
        self._groups: list[_Group] = []
        self._group_at: dict[int, _Group] = {}

    def groups(self) -> list[list[int]]:
        """The places of the members of each group that is worth a loop."""
        for place, node in enumerate(self._nodes):
            if isinstance(node, Apply) and self._fusable(node):
                self._place(place, node)
        found = []
        for group in self._groups:
            rest = group.places
            while len(rest) > 1:
                part = self._affordable(rest)
                rest = rest[len(part) :]
                # Also of few elements: a call of a loop takes as long as one of two operators.
                if len(part) > 1 and self.edges(part)[1]:
                    found.append(part)
        return found

    def _fusable(self, node: Apply) -> bool:
        if node.random or next(node.writes(), None) is not None:
            return False
        if any(v is not None and self._used(v) for v in node.outputs[node.count :]):
            return False
        if any(v.memory.written for v in (*node.reads(), *node.makes())):
            return False
        try:
            check_operator(node)
        except UnsupportedError:
            return False
        return True

    def _used(self, v: Value) -> bool:
        return v in self._returned or v in self._consumers

    # Growing

    def _place(self, place: int, node: Apply) -> None:
        """Let a node join the groups before it, or begin one."""
        shape = iterated(node)
        near: list[_Group] = []
        for v in node.reads():
            if v.node is not None:
                near += self._groups_at([self._place_of[id(v.node)]])
        if not is_reduction(node):
            for v in node.reads():
                if v.shape == shape:
                    near += self._groups_at(self._consumers[v])
        near = [g for g in dict.fromkeys(near) if g.shape == shape]
        near.sort(key=lambda g: -g.places[-1])
        home: _Group | None = None
        for group in near:
            places = [*group.places, *(home.places if home else [place])]
            if not self._legal(sorted(places)):
                continue
            if home is not None:
                self._groups.remove(home)
            group.places = sorted(places)
            home = group
            for p in group.places:
                self._group_at[p] = group
        if home is None:
            home = _Group(shape)
            home.places = [place]
            self._groups.append(home)
            self._group_at[place] = home

    def _groups_at(self, places: list[int]) -> list[_Group]:
        return [self._group_at[p] for p in places if p in self._group_at]

    def _legal(self, places: list[int]) -> bool:
        """Whether these can run at the last one's place."""
        last, members = places[-1], set(places)
        if len(places) > MAX_OPERATORS:
            return False
        streams: set[Value] = set()
        made = {v for p in places for v in self._nodes[p].makes()}
        size = 1
        for n in iterated(self._member(last)):
            size *= n
        for p in places:
            node = self._member(p)
            for v in node.makes():
                users = [q for q in self._consumers.get(v, []) if q not in members]
                if users and min(users) < last:
                    return False
                if is_reduction(node) and any(q in members for q in self._consumers.get(v, [])):
                    return False
            for v in node.reads():
                if v in made:
                    continue
                if v.size > 1:
                    streams.add(v)
                changeable = v.memory.outside or id(v.memory) in self._open
                if changeable and self._changes[p] != self._changes[last]:
                    return False
            if is_reduction(node) and next(node.reads()) not in made:
                return False
        return len(streams) <= MAX_INPUTS and self._sums_agree(places)

    def _sums_agree(self, places: list[int]) -> bool:
        """Whether a loop can be made with the sums among the members."""
        if not any(is_reduction(self._member(p)) for p in places):
            return True
        try:
            self.loop(places)
        except UnsupportedError:
            return False
        return True

    def _member(self, place: int) -> Apply:
        node = self._nodes[place]
        assert isinstance(node, Apply)
        return node

    # Ending

    def _affordable(self, places: list[int]) -> list[int]:
        """As many of the first members as make no more outputs than are allowed."""
        part = list(places)
        while len(part) > 1 and len(self.edges(part)[1]) > MAX_OUTPUTS:
            part.pop()
        return part

    def edges(self, places: list[int]) -> tuple[list[Value], list[Value]]:
        """What a group needs, and what others need of it."""
        members = set(places)
        made: dict[Value, None] = {}
        inputs: dict[Value, None] = {}
        for p in places:
            inputs.update(dict.fromkeys(v for v in self._nodes[p].reads() if v not in made))
            made.update(dict.fromkeys(self._nodes[p].makes()))
        outputs = [
            v
            for v in made
            if v in self._returned or any(q not in members for q in self._consumers.get(v, []))
        ]
        return list(inputs), outputs

    def loop(self, places: Sequence[int]) -> Fused:
        """The node that takes the place of a group."""
        members = [self._member(p) for p in places]
        inputs, outputs = self.edges(list(places))
        last: Any = members[-1]
        return Fused(
            members=members,
            inputs=list(inputs),
            outputs=list(outputs),
            line=last.line,
            phase=last.phase,
        )


def _replace(graph: Graph, places: list[int], grouping: _Grouping) -> None:
    """Put the loop of a group where its last member stood; None where the others did."""
    nodes: list[Node | None] = graph.nodes  # type: ignore[assignment]
    node = grouping.loop(places)
    for p in places:
        nodes[p] = None
    nodes[places[-1]] = node
    for v in node.makes():
        v.node = node
