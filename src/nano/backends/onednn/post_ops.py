"""oneDNN's *post-ops*: what a primitive does to its results before it writes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .library import library
from .memory import Descriptor
from .primitives import FPMATH_BF16

__all__ = ["ACTIVATIONS", "PostOps"]

#: dnnl_alg_kind_t
_ADD, _MULTIPLY = 0x1FFF0, 0x1FFF1
_RELU, _TANH, _LINEAR, _LOGISTIC = 0x20, 0x21, 0x26, 0x29
_GELU_TANH, _SWISH, _GELU_ERF, _HARD_SWISH = 0x2B, 0x2C, 0x31, 0x34
_SRC_1, _POST_OP = 2, 32768  # DNNL_ARG_SRC_1, DNNL_ARG_ATTR_MULTIPLE_POST_OP_BASE
_HUGE = 3.4e38

#: Activations by name: steps of an algorithm with its alpha and beta; ``None`` stands for the
#: activation's own number. oneDNN's ReLU makes 0 of NaN, as do its maximum and its clipping.
#: x min(max(x huge, 0), 1) keeps it (and makes NaN of -inf); adding 0 takes the sign away that 0
#: then has. ELU with alpha 0 would be right at -inf too, but computes an exponential: a product
#: over 64 channels takes up to 1.7 times as long.
ACTIVATIONS: dict[str, tuple[tuple[int, float | None, float], ...]] = {
    "relu": ((_HARD_SWISH, _HUGE, 0.0), (_LINEAR, 1.0, 0.0)),
    "leaky_relu": ((_RELU, None, 0.0),),
    "gelu": ((_GELU_ERF, 0.0, 0.0),),
    "gelu_tanh": ((_GELU_TANH, 0.0, 0.0),),
    "sigmoid": ((_LOGISTIC, 0.0, 0.0),),
    "tanh": ((_TANH, 0.0, 0.0),),
    "silu": ((_SWISH, 1.0, 0.0),),
}


class PostOps:
    """Steps in the order in which they are added, as the attributes of a primitive.

    Attributes:
        handle: of the attributes, after :meth:`close`.
        memory: for each argument that the steps read, its descriptor, in order.
    """

    def __init__(self, rounded: bool) -> None:
        lib = library()
        self.memory: dict[int, Descriptor] = {}
        self._count = 0
        self._steps: Any = lib.create("dnnl_post_ops_create")
        self.handle = lib.create("dnnl_primitive_attr_create")
        if rounded:
            lib.call("dnnl_primitive_attr_set_fpmath_mode", self.handle, FPMATH_BF16)

    def multiply(self, other: Descriptor) -> None:
        """Multiply by an array that broadcasts with the result."""
        self._binary(_MULTIPLY, other)

    def add(self, other: Descriptor) -> None:
        """Add an array that broadcasts with the result."""
        self._binary(_ADD, other)

    def _binary(self, algorithm: int, other: Descriptor) -> None:
        library().call("dnnl_post_ops_append_binary", self._steps, algorithm, other.handle)
        self._count += 1
        self.memory[_POST_OP * self._count | _SRC_1] = other

    def activate(self, activation: tuple[Any, ...]) -> None:
        """Apply an activation: its name, and its number if it has one."""
        name, *numbers = activation
        if activation == ("leaky_relu", 0.0):
            name, numbers = "relu", []
        for algorithm, alpha, beta in ACTIVATIONS[name]:
            number = numbers[0] if alpha is None else alpha
            library().call("dnnl_post_ops_append_eltwise", self._steps, algorithm, number, beta)
            self._count += 1

    def close(self) -> PostOps:
        """No more steps are added."""
        library().call("dnnl_primitive_attr_set_post_ops", self.handle, self._steps)
        return self

    def __del__(self, at_exit: Callable[[], bool] = sys.is_finalizing) -> None:
        if not at_exit() and hasattr(self, "handle"):
            library().call("dnnl_post_ops_destroy", self._steps)
            library().call("dnnl_primitive_attr_destroy", self.handle)
