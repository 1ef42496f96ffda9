"""A graph as a picture: text in the DOT language, which Graphviz and many viewers draw."""

from __future__ import annotations

from .graph import Accumulate, Effect, Graph, Node, Overwrite, Value

__all__ = ["dot"]

_FORWARD, _BACKWARD, _OUTSIDE, _GIVEN = "#dceefb", "#fde9d9", "#e3f2dd", "#eeeeee"


def dot(graph: Graph) -> str:
    """The graph in the DOT language: boxes are operators, edges the arrays between them.

    Blue boxes are of the forward pass, orange ones of the backward pass, and green ones change
    what lies outside. ``dot -Tsvg`` makes a picture of it.
    """
    lines = ["digraph program {", '    node [shape=box, style="filled,rounded", fontname=sans];']
    makers: dict[Value, str] = {}
    used = graph.uses()
    for v in graph.values:
        if used[v]:
            makers[v] = v.name
            label = _quoted(f"{v.name}\n{v.kind}\n{v.describe()}")
            lines.append(f'    {v.name} [label={label}, fillcolor="{_GIVEN}", shape=ellipse];')
    for i, node in enumerate(graph.nodes):
        name = f"n{i}"
        place = node.line.rsplit("/", 1)[-1]
        label = _quoted(f"{node.name}\n{place}" if place else node.name)
        lines.append(f'    {name} [label={label}, fillcolor="{_colour(node)}"];')
        for v in dict.fromkeys(node.reads()):
            lines.append(f"    {makers[v]} -> {name} [label={_quoted(v.describe())}];")
        makers.update(dict.fromkeys(node.makes(), name))
    for v in dict.fromkeys(graph.returned()):
        lines.append(f'    return [fillcolor="{_GIVEN}", shape=ellipse];')
        lines.append(f"    {makers.get(v, v.name)} -> return [label={_quoted(v.describe())}];")
    return "\n".join([*lines, "}"]) + "\n"


def _colour(node: Node) -> str:
    if isinstance(node, (Accumulate, Effect, Overwrite)):
        return _OUTSIDE
    return _BACKWARD if node.phase else _FORWARD


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
