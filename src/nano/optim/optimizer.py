"""Optimizer: parameter groups, state, and how both are kept and restored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

from ..autograd.grad_mode import enable_grad
from ..errors import (
    ArgumentError,
    InputError,
    KeyMissingError,
    ShapeError,
    StateDictError,
    TypeMismatchError,
)
from ..functions.conversion import as_tensor
from ..tensor import Tensor

__all__ = ["Optimizer"]


class Optimizer:
    """Base of all optimizers.

    A subclass says in :meth:`_update` how one parameter is moved, and calls a kernel for it.

    Args:
        params: the parameters; or dicts with the key ``"params"`` and options that apply
            to this group only; or pairs of a name and a parameter.
        defaults: the options of groups that do not give their own.

    Attributes:
        param_groups: one dict a group: ``"params"`` and the options, which may be changed
            at any time.
        state: for each parameter, what the optimizer remembers of it.

    Raises:
        TypeError: if ``params`` holds something else than tensors.
        ValueError: if it is empty, or a tensor is no leaf or in two groups.
    """

    #: Entries of the state that have the shape of their parameter.
    _like_parameter: tuple[str, ...] = ()

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, Tensor):
            raise TypeMismatchError(
                name,
                "params must be an iterable of Tensors or dicts, got a Tensor.",
                hint="Give a list: [parameter].",
            )
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        if not groups:
            raise InputError(
                name,
                "optimizer got an empty parameter list.",
                hint="Does the module have parameters? A generator can be used up only once.",
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    # Groups -----------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take in more parameters: a dict with the key ``"params"`` and options of its own.

        >>> first, second = nano.ones(1, requires_grad=True), nano.ones(1, requires_grad=True)
        >>> optimizer = nano.optim.SGD([first], lr=0.1)
        >>> optimizer.add_param_group({"params": second, "lr": 0.01})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.01]
        """
        name = type(self).__name__
        if not isinstance(param_group, dict):
            raise TypeMismatchError(
                name, f"a parameter group must be a dict, got {type(param_group).__name__}."
            )
        group = {**self.defaults, **param_group}
        if "params" not in group:
            raise KeyMissingError(name, 'a parameter group must have the key "params".')
        params = group["params"]
        if isinstance(params, set):
            raise TypeMismatchError(
                name, "parameters need an order, and a set has none.", hint="Give a list."
            )
        params = [params] if isinstance(params, Tensor) else list(params)
        if params and isinstance(params[0], tuple):
            group["param_names"] = [n for n, _ in params]
            params = [p for _, p in params]
        self._check_params(name, params)
        self._check_options(group)
        group["params"] = params
        self.param_groups.append(group)

    def _check_params(self, name: str, params: list[Any]) -> None:
        taken = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeMismatchError(
                    name, f"it can only optimize Tensors, but one of them is {type(p).__name__}."
                )
            if not p.is_leaf:
                raise InputError(
                    name,
                    "can't optimize a non-leaf Tensor.",
                    facts=f"shape {p.shape} · made by {p.grad_fn.name()}",
                    hint="Give the tensor that it was computed from.",
                )
            if id(p) in taken:
                raise InputError(
                    name,
                    "a parameter appears more than once.",
                    facts=f"shape {p.shape}",
                    hint="Module.parameters() gives each parameter once.",
                )
            taken.add(id(p))

    def _check_options(self, group: dict[str, Any]) -> None:
        """Refuse options that make no sense; a subclass says which."""

    def _refuse_differentiable(self, differentiable: bool) -> None:
        if differentiable:
            raise ArgumentError(
                type(self).__name__,
                "a step is not recorded: differentiable must be False.",
                hint="Write the update with nano.autograd.grad(..., create_graph=True).",
            )

    def _require(self, name: str, value: Any, fits: bool) -> None:
        if not fits:
            raise InputError(type(self).__name__, f"invalid {name}: {value}.")

    # Steps ------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero.

        Args:
            set_to_none: if not, the gradients stay, as zeros.
        """
        for group in self.param_groups:
            for p in group["params"]:
                if p._grad is not None:
                    p._grad = None if set_to_none else p._grad.detach().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient.

        Args:
            closure: computes the loss and its gradients anew; called first.

        Returns:
            What ``closure`` returned, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                grad = p._grad
                if grad is not None and grad._data.shape != p._data.shape:
                    raise self._misfit(p)
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _misfit(self, p: Tensor) -> ShapeError:
        return ShapeError(
            type(self).__name__,
            f"a parameter has shape {p.shape}, but its gradient {p.grad.shape}; nothing was moved.",  # type: ignore[union-attr]
            hint="After giving a parameter other data, call zero_grad().",
        )

    def _step_group(self, group: dict[str, Any]) -> None:
        """Move the parameters of one group."""
        raise NotImplementedError

    # State ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, in PyTorch's layout: parameters are integers, by order.

        The tensors are the optimizer's own, not copies.

        >>> nano.optim.SGD([nano.ones(1, requires_grad=True)], lr=0.1).state_dict()["state"]
        {}
        """
        places: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            numbers = [places.setdefault(id(p), len(places)) for p in group["params"]]
            options = {k: v for k, v in group.items() if k != "params"}
            groups.append({**options, "params": numbers})
        state = {places[id(p)]: dict(s) for p, s in self.state.items() if id(p) in places}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave. Tensors are copied.

        Raises:
            TypeError, KeyError: if it is no state_dict of an optimizer.
            ValueError: if the groups or their sizes differ.
            RuntimeError: if a tensor of the state has not the shape of its parameter.
                Nothing has been changed.
        """
        name = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeMismatchError(
                name, f"expected a state_dict (a mapping), got {type(state_dict).__name__}."
            )
        for key in ("param_groups", "state"):
            if key not in state_dict:
                raise KeyMissingError(name, f"the state_dict of an optimizer has the key {key!r}.")
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise InputError(
                name,
                "loaded state dict has a different number of parameter groups: "
                f"{len(saved)}, not {len(self.param_groups)}.",
            )
        numbered: dict[Any, Tensor] = {}
        for group, theirs in zip(self.param_groups, saved, strict=True):
            if len(group["params"]) != len(theirs["params"]):
                raise InputError(
                    name,
                    "loaded state dict contains a parameter group that doesn't match the size of "
                    f"optimizer's group: {len(theirs['params'])}, not {len(group['params'])}.",
                )
            numbered.update(zip(theirs["params"], group["params"], strict=True))
        state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, entries in state_dict["state"].items():
            if number in numbered:
                p = numbered[number]
                state[p] = {k: self._restored(k, v, p, number) for k, v in entries.items()}
        for group, theirs in zip(self.param_groups, saved, strict=True):
            group.update({k: deepcopy(v) for k, v in theirs.items() if k != "params"})
        self.state = state

    def _restored(self, key: str, value: Any, p: Tensor, number: Any) -> Any:
        """A copy of one entry of the state, in the dtype of its parameter."""
        is_array = isinstance(value, Tensor) or hasattr(value, "__array_interface__")
        if key in self._like_parameter and is_array and value.shape != p.shape:
            raise StateDictError(
                type(self).__name__,
                f"{key} of parameter {number} has shape {value.shape}, the parameter {p.shape}; "
                "nothing was loaded.",
            )
        if not is_array:
            return deepcopy(value)
        t: Any = as_tensor(value).detach().clone()
        return t.to(p.dtype) if key in self._like_parameter else t

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def with_gradients(group: dict[str, Any]) -> Iterable[Tensor]:
    """The parameters of a group that have a gradient."""
    return [p for p in group["params"] if p._grad is not None]
