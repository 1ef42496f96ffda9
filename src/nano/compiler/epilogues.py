"""Passes that join convolutions and matrix products with what follows them.

A result that only the next operator reads is not written and read once more: batch
normalisation by given statistics becomes a scale and a bias of each channel, and with an
addition and an activation it is done before the result is written. The derivatives of a training
step read what lies between; there, only a ReLU is joined, whose derivative reads its own result,
and the cast of a bfloat16 weight's gradient to the parameter's float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from ..backends import choice
from ..functions.activation import Gelu, LeakyRelu, Silu
from ..functions.batch_norm import BatchNormInference
from ..functions.binary import Add, Mul, Sub
from ..functions.conversion import To
from ..functions.convolution import Conv2d, Conv2dWeight
from ..functions.epilogue import Conv2dEpilogue, Conv2dWeightSums, MatMulEpilogue
from ..functions.matmul import Linear, MatMul
from ..functions.unary import Neg, Relu, Rsqrt, Sigmoid, Tanh
from .arrays import stand_in
from .graph import Apply, Graph, Node, Value, is_change

__all__ = ["epilogues", "fold_batch_norm"]

_FLOAT32, _BFLOAT16 = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
_DTYPES = {_FLOAT32, _BFLOAT16}
_PRODUCTS = (Conv2d, Linear, MatMul, Conv2dEpilogue, MatMulEpilogue, Conv2dWeight)
#: For each activation, its name for kernels and its number, if it has one.
_ACTIVATIONS: dict[Any, Callable[..., tuple[Any, ...]]] = {
    Relu: lambda: ("relu",),
    LeakyRelu: lambda negative_slope: ("leaky_relu", float(negative_slope)),
    Gelu: lambda approximate: ("gelu_tanh" if approximate == "tanh" else "gelu",),
    Sigmoid: lambda: ("sigmoid",),
    Tanh: lambda: ("tanh",),
    Silu: lambda: ("silu",),
}


def fold_batch_norm(graph: Graph) -> None:
    """Make batch normalisation by given statistics a part of the product before it.

    Scale and bias are computed at each run, by operators as small as the statistics. They come
    first where they can, so that they can become one native function.

    Source: B. Jacob et al., "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", CVPR 2018, arXiv:1712.05877, section 3.2.
    """
    made: list[Apply] = []

    def rule(graph: Graph, product: Apply, node: Apply) -> list[Apply] | None:
        found = _with_batch_norm(graph, product, node)
        if found is not None:
            made.extend(found[:-1])
        return found

    _join(graph, rule)
    _move_first(graph, made)


def _move_first(graph: Graph, some: list[Apply]) -> None:
    """Let nodes run first that need nothing that is computed or changed before."""
    first: list[Node] = []
    rest: list[Node] = []
    known, chosen, changed = set(graph.values), {id(n) for n in some}, False
    for node in graph.nodes:
        changed = changed or is_change(node)
        if id(node) in chosen and not changed and known.issuperset(node.reads()):
            first.append(node)
            known.update(node.makes())
        else:
            rest.append(node)
    graph.nodes = first + rest


def epilogues(graph: Graph) -> None:
    """Make an addition, an activation and a cast a part of the product before them."""
    _join(graph, _with_bias)
    _join(graph, _with_residual)
    _join(graph, _with_activation)
    _join(graph, _with_cast)


# Finding what can be joined ---------------------------------------------------------------


def _join(graph: Graph, rule: Callable[[Graph, Apply, Apply], list[Apply] | None]) -> None:
    """Put what ``rule(graph, product, next)`` gives in the place of two nodes, all over."""
    uses = graph.uses()
    places = {id(node): i for i, node in enumerate(graph.nodes)}
    nodes: list[list[Node]] = [[node] for node in graph.nodes]
    for i, node in enumerate(graph.nodes):
        if not isinstance(node, Apply):
            continue
        for x in node.inputs:
            product = x.node if isinstance(x, Value) else None
            if not _may_wait(product, node, uses):
                continue
            place = places[id(product)]
            if place < 0 or any(is_change(n) for n in graph.nodes[place:i]):
                continue
            made = rule(graph, product, node)  # type: ignore[arg-type]
            if made is None:
                continue
            for n in made:
                n.line, n.phase = node.line, node.phase
                for v in n.makes():
                    v.node = n
            nodes[place] = [n for n in nodes[place] if n is not product]
            nodes[i] = list(made)
            places[id(made[-1])] = i
            break
    graph.nodes = [n for group in nodes for n in group]


def _may_wait(product: Any, node: Apply, uses: Any) -> bool:
    """Whether a product may be done at the place of ``node``, which alone uses it."""
    if not isinstance(product, Apply) or product.function not in _PRODUCTS or node.random:
        return False
    y, z = product.outputs[0], node.outputs[0]
    if y is None or z is None or uses[y] != 1 or node.count != 1:
        return False
    if any(v is not None and uses[v] for v in (*product.outputs[1:], *node.outputs[1:])):
        return False
    if any(v.memory.written for n in (product, node) for v in (*n.reads(), *n.makes())):
        return False
    if product.function is Conv2dWeight:
        return node.function is To
    alike = y.shape == z.shape and y.dtype == z.dtype and y.strides == z.strides
    return alike and y.dtype in _DTYPES


# Rules ------------------------------------------------------------------------------------


def _with_batch_norm(graph: Graph, product: Apply, node: Apply) -> list[Apply] | None:
    if node.function is not BatchNormInference or node.inputs[0] is not product.outputs[0]:
        return None
    joined = _as_epilogue(product, node)
    if joined is None or joined.inputs[3] is not None:
        return None
    (y,) = node.inputs[:1]
    if joined.function is MatMulEpilogue and len(y.shape) != 2:
        return None  # the channels are not the last dimension
    _, weight, bias, residual, mean, var = node.inputs
    steps: list[Apply] = []

    def apply(function: Any, *inputs: Any) -> Value:
        v = graph.value("result", None, var)
        needs = (False,) * len(inputs)
        steps.append(Apply(function=function, inputs=list(inputs), outputs=[v], needs=needs))
        return v

    before = joined.inputs[2]
    if any(v is not None and v.dtype != np.float32 for v in (before, weight, bias, mean, var)):
        return None
    # norm(z + before) = z scale + shift, with scale = weight / sqrt(var + eps) and
    # shift = bias - (mean - before) scale.
    scale = apply(Rsqrt, apply(Add, var, node.attributes["eps"]))
    if weight is not None:
        scale = apply(Mul, weight, scale)
    shift = apply(Mul, mean if before is None else apply(Sub, mean, before), scale)
    shift = apply(Neg, shift) if bias is None else apply(Sub, bias, shift)
    activation = node.attributes["activation"]
    joined.inputs[2:] = [shift, scale, residual]
    joined.attributes["activation"] = activation and (activation,)
    return [*steps, joined] if _pays(joined) else None


def _with_bias(graph: Graph, product: Apply, node: Apply) -> list[Apply] | None:
    other = _other_operand(product, node)
    joined = None if other is None else _as_epilogue(product, node)
    if joined is None or joined.function is not MatMulEpilogue or joined.inputs[2] is not None:
        return None
    if other.shape != product.outputs[0].shape[-1:] or any(joined.inputs[3:]):  # type: ignore
        return None
    joined.inputs[2] = other
    return [joined] if _pays(joined) else None


def _with_residual(graph: Graph, product: Apply, node: Apply) -> list[Apply] | None:
    other = _other_operand(product, node)
    joined = None if other is None else _as_epilogue(product, node)
    if joined is None or other.shape != node.outputs[0].shape:  # type: ignore[union-attr]
        return None
    joined.inputs[4] = other
    return [joined] if _pays(joined) else None


def _with_activation(graph: Graph, product: Apply, node: Apply) -> list[Apply] | None:
    named = _ACTIVATIONS.get(node.function)
    joined = None if named is None else _as_epilogue(product, node, residual=True)
    if named is None or joined is None:
        return None
    joined.attributes["activation"] = named(**node.attributes)
    return [joined] if _pays(joined) else None


def _with_cast(graph: Graph, product: Apply, node: Apply) -> list[Apply] | None:
    y, z = product.outputs[0], node.outputs[0]
    assert y is not None
    assert z is not None
    if product.function is not Conv2dWeight or (y.dtype, z.dtype) != (_BFLOAT16, _FLOAT32):
        return None
    joined = Apply(
        function=Conv2dWeightSums,
        inputs=list(product.inputs),
        attributes=dict(product.attributes),
        outputs=[z],
        needs=product.needs,
        exact=False,
    )
    return [joined] if _pays(joined) else None


def _other_operand(product: Apply, node: Apply) -> Value | None:
    """What is added to a product, a tensor of its dtype."""
    if node.function is not Add or node.attributes or len(node.inputs) != 2:
        return None
    y = product.outputs[0]
    (other,) = [x for x in node.inputs if x is not y]
    return other if isinstance(other, Value) and other.dtype == y.dtype else None  # type: ignore


def _as_epilogue(product: Apply, node: Apply, residual: bool = False) -> Apply | None:
    """The product with the output of ``node`` and room for more; None if it is complete.

    The room is for an activation and, unless ``residual`` may be there, for a residual.
    """
    inputs, attributes = list(product.inputs), dict(product.attributes)
    function: Any = product.function
    if function in (Conv2dEpilogue, MatMulEpilogue):
        if attributes["activation"] is not None or (inputs[4] is not None and not residual):
            return None
    elif function is Conv2d:
        function, inputs = Conv2dEpilogue, [*inputs, None, None]
        attributes["activation"] = None
    else:
        if any(len(v.shape) < 2 for v in inputs[:2]):
            return None
        bias = inputs[2] if function is Linear else None
        attributes = attributes | {"transpose_y": True} if function is Linear else attributes
        function, inputs = MatMulEpilogue, [*inputs[:2], bias, None, None]
        attributes["activation"] = None
    return Apply(
        function=function,
        inputs=inputs,
        attributes=attributes,
        outputs=[node.outputs[0]],
        needs=(*product.needs, *[False] * (5 - len(product.needs))),
        exact=False,
    )


# Whether it is faster ---------------------------------------------------------------------


def _pays(node: Apply) -> bool:
    """Whether some backend does all of it at once; else each operator is better by itself."""
    arrays = [stand_in(x) if isinstance(x, Value) else x for x in node.inputs]
    a = dict(node.attributes)
    if node.function is Conv2dEpilogue:
        geometry = (a["stride"], a["padding"], a["dilation"], a["groups"])
        return choice("conv2d_epilogue", *arrays, a["activation"], *geometry) != "reference"
    if node.function is Conv2dWeightSums:
        geometry = (a["stride"], a["padding"], a["dilation"], a["groups"])
        arrays += [a["kernel_size"], *geometry, _FLOAT32]
        return choice("conv2d_weight", *arrays) != "reference"
    if a.get("transpose_x"):
        arrays[0] = arrays[0].swapaxes(-1, -2)
    if a.get("transpose_y"):
        arrays[1] = arrays[1].swapaxes(-1, -2)
    return choice("matmul_epilogue", *arrays, a["activation"]) != "reference"
