"""Kernels that Numba compiles: loops that go over memory as few times as they can.

Importing this costs nothing: the names are offered here, with a quick question each about
the arguments (in ``suits``); Numba and the loops are imported on the first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module, util
from typing import Any

from ..registry import available, kernels, register, unavailable
from . import suits, suits_convolution, suits_dense

__all__: list[str] = []


def _offer(module: str, accepts: Callable[..., bool | str], *names: str) -> None:
    """Offer the kernels ``names`` of a module here, which is imported when one is called."""
    for name in names:
        register(name, _on_first_use(module, name), backend="fused", accepts=accepts)


def _on_first_use(module: str, name: str) -> Callable[..., Any]:
    run: Callable[..., Any] | None = None

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal run
        if run is None:
            try:
                run = getattr(import_module(f".{module}", __name__), name)
            except ImportError as error:
                # Numba does so when it is too old for this Python or NumPy.
                unavailable("fused", f"Numba cannot be imported: {error}")
                return getattr(kernels, name)(*args, **kwargs)
        return run(*args, **kwargs)

    call.__name__ = name
    return call


_offer("batch_norm", suits.batch_norm, "batch_norm")
_offer("batch_norm", suits.batch_norm_inference, "batch_norm_inference")
_offer("batch_norm", suits.batch_norm_backward, "batch_norm_backward")
_offer("layer_norm", suits.layer_norm, "layer_norm")
_offer("layer_norm", suits.layer_norm_backward, "layer_norm_backward")
_offer("softmax", suits.softmax, "softmax", "log_softmax")
_offer("softmax", suits.softmax_backward, "softmax_backward", "log_softmax_backward")
_offer("losses", suits.nll_loss, "nll_loss")
_offer("losses", suits.nll_loss_backward, "nll_loss_backward")
_offer("attention", suits.attention, "attention")
_offer("attention", suits.attention_backward, "attention_backward")
for _name in ("conv2d", "conv_transpose2d", "conv2d_weight"):
    _offer("convolution", getattr(suits_convolution, _name), _name)
_offer("winograd", suits_convolution.conv2d_epilogue, "conv2d_epilogue")
_offer("winograd", suits_convolution.conv2d_moments, "conv2d_moments")
_offer("embedding", suits.embedding_backward, "embedding_backward")

for _name in ("relu", "exp", "tanh", "sigmoid", "silu", "gelu", "gelu_tanh"):
    _offer("elementwise", suits_dense.unary, _name)
for _name in ("relu_backward", "silu_backward", "gelu_backward", "gelu_tanh_backward"):
    _offer("elementwise", suits_dense.backward, _name)
_offer("elementwise", suits_dense.binary, "add", "subtract", "multiply", "divide")
_offer("elementwise", suits_dense.leaky_relu, "leaky_relu")
_offer("convert", suits_dense.cast, "cast")
_offer("dropout", suits_dense.dropout_mask, "dropout_mask")
_offer("sums", suits_dense.sum, "sum")
for _name in ("pad_constant", "put_slice"):
    _offer("movement", getattr(suits_dense, _name), _name)
for _name in ("max_pool2d", "max_pool2d_backward", "max_pool2d_gather"):
    _offer("max_pooling", getattr(suits_dense, _name), _name)
for _name in (
    *("avg_pool2d", "avg_pool2d_backward"),
    *("adaptive_avg_pool2d", "adaptive_avg_pool2d_backward"),
):
    _offer("pooling", getattr(suits_dense, _name), _name)
for _name in ["sgd_step", "adam_step", "rmsprop_step", "adagrad_step", "sgd_bound", "adam_bound"]:
    _offer("optimizers", getattr(suits_dense, _name), _name)


def _version() -> str:
    from importlib import metadata  # takes longer to import than all else here

    return f"Numba {metadata.version('numba')}"


if os.environ.get("NANO_FUSED") == "off":
    unavailable("fused", "switched off by NANO_FUSED=off")
elif os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
    unavailable("fused", "Numba's compiler is switched off by NUMBA_DISABLE_JIT")
elif util.find_spec("numba") is None:
    unavailable("fused", "Numba is not installed; `pip install numba` brings it")
else:
    available("fused", _version)
