"""The pass that forgets old gradients early: else they would lie beside all that a step keeps.

A step's effects come last, so that a fault leaves all as it was. To forget a gradient can come
before what cannot fail: operators that look at no values. A loss does, at its labels; so these
are looked at in advance, and if one is no class, the gradients are there until the loss says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.typing import NDArray

from ..functions.class_losses import NllLoss
from .graph import Apply, Effect, Graph, Node, Value

__all__ = ["Forget", "Labels", "forget_early"]

#: Whatever numbers they are given, they refuse none. Of others nothing is known.
_CANNOT_FAIL = {
    *("AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d", "BatchNorm", "LayerNorm", "MovingAverage"),
    *("Conv2d", "ConvTranspose2d", "Linear", "MatMul", "Attention", "Softmax", "LogSoftmax"),
    *("Clone", "Contiguous", "Reshape", "ViewAs", "Transpose", "Permute", "Expand"),
    *("Slice", "Split", "Cat", "Stack", "Pad", "Sum", "Mean", "Spread", "Dropout"),
}


@dataclass(frozen=True)
class Labels:
    """What a loss will ask of its labels."""

    classes: int
    ignored: int

    def fit(self, labels: NDArray) -> bool:
        """Whether each is a class, or ignored."""
        if not labels.size or (labels.min() >= 0 and labels.max() < self.classes):
            return True
        wrong = (labels < 0) | (labels >= self.classes)
        return not (wrong & (labels != self.ignored)).any()


@dataclass(eq=False, kw_only=True)
class Forget(Node):
    """Leaves forget their gradients, if the inputs are labels that fit.

    Attributes:
        leaves: arguments or captured.
        labels: for each input, what is asked of it.
    """

    leaves: list[Value]
    labels: list[Labels] = field(default_factory=list)

    has_effect: ClassVar[bool] = True


def forget_early(graph: Graph) -> None:
    """Let leaves forget their gradients before all that cannot fail, in place."""
    for node in [n for n in graph.nodes if isinstance(n, Effect) and n.call.kind == "clear"]:
        place = graph.nodes.index(node)
        asked: dict[Any, None] = {}
        while place and (found := _asked(graph.nodes[place - 1])) is not None:
            asked.update(dict.fromkeys(found))
            place -= 1
        early = Forget(
            leaves=node.tensors,
            inputs=[v for v, _ in asked],
            labels=[labels for _, labels in asked],
            line=node.line,
        )
        if not asked:
            graph.nodes.remove(node)
        graph.nodes.insert(place, early)


def _asked(node: Node) -> list[tuple[Value, Labels]] | None:
    """What must hold for a node not to fail; None if that is not known, or it does not compute."""
    found: list[tuple[Value, Labels]] = []
    members: list[Node] = getattr(node, "members", [node])
    for n in members:
        if not isinstance(n, Apply):
            return None
        if n.function is NllLoss:
            scores, target = n.inputs[:2]
            if target.kind == "result" or target.memory.written:
                return None
            classes = scores.shape[1 if len(scores.shape) > 1 else 0]
            found.append((target, Labels(classes, n.attributes["ignore_index"])))
        # A derivative refuses nothing that the operator has taken.
        elif not (n.phase or n.function.formula or _is_known(n)):
            return None
    return found


def _is_known(node: Apply) -> bool:
    own = node.function.__module__.startswith("nano.functions.")
    return own and node.name in _CANNOT_FAIL
