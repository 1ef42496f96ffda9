"""Tensor: an array that remembers how it was computed.

Here is what a tensor *is*: its memory, its place in the graph, and how it turns
into Python numbers, NumPy arrays and text. What one can compute with it comes
from ``functions``, and is tied to this class in ``functions/bind.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import dtypes
from .devices import device
from .errors import (
    AmbiguousError,
    ArgumentError,
    DimensionError,
    GradientError,
    InputError,
    ShapeError,
    TypeMismatchError,
)
from .formatting import format_array
from .handles import HookHandle
from .hook import Call, hooks, reading, through_hooks
from .layouts import checked_format, contiguous_format, lies_in, memory_format
from .storage import Storage, View, storage_of

__all__ = ["Tensor", "wrap"]

_new = object.__new__
_DEFAULT_REPR = (dtypes.int64, dtypes.bool_)


_CPU = device()


def wrap(array: NDArray) -> Tensor:
    """A tensor around ``array``, without a copy, a check or a history.

    Every tensor has an array object of its own (perhaps over shared memory), so
    that a Function can tell its inputs apart; give ``array.view()`` where
    another tensor holds ``array``.
    """
    t = _new(Tensor)
    t._data = array
    t._requires_grad = False
    t._grad = None
    t._edge = None
    t._storage = None
    t._view = None
    t._hooks = None
    return t


class Tensor:
    """An n-dimensional array with gradients.

    Make one with :func:`nano.tensor`, :func:`nano.zeros` and their like; calling
    ``Tensor(data)`` copies ``data`` into the default dtype.

    >>> t = nano.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> t.square().sum().backward()
    >>> t.grad
    tensor([[2., 4.],
            [6., 8.]])
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_data",  # the elements: a NumPy array
        "_edge",  # (Function, output number, shape): what made it; None for a leaf
        "_grad",  # the gradient that backward() left: a Tensor or None
        "_hooks",  # functions to call with the gradient of a leaf; None or a dict
        "_requires_grad",
        "_storage",  # what it shares with tensors over the same memory; None until needed
        "_view",  # View if it shows the memory of another tensor, else None
    )

    #: NumPy's operators give way to ours: ``array + tensor`` is a tensor.
    __array_priority__ = 1000

    def __new__(cls, data: Any = (), *args: Any, **kwargs: Any) -> Tensor:
        source = data.detach().numpy() if isinstance(data, Tensor) else data
        t = wrap(np.array(source, dtype=dtypes.get_default_dtype().numpy))
        if cls is not Tensor:
            t.__class__ = cls
        return t

    __hash__ = object.__hash__

    if TYPE_CHECKING:
        # For type checkers: the attributes, and what functions/bind.py adds.
        _data: NDArray
        _edge: tuple[Any, int, tuple[int, ...]] | None
        _grad: Tensor | None
        _hooks: dict[int, Callable[[Tensor], Tensor | None]] | None
        _requires_grad: bool
        _storage: Storage | None
        _view: View | None
        T: Tensor
        mT: Tensor  # noqa: N815

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def backward(self, gradient: Tensor | None = None, *args: Any, **kwargs: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    # What it is -------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim

    @property
    def dtype(self) -> dtypes.dtype:
        """The type of the elements."""
        return dtypes.from_numpy_dtype(self._data.dtype)

    @property
    def device(self) -> device:
        """Where it lives: always ``device(type='cpu')``."""
        return _CPU

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self._data.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._data.nbytes

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of dimension ``dim``."""
        return self._data.shape if dim is None else self._in_dim("size", self._data.shape, dim)

    def dim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    def stride(self, dim: int | None = None) -> Any:
        """The step in memory from one element to the next, in elements, for each dimension."""
        steps = tuple(s // self._data.itemsize for s in self._data.strides)
        return steps if dim is None else self._in_dim("stride", steps, dim)

    def _in_dim(self, owner: str, values: tuple[int, ...], dim: int) -> int:
        try:
            return values[dim]
        except IndexError:
            raise DimensionError(
                owner, f"dim {dim} is out of range for a tensor of shape {self.shape}."
            ) from None

    def is_contiguous(self, *, memory_format: memory_format = contiguous_format) -> bool:
        """Whether the elements lie in memory in row-major order, or that of a format, without gaps.

        >>> t = nano.zeros(2, 3, 4, 5).to(memory_format=nano.channels_last)
        >>> t.is_contiguous(), t.is_contiguous(memory_format=nano.channels_last)
        (False, True)
        """
        return lies_in(self._data, checked_format("is_contiguous", memory_format))

    def data_ptr(self) -> int:
        """The address of the first element."""
        storage_of(self).exposed += 1
        return self._data.__array_interface__["data"][0]

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating-point one."""
        return self.dtype.is_floating_point

    # Its place in the graph -------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded for ``backward()``."""
        self._refresh()
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not self.is_floating_point():
            raise GradientError(
                "requires_grad",
                f"only floating-point tensors can require gradients, this one is {self.dtype}.",
                hint="Convert it first: t.float().requires_grad_().",
            )
        if self.grad_fn is not None and not value:
            raise GradientError(
                "requires_grad",
                "you can only change the requires_grad flag of leaf tensors; "
                f"this one was made by {self.grad_fn.name()}.",
                hint="To cut it from the graph, use t.detach().",
            )
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` in place; returns the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user, not by an operation that is recorded."""
        self._refresh()
        return self._edge is None

    @property
    def grad_fn(self) -> Any:
        """The Function that made it; None for a leaf."""
        self._refresh()
        return None if self._edge is None else self._edge[0]

    @property
    def output_nr(self) -> int:
        """Which output of ``grad_fn`` it is."""
        return 0 if self._edge is None else self._edge[1]

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward()`` added up here, of the same shape and dtype; or None."""
        if hooks:
            reading("grad", self)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeMismatchError(
                    "grad", f"expected a Tensor or None, got {type(value).__name__}."
                )
            if value.shape != self.shape or value.dtype is not self.dtype:
                raise ShapeError(
                    "grad",
                    "a gradient has its tensor's shape and dtype: "
                    f"expected {self.shape} {self.dtype}, got {value.shape} {value.dtype}.",
                )
            if value is self:
                raise GradientError("grad", "a tensor cannot be its own gradient.")

        def run() -> None:
            self._grad = value

        if not hooks:
            run()
        elif value is None:
            through_hooks(Call("grad", "clear", run), (self,), {}, run)
        else:
            through_hooks(Call("grad", "set", run), (self, value), {}, run)

    @property
    def _version(self) -> int:
        """How often its memory was written in place."""
        return 0 if self._storage is None else self._storage.version

    def _refresh(self) -> None:
        """Bring the history up to date, if an in-place operator changed the memory it shows."""
        view = self._view
        if view is not None and view.rebased != self._storage.rebased:
            from .autograd.views import refresh

            refresh(self)

    def detach(self) -> Tensor:
        """The same memory without the history."""
        t = wrap(self._data.view())
        t._storage = storage_of(self)
        return t

    def detach_(self) -> Tensor:
        """Forget the history, in place."""
        if self._view is not None:
            raise GradientError(
                "detach_", "a view cannot be detached in place.", hint="Use t.detach()."
            )
        self._edge = None
        self._requires_grad = False
        return self

    @property
    def data(self) -> Tensor:
        """The same memory without the history, and unknown to the version count."""
        storage_of(self).exposed += 1
        return wrap(self._data.view())

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeMismatchError("data", f"expected a Tensor, got {type(value).__name__}.")
        if hooks:
            reading("data", value)
        if self._requires_grad and not value.is_floating_point():
            raise GradientError(
                "data", f"a tensor that requires gradients cannot hold {value.dtype}."
            )
        if hooks:
            through_hooks(Call("data", "replace", lambda: None), (self, value), {}, lambda: None)
        writes = self._version
        self._data = value._data.view()
        self._storage = None
        self._view = None
        if writes:  # the count goes on: a node may have saved this tensor
            storage_of(self).version = writes

    def retain_grad(self) -> None:
        """Keep the gradient of this tensor in ``.grad`` although it is not a leaf."""
        if not self.requires_grad:
            raise GradientError(
                "retain_grad", "this tensor does not require gradients, so there is none to keep."
            )
        if self._edge is not None:
            node, number, _ = self._edge
            node.retain_grad(self, number)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Any:
        """Call ``hook(grad)`` whenever the gradient of this tensor has been computed.

        What the hook returns, if anything, takes the gradient's place. Returns a
        handle whose ``remove()`` takes the hook away.

        >>> t = nano.tensor(3.0, requires_grad=True)
        >>> handle = t.register_hook(lambda grad: grad * 10)
        >>> (t * 2).backward()
        >>> t.grad
        tensor(20.)
        """
        if not self.requires_grad:
            raise GradientError(
                "register_hook", "this tensor does not require gradients: no hook would be called."
            )
        if self._edge is not None:
            node, number, _ = self._edge
            return node.register_tensor_hook(number, hook)
        if self._hooks is None:
            self._hooks = {}
        return HookHandle(self._hooks, hook)

    # To Python, NumPy and text ----------------------------------------------------------

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises:
            RuntimeError: if there is not exactly one element.
        """
        if self._data.size != 1:
            raise ShapeError(
                "item",
                f"a tensor with {self._data.size} elements is not one number; "
                f"its shape is {self.shape}.",
                hint="Reduce it first, or use tolist().",
            )
        if hooks:
            reading("item", self)
        x = self._data.item()
        return x if isinstance(x, (bool, int, float)) else float(x)

    def tolist(self) -> Any:
        """Nested lists of Python numbers; a number for a 0-d tensor."""
        if hooks:
            reading("tolist", self)
        if self._data.dtype.kind == "V":
            return self._data.astype(np.float32).tolist()
        return self._data.tolist()

    def numpy(self) -> NDArray:
        """The elements as a NumPy array that shares the memory.

        Raises:
            RuntimeError: if the tensor requires gradients.
        """
        if self.requires_grad:
            raise GradientError(
                "numpy",
                "writing to the array would not be recorded, and this tensor requires gradients.",
                hint="Use t.detach().numpy().",
            )
        if hooks:
            reading("numpy", self)
        storage_of(self).exposed += 1
        return self._data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeMismatchError("len", "a 0-d tensor has no length.")
        return self._data.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeMismatchError("iter", "a 0-d tensor cannot be iterated over.")
        return iter([self[i] for i in range(len(self))])

    def __contains__(self, element: Any) -> bool:
        if not isinstance(element, (Tensor, bool, int, float, np.generic)):
            raise ArgumentError(
                "contains", f"expected a Tensor or a number, got {type(element).__name__}."
            )
        if hooks:
            reading("in", self)
        return bool((self._data == getattr(element, "_data", element)).any())

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise AmbiguousError(
                "bool",
                f"the truth of a tensor with {self._data.size} elements is ambiguous; "
                f"its shape is {self.shape}.",
                hint="Use t.any() or t.all().",
            )
        if hooks:
            reading("bool", self)
        return bool(self._data.item())

    def __float__(self) -> float:
        return float(self._as_number("float"))

    def __int__(self) -> int:
        return int(self._as_number("int"))

    def _as_number(self, owner: str) -> Any:
        if self._data.size != 1:
            raise InputError(
                owner,
                f"only a tensor of one element can become a Python number, not {self.shape}.",
                hint="Reduce it first, or use tolist().",
            )
        return self.item()

    def __index__(self) -> int:
        if self._data.size != 1 or self._data.dtype.kind not in "iub":
            raise TypeMismatchError(
                "index",
                "only an integer tensor of one element can be an index, "
                f"this one is {self.dtype} of shape {self.shape}.",
            )
        if hooks:
            reading("index", self)
        return int(self._data.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self._data.ndim == 0 and spec else repr(self)

    def __repr__(self) -> str:
        if hooks:
            reading("repr", self)
        suffixes = []
        d = self.dtype
        if d is not dtypes.get_default_dtype() and (d not in _DEFAULT_REPR or not self.numel()):
            suffixes.append(f"dtype={d}")
        if self.grad_fn is not None:
            suffixes.append(f"grad_fn=<{self.grad_fn.name()}>")
        elif self._requires_grad:
            suffixes.append("requires_grad=True")
        return format_array(self._data, "tensor(", suffixes)

    # Copies -----------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.grad_fn is not None:
            raise GradientError(
                "deepcopy",
                "only leaf tensors can be copied deeply; "
                f"this one was made by {self.grad_fn.name()}.",
                hint="Use t.detach().clone().",
            )
        if hooks:
            reading("deepcopy", self)
        t = wrap(self._data.copy(order="K"))
        t.__class__ = type(self)
        t._requires_grad = self._requires_grad
        memo[id(self)] = t
        if self._grad is not None:
            t._grad = self._grad.__deepcopy__(memo)
        return t

    def __copy__(self) -> Tensor:
        return _rebuild(type(self), self._data, self._requires_grad)

    def __reduce__(self) -> Any:
        if self.grad_fn is not None:
            raise GradientError(
                "pickle", "only leaf tensors can be pickled.", hint="Use t.detach()."
            )
        if hooks:
            reading("pickle", self)
        return _rebuild, (type(self), self._data, self._requires_grad)


def _rebuild(cls: type[Tensor], array: NDArray, requires_grad: bool) -> Tensor:
    t = wrap(array)
    t.__class__ = cls
    t._requires_grad = requires_grad
    return t
