"""The pass that lets loops write over what they read, where nobody looks any more.

The processor reads a fresh array from memory before it writes it, and for that lets go of others
in its cache.
"""

from __future__ import annotations

from .codegen import Fused
from .graph import Apply, Graph, Memory, Value
from .loops import is_reduction
from .operator_loops import is_dense

__all__ = ["in_place"]

#: Bytes. Smaller arrays stay in the first cache, where there is nothing to gain.
_LEAST = 1 << 15


def in_place(graph: Graph) -> None:
    """Let each :class:`Fused` write outputs over inputs that are not read again, in place."""
    last: dict[Memory, int] = {}
    shown: dict[Memory, set[Value]] = {}
    for i, node in enumerate(graph.nodes):
        for v in (*node.reads(), *node.makes()):
            last[v.memory] = i
            shown.setdefault(v.memory, set()).add(v)
    lasting = {v.memory for v in graph.returned()}
    for i, node in enumerate(graph.nodes):
        if not isinstance(node, Fused):
            continue
        free = [
            v
            for v in node.inputs
            if _is_made_here(v)
            and last[v.memory] == i
            and len(shown[v.memory]) == 1
            and not (v.memory.outside or v.memory.written or v.memory in lasting)
        ]
        sums = {v for m in node.members if is_reduction(m) for v in m.makes()}
        over: dict[Value, Value] = {}
        for y in node.makes():
            found = [v for v in free if v not in over.values() and _alike(v, y)]
            if found and y not in sums:
                over[y] = found[0]
        if over:
            node.write_over(over)


def _is_made_here(v: Value) -> bool:
    """Whether it is a result of our own operators: of others nobody knows who else holds it."""
    if isinstance(v.node, Apply):
        return v.node.function.__module__.startswith("nano.")
    return hasattr(v.node, "members")


def _alike(v: Value, y: Value) -> bool:
    """Whether each element of ``y`` has its place in the array of ``v``, which has no gaps."""
    same = (v.shape, v.strides, v.dtype) == (y.shape, y.strides, y.dtype)
    return same and v.nbytes >= _LEAST and is_dense(v)
