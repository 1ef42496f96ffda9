"""The pass that makes small operators of a larger program into native functions.

What the last layers of a convolutional network do, and its moving averages, takes less time
than Python takes to call it. Groups of such operators grow in the order of the program; a group
runs at the place of its last member, so nothing outside of it that uses what it makes may stand
before. See :mod:`native` for the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends import is_available
from ..functions.class_losses import NllLoss, NllLossBackward
from ..functions.reduction import Mean, Sum
from .formula import TRANSCENDENTAL, UnsupportedError
from .graph import Accumulate, Apply, Graph, Memory, Node, Value, is_change
from .native import Native, is_view_of_an_input
from .operator_loops import is_dense, multiplications
from .program import Writer

__all__ = ["Members", "Region", "regions"]

#: Elements that one thread goes over in the time that it takes to wake another.
_LARGEST = 1 << 16
#: Multiplications of a product: some hundred microseconds.
_LARGEST_PRODUCT = 1 << 24
#: Elements that are added up in float32; more lose digits.
_LONGEST_SUM = 1 << 13
#: An exponential takes as long as that many additions.
_COST_OF_CURVE = 4
#: With fewer operators, too little is saved for what compiling takes; with more, it takes long.
_FEWEST, _MOST = 4, 128
_ALIGNMENT = 64
#: Of an array's memory.
_MOST_BYTES = 1 << 18
#: They refuse labels that are no class.
_REFUSING = (NllLoss, NllLossBackward)


def regions(graph: Graph) -> None:
    """Replace groups of small operators by one :class:`Region` each, in place.

    Without Numba, all stay as they are.
    """
    if not is_available("fused"):
        return
    grouping = _Grouping(graph)
    nodes: list[Node | None] = list(graph.nodes)
    for places in grouping.groups():
        node = grouping.region(places)
        for p in places:
            nodes[p] = None
        nodes[places[-1]] = node
        for v in node.makes():
            v.node = node
    graph.nodes = [n for n in nodes if n is not None]


# Which ------------------------------------------------------------------------------------


class _Grouping:
    def __init__(self, graph: Graph) -> None:
        self._nodes = list(graph.nodes)
        self._consumers: dict[Value, list[int]] = {}
        #: For each place, how many steps before it change what is outside, and draw at random.
        self._changes: list[int] = []
        self._draws: list[int] = []
        #: Memory that such a step may change.
        self._open: set[Memory] = set()
        self._extents: dict[Memory, int] = {}
        self._returned = set(graph.returned())
        changes = draws = 0
        for place, node in enumerate(self._nodes):
            self._changes.append(changes)
            self._draws.append(draws)
            changes += is_change(node)
            draws += getattr(node, "random", node.has_effect)
            for v in node.reads():
                self._consumers.setdefault(v, []).append(place)
                if isinstance(node, Accumulate):
                    self._open.add(v.memory)
            for v in (*node.reads(), *node.makes()):
                self._extents[v.memory] = max(_end(v), self._extents.get(v.memory, 0))

    def groups(self) -> list[list[int]]:
        """The places of the members of each group that is worth a function."""
        small = [p for p, node in enumerate(self._nodes) if self._is_small(node)]
        # What nothing but the end of the program needs can wait for the last group.
        late = {p for p in small if self._can_wait(p)}
        growing: list[list[int]] = []
        for p in [*(p for p in small if p not in late), *sorted(late)]:
            if is_view_of_an_input(self._nodes[p]):
                self._join_maker(growing, p)
                continue
            home = [p]
            for group in reversed(list(growing)):
                joined = sorted([*group, *home])
                if self._legal(joined):
                    growing.remove(group)
                    home = joined
            growing.append(home)
            growing.sort(key=lambda places: places[-1])
        return [g for g in growing if self._computing(g) >= _FEWEST]

    def _join_maker(self, growing: list[list[int]], p: int) -> None:
        """Let a view join the group that makes what it shows; elsewhere it costs nothing."""
        (x,) = {v.node for v in self._nodes[p].reads() if v.memory is self._shown(p)}
        for group in growing:
            if any(self._nodes[q] is x for q in group) and self._legal([*group, p]):
                group.append(p)
                return

    def _shown(self, p: int) -> Memory:
        return next(self._nodes[p].makes()).memory

    def _computing(self, places: list[int]) -> int:
        return sum(not is_view_of_an_input(self._nodes[p]) for p in places)

    def _can_wait(self, p: int) -> bool:
        made = list(self._nodes[p].makes())
        used = [q for v in made for q in self._consumers.get(v, [])]
        return not any(isinstance(self._nodes[q], Apply) for q in used)

    def _is_small(self, node: Node) -> bool:
        if not isinstance(node, Apply) or node.random or len(list(node.makes())) != 1:
            return False
        (y,) = node.makes()
        values = [*node.reads(), y]
        if y.memory.written or any(self._extents[v.memory] > _MOST_BYTES for v in values):
            return False
        if not is_view_of_an_input(node) and (y.offset or not is_dense(y)):
            return False
        if multiplications(node) > _LARGEST_PRODUCT or _work(node) > _LARGEST:
            return False
        if node.function in (Sum, Mean) and max(v.size for v in values) > _LONGEST_SUM * y.size:
            return False
        try:
            alone = Native([node], node.reads())
        except UnsupportedError:
            return False
        return is_available("onednn") or not alone.calls_onednn

    def _legal(self, places: list[int]) -> bool:
        """Whether these can run at the last one's place."""
        last, members = places[-1], set(places)
        if self._computing(places) > _MOST:
            return False
        made = {v for p in places for v in self._nodes[p].makes()}
        for p in places:
            node = self._nodes[p]
            assert isinstance(node, Apply)
            for v in node.makes():
                users = [q for q in self._consumers.get(v, []) if q not in members]
                if users and min(users) < last:
                    return False
            for v in node.reads():
                changeable = v.memory.outside or v.memory.written or v.memory in self._open
                if v not in made and changeable and self._changes[p] != self._changes[last]:
                    return False
            # What refuses its arguments does so before numbers are drawn that come after it.
            if node.function in _REFUSING and self._draws[p] != self._draws[last]:
                return False
        return True

    def region(self, places: list[int]) -> Region:
        """The node that takes the place of a group."""
        members = [n for p in places if isinstance(n := self._nodes[p], Apply)]
        made = dict.fromkeys(v for n in members for v in n.makes())
        inputs = dict.fromkeys(v for n in members for v in n.reads() if v not in made)
        inside = set(places)
        outputs = [
            v
            for v in made
            if v in self._returned or any(q not in inside for q in self._consumers.get(v, []))
        ]
        return Region(
            members=members,
            inputs=list(inputs),
            outputs=list(outputs),
            line=members[-1].line,
            phase=members[-1].phase,
        )


def _end(v: Value) -> int:
    """Bytes from the start of its memory to the end of its last element."""
    steps = sum((n - 1) * s for n, s in zip(v.shape, v.strides, strict=True) if s > 0)
    return v.offset + steps + v.dtype.itemsize


def _work(node: Apply) -> int:
    """As many additions of elements take about as long; without products."""
    curves = sum(f"{name}(" in node.function.formula for name in TRANSCENDENTAL)
    sizes = [v.size for v in (*node.reads(), *node.makes())]
    return max(sizes) * (1 + _COST_OF_CURVE * curves)


# The node ---------------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class Region(Node):
    """Operators that run as one native function, compiled on the first call.

    Attributes:
        members: in order.
        native: the function.
        exact: False: it adds up in another order than the operators do.
    """

    members: list[Apply]
    native: Native = field(init=False)
    exact: bool = field(init=False, default=False)
    _host: Callable[..., Any] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.native = Native(self.members, self.inputs, alike=True)

    @property
    def name(self) -> str:
        names = list(dict.fromkeys(m.name for m in self.members))
        return "Native[" + ", ".join(names[:4] + ["..."] * (len(names) > 4)) + "]"

    @property
    def source(self) -> str:
        """The function's text, with the operators and the user's lines beside it."""
        return self.native.source

    def run(self, *arrays: Any) -> Any:
        """From the arrays of ``inputs`` to that of the output, or a tuple of them.

        Where the function refuses, and for arrays that lie otherwise than traced, the operators
        run one after the other: they say what is wrong.
        """
        host = self._host
        if host is None:
            host = self._host = _Host(self).run()
        return host(*arrays)


class Members(Writer):
    """Writes a function of arrays that calls operator after operator."""

    def __init__(self, region: Any) -> None:
        graph = Graph()
        graph.nodes = list(region.members)
        graph.result = list(region.outputs)
        super().__init__(graph)
        self._region = region

    def source(self) -> str:
        inputs = ", ".join(v.name for v in self._region.inputs)
        self._lines = [f"def members({inputs}):"]
        self.body()
        self.line(f"return {', '.join(v.name for v in self._region.makes())}")
        return "\n".join(self._lines) + "\n"


class _Host:
    """Writes the function from arrays to arrays around the native one."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._native = region.native
        self._lines: list[str] = []
        self._scope: dict[str, Any] = {"np": np}
        self._inside = 0

    def run(self) -> Callable[..., Any]:
        """The function, ready to be called."""
        from ..backends.fused.addresses import address_of

        members = Members(self._region)
        exec(members.source(), members.scope)
        self._scope["members"] = members.scope["members"]
        self._scope["native"] = self._native.compiled()
        self._scope["address"] = address_of
        source = self._source()
        exec(compile(source, f"<call of {self._region.name}>", "exec"), self._scope)
        return self._scope["run"]

    def _source(self) -> str:
        inputs = ", ".join(v.name for v in self._region.inputs)
        # A captured tensor keeps its array while the program may run.
        moving = [v for v in self._region.inputs if v.kind != "captured"]
        if moving:
            self._scope["strides"] = tuple([v.strides for v in moving])
            self._line(f"if ({''.join(f'{v.name}.strides, ' for v in moving)}) != strides:")
            self._line(f"    return members({inputs})")
        for v in moving:
            self._line(f"p{v.number} = address({v.name})")
        places = self._outputs()
        self._share(places)
        addresses = [self._address(x, places) for x in self._native.places]
        if self._inside:
            self._line(f"scratch = np.empty({self._inside + _ALIGNMENT}, np.uint8)")
            self._line("inside = address(scratch)")
            self._line(f"inside += -inside % {_ALIGNMENT}")
        self._line(f"if native(np.array(({', '.join(addresses)},), np.uint64)):")
        self._line(f"    return members({inputs})")
        self._line(f"return {', '.join(v.name for v in self._region.makes())}")
        return "\n".join([f"def run({inputs}):", *self._lines])

    def _line(self, text: str) -> None:
        self._lines.append("    " + text)

    def _outputs(self) -> dict[Memory, str]:
        """Make the arrays of what is used outside; the names of their addresses."""
        places: dict[Memory, str] = {}
        shown: dict[Memory, list[Value]] = {}
        for v in self._region.makes():
            shown.setdefault(v.memory, []).append(v)
        for memory, values in shown.items():
            first = values[0]
            places[memory] = f"m{first.number}"
            for v in values:
                self._scope[f"d{v.number}"] = v.dtype
            plain = len(values) == 1 and _is_plain(first, self._size(memory))
            if plain:
                self._line(f"{first.name} = np.empty({first.shape}, d{first.number})")
                self._line(f"m{first.number} = address({first.name})")
                continue
            self._line(f"memory = np.empty({self._size(memory)}, np.uint8)")
            self._line(f"m{first.number} = address(memory)")
            for v in values:
                given = f"{v.shape}, d{v.number}, memory, {v.offset}, {v.strides}"
                self._line(f"{v.name} = np.ndarray({given})")
        return places

    def _address(self, what: Value | Memory | str, places: dict[Memory, str]) -> str:
        """What stands in the table for a place."""
        if what == "sgemm":
            from ..backends.fused.sgemm import address

            return str(address())
        if isinstance(what, Value):
            if what.kind == "captured":
                return str(self._scope["address"](what.content._data))
            return f"p{what.number}"
        assert isinstance(what, Memory)
        return places[what]

    def _share(self, places: dict[Memory, str]) -> None:
        """Give all that stays inside a place in one block, which it shares over time."""
        lives = {m: life for m, life in self._lives().items() if m not in places}
        laid: list[tuple[Memory, int, int]] = []
        for memory, (first, last) in sorted(lives.items(), key=lambda x: -self._size(x[0])):
            size = -(-self._size(memory) // _ALIGNMENT) * _ALIGNMENT
            start = 0
            for other, a, b in sorted(laid, key=lambda x: x[1]):
                begins, ends = lives[other]
                if first <= ends and begins <= last and a < start + size and start < b:
                    start = b
            laid.append((memory, start, start + size))
            places[memory] = f"inside + {start}"
            self._inside = max(self._inside, start + size)

    def _lives(self) -> dict[Memory, tuple[int, int]]:
        """Between which members each memory is used that one of them makes."""
        found: dict[Memory, tuple[int, int]] = {}
        given = set(self._region.inputs)
        for i, member in enumerate(self._region.members):
            for v in member.makes():
                # What needs others for nothing may run first, in a loop with its like.
                begin = 0 if given.issuperset(member.reads()) else i
                found.setdefault(v.memory, (begin, i))
            for v in (*member.reads(), *member.makes()):
                if v.memory in found:
                    found[v.memory] = found[v.memory][0], i
        return found

    def _size(self, memory: Memory) -> int:
        made = [v for m in self._region.members for v in m.makes() if v.memory is memory]
        return max(_end(v) for v in made)


def _is_plain(v: Value, size: int) -> bool:
    """Whether a value is all of its memory, row by row."""
    return v.nbytes == size and v.strides == np.empty(v.shape, v.dtype).strides
