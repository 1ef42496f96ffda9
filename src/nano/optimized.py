"""``nano.compile``, of functions and of modules, which stay what they are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from .compiler.compiled import LIMIT, Compiled
from .compiler.graph import Graph
from .compiler.report import Report
from .nn.module import Module, indent

__all__ = ["OptimizedModule", "compile"]


class OptimizedModule(Module):
    """A module that is run as a program; all else is the module's own (PyTorch's name).

    Its parameters, parts, modes, hooks and attributes are those of the module that it was made
    of: what is set, trained or loaded here is there. So are the names in ``state_dict()``, which
    PyTorch begins with ``_orig_mod.``: a checkpoint of one can be loaded into the other.

    Attributes:
        _orig_mod: the module that it was made of.

    >>> layer = nano.nn.Linear(2, 1)
    >>> compiled = nano.compile(layer)
    >>> compiled.weight is layer.weight, list(compiled.state_dict())
    (True, ['weight', 'bias'])
    >>> compiled.eval() is compiled, layer.training
    (True, False)
    """

    def __init__(self, module: Module, call: Any, again: Callable[[Module], Any]) -> None:
        tables = {k: v for k, v in vars(module).items() if k in _TABLES}
        self.__dict__.update(tables, _orig_mod=module, _compiled_call=call, _again=again)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled_call(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        return self._compiled_call(*args, **kwargs)

    def passes(self) -> str:
        """What each pass has made of the latest program's graph."""
        return self._compiled_call.passes()

    def graph(self) -> Graph:
        """What the latest program computes; see :func:`nano.compile`."""
        return self._compiled_call.graph()

    def source(self) -> str:
        """The text of the latest program."""
        return self._compiled_call.source()

    def report(self, *args: Any, **kwargs: Any) -> Report:
        """What the latest program does, and how long it takes for these arguments."""
        return self._compiled_call.report(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_orig_mod":  # while it is being copied
            raise AttributeError(name)
        return getattr(self._orig_mod, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._orig_mod, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._orig_mod, name)

    def __reduce__(self) -> Any:
        return self._again, (self._orig_mod,)

    def __repr__(self) -> str:
        return f"OptimizedModule(\n  (_orig_mod): {indent(repr(self._orig_mod))}\n)"


#: What a module consists of; both have the same.
_TABLES = frozenset(vars(Module())) - {"training"}


def _handed_on(name: str) -> Callable[..., Any]:
    """A method that is the module's own; where that returns the module, this one."""

    def method(self: OptimizedModule, *args: Any, **kwargs: Any) -> Any:
        answer = getattr(self._orig_mod, name)(*args, **kwargs)
        return self if answer is self._orig_mod else answer

    method.__name__ = name
    method.__doc__ = getattr(Module, name).__doc__
    return method


for _name, _method in vars(Module).items():
    if callable(_method) and not _name.startswith("_") and _name not in ("forward", "compile"):
        setattr(OptimizedModule, _name, _handed_on(_name))


def compile(
    fn: Callable[..., Any] | None = None,
    *,
    fallback: bool = False,
    limit: int = LIMIT,
    without: Iterable[str] = (),
) -> Any:
    """Turn a function into a program that computes the same with less work; a decorator too.

    The function may do all that a training step does: forward, loss, ``backward()``, an
    optimizer's step, writes into buffers, random draws. Or it is a module, or a part of a step:
    what it returns can be differentiated outside, by a second program, and hangs on one node of
    the graph (``CompiledFunctionBackward``), which has no second derivative.

    In its first two calls with arguments of some kind (shapes, dtypes, modes, Python values) it
    is watched as it runs; if both did the same, the program takes its place from the third call
    on. It is made anew when what it refers to has changed: a layer's mode, a parameter that was
    replaced. Learning rates and whatever else an optimizer is set to may change at any time.

    What a program cannot do again is an error: reading values into Python (``item()``,
    ``print``, ``if tensor:``), changing variables that it depends on (a counter), or doing
    something else at each call. Other effects of the function, such as printing or appending to
    a list, happen only while it is watched.

    Args:
        fn: a function of any arguments, which may be nested in tuples, lists and dicts; or a
            Module. ``module.compile()`` does the same in place.
        fallback: run a function that cannot be compiled as it is, with one warning.
        limit: for so many kinds of arguments a program is made, and so often for each, if what
            the function refers to changes; beyond, it runs as it is.
        without: names of passes to leave out, see ``nano.compiler.passes``; ``"native"`` to call
            operator after operator also where all, or many small ones, could be one native
            function; ``"regions"`` where many small ones could.

    Returns:
        A callable with ``passes()``, ``graph()``, ``source()`` and ``report()``, to look at the
        latest program. For a Module it is one too, an ``OptimizedModule``: its parameters, modes
        and names in ``state_dict()`` are the module's.

    Raises:
        GraphBreak: when called, if it cannot be compiled and ``fallback`` is not set.

    >>> @nano.compile
    ... def area(width, height):
    ...     return width * height + 1
    >>> for _ in range(3):
    ...     y = area(nano.ones(2), nano.tensor([2.0, 3.0]))
    >>> y
    tensor([3., 4.])
    >>> model = nano.compile(nano.nn.Linear(2, 1))
    >>> for _ in range(3):
    ...     loss = model(nano.ones(4, 2)).square().mean()
    ...     loss.backward()
    >>> model.weight.grad.shape
    (1, 2)
    """
    if fn is None:
        return functools.partial(compile, fallback=fallback, limit=limit, without=without)
    if not isinstance(fn, Module):
        return Compiled(fn, fallback, limit, without)
    again = functools.partial(compile, fallback=fallback, limit=limit, without=without)
    run = Compiled(fn.call_uncompiled, fallback, limit, without, type(fn).__name__)
    return OptimizedModule(fn, run, again)
