"""The pass that takes batch normalisation's statistics from the convolution before it.

Mean and variance of a result are sums over it, which cost next to nothing while it is written,
and going through memory afterwards. What stays of the normalisation is that by given statistics.
"""

from __future__ import annotations

from ..backends import choice
from ..functions.batch_norm import BatchNorm, BatchNormInference
from ..functions.convolution import Conv2d
from ..functions.epilogue import Conv2dMoments
from .arrays import stand_in
from .graph import Apply, Graph, Value

__all__ = ["moments"]


def moments(graph: Graph) -> None:
    """Let convolutions give the mean and variance of their results, where a backend does."""
    for i, norm in enumerate(graph.nodes):
        if not isinstance(norm, Apply) or norm.function is not BatchNorm:
            continue
        x = norm.inputs[0]
        conv = x.node
        if not isinstance(conv, Apply) or conv.function is not Conv2d:
            continue
        if conv.hidden or norm.hidden:
            continue
        y, mean, var = norm.outputs
        if mean is None or var is None or x.memory.written or not _pays(conv):
            continue
        conv.function, conv.exact = Conv2dMoments, False
        conv.outputs, conv.count, conv.several = [x, mean, var], 3, True
        mean.node = var.node = conv
        given = Apply(
            function=BatchNormInference,
            inputs=[*norm.inputs, mean, var],
            attributes=norm.attributes,
            outputs=[y],
            needs=(False,) * (len(norm.inputs) + 2),
            line=norm.line,
            phase=norm.phase,
            exact=False,
        )
        if y is not None:
            y.node = given
        graph.nodes[i] = given


def _pays(conv: Apply) -> bool:
    arrays = [stand_in(v) if isinstance(v, Value) else v for v in conv.inputs]
    a = conv.attributes
    geometry = a["stride"], a["padding"], a["dilation"], a["groups"]
    return choice("conv2d_moments", *arrays, *geometry) == "fused"
