"""Modules that hold other modules: in a row, in a list, in a dict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from ..errors import IndexingError, TypeMismatchError
from .activation import ReLU
from .batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .module import Module, indent

__all__ = ["ModuleDict", "ModuleList", "Sequential"]


class _Ordered(Module):
    """What Sequential and ModuleList share: their parts are named 0, 1, 2 ..."""

    def _place(self, index: Any) -> str:
        """The name of the part at ``index``."""
        names = list(self._modules)
        try:
            i = operator.index(index)
        except TypeError:
            raise TypeMismatchError(
                type(self).__name__, f"an index must be an integer, got {type(index).__name__}."
            ) from None
        if not -len(names) <= i < len(names):
            raise IndexingError(
                type(self).__name__, f"index {i} is out of range: there are {len(names)} modules."
            )
        return names[i]

    def _renumber(self, modules: Iterable[Any]) -> None:
        """Have exactly ``modules``, named by their places."""
        modules = list(modules)
        for name in list(self._modules):
            delattr(self, name)
        for i, module in enumerate(modules):
            self.register_module(str(i), module)

    def __setitem__(self, index: int, module: Module) -> None:
        name = self._place(index)
        if not isinstance(module, Module):
            raise TypeMismatchError(
                type(self).__name__, f"{type(module).__name__} is not a Module subclass."
            )
        setattr(self, name, module)

    def __delitem__(self, index: Any) -> None:
        if isinstance(index, slice):
            gone = list(self._modules)[index]
        else:
            gone = [self._place(index)]
        self._renumber([m for name, m in self._modules.items() if name not in gone])

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self._modules.values()))  # type: ignore[arg-type]

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns the container."""
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add several modules at the end; returns the container."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before the one at ``index``; returns the container."""
        if not isinstance(module, Module):
            raise TypeMismatchError(
                type(self).__name__, f"{type(module).__name__} is not a Module subclass."
            )
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take a module out; returns it."""
        module = self._modules[self._place(index)]
        del self[index]
        return module  # type: ignore[return-value]


class Sequential(_Ordered):
    """Modules in a row: each gets what the one before it gives.

    A batch normalisation that a ReLU follows is computed together with it, in one pass over
    memory, unless one of the two has hooks or a ``forward`` of its own.

    Args:
        modules: the modules in their order, or one dict from names to modules.

    >>> net = nano.nn.Sequential(nano.nn.Linear(2, 3), nano.nn.ReLU())
    >>> net
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): ReLU()
    )
    >>> net[-1], len(net), net[:1]
    (ReLU(), 2, Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
    ))
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, module)
        else:
            for i, module in enumerate(modules):
                self.register_module(str(i), module)

    def forward(self, input: Any) -> Any:
        """Shapes: what the first module takes; what the last one gives."""
        joined = False  # the module was computed together with the one before it
        for module, following in pairwise([*self._modules.values(), None]):
            if joined:
                joined = False
                continue
            joined = _are_one_pass(module, following)
            if joined:
                input = module(input, activation="relu")  # type: ignore[misc]
            else:
                input = module(input)  # type: ignore[misc]
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return self._modules[self._place(index)]

    def __delitem__(self, index: Any) -> None:
        names = list(self._modules)
        gone = names[index] if isinstance(index, slice) else [self._place(index)]
        kept = {name: m for name, m in self._modules.items() if name not in gone}
        if all(name.isdigit() for name in names):
            self._renumber(kept.values())
        else:
            for name in gone:
                delattr(self, name)

    def __add__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            return NotImplemented
        return Sequential(*self, *other)


def _are_one_pass(module: Any, following: Any) -> bool:
    """Whether the two are a batch normalisation and its ReLU, with nobody listening between.

    Subclasses, and modules that were given a ``forward`` of their own, may compute something
    else.
    """
    return (
        type(following) is ReLU
        and type(module) in (BatchNorm1d, BatchNorm2d, BatchNorm3d)
        and not (module.has_hooks() or following.has_hooks())
        and "forward" not in module.__dict__
        and "forward" not in following.__dict__
    )


class ModuleList(_Ordered):
    """A list whose modules are registered; it computes nothing itself.

    >>> nano.nn.ModuleList(nano.nn.ReLU() for _ in range(3))
    ModuleList(
      (0-2): 3 x ReLU()
    )
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[self._place(index)]

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def _parts_repr(self) -> list[str]:
        """As in PyTorch, neighbours that look the same share one line."""
        runs: list[tuple[int, int, str]] = []
        for i, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        return [
            f"({first}): {indent(text)}"
            if first == last
            else f"({first}-{last}): {last - first + 1} x {indent(text)}"
            for first, last, text in runs
        ]


class ModuleDict(Module):
    """A dict whose modules are registered; it computes nothing itself.

    >>> acts = nano.nn.ModuleDict({"relu": nano.nn.ReLU()})
    >>> acts["relu"], "tanh" in acts
    (ReLU(), False)
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]
        del self.__dict__[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def keys(self) -> Any:
        """The names."""
        return self._modules.keys()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def items(self) -> Any:
        """Names and modules."""
        return self._modules.items()

    def pop(self, key: str) -> Module:
        """Take a module out; returns it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Take all modules out."""
        for key in list(self._modules):
            del self[key]

    def update(self, modules: Any) -> None:
        """Add the modules of a mapping, or of pairs of a name and a module."""
        pairs = modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules
        for key, module in pairs:
            self[key] = module
