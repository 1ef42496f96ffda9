"""Nested tuples, lists and dicts: what functions take and give back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["leaves", "map_leaves"]


def map_leaves(change: Callable[[Any], Any], tree: Any) -> Any:
    """The same nest with ``change(leaf)`` in place of each leaf.

    >>> map_leaves(abs, {"a": (-1, [-2])})
    {'a': (1, [2])}
    """
    if isinstance(tree, dict):
        return {key: map_leaves(change, x) for key, x in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[map_leaves(change, x) for x in tree])
    if isinstance(tree, (tuple, list)):
        return type(tree)([map_leaves(change, x) for x in tree])
    return change(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves, in order.

    >>> list(leaves((1, {"a": [2, 3]})))
    [1, 2, 3]
    """
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, (tuple, list)):
        yield tree
        return
    for x in tree:
        yield from leaves(x)
