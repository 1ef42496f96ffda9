"""Muon: momentum, made orthogonal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import kernels
from ..errors import InputError
from ..tensor import Tensor, wrap
from .optimizer import Optimizer

__all__ = ["Muon"]

_ADJUSTMENTS = (None, "original", "match_rms_adamw")
_MOST_STEPS = 100


class Muon(Optimizer):
    """Steps that are orthogonal matrices: all directions of a weight learn equally fast.

    b = momentum b + (1 - momentum) g; u = momentum b + (1 - momentum) g with Nesterov, else b;
    w = w (1 - lr weight_decay) - lr' o, where o is about the orthogonal matrix nearest to u.
    With u = U S V^T, that is U V^T. It is found without the decomposition: x = u / |u|, then
    some times x = a x + (b A + c A A) x with A = x x^T (Newton and Schulz), which moves each
    singular value to between 0.7 and 1.2.

    lr' is lr max(1, rows / columns)^0.5, or 0.2 lr max(rows, columns)^0.5 to match the size of
    AdamW's steps.

    For the weights between the first and the last layer. The weight of a convolution counts as
    the matrix (channels out, all else), as in K. Jordan's own code; PyTorch refuses it, and
    computes o in bfloat16 where nano does in float32. Groups with ``orthogonalize=False``, for
    biases, embeddings and the last layer, move by u itself, which is SGD with the rate
    lr (1 - momentum).

    Sources: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024;
    J. Liu et al., "Muon is scalable for LLM training", 2025, for ``match_rms_adamw``.

    Args:
        params: the parameters; see :class:`Optimizer`.
        lr: the learning rate.
        weight_decay: the part of the weights that is taken off, times lr.
        momentum: the share of the last step that is kept.
        nesterov: look ahead by the momentum.
        ns_coefficients: a, b and c.
        eps: the least norm by which is divided.
        ns_steps: how often x is replaced.
        adjust_lr_fn: ``"original"`` (as None) or ``"match_rms_adamw"``.
        orthogonalize: whether o takes the place of u.

    Raises:
        ValueError: if an option makes no sense, or a parameter to be made orthogonal has less
            than two dimensions.

    >>> w = nano.tensor([[3.0, 0.0], [0.0, 0.1]], requires_grad=True)
    >>> optimizer = nano.optim.Muon([w], lr=0.1, weight_decay=0)
    >>> (w * w).sum().backward()
    >>> optimizer.step(); (w[0, 0] < 2.95, w[1, 1] < 0.05)
    (tensor(True), tensor(True))
    """

    _like_parameter = ("momentum_buffer",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        orthogonalize: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "orthogonalize": orthogonalize,
        }
        self._check_options(defaults)
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        self._check_lr(group["lr"])
        self._require("momentum value", group["momentum"], group["momentum"] >= 0)
        self._require("weight_decay value", group["weight_decay"], group["weight_decay"] >= 0)
        self._require("adjust_lr_fn", group["adjust_lr_fn"], group["adjust_lr_fn"] in _ADJUSTMENTS)
        coefficients = group["ns_coefficients"]
        self._require("ns_coefficients", coefficients, len(coefficients) == 3)
        self._require("ns_steps", group["ns_steps"], group["ns_steps"] < _MOST_STEPS)
        if group["orthogonalize"]:
            flat = next((p for p in group.get("params", ()) if p.ndim < 2), None)
            if flat is not None:
                raise InputError(
                    "Muon",
                    "a parameter to be made orthogonal needs two dimensions or more.",
                    facts=f"shape {flat.shape}",
                    hint="Put it in a group with orthogonalize=False.",
                )

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        alike: dict[tuple[int, ...], list[tuple[Tensor, NDArray]]] = {}
        for p in params:
            u = self._averaged(group, p)
            if group["orthogonalize"]:
                u = u.reshape(u.shape[0], -1)
                alike.setdefault(u.shape, []).append((p, u))
            else:
                _move(group, p, u, 1.0)
        # Those of one shape are made orthogonal together: fewer and larger products.
        for shape, members in alike.items():
            made = _orthogonal(np.stack([u for _, u in members]), group)
            ratio = _ratio(group["adjust_lr_fn"], *shape)
            for (p, _), o in zip(members, made, strict=True):
                _move(group, p, o.reshape(p.shape), ratio)

    def _averaged(self, group: dict[str, Any], p: Tensor) -> NDArray:
        """The average of the gradients so far, with the new one."""
        state, momentum = self.state[p], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = wrap(self._initial(p))
        b, g = state["momentum_buffer"]._data, p._grad._data  # type: ignore[union-attr]
        b += (1 - momentum) * (g - b)
        return g + momentum * (b - g) if group["nesterov"] else b


def _orthogonal(u: NDArray, group: dict[str, Any]) -> NDArray:
    """About the orthogonal matrices nearest to ``u``, (n, rows, columns), in float32 at least."""
    a, b, c = group["ns_coefficients"]
    x = u.astype(np.result_type(u.dtype, np.float32), copy=False)
    tall = x.shape[1] > x.shape[2]
    if tall:  # so that x x^T is the smaller one of the two products
        x = x.swapaxes(1, 2)
    x = x / np.maximum(np.linalg.norm(x, axis=(1, 2), keepdims=True), group["eps"])
    for _ in range(group["ns_steps"]):
        gram = kernels.matmul(x, x.swapaxes(1, 2))
        x = a * x + kernels.matmul(b * gram + c * kernels.matmul(gram, gram), x)
    return x.swapaxes(1, 2) if tall else x


def _ratio(adjustment: str | None, rows: int, columns: int) -> float:
    """By how much longer the steps of a larger matrix are."""
    if adjustment == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def _move(group: dict[str, Any], p: Tensor, direction: NDArray, ratio: float) -> None:
    lr, w = float(group["lr"]), p._data
    w *= 1 - lr * group["weight_decay"]
    w -= (lr * ratio * direction).astype(w.dtype, copy=False)
