"""Guards: under which conditions a program may run in place of the function it was made of.

A program is made for arguments of certain shapes and dtypes, in certain modes; and it refers
to parameters, layers and numbers that the function found elsewhere. The first kind is the key
under which a program is kept, the second a generated function that asks whether all is still
as it was.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from numpy.typing import NDArray

from ..autograd.grad_mode import mode
from ..backends import precision
from ..dtypes import get_default_dtype
from ..functions.autocast import state as autocast_state
from ..hook import Call
from ..tensor import Tensor
from .graph import Value, owner_of
from .surroundings import PLAIN, Condition, Surroundings

__all__ = ["Guards", "quick_test", "signature"]


def signature(leaves: Iterable[Any]) -> tuple[Any, ...]:
    """What a program depends on, of the arguments and of the modes of this thread.

    Of a Tensor that is shape, dtype, strides, whether it requires gradients, which earlier
    argument it is, if any, and where it lies in the memory of an earlier one; of a plain Python
    value its type and value, of all else the object.
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
        elif type(x) in PLAIN:
            found.append((type(x), x))
        else:
            found.append((_Same(x),))
    return tuple(found)


def quick_test(leaves: list[Any]) -> Callable[[tuple[Any, ...]], bool] | None:
    """A quick form of the comparison of signatures, for arguments that all are Tensors.

    Returns:
        a function of the tuple of arguments that says whether their signature, and that of the
        modes, is that of ``leaves`` now; None if some of these are no Tensors, or one is twice.
    """
    if not all(type(x) is Tensor for x in leaves) or len(set(map(id, leaves))) < len(leaves):
        return None
    scope: dict[str, Any] = {
        "Tensor": Tensor,
        "mode": mode,
        "autocast": autocast_state,
        "rounds": precision.rounds_to_bfloat16,
        "default": get_default_dtype,
        "low": autocast_state.dtype,
        "dtype": get_default_dtype(),
    }
    names = [f"a{i}" for i in range(len(leaves))]
    conditions = [f"type({a}) is Tensor" for a in names]
    for i, (a, x) in enumerate(zip(names, leaves, strict=True)):
        data = x._data
        scope[f"dtype_{i}"] = data.dtype
        conditions += [
            f"(d := {a}._data).shape == {data.shape}",
            f"d.strides == {data.strides}",
            f"d.dtype is dtype_{i}",
            f"{a}._requires_grad is {x._requires_grad}",
        ]
        conditions += [f"{a} is not {b}" for b in names[:i]]
    conditions += [
        f"mode.enabled is {mode.enabled}",
        f"mode.inference is {mode.inference}",
        "autocast.dtype is low",
        f"rounds() is {precision.rounds_to_bfloat16()}",
        "default() is dtype",
    ]
    unpacked = f"    {', '.join(names)}, = args\n" if names else ""
    source = (
        f"def test(args):\n    if len(args) != {len(names)}:\n        return False\n{unpacked}"
        f"    return {' and '.join(conditions)}\n"
    )
    exec(source, scope)
    return scope["test"]


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

    Args:
        function: what was traced; the variables, objects and layers that it names are looked at,
            and those of the functions that these name.
        modules: the layers that were called.
        given: arguments that are neither tensors nor plain values.
        captured: the tensors that were found elsewhere.
        calls: what worked on tensors by itself.
        growing: lists and dicts, by id, to which the function adds.

    Attributes:
        gone: arrays of captured tensors that were freed since: then nothing holds any more.
        source: the text of the generated function that asks.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        modules: Iterable[Any],
        given: Iterable[Any] = (),
        captured: Iterable[Value] = (),
        calls: Iterable[Call] = (),
        growing: frozenset[int] = frozenset(),
    ) -> None:
        around = Surroundings(growing)
        self._around = around
        self.gone: list[Any] = []
        self._watched: list[Any] = []
        around.function(function)
        names = around.names_of(function)
        for x in given:
            around.inside(x, names)
        for module in modules:
            around.module(module)
        for value in captured:
            self._tensor(value.content)
        for call in calls:
            if call.tensors is not None:
                here = around.bind(call.tensors)
                around.add(f"list(map(id, {here}())) == {_ids(call.tensors())}", call.name)
        body = " and\n        ".join(c.test for c in around.conditions) or "True"
        self.source = f"def holds():\n    return (\n        {body}\n    )\n"
        exec(self.source, around.scope)
        self._test: Callable[[], bool] = around.scope["holds"]

    def holds(self) -> bool:
        """Whether the program may run."""
        return not self.gone and self._test()

    def broken(self) -> Condition | None:
        """The first condition that is not met; but to grow is allowed."""
        for condition in self._around.conditions:
            if not condition.grows and not eval(condition.test, self._around.scope):
                return condition
        return None

    def growing(self) -> frozenset[int]:
        """The lists and dicts that have other lengths now, by id."""
        scope = self._around.scope
        conditions = self._around.conditions
        return frozenset(c.grows for c in conditions if c.grows and not eval(c.test, scope))

    def _tensor(self, t: Tensor) -> None:
        """The tensor must hold the same array, and be a leaf or none as it was."""
        array = t._data
        # Held weakly: kernels keep what they make of a weight only while nobody else has it.
        self._watched.append(weakref.ref(array, self.gone.append))
        name = self._around.bind(t)
        self._around.add(f"id({name}._data) == {id(array)}", "a tensor's memory")
        self._around.add(f"{name}._requires_grad is {t._requires_grad}", "requires_grad")
