"""Function: everything that computes, and the node that remembers that it did.

An operator is a class with two static methods. ``forward`` takes and returns
NumPy arrays. ``backward`` takes the gradients of the outputs and returns the
gradients of the inputs; these are Tensors, and it is written with other
operators, so that a gradient can be differentiated again.

One use of an operator is one instance of its class. It is the *context* that
``forward`` and ``backward`` share, and the *node* of the graph that ``backward()``
walks. ``Function.apply`` runs an operator, through the one hook (hook.py) that
tracing, profiling and anomaly mode use.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GradientError, TypeMismatchError
from ..handles import HookHandle
from ..hook import hooks, through_hooks
from ..storage import Storage, View, storage_of
from ..tensor import Tensor, wrap
from .grad_mode import mode

__all__ = ["AccumulateGrad", "Context", "Function", "as_saved"]


class _Freed:
    """Stands in for the saved tensors of a node whose buffers backward() has freed."""


class Context:
    """What ``forward`` leaves for ``backward``: attributes of any name, and saved tensors."""

    #: Where the operator was recorded; set in anomaly mode.
    stack: str = ""

    _saved: Any = ()
    _edges: Sequence[Any] = ()
    _non_differentiable: tuple[NDArray, ...] = ()
    _materialize_grads = True
    #: The storages of outputs that came to share their memory; see ``storage.storage_of``.
    _output_storages: dict[int, Storage] = {}  # noqa: RUF012

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """For each input, whether its gradient is wanted."""
        return tuple([edge is not None for edge in self._edges])

    def save_for_backward(self, *arrays: Any) -> None:
        """Keep inputs, outputs or other arrays of ``forward`` until ``backward``.

        An input or an output comes back as the tensor that it is in the graph.
        Numbers and None may be saved too.
        """
        self._saved = arrays

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What ``save_for_backward`` kept, as Tensors.

        Raises:
            RuntimeError: if the graph was freed by an earlier ``backward()``, or a
                tensor was changed in place since.
        """
        if self._saved is _Freed:
            raise GradientError(
                "backward",
                "the graph was freed by an earlier backward().",
                facts=f"{self.name()} has no saved tensors any more",
                hint="To go through it twice, say backward(retain_graph=True) the first time.",
            )
        return tuple([_unpack(self, entry) for entry in self._saved])

    def mark_non_differentiable(self, *arrays: NDArray) -> None:
        """Say in ``forward`` which outputs carry no gradient (indices, for instance)."""
        self._non_differentiable = arrays

    def set_materialize_grads(self, value: bool) -> None:
        """Whether ``backward`` gets zeros (the default) or None for an output nobody used."""
        self._materialize_grads = value

    def name(self) -> str:
        """The node's name, as PyTorch writes it: ``AddBackward0``."""
        return type(self).__name__ + ("Backward0" if self._built_in else "Backward")

    _built_in = False


class _SavedInput:
    """An input tensor that had been written in place before it was saved, and its version then.

    One that had not is saved as itself: its version was 0.
    """

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor, version: int) -> None:
        self.tensor = tensor
        self.version = version


def as_saved(t: Tensor) -> Any:
    """A tensor as an entry of what a node saves, to be found changed if it is written."""
    storage = t._storage
    return t if storage is None or not storage.version else _SavedInput(t, storage.version)


def _unpack(node: Context, entry: Any) -> Any:
    """A saved entry as the tensor that it is in the graph; see :func:`_pack`."""
    if isinstance(entry, Tensor):
        storage = entry._storage
        if storage is not None and storage.version:
            _raise_changed(node, storage, 0, entry.shape)
        return entry
    if type(entry) is tuple:
        # An output is made anew: node and output would else hold each other for ever.
        array, number = entry
        storage = node._output_storages.get(number)
        if storage is not None and storage.version:
            _raise_changed(node, storage, 0, array.shape)
        t = wrap(array)
        t._requires_grad = True
        t._edge = (node, number, array.shape)
        t._storage = storage
        return t
    if type(entry) is _SavedInput:
        storage = entry.tensor._storage
        if storage is not None and storage.version != entry.version:
            _raise_changed(node, storage, entry.version, entry.tensor.shape)
        return entry.tensor
    if isinstance(entry, np.ndarray):
        return wrap(entry.view())
    return entry


def _raise_changed(node: Context, storage: Storage, version: int, shape: Any) -> None:
    raise GradientError(
        "backward",
        "a tensor needed for a gradient was changed in place.",
        facts=f"saved by {node.name()} · changed by {storage.changed_by} · shape {shape} · "
        f"version {storage.version}, expected {version}" + (node.stack and f" · {node.stack}"),
        hint="Use the operator without underscore, or change a clone().",
    )


class Function(Context):
    """An operator with its derivative. Subclass it to write your own.

    ``forward(ctx, *arrays, **attributes)`` gets one NumPy array for each tensor
    given to ``apply``; None and Python numbers come as they are, keyword
    arguments too. It returns an array or a tuple of arrays.
    ``backward(ctx, *grad_outputs)`` gets and returns Tensors: one gradient (or
    None) for each positional input.

    >>> class Cube(nano.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**3
    ...
    ...     @staticmethod
    ...     def backward(ctx, grad_output):
    ...         (x,) = ctx.saved_tensors
    ...         return grad_output * 3 * x**2
    >>> x = nano.tensor(2.0, requires_grad=True)
    >>> y = Cube.apply(x)
    >>> y, *nano.autograd.grad(y, x)
    (tensor(8., grad_fn=<CubeBackward>), tensor(12.))
    """

    #: False for operators without a derivative, such as comparisons.
    differentiable = True
    #: True if the output may share the first input's memory.
    is_view = False
    #: An element-wise operator's formula, from which fused loops are built: an expression in
    #: the names of forward's parameters; see compiler/formula.py for the functions in it.
    formula = ""
    #: True for operators that draw random numbers.
    random = False
    #: True for operators that refuse some values: labels, say, that are no class.
    refuses = False
    #: Keyword arguments that speak of the moment: of which input's Tensor, and what makes them.
    momentary: dict[str, tuple[int, Callable[[Tensor], Any]]] = {}  # noqa: RUF012
    #: How many outputs this node has.
    outputs = 1

    _output_meta: tuple[tuple[tuple[int, ...], Any], ...] = ()
    _tensor_hooks: dict[int, dict[int, Any]] | None = None
    _retained: dict[int, Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Our own operators are checked by the tests, others at every backward().
        cls._built_in = cls.__module__.startswith("nano.")

    @staticmethod
    def forward(ctx: Any, *arrays: Any, **attributes: Any) -> Any:
        """Compute the outputs from the inputs: arrays in, arrays out."""
        raise NotImplementedError("a Function needs a static method forward(ctx, *arrays)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Compute the inputs' gradients from the outputs': Tensors in, Tensors out."""
        raise GradientError(
            type(ctx).__name__,
            "this operator has no derivative.",
            hint="Take it out of the graph with detach(), or give the Function a backward().",
        )

    @classmethod
    def apply(cls, *inputs: Any, **attributes: Any) -> Any:
        """Run the operator and, if a gradient may be wanted, record it."""
        if hooks:
            return through_hooks(cls, inputs, attributes, lambda: _run(cls, inputs, attributes))
        return _run(cls, inputs, attributes)

    # The node ---------------------------------------------------------------------------

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """For each input, the node that made it and which output of it; as in PyTorch."""
        return tuple(
            (None, 0) if edge is None else (AccumulateGrad(edge[0]), 0) if edge[1] < 0 else edge[:2]
            for edge in self._edges
        )

    def register_tensor_hook(self, number: int, hook: Callable[..., Any]) -> HookHandle:
        """Call ``hook`` with the gradient of output ``number``."""
        if self._tensor_hooks is None:
            self._tensor_hooks = {}
        return HookHandle(self._tensor_hooks.setdefault(number, {}), hook)

    def retain_grad(self, tensor: Tensor, number: int) -> None:
        """Leave the gradient of output ``number`` in ``tensor.grad``."""
        if self._retained is None:
            self._retained = {}
        self._retained[number] = weakref.ref(tensor)

    def release(self) -> None:
        """Free what was saved for the backward pass."""
        if self._saved:
            self._saved = _Freed

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class AccumulateGrad:
    """The end of the graph at a leaf: adds the gradient to ``variable.grad``."""

    __slots__ = ("variable",)
    next_functions: tuple[tuple[Any, int], ...] = ()

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable

    def name(self) -> str:
        """Its name, as PyTorch writes it."""
        return "AccumulateGrad"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return hash(self.variable)

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


def _run(cls: type[Function], inputs: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
    """Compute the outputs, and tie them to a node if a gradient may be wanted.

    Every operation goes through here, also the smallest: hence the plain loops.
    """
    ctx = cls()
    arrays: list[Any] = []
    edges: list[Any] = []
    record = False
    for x in inputs:
        if isinstance(x, Tensor):
            if x._view is not None:
                x._refresh()
            arrays.append(x._data)
            if x._requires_grad:
                edges.append(x._edge or (x, -1, x._data.shape))
                record = True
                continue
        else:
            arrays.append(x)
        edges.append(None)
    if record and mode.enabled and cls.differentiable:
        ctx._edges = edges
    else:
        record = False
        ctx._edges = [None] * len(inputs)

    result = cls.forward(ctx, *arrays, **attributes) if attributes else cls.forward(ctx, *arrays)

    if type(result) is tuple:
        return _wrap_several(ctx, result, inputs, arrays, record)
    raw = result
    if type(result) is not np.ndarray:
        result = _as_array(ctx, result)
    if not cls._built_in:
        record = record and result.dtype.kind in "fV"
        if any(a is result for a in arrays):
            result = result.view()
    t = wrap(result)
    if record and not ctx._non_differentiable:
        t._requires_grad = True
        t._edge = (ctx, 0, result.shape)
        if ctx._saved:
            _pack(ctx, inputs, arrays, (raw,), (t,))
    if cls.is_view:
        _link_view(t, inputs[0])
    elif not cls._built_in:
        _link_own(ctx, t, inputs)
    return t


def _wrap_several(
    ctx: Function, results: tuple[Any, ...], inputs: Any, arrays: list[Any], record: bool
) -> tuple[Tensor, ...]:
    """Tensors around several results of ``forward``."""
    outputs = []
    for number, result in enumerate(results):
        array = _as_array(ctx, result)
        t = wrap(array.view() if any(a is array for a in arrays) else array)
        exempt = any(a is array for a in ctx._non_differentiable)
        if record and array.dtype.kind in "fV" and not exempt:
            t._requires_grad = True
            t._edge = (ctx, number, array.shape)
        if ctx.is_view:
            _link_view(t, inputs[0])
        elif not ctx._built_in:
            _link_own(ctx, t, inputs)
        outputs.append(t)
    if record:
        ctx.outputs = len(outputs)
        ctx._output_meta = tuple([(t._data.shape, t._data.dtype) for t in outputs])
        if ctx._saved:
            _pack(ctx, inputs, arrays, results, outputs)
    return tuple(outputs)


def _as_array(ctx: Function, result: Any) -> NDArray:
    """NumPy gives a scalar where an array has no dimensions."""
    if isinstance(result, (np.ndarray, np.generic)):
        return np.asarray(result)
    raise TypeMismatchError(
        type(ctx).__name__, f"forward must return NumPy arrays, got {type(result).__name__}."
    )


def _link_own(ctx: Function, t: Tensor, inputs: tuple[Any, ...]) -> None:
    """Find the input whose memory the output ``t`` of a user's Function shows, if any."""
    for x in inputs:
        if isinstance(x, Tensor) and t._view is None:
            _link_view(t, x)
            if t._view is not None and t._requires_grad:
                t._view.made_by = ctx.name()


def _link_view(t: Tensor, source: Tensor) -> None:
    """Let ``t`` share version and history with the tensor whose memory it shows."""
    owner, memory = t._data.base, source._data
    # The first two conditions are the usual answers, and ten times faster to ask for.
    if owner is None or not (
        owner is memory or owner is memory.base or np.may_share_memory(t._data, memory)
    ):
        return
    storage = storage_of(source)
    t._storage = storage
    view = source._view
    if view is None:
        t._view = View(source, storage.rebased)
    else:
        t._view = View(view.base, storage.rebased, view.made_by)


def _pack(ctx: Function, inputs: Any, arrays: list[Any], results: Any, outputs: Any) -> None:
    """Turn the arrays that ``forward`` saved into what they are in the graph.

    An input becomes the tensor (with its version, unless that is 0), an output the
    pair (array, output number), any other array stays one: a constant.
    """
    packed: list[Any] = []
    count = len(arrays)
    for i, item in enumerate(ctx._saved):
        # Inputs are mostly saved in their order; else they are looked for.
        if i < count and arrays[i] is item:
            entry = inputs[i]
        else:
            entry = _role(item, inputs, arrays, results, outputs)
        if isinstance(entry, Tensor):
            storage = entry._storage
            if storage is not None and storage.version:
                entry = _SavedInput(entry, storage.version)
        packed.append(entry)
    ctx._saved = packed


def _role(item: Any, inputs: Any, arrays: list[Any], results: Any, outputs: Any) -> Any:
    """What a saved array, number or None is: an output, an input, or a constant."""
    for number, r in enumerate(results):
        if r is item:
            t = outputs[number]
            # An output without gradient does not refer to the node: no cycle.
            return (t._data, number) if t._requires_grad else t
    for x, a in zip(inputs, arrays, strict=True):
        if a is item:
            return x
    return np.asarray(item) if isinstance(item, np.generic) else item
