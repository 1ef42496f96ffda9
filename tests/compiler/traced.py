"""A graph of what a function does, made with the simplest hook; and how to run it."""

import numpy as np

import nano
from nano.autograd.function import Context, Function
from nano.compiler.graph import Apply, Graph, Memory, Value
from nano.hook import add_hook, remove_hook
from nano.tensor import Tensor


class Ctx(Context):
    """What ``forward`` needs when nothing is recorded."""

    def __init__(self, count):
        self._edges = [None] * count


def key(array):
    """The same for arrays that show the same memory in the same way."""
    if not array.size:
        return id(array)
    return array.ctypes.data, array.shape, array.strides, array.dtype


def traced(function, *tensors):
    """The graph of ``function(*tensors)``, a Tensor or a tuple of them, and what it returned."""
    graph = Graph()
    known: dict[object, Value] = {}
    alive = []

    def value(t, kind, content):
        alive.append(t)
        v = graph.value(kind, content, t._data, Memory(outside=kind == "argument"))
        known[key(t._data)] = v
        return v

    def hook(what, inputs, attributes, proceed):
        result = proceed()
        if isinstance(what, type) and issubclass(what, Function):
            sources = [
                (known.get(key(x._data)) or value(x, "constant", x._data))
                if isinstance(x, Tensor)
                else x
                for x in inputs
            ]
            outputs = list(result) if isinstance(result, tuple) else [result]
            node = Apply(
                inputs=sources,
                function=what,
                attributes=dict(attributes),
                count=len(outputs),
                needs=tuple(False for _ in inputs),
                line=f"train.py:{len(graph.nodes) + 1}",
            )
            for t in outputs:
                v = value(t, "result", None)
                v.node = node
                node.outputs.append(v)
                if what.is_view:
                    v.memory = sources[0].memory
            graph.nodes.append(node)
        return result

    for i, t in enumerate(tensors):
        value(t, "argument", i)
    add_hook(hook)
    try:
        result = function(*tensors)
    finally:
        remove_hook(hook)
    if isinstance(result, tuple):
        graph.result = tuple(known[key(t._data)] for t in result)
    else:
        graph.result = known[key(result._data)]
    graph.alive = alive
    return graph, result


def run(graph, *arrays):
    """What the graph makes of the arguments: a tuple of arrays."""
    at = {v: arrays[v.content] if v.kind == "argument" else v.content for v in graph.values}
    for node in graph.nodes:
        given = [at[x] if isinstance(x, Value) else x for x in node.inputs]
        if isinstance(node, Apply):
            results = node.function.forward(Ctx(len(given)), *given, **node.attributes)
        else:
            results = node.run(*given)
        results = results if isinstance(results, tuple) else (results,)
        for v, array in zip(node.outputs, results, strict=True):
            at[v] = np.asarray(array)
    return tuple(at[v] for v in graph.returned())


def names(graph):
    """The operators of each node: a list for a fused one."""
    return [[m.name for m in n.members] if hasattr(n, "members") else n.name for n in graph.nodes]


def tensor(shape, dtype=nano.float32, seed=0, layout="rows"):
    """Numbers from a normal distribution that lie in memory as ``layout`` says."""
    source = np.random.default_rng(seed)
    axes = list(range(len(shape)))
    if layout == "channels" and len(shape) > 1:
        axes = [0, *axes[2:], 1]
    elif layout == "turned":
        axes = axes[::-1]
    gaps = [2 if layout == "sliced" else 1 for _ in shape]
    full = source.normal(size=[shape[a] * gaps[a] for a in axes])
    if layout == "sliced":
        full = full[tuple(slice(None, None, 2) for _ in shape)]
    array = np.asarray(full).astype(dtype.numpy, order="K")
    if layout == "sliced" and shape:  # astype closed the gaps
        wide = np.zeros([2 * n for n in array.shape], array.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in shape)]
        view[...] = array
        array = view
    t = nano.zeros(0)
    t._data = np.asarray(array).transpose(np.argsort(axes)) if shape else np.asarray(array)
    return t
