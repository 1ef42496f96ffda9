"""Optimizer: parameter groups, state, and how both are kept and restored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autograd.engine import clear_gradients
from ..autograd.grad_mode import enable_grad
from ..autograd.views import bump_version, check_writeable
from ..errors import (
    ArgumentError,
    InputError,
    KeyMissingError,
    ShapeError,
    StateDictError,
    TypeMismatchError,
)
from ..functions.conversion import tensor
from ..hook import Call, hooks, through_hooks
from ..tensor import Tensor, wrap

__all__ = ["Optimizer"]

#: The state of a parameter that has none.
_NOTHING: dict[str, Any] = {}


class Optimizer:
    """Base of all optimizers.

    A subclass says in :meth:`_step_group` how the parameters of one group are moved: it
    collects their arrays in lists, and hands the lists to one kernel.

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

    #: Whether a step was taken since the first schedule was made; None if there is none.
    _opt_called: bool | None = None

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
        group["params"] = params
        self._check_options(group)
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

    def _check_implementation(
        self, differentiable: bool, foreach: bool | None = None, fused: bool | None = None
    ) -> None:
        """Refuse what nano cannot do, and what PyTorch refuses."""
        if foreach and fused:
            raise ArgumentError(
                type(self).__name__, "`fused` and `foreach` cannot be `True` together."
            )
        if differentiable:
            raise ArgumentError(
                type(self).__name__,
                "a step is not recorded: differentiable must be False.",
                hint="Write the update with nano.autograd.grad(..., create_graph=True).",
            )

    def _check_lr(self, lr: Any) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise InputError(
                type(self).__name__, f"Tensor lr must be 1-element, this one has shape {lr.shape}."
            )
        self._require("learning rate", lr, lr >= 0)

    def _require(self, name: str, value: Any, fits: bool) -> None:
        if not fits:
            raise InputError(type(self).__name__, f"invalid {name}: {value}.")

    # Steps ------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero.

        Args:
            set_to_none: if not, the gradients stay, as zeros.
        """
        clear_gradients(self._all_params(), set_to_none)

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
        if hooks:
            call = Call(
                f"{type(self).__name__}.step",
                "step",
                self._move,
                self._all_params,
                self._bound_step,
            )
            through_hooks(call, tuple(self._all_params()), {}, self._move)
        else:
            self._move()
        return loss

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _move(self) -> None:
        if self._opt_called is False:
            self._opt_called = True
        writer = f"{type(self).__name__}.step"
        # All shapes are looked at before the first parameter moves.
        moving = [self._with_gradients(group["params"]) for group in self.param_groups]
        for group, params in zip(self.param_groups, moving, strict=True):
            if params:
                self._step_group(group, params)
                for p in params:
                    bump_version(p, writer)

    def _bound_step(self) -> Callable[[], None]:
        """:meth:`step` for parameters that each keep their array; see :mod:`bound`."""
        return self._move

    def _with_gradients(self, params: list[Tensor]) -> list[Tensor]:
        """The parameters that have a gradient.

        Raises:
            RuntimeError: if one has another shape than its gradient or its state, or cannot be
                written: compiled loops would do so all the same, and end the process.
        """
        moving = []
        state_of = self.state.get
        key = self._like_parameter[0] if self.state else ""
        for p in params:
            grad = p._grad
            if grad is None:
                continue
            moving.append(p)
            check_writeable(type(self).__name__, p._data)
            shape = p._data.shape
            if grad._data.shape != shape:
                raise self._misfit(p, "gradient", grad)
            # What is kept of a parameter is made, and restored, in one shape: one entry tells.
            kept = state_of(p, _NOTHING).get(key) if key else None
            if kept is not None and kept._data.shape != shape:
                raise self._misfit(p, key, kept)
        return moving

    def _misfit(self, p: Tensor, what: str, other: Tensor) -> ShapeError:
        return ShapeError(
            type(self).__name__,
            f"a parameter has shape {p.shape}, but its {what} {other.shape}; nothing was moved.",
            hint="After giving a parameter other data, call zero_grad(); if its shape is another, "
            "make a new optimizer.",
        )

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Move ``params``, those parameters of one group that have a gradient."""
        raise NotImplementedError

    def _kept(self, params: list[Tensor], names: Sequence[str]) -> tuple[list[int], list[Any]]:
        """What is remembered of the parameters, with one more step counted.

        Returns:
            how many steps each parameter has had, and for each name a list of their arrays,
            zeros at the first step.
        """
        states = [self.state[p] for p in params]
        try:
            counts, *lists = [[s[name]._data for s in states] for name in ("step", *names)]
        except KeyError:
            # Some parameter moves for the first time, or an option was switched on.
            for p, state in zip(params, states, strict=True):
                self._begin(p, state, names)
            return self._kept(params, names)
        return count_steps(counts), lists

    def _begin(self, p: Tensor, state: dict[str, Any], names: Sequence[str]) -> None:
        """Give ``p`` the entries of the state that it has not."""
        if "step" not in state:
            # float32 as in PyTorch: exact up to 16 million steps.
            state["step"] = wrap(np.zeros((), np.float32))
        for name in names:
            if name not in state:
                state[name] = wrap(self._initial(p))

    def _initial(self, p: Tensor) -> NDArray:
        """What an array that is kept of ``p`` begins with."""
        return np.zeros_like(p._data)

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
        is_array = isinstance(value, Tensor) or hasattr(value, "__array__")
        if key in self._like_parameter and is_array and tuple(value.shape) != p.shape:
            raise StateDictError(
                type(self).__name__,
                f"{key} of parameter {number} has shape {tuple(value.shape)}, the parameter "
                f"{p.shape}; nothing was loaded.",
            )
        if not is_array:
            return deepcopy(value)
        # Not as_tensor(): that would bring another library's float64 to the default dtype.
        t: Any = value.detach().clone() if isinstance(value, Tensor) else tensor(np.asarray(value))
        return t.to(p.dtype) if key in self._like_parameter else t

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def count_steps(counts: Iterable[NDArray]) -> list[int]:
    """Count one more step in each of the arrays; how many it is now."""
    steps = []
    for count in counts:
        step = int(count.item()) + 1
        count.fill(step)
        steps.append(step)
    return steps


def arrays(tensors: Iterable[Any]) -> list[Any]:
    """The arrays that the tensors hold."""
    return [t._data for t in tensors]


def gradients(params: Iterable[Tensor]) -> list[Any]:
    """The arrays of the parameters' gradients."""
    return [p._grad._data for p in params]  # type: ignore[union-attr]
