"""Guards: under which conditions a program may run in place of the function it was made of.

A program is made for arguments of certain shapes and dtypes, in certain modes; and it refers
to parameters, layers and numbers that the function found elsewhere. The first kind is the key
under which a program is kept, the second a generated function that asks whether all is still
as it was.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any

from numpy.typing import NDArray

from ..autograd.grad_mode import mode
from ..backends import precision
from ..dtypes import get_default_dtype
from ..functions.autocast import state as autocast_state
from ..hook import Call
from ..tensor import Tensor
from .graph import Value, owner_of

__all__ = ["Guards", "signature"]

#: Values of these types are compared, of all others the identity is.
_PLAIN = (int, float, bool, str, bytes, complex, type(None))
_PLAIN_TYPES = frozenset(_PLAIN)


def signature(leaves: Iterable[Any]) -> tuple[Any, ...]:
    """What a program depends on, of the arguments and of the modes of this thread.

    Of a Tensor that is shape, dtype, strides, whether it requires gradients, which earlier
    argument it is, if any, and where it lies in the memory of an earlier one; of a plain Python value its type and value, of all else the object.
    """
    found: list[Any] = [
        mode.enabled,
        mode.inference,
        autocast_state.dtype,
        precision.rounds_to_bfloat16(),
        get_default_dtype(),
    ]
    seen: dict[int, int] = {}
    owners: dict[int, NDArray] = {}
    for x in leaves:
        if isinstance(x, Tensor):
            data = x._data
            earlier = seen.setdefault(id(x), len(seen))
            found.append((Tensor, data.shape, data.dtype, data.strides, x._requires_grad, earlier))
            owner = owner_of(data)
            first = owners.setdefault(id(owner), data)
            if first is not data:
                found.append(_address(data) - _address(first))
        elif type(x) in _PLAIN_TYPES:
            found.append((type(x), x))
        else:
            found.append((_Same(x),))
    return tuple(found)


def _address(array: NDArray) -> int:
    return array.__array_interface__["data"][0]


class _Same:
    """An object of which the identity counts; holding it keeps its id from another one."""

    __slots__ = ("object",)

    def __init__(self, x: Any) -> None:
        self.object = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.object is self.object

    def __hash__(self) -> int:
        return id(self.object)


def _ids(tensors: Iterable[Any]) -> list[int]:
    return [id(t) for t in tensors]


class Guards:
    """Conditions that are asked at every call.

    Attributes:
        holds: whether all are met.
        source: the text of ``holds``.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        modules: Iterable[Any],
        captured: Iterable[Value],
        calls: Iterable[Call],
    ) -> None:
        self._conditions: list[str] = []
        self._scope: dict[str, Any] = {"id": id, "len": len, "list": list, "map": map}
        self._gone: list[Any] = []
        self._watched: list[Any] = []
        self._names: dict[int, str] = {}
        self._function(function)
        for module in modules:
            self._module(module)
        for value in captured:
            self._tensor(value.content)
        for call in calls:
            if call.tensors is not None:
                given = self._bind(call.tensors)
                self._conditions.append(f"list(map(id, {given}())) == {_ids(call.tensors())}")
        body = " and\n        ".join(self._conditions) or "True"
        self.source = f"def holds():\n    return (\n        {body}\n    )\n"
        exec(self.source, self._scope)
        self._test: Callable[[], bool] = self._scope["holds"]

    def holds(self) -> bool:
        """Whether the program may run."""
        return not self._gone and self._test()

    def why_not(self) -> str:
        """The first condition that is not met, as source; empty if all are."""
        if self._gone:
            return "an array that the program used is gone"
        for condition in self._conditions:
            if not eval(condition, self._scope):
                return condition
        return ""

    def _bind(self, x: Any) -> str:
        name = self._names.get(id(x))
        if name is None:
            name = self._names[id(x)] = f"x{len(self._names)}"
            self._scope[name] = x
        return name

    def _equal(self, expression: str, x: Any) -> None:
        """``expression`` must go on giving ``x``."""
        if type(x) in _PLAIN_TYPES and x == x and not isinstance(x, (float, complex)):
            test = "is" if x is None or type(x) is bool else "=="
            self._conditions.append(f"{expression} {test} {x!r}")
        elif type(x) is float:
            self._conditions.append(f"{expression} == {self._bind(x)}")
        else:
            self._conditions.append(f"{expression} is {self._bind(x)}")

    def _tensor(self, t: Tensor) -> None:
        """The tensor must hold the same array, and be a leaf or none as it was."""
        array = t._data
        # Held weakly: kernels keep what they make of a weight only while nobody else has it.
        self._watched.append(weakref.ref(array, self._gone.append))
        name = self._bind(t)
        self._conditions.append(f"id({name}._data) == {id(array)}")
        self._conditions.append(f"{name}._requires_grad is {t._requires_grad}")

    def _module(self, module: Any) -> None:
        """Flags, numbers, parameters and parts of a layer."""
        own = vars(module)
        name = self._bind(own)
        for key, x in own.items():
            if type(x) in _PLAIN_TYPES or type(x) is tuple:
                if type(x) is tuple:
                    self._conditions.append(f"{name}[{key!r}] == {self._bind(x)}")
                else:
                    self._equal(f"{name}[{key!r}]", x)
        for kind in ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"):
            parts = own.get(kind, {})
            table = self._bind(parts)
            self._conditions.append(f"len({table}) == {len(parts)}")
            for key, x in parts.items():
                self._conditions.append(f"{table}.get({key!r}) is {self._bind(x)}")

    def _function(self, function: Any) -> None:
        """The variables around the function that its code names."""
        while not isinstance(function, FunctionType):
            if isinstance(function, MethodType):
                function = function.__func__
            elif hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            else:
                return
        code = function.__code__
        variables = self._bind(function.__globals__)
        for key in code.co_names:
            if key in function.__globals__:
                self._equal(f"{variables}.get({key!r})", function.__globals__[key])
        for key, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                x = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            self._equal(f"{self._bind(cell)}.cell_contents", x)
            del key
