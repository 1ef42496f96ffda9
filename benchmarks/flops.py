"""How many floating-point operations a network's products take, counted from the shapes.

Only matrix products, convolutions and attention are counted, two operations for a
multiplication and an addition: the rest is less than a hundredth of it, and its time is
that of memory. Divided by what a large product reaches, this is a limit in time.
"""

from __future__ import annotations

import math
from typing import Any


def count(model: Any, x: Any, training: bool) -> int:
    """Operations of one pass over ``x``, with the backward pass if ``training``.

    The backward pass of a product is two products of the same size, or one where the input
    needs no gradient (the first layer). Works on nano's modules and on PyTorch's.
    """
    total = 0

    def add(flops: int, backward: int) -> None:
        nonlocal total
        total += flops * (1 + backward if training else 1)

    def hook(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        (x, *_) = inputs
        if hasattr(module, "attention_flops"):
            add(module.attention_flops(x), 2)
        else:
            shape = tuple(module.weight.shape)
            per_weight = math.prod(output.shape) // shape[0]
            add(2 * math.prod(shape) * per_weight, 1 + x.requires_grad)

    hooks = [
        module.register_forward_hook(hook)
        for module in model.modules()
        if hasattr(module, "attention_flops") or type(module).__name__ in ("Conv2d", "Linear")
    ]
    model(x)
    for handle in hooks:
        handle.remove()
    return total
