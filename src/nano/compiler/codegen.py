"""A group of operators as one node, whose loop is generated and compiled on first use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .formula import TRANSCENDENTAL
from .graph import Apply, Node, Value
from .loops import Loop, is_reduction

__all__ = ["Fused"]


@dataclass(eq=False, kw_only=True)
class Fused(Node):
    """Operators that run as one loop.

    Attributes:
        members: in order.
        over: outputs that are written over inputs of the same layout, which nobody reads later.
    """

    members: list[Apply]
    over: dict[Value, Value] = field(default_factory=dict)
    _loop: Loop = field(init=False)
    _traced: Callable[..., Any] | None = field(init=False, default=None)
    _hosts: dict[Any, Callable[..., Any]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._loop = Loop(self.members, self.inputs, self.outputs)

    def write_over(self, over: dict[Value, Value]) -> None:
        """Let outputs be written over inputs."""
        self.over = over
        self._loop = Loop(self.members, self.inputs, self.outputs, over=over)

    @property
    def name(self) -> str:
        names = [m.name for m in self.members]
        return "Fused[" + ", ".join(names[:4] + ["..."] * (len(names) > 4)) + "]"

    @property
    def exact(self) -> bool:
        """Whether it gives bit for bit what its members give: it adds nothing up, and has no
        exponential or the like, for which small arrays have NumPy's."""
        formulas = [m.function.formula for m in self.members]
        return not any(map(is_reduction, self.members)) and not any(
            f"{name}(" in text for name in TRANSCENDENTAL for text in formulas
        )

    @property
    def source(self) -> str:
        """The loop, with the operators and the user's lines beside it."""
        return self._loop.text(for_people=True)

    def run(self, *arrays: Any) -> Any:
        """Do it, with an array for each of ``inputs``.

        The loop is compiled on the first call.

        Returns:
            the output, or a tuple of them.
        """
        run = self._traced
        if run is None:
            run = self._traced = self._host(self._loop)
        return run(*arrays)

    def _host(self, loop: Loop) -> Callable[..., Any]:
        return loop.host(self._other_strides)

    def _other_strides(self, arrays: tuple[Any, ...]) -> Any:
        """For arrays that lie otherwise than traced: nothing is written over them."""
        strides = tuple([x.strides for x in arrays])
        if strides not in self._hosts:
            loop = Loop(self.members, self.inputs, self.outputs, strides)
            self._hosts[strides] = self._host(loop)
        return self._hosts[strides](*arrays)
