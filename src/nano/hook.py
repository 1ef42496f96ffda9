"""The one hook: who wants to see what a program does is told here.

Everything that happens to tensors passes through: operators and their derivatives, gradients
that arrive at leaves, writes in place, layers and optimizers that are called, and values that
are read out into Python. The profiler, anomaly mode and the compiler look on. While nobody
does, each place asks whether the list is empty, and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = [
    "Call",
    "Read",
    "Write",
    "add_hook",
    "compilers",
    "hooks",
    "reading",
    "remove_hook",
    "through_hooks",
]


class Write:
    """Something is written into the memory of a tensor by the operator ``name``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Read:
    """Values of a tensor go to Python by way of ``name``, and decide what happens next."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Call:
    """``function()`` works on the memory of tensors and on gradients, without operators.

    Calling it again does the same again, with what the tensors hold then.

    Attributes:
        function: without arguments.
        name: for people.
        kind: ``"step"`` moves the given tensors by their gradients, ``"clear"`` lets them
            forget their gradients, ``"change"`` changes their gradients, ``"set"`` makes the
            second tensor the gradient of the first, ``"replace"`` gives a tensor other memory;
            ``"schedule"`` changes what an optimizer is set to.
        tensors: gives those that it would work on now, if they may become others.
        bound: makes a quicker form of ``function``, for tensors that each keep their array.
    """

    __slots__ = ("bound", "function", "kind", "name", "tensors")

    def __init__(
        self,
        name: str,
        kind: str,
        function: Callable[[], Any],
        tensors: Callable[[], list[Any]] | None = None,
        bound: Callable[[], Callable[[], Any]] | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.function = function
        self.tensors = tensors
        self.bound = bound


#: Calls ``hook(what, inputs, attributes, proceed)``, which returns what ``proceed()`` returns.
Hook = Callable[[Any, tuple[Any, ...], dict[str, Any], Callable[[], Any]], Any]

hooks: list[Hook] = []

#: ``nano.compile``, for layers, which stand below it and may be asked to compile themselves; the
#: package puts it here.
compilers: list[Callable[..., Any]] = []


def add_hook(hook: Hook) -> None:
    """Pass everything through ``hook(what, inputs, attributes, proceed)``.

    ``proceed()`` does it and returns its outputs, which the hook must return. ``what`` is

    - the class of an operator (a Function) that is applied to ``inputs``;
    - the node whose ``backward`` runs, with the gradients of its outputs as inputs; the
      operators that the derivative is written with come by themselves too, inside;
    - an AccumulateGrad, with the gradient that is added to a leaf's ``.grad``;
    - a Module that is called, with its arguments;
    - a :class:`Write`, with the tensor that is written in place and what is written;
    - a :class:`Read`, with a tensor whose values are read out into Python;
    - a :class:`Call` of something that does all this by itself, such as an optimizer's step.

    The hook sees all threads. Later hooks surround earlier ones.
    """
    hooks.append(hook)


def remove_hook(hook: Hook) -> None:
    """Take a hook away."""
    hooks.remove(hook)


def through_hooks(
    what: Any, inputs: tuple[Any, ...], attributes: dict[str, Any], run: Callable[[], Any]
) -> Any:
    """What ``run()`` gives, with the hooks around it."""
    # Not a function that calls itself: it would be a cycle, which holds the inputs.
    for hook in hooks:
        run = partial(hook, what, inputs, attributes, run)
    return run()


def reading(name: str, *tensors: Any) -> None:
    """Say that the values of ``tensors`` decide what happens next, outside of operators.

    Called where there are hooks: ``if hooks: reading("item", self)``.
    """
    through_hooks(Read(name), tensors, {}, lambda: None)
