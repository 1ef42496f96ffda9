"""What a function refers to besides its arguments, as conditions that it is still the same.

A function's result depends on the variables that its code names, on the items of their lists
and dicts, on the attributes that the code names, on layers and all their settings, and on the
functions that it calls, which refer to more. All of this is found by looking, without running
anything; what nano, NumPy and the standard library refer to is left alone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..tensor import Tensor

__all__ = ["PLAIN", "Condition", "Surroundings"]

#: Values of these types are compared, of all others the identity is.
PLAIN = frozenset((int, float, bool, str, bytes, complex, type(None)))
_FOREIGN = frozenset((*sys.stdlib_module_names, "nano", "numpy", "scipy", "numba"))
#: The parts of a layer in which its parameters, buffers, parts and hooks stand.
_TABLES = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True)
class Condition:
    """Something that must stay as it is.

    Attributes:
        test: an expression.
        what: what it is about, for people.
        grows: the id of the list or dict whose length is asked, else 0.
    """

    test: str
    what: str
    grows: int = 0


class Surroundings:
    """Collects conditions, and the objects that they name.

    Attributes:
        conditions: in the order in which they were found.
        scope: the objects, by the names that the conditions give them.
    """

    def __init__(self, growing: frozenset[int]) -> None:
        self.conditions: list[Condition] = []
        self.scope: dict[str, Any] = {"same_array": _same_array}
        self._growing = growing
        self._names: dict[int, str] = {}
        self._seen: set[Any] = set()

    def bind(self, x: Any) -> str:
        """A name for ``x``."""
        name = self._names.get(id(x))
        if name is None:
            name = self._names[id(x)] = f"x{len(self._names)}"
            self.scope[name] = x
        return name

    def add(self, test: str, what: str, grows: int = 0) -> None:
        """Ask for ``test``."""
        self.conditions.append(Condition(test, what, grows))

    # What is looked at ------------------------------------------------------------------

    def function(self, f: Any) -> None:
        """A function, method, layer or other callable: all that its code names."""
        if self._was_here((id(f), "called")):
            return
        self.bind(f)
        if isinstance(f, MethodType):
            self.inside(f.__self__, _names_in(f.__func__))
            self.function(f.__func__)
        elif isinstance(f, functools.partial):
            for x in (f.func, f.args, f.keywords):
                self.inside(x, self.names_of(f.func))
        elif not isinstance(f, FunctionType):
            self.inside(f, self.names_of(f))
            if not isinstance(f, type) and not _is_foreign(type(f)):
                self.function(type(f).__call__)
        elif not _is_foreign(f):
            self._variables(f)

    def names_of(self, f: Any) -> frozenset[str]:
        """The names in the code of a callable."""
        if isinstance(f, MethodType):
            f = f.__func__
        if isinstance(f, functools.partial):
            return self.names_of(f.func)
        if not isinstance(f, FunctionType):
            f = type(f).__call__ if callable(f) else None
        return _names_in(f) if isinstance(f, FunctionType) else frozenset()

    def _variables(self, f: FunctionType) -> None:
        names = _names_in(f)
        table = self.bind(f.__globals__)
        for key in sorted(names & f.__globals__.keys()):
            self._variable(f"{table}.get({key!r})", f.__globals__[key], names, key)
        for key, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                x = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            self._variable(f"{self.bind(cell)}.cell_contents", x, names, key)
        name = self.bind(f)
        for key in ("__code__", "__defaults__", "__kwdefaults__"):
            self._variable(f"{name}.{key}", getattr(f, key), names, f"{f.__name__}.{key}")

    def _variable(self, expression: str, x: Any, names: frozenset[str], what: str) -> None:
        """``expression`` must go on giving ``x``, and ``x`` stay as it is inside."""
        if type(x) not in PLAIN:
            self.add(f"{expression} is {self.bind(x)}", what)
            self.inside(x, names, what)
        elif x is None or type(x) is bool:
            self.add(f"{expression} is {x!r}", what)
        elif x != x:
            self.add(f"{expression} != {expression}", what)
        elif isinstance(x, (float, complex)):
            self.add(f"{expression} == {self.bind(x)}", what)
        else:
            self.add(f"{expression} == {x!r}", what)

    def inside(self, x: Any, names: frozenset[str], what: str = "") -> None:
        """What ``x`` consists of, as far as code with these ``names`` can look."""
        if isinstance(x, (Tensor, CodeType)) or self._was_here((id(x), names)):
            return
        self.bind(x)  # so that no other object gets its id
        if isinstance(x, (list, tuple, dict)):
            self._items(x, names, what)
        elif isinstance(x, np.ndarray):
            if x.dtype != object:
                self.add(f"same_array({self.bind(x)}, {self.bind(x.copy())})", what)
        elif isinstance(x, (FunctionType, MethodType, functools.partial)):
            self.function(x)
        elif hasattr(x, "_forward_hooks"):
            for part in x.modules():
                self.module(part)
        elif hasattr(x, "__dict__") and not (isinstance(x, (type, ModuleType)) and _is_foreign(x)):
            self._attributes(x, names, what)

    def _items(self, x: Any, names: frozenset[str], what: str) -> None:
        name = self.bind(x)
        if id(x) in self._growing:
            return
        if not isinstance(x, tuple):
            self.add(f"len({name}) == {len(x)}", what, id(x))
        for key, item in list(x.items()) if isinstance(x, dict) else enumerate(x):
            if isinstance(x, dict):
                key_name = repr(key) if type(key) in (str, int) else self.bind(key)
                self._variable(f"{name}.get({key_name})", item, names, f"{what}[{key_name}]")
            elif not isinstance(x, tuple):
                # Behind the end nothing is asked: the length is, unless it may grow.
                self._variable(f"{name}[{key}]", item, names, f"{what}[{key}]")
            else:
                self.inside(item, names, what)

    def _attributes(self, x: Any, names: frozenset[str], what: str) -> None:
        own = x.__dict__
        table = self.bind(x)
        for key in sorted(names & own.keys()):
            # Not through the dict: a class has only a view of its own.
            self._variable(f"{table}.__dict__.get({key!r})", own[key], names, f"{what}.{key}")
        if not isinstance(x, (type, ModuleType)) and not _is_foreign(type(x)):
            for key in sorted(names):
                method = getattr(type(x), key, None)
                if isinstance(method, FunctionType):
                    self.inside(x, names | _names_in(method), what)
                    self.function(method)

    def module(self, module: Any) -> None:
        """All settings, parameters and parts of a layer, and the hooks on it."""
        if self._was_here((id(module), "module")):
            return
        self.bind(module)
        own = vars(module)
        kind = type(module).__name__
        table = self.bind(own)
        self.add(f"len({table}) == {len(own)}", kind)
        forward = type(module).forward
        self.function(forward)
        names = _names_in(forward) if isinstance(forward, FunctionType) else frozenset()
        for key, x in own.items():
            if key not in _TABLES:
                self._variable(f"{table}.get({key!r})", x, names, f"{kind}.{key}")
        for key in _TABLES:
            parts = own.get(key, {})
            inner = self.bind(parts)
            self.add(f"len({inner}) == {len(parts)}", f"{kind}.{key}")
            for part, x in parts.items():
                self.add(f"{inner}.get({part!r}) is {self.bind(x)}", f"{kind}.{part}")
                if key.endswith("hooks"):
                    self.inside(x, frozenset())

    def _was_here(self, key: tuple[int, Any]) -> bool:
        if key in self._seen:
            return True
        self._seen.add(key)
        return False


@functools.cache
def _names_in(f: FunctionType) -> frozenset[str]:
    """The names of globals and attributes in a function's code, and in the code inside of it."""
    return frozenset(_names(f.__code__))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for x in code.co_consts:
        if isinstance(x, CodeType):
            yield from _names(x)


def _is_foreign(x: Any) -> bool:
    """Whether a function, class or Python module belongs to nano or another library."""
    name = x.__name__ if isinstance(x, ModuleType) else getattr(x, "__module__", None)
    return isinstance(name, str) and name.partition(".")[0] in _FOREIGN


def _same_array(x: Any, kept: Any) -> bool:
    return x.shape == kept.shape and x.dtype == kept.dtype and x.tobytes() == kept.tobytes()
