"""What ``state_dict`` and ``load_state_dict`` do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autograd.grad_mode import no_grad
from ..errors import StateDictError, TypeMismatchError
from ..functions.conversion import as_tensor
from ..tensor import Tensor

if TYPE_CHECKING:
    from .module import Module

__all__ = ["IncompatibleKeys", "collect", "load"]


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` could not match.

    Attributes:
        missing_keys: names of the module that the state_dict does not have.
        unexpected_keys: names in the state_dict that the module does not have.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


def _named_state(module: Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and persistent buffer; one that is shared, under all its names."""
    for name, p in module._parameters.items():
        if p is not None:
            yield prefix + name, p
    for name, b in module._buffers.items():
        if b is not None and name not in module._transient_buffers:
            yield prefix + name, b
    for name, part in module._modules.items():
        if part is not None:
            yield from _named_state(part, f"{prefix}{name}.")


def collect(
    module: Module, destination: dict[str, Any], prefix: str, keep_vars: bool
) -> dict[str, Tensor]:
    """Write the state of ``module`` into ``destination``; returns it."""
    for name, t in _named_state(module, prefix):
        destination[name] = t if keep_vars else t.detach()
    return destination


def load(module: Module, state_dict: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """Copy the values of ``state_dict`` into ``module``, or say everything that does not fit."""
    if not isinstance(state_dict, Mapping):
        raise TypeMismatchError(
            "load_state_dict",
            f"expected a state_dict (a mapping), got {type(state_dict).__name__}.",
        )
    own = dict(_named_state(module, ""))
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    problems = []
    if strict and missing:
        problems.append(f"missing: {', '.join(missing)}")
    if strict and unexpected:
        problems.append(f"unexpected: {', '.join(map(str, unexpected))}")
    values = {}
    for name, t in own.items():
        if name in state_dict:
            value = state_dict[name]
            if not isinstance(value, (Tensor, np.ndarray, np.generic)):
                problems.append(f"{name}: expected a Tensor, got {type(value).__name__}")
            elif value.shape != t.shape:
                problems.append(f"{name}: expected shape {t.shape}, got {value.shape}")
            else:
                values[name] = as_tensor(value)
    if problems:
        raise StateDictError(
            type(module).__name__,
            "the state_dict does not fit this module; nothing was loaded.",
            facts="\n    ".join(problems),
            hint="load_state_dict(..., strict=False) leaves out missing and unexpected names."
            if strict and (missing or unexpected)
            else "",
        )
    with no_grad():
        for name, value in values.items():
            own[name].copy_(value.detach())
    return IncompatibleKeys(missing, unexpected)
