"""Module: a part of a network, with its parameters, its buffers and its parts.

A Module is a tree. Assigning a :class:`Parameter` or another Module to an
attribute registers it under that name; all that goes through the tree
(parameters, train and eval, dtypes, state_dict) follows from this.

What is registered lies in a dict of its kind, which gives names and order, *and*
among the ordinary attributes, so that ``self.weight`` in ``forward`` costs no
more than any attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from ..autograd.engine import clear_gradients
from ..errors import AttributeMissingError, InputError, RegistrationError, TypeMismatchError
from ..handles import HookHandle
from ..hook import compilers, hooks, through_hooks
from ..tensor import Tensor
from . import state
from .convert import conversion_from
from .hooks import add_hook, call_with_hooks
from .parameter import Parameter

__all__ = ["Module"]

M = TypeVar("M", bound="Module")
_KINDS = ("_parameters", "_buffers", "_modules")


class Module:
    """Base of all layers and networks.

    Say what it is made of in ``__init__`` (after ``super().__init__()``) and what
    it computes in ``forward``; then call the module itself.

    Attributes:
        training: whether it is in training mode; set by :meth:`train` and :meth:`eval`.

    >>> class Double(nano.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nano.nn.Parameter(nano.tensor(2.0))
    ...
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Double()(nano.tensor([1.0, 2.0]))
    tensor([2., 4.], grad_fn=<MulBackward0>)
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    #: What is called instead, once it was compiled in place.
    _compiled_call: Any = None

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _transient_buffers=set(),
            _forward_pre_hooks={},
            _forward_hooks={},
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes. Every subclass says it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if hooks:
            return through_hooks(self, args, kwargs, partial(call_with_hooks, self, args, kwargs))
        if self._compiled_call is not None:
            return self._compiled_call(*args, **kwargs)
        if self._forward_hooks or self._forward_pre_hooks:  # has_hooks(), without a call
            return call_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def call_uncompiled(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module operator by operator, whether it was compiled or not."""
        return through_hooks(self, args, kwargs, partial(call_with_hooks, self, args, kwargs))

    def compile(self, **options: Any) -> None:
        """Run the module as a program from now on: :func:`nano.compile`, in place.

        Args:
            options: of ``nano.compile``.

        >>> layer = nano.nn.Linear(2, 1)
        >>> layer.compile()
        >>> layer(nano.ones(3, 2)).shape
        (3, 1)
        """
        self.__dict__["_compiled_call"] = compilers[-1](self.call_uncompiled, **options)

    def __getstate__(self) -> dict[str, Any]:
        # A copy has other parameters: the program is not for it.
        return {k: x for k, x in self.__dict__.items() if k != "_compiled_call"}

    def has_hooks(self) -> bool:
        """Whether somebody listens to its calls."""
        return bool(self._forward_hooks or self._forward_pre_hooks)

    def extra_repr(self) -> str:
        """What stands between the brackets of its line in the repr."""
        return ""

    # Registration -----------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._forget(name, "parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            kept = "_modules" if name in self.__dict__.get("_modules", ()) else ""
            self._forget(name, "module", kept)
            self._modules[name] = value
            self.__dict__[name] = value
        else:
            for kind in _KINDS:
                if name in self.__dict__.get(kind, ()):
                    self._replace(kind, name, value)
                    return
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for kind in _KINDS:
            if name in self.__dict__.get(kind, ()):
                self._forget(name, "")
                return
        object.__delattr__(self, name)

    def _forget(self, name: str, what: str, kept: str = "") -> None:
        """Make ``name`` free again, except in the dict ``kept``, where its place is kept."""
        if "_parameters" not in self.__dict__:
            raise AttributeMissingError(
                type(self).__name__,
                f"cannot assign {what} before Module.__init__() call.",
                hint="Begin __init__ with super().__init__().",
            )
        if name in self._parameters and what == "parameters":
            kept = "_parameters"
        for kind in _KINDS:
            if kind != kept:
                self.__dict__[kind].pop(name, None)
        self._transient_buffers.discard(name)
        self.__dict__.pop(name, None)

    def _replace(self, kind: str, name: str, value: Any) -> None:
        """Assign what is no Parameter and no Module to a registered name."""
        fits = value is None or (kind == "_buffers" and isinstance(value, Tensor))
        if not fits:
            wanted = {"_parameters": "Parameter", "_buffers": "Tensor", "_modules": "Module"}[kind]
            raise TypeMismatchError(
                type(self).__name__,
                f"cannot assign {type(value).__name__} as {name!r}: expected a {wanted} or None.",
                hint="Wrap it in nn.Parameter(...), or del the attribute first."
                if kind == "_parameters"
                else "",
            )
        self.__dict__[kind][name] = value
        self.__dict__[name] = value

    def _check_name(self, kind: str, name: Any) -> None:
        what = kind.strip("_").removesuffix("s")
        owner = f"register_{what}"
        if "_parameters" not in self.__dict__:
            self._forget(name, what)
        if not isinstance(name, str):
            raise TypeMismatchError(owner, f"the name must be a str, got {type(name).__name__}.")
        if "." in name:
            raise RegistrationError(owner, f'a {what} name can\'t contain ".", got {name!r}.')
        if not name:
            raise RegistrationError(owner, f'a {what} name can\'t be the empty string "".')
        if name not in self.__dict__[kind] and hasattr(self, name):
            raise RegistrationError(owner, f"attribute {name!r} already exists.")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register ``param`` under ``name``; None reserves the name for no parameter.

        Raises:
            KeyError: if the name is taken, empty or has a dot.
            TypeError: if ``param`` is no Parameter.
        """
        self._check_name("_parameters", name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeMismatchError(
                "register_parameter",
                f"{name!r} must be a Parameter or None, got {type(param).__name__}.",
                hint="Wrap it in nn.Parameter(...).",
            )
        if param is not None and param.grad_fn is not None:
            raise InputError(
                "register_parameter",
                f"{name!r} was computed from other tensors; a parameter must be a leaf.",
                hint="Compute it in forward().",
            )
        self._parameters[name] = param
        self.__dict__[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a tensor that belongs to the module's state but is not learned.

        Args:
            name: its name.
            tensor: its value, or None.
            persistent: whether it is part of the ``state_dict``.

        Raises:
            KeyError: if the name is taken, empty or has a dot.
            TypeError: if ``tensor`` is no Tensor.

        >>> m = nano.nn.Module()
        >>> m.register_buffer("count", nano.tensor(0))
        >>> m.state_dict()
        {'count': tensor(0)}
        """
        self._check_name("_buffers", name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeMismatchError(
                "register_buffer",
                f"{name!r} must be a Tensor or None, got {type(tensor).__name__}.",
            )
        self._buffers[name] = tensor
        self.__dict__[name] = tensor
        if persistent:
            self._transient_buffers.discard(name)
        else:
            self._transient_buffers.add(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Register a part under ``name``; it may be any string without a dot.

        Raises:
            KeyError: if the name is taken, empty or has a dot.
            TypeError: if ``module`` is no Module.
        """
        self._check_name("_modules", name)
        if module is not None and not isinstance(module, Module):
            raise TypeMismatchError(
                "register_module", f"{type(module).__name__} is not a Module subclass."
            )
        self._modules[name] = module
        self.__dict__[name] = module

    add_module = register_module

    # Going through the tree -------------------------------------------------------------

    def named_modules(
        self,
        memo: set[Module] | None = None,
        prefix: str = "",
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their dotted names; each once.

        >>> [name for name, _ in nano.nn.Sequential(nano.nn.ReLU()).named_modules()]
        ['', '0']
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                below = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, below, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, with their names; each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        for _, module in self.named_children():
            yield module

    def _named_members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in modules:
            for name, member in module.__dict__[kind].items():
                if member is not None and member not in seen:
                    if remove_duplicate:
                        seen.add(member)
                    yield (f"{path}.{name}" if path else name), member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; one that is shared is given once.

        >>> [name for name, _ in nano.nn.Linear(2, 3).named_parameters()]
        ['weight', 'bias']
        """
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters: what an optimizer takes."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with their dotted names."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module with the dotted name ``target``.

        Raises:
            AttributeError: if there is none.
        """
        module: Any = self
        for name in target.split(".") if target else ():
            if name not in module._modules:
                raise AttributeMissingError(
                    "get_submodule",
                    f"{type(module).__name__} has no module {name!r}.",
                    facts=f"looking for {target!r} · it has {list(module._modules)}",
                )
            module = module._modules[name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with the dotted name ``target``.

        Raises:
            AttributeError: if there is none.
        """
        return self._get_member("_parameters", target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with the dotted name ``target``.

        Raises:
            AttributeError: if there is none.
        """
        return self._get_member("_buffers", target)

    def _get_member(self, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        members = module.__dict__[kind]
        if members.get(name) is None:
            what = kind.strip("_").removesuffix("s")
            raise AttributeMissingError(
                f"get_{what}",
                f"{type(module).__name__} has no {what} {name!r}.",
                facts=f"looking for {target!r} · it has {list(members)}",
            )
        return members[name]

    # Changing the whole tree ------------------------------------------------------------

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call ``fn`` with every module, the parts before the whole; returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: M, mode: bool = True) -> M:
        """Switch the whole tree to training mode; returns the module.

        Raises:
            ValueError: if ``mode`` is no boolean.
        """
        if not isinstance(mode, bool):
            raise InputError("train", f"training mode is expected to be boolean, got {mode!r}.")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: M) -> M:
        """Switch the whole tree to evaluation mode; returns the module."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Set ``requires_grad`` of all parameters; returns the module."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero."""
        clear_gradients(list(self.parameters()), set_to_none)

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Convert all floating-point parameters and buffers, in place; returns the module.

        Args:
            args, kwargs: as of :func:`nano.to`: a floating-point dtype, the device
                ``"cpu"``, or a tensor whose dtype is wanted.

        Raises:
            TypeError: if the dtype is not floating point.
        """
        convert = conversion_from(args, kwargs)
        for module in self.modules():
            for p in module._parameters.values():
                if p is not None:
                    convert(p)
            for b in module._buffers.values():
                if b is not None:
                    convert(b)
        return self

    def cpu(self: M) -> M:
        """Bring to main memory, where all of nano's tensors are; returns the module."""
        return self.to("cpu")

    def float(self: M) -> M:
        """Convert to float32."""
        return self.to("float32")

    def double(self: M) -> M:
        """Convert to float64."""
        return self.to("float64")

    def half(self: M) -> M:
        """Convert to float16."""
        return self.to("float16")

    def bfloat16(self: M) -> M:
        """Convert to bfloat16."""
        return self.to("bfloat16")

    # State ------------------------------------------------------------------------------

    def state_dict(
        self,
        *,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Tensor]:
        """All parameters and persistent buffers by their dotted names.

        The tensors share their memory with the module's.

        Args:
            destination: a dict to write into; a new one if left out.
            prefix: put before every name.
            keep_vars: give the parameters themselves instead of detached tensors.

        >>> nano.nn.Linear(1, 1, bias=False).state_dict().keys()
        dict_keys(['weight'])
        """
        return state.collect(self, {} if destination is None else destination, prefix, keep_vars)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> state.IncompatibleKeys:
        """Copy the values of ``state_dict`` into the parameters and buffers.

        Args:
            state_dict: Tensors or arrays by dotted names, as from :meth:`state_dict`.
            strict: whether the names must be exactly those of this module.

        Returns:
            A named tuple ``(missing_keys, unexpected_keys)``.

        Raises:
            TypeError: if ``state_dict`` is no mapping.
            RuntimeError: if names do not match (unless ``strict=False``) or shapes differ.
                All differences are listed at once, and nothing has been changed.
        """
        return state.load(self, state_dict, strict)

    # Hooks ------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Call ``hook(module, args)`` before every ``forward``.

        What it returns, if anything, becomes the arguments. With ``with_kwargs``
        it is called as ``hook(module, args, kwargs)`` and returns both.
        """
        return add_hook(self._forward_pre_hooks, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Call ``hook(module, args, output)`` after every ``forward``.

        What it returns, if anything, becomes the output. With ``with_kwargs`` it
        is called as ``hook(module, args, kwargs, output)``.

        >>> layer = nano.nn.Identity()
        >>> handle = layer.register_forward_hook(lambda module, args, output: output + 1)
        >>> layer(nano.tensor(1.0)).item()
        2.0
        >>> handle.remove()
        >>> layer(nano.tensor(1.0)).item()
        1.0
        """
        return add_hook(self._forward_hooks, (hook, with_kwargs), prepend)

    # Text -------------------------------------------------------------------------------

    def _parts_repr(self) -> list[str]:
        """The lines of the repr that show the parts."""
        return [f"({name}): {indent(repr(m))}" for name, m in self._modules.items()]

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        parts = self._parts_repr()
        name = type(self).__name__
        if not parts and len(extra_lines) <= 1:
            return f"{name}({extra})"
        return f"{name}(\n  " + "\n  ".join(extra_lines + parts) + "\n)"


def indent(text: str) -> str:
    """Shift all lines but the first by two."""
    return text.replace("\n", "\n  ")
