"""What the layers compute, as functions: ``import nano.nn.functional as F``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd.function import Function
from ..errors import ArgumentError, DtypeError
from ..functions.activation import (
    dropout,
    dropout1d,
    dropout2d,
    gelu,
    implicit_dim,
    leaky_relu,
    silu,
)
from ..functions.adaptive_pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
)
from ..functions.attention import scaled_dot_product_attention
from ..functions.batch_norm import batch_norm
from ..functions.class_losses import cross_entropy, nll_loss
from ..functions.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from ..functions.embedding import embedding
from ..functions.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    l1_loss,
    mse_loss,
)
from ..functions.matmul import linear
from ..functions.normalisation import group_norm, instance_norm, layer_norm, rms_norm
from ..functions.operands import check_tensor, require_floating
from ..functions.pooling import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from ..functions.rearrange import pad
from ..functions.softmax import log_softmax as _log_softmax
from ..functions.softmax import softmax as _softmax
from ..functions.softmax import softmin as _softmin
from ..functions.unary import relu as _relu
from ..functions.unary import sigmoid, tanh
from ..hook import hooks, reading
from ..tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "embedding",
    "gelu",
    "group_norm",
    "instance_norm",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "tanh",
]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0), element by element; see :func:`nano.relu`.

    >>> relu(nano.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return input.relu_() if inplace else _relu(input)  # type: ignore[attr-defined]


def softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """exp(input) / sum exp(input) along ``dim``; see :func:`nano.softmax`.

    Without ``dim``, PyTorch's deprecated choice is made, with a warning.

    >>> softmax(nano.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    return _softmax(input, implicit_dim("softmax", input, dim), dtype=dtype)


def log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """The logarithm of :func:`softmax`, computed without overflow.

    >>> log_softmax(nano.tensor([0.0, 0.0]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    return _log_softmax(input, implicit_dim("log_softmax", input, dim), dtype=dtype)


def softmin(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """:func:`softmax` of ``-input``: the smallest gets the most.

    >>> softmin(nano.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    return _softmin(input, implicit_dim("softmin", input, dim), dtype=dtype)


class OneHot(Function):
    """1 at the place of each label, 0 elsewhere."""

    differentiable = False
    refuses = True

    @staticmethod
    def forward(ctx, labels, *, classes):
        if labels.size and labels.min() < 0:
            raise ArgumentError("one_hot", f"labels must not be negative, got {labels.min()}.")
        if labels.size and labels.max() >= classes:
            raise ArgumentError(
                "one_hot",
                f"labels must be smaller than num_classes={classes}, got {labels.max()}.",
            )
        return np.equal(labels[..., None], np.arange(classes)).astype(np.int64)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A 1 at the place of each label, 0 elsewhere.

    Args:
        tensor: labels, int64, any shape.
        num_classes: how many classes; one more than the largest label if left out.

    Returns:
        int64, the shape of ``tensor`` with ``num_classes`` appended.

    Raises:
        RuntimeError: if the labels are not int64, negative or not below ``num_classes``.

    >>> one_hot(nano.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    labels = check_tensor("one_hot", tensor)._data
    if labels.dtype != np.int64:
        raise DtypeError(
            "one_hot", f"labels must be int64, got {tensor.dtype}.", hint="Use tensor.long()."
        )
    if num_classes < -1 or (not labels.size and num_classes <= 0):
        raise ArgumentError(
            "one_hot",
            f"num_classes must be positive, got {num_classes}."
            if labels.size
            else "the number of classes cannot be inferred from an empty tensor.",
        )
    classes = num_classes
    if classes == -1:
        if hooks:
            reading("one_hot", tensor)
        classes = int(labels.max()) + 1
    return OneHot.apply(tensor, classes=classes)


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Tensor:
    """input / max(||input||_p, eps), with the norm along ``dim``.

    >>> normalize(nano.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    require_floating("normalize", input)
    if p == math.inf:
        return input / input.abs().amax(dim, keepdim=True).clamp(min=eps)
    # The bound is applied before the root, whose slope at 0 is infinite.
    if p == 2:
        return input / (input * input).sum(dim, keepdim=True).clamp(min=eps * eps).sqrt()
    return input / (input.abs() ** p).sum(dim, keepdim=True).clamp(min=eps**p) ** (1 / p)
