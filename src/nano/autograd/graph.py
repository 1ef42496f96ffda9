"""The graph of a computation, to look at.

The engine needs only the way back, from a result to what it was made of. For a
reader, a :class:`Graph` also knows the way forward. It refers to nodes weakly:
looking at a graph does not keep its memory.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..errors import GradientError
from ..tensor import Tensor

__all__ = ["Graph"]


class Graph:
    """Everything that ``output`` was computed from.

    Nodes are Functions; leaves are the tensors at which the graph ends.

    >>> a = nano.tensor(2.0, requires_grad=True)
    >>> b = a * a
    >>> c = b + a
    >>> g = nano.autograd.Graph(c)
    >>> g.order
    [tensor(2., requires_grad=True), <MulBackward0>, <AddBackward0>]
    >>> g.parents(c)
    [<MulBackward0>, tensor(2., requires_grad=True)]
    >>> g.children(a)
    [<MulBackward0>, <MulBackward0>, <AddBackward0>]
    """

    def __init__(self, output: Tensor) -> None:
        root = output.grad_fn
        if root is None and not output.requires_grad:
            raise GradientError("Graph", "this tensor has no history: it does not require grad.")
        # By identity: two tensors are not to be compared by their elements here.
        self._children: dict[int, tuple[Any, list[Any]]] = {}
        self._order = [weakref.ref(n) for n in self._sort(output if root is None else root)]

    def _sort(self, root: Any) -> list[Any]:
        """Kahn's algorithm from the result back to the leaves, then turned round."""
        consumers: dict[Any, list[Any]] = {root: []}
        stack = [root]
        while stack:
            node = stack.pop()
            for target in _made_of(node):
                if target not in consumers:
                    consumers[target] = []
                    stack.append(target)
                consumers[target].append(node)
        waiting = {node: len(users) for node, users in consumers.items()}
        order = []
        ready = [root]
        while ready:
            node = ready.pop()
            order.append(node)
            for target in _made_of(node):
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
        order.reverse()
        position = {node: i for i, node in enumerate(order)}
        for node, users in consumers.items():
            users.sort(key=position.__getitem__)
            self._children[id(node)] = (weakref.ref(node), [weakref.ref(user) for user in users])
        return order

    @property
    def order(self) -> list[Any]:
        """Leaves and nodes in topological order: each after everything it was made of."""
        return [x for x in (reference() for reference in self._order) if x is not None]

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors at which the graph ends."""
        return [x for x in self.order if isinstance(x, Tensor)]

    def parents(self, of: Any) -> list[Any]:
        """What a tensor or node was made of, in the order of its inputs."""
        return list(_made_of(_place(of)))

    def children(self, of: Any) -> list[Any]:
        """The nodes that a tensor or node went into, once for each use."""
        place = _place(of)
        reference, users = self._children.get(id(place), (lambda: None, []))
        if reference() is not place:
            return []
        return [x for x in (user() for user in users) if x is not None]

    def __len__(self) -> int:
        return len(self.order)

    def __repr__(self) -> str:
        lines = []
        names = {}
        for i, node in enumerate(self.order):
            names[node] = f"%{i}"
            made_of = ", ".join(names[p] for p in _made_of(node))
            what = f"leaf {node.shape}" if isinstance(node, Tensor) else f"{node.name()}({made_of})"
            lines.append(f"%{i} = {what}")
        return "\n".join(lines)


def _place(of: Any) -> Any:
    """A tensor's place in the graph: its node, or the tensor itself for a leaf."""
    if isinstance(of, Tensor) and of.grad_fn is not None:
        return of.grad_fn
    return of


def _made_of(node: Any) -> list[Any]:
    if isinstance(node, Tensor):
        return []
    return [edge[0] for edge in node._edges if edge is not None]
