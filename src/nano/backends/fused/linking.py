"""What Numba makes of a kernel and the functions that it calls: machine code, once.

By itself Numba optimises each function that a kernel calls, and makes machine code and a wrapper
for Python of it, before the function is linked into its caller, where the same begins anew; the
body of a ``prange`` goes through it three times. Nobody runs what is made on the way. Here
functions are linked as they are written, and the kernel that holds all of them is optimised. It
takes about half the time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import Compiler
from numba.core.environment import lookup_environment
from numba.core.registry import cpu_target

__all__ = ["KernelCompiler", "inner"]

#: How Numba begins the name by which Python calls a function.
_FOR_PYTHON = "_ZN7cpython"
#: The address of a function of Python's that raises a TypeError.
_REFUSAL = ctypes.cast(ctypes.pythonapi.PyErr_BadArgument, ctypes.c_void_p).value or 0


def _use_whole_vectors() -> None:
    """Let LLVM use vectors of 512 bits where there are; by itself it prefers 256.

    That was right for processors that slowed down on 512 bits. On today's, an exponential
    takes 2/3 of the time. It holds for all of Numba in the process, unless the user has said
    ``NUMBA_CPU_FEATURES``.
    """
    if numba.config.CPU_FEATURES is None:
        from llvmlite.binding import get_host_cpu_features

        features = get_host_cpu_features()
        if features.get("avx512f"):
            numba.config.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"


# Numba asks once, when a function is made ready to be called by kernels.
_use_whole_vectors()


class _Library(JITCodeLibrary):
    """A function and those that it calls, which become machine code if it is a kernel."""

    is_kernel = _is_machine_code = False
    _codegen: JITCPUCodegen

    def _optimize_functions(self, ll_module: Any) -> None:
        """Make functions shorter before they are linked, all with the same passes."""
        ll_module.data_layout = self._codegen._data_layout
        passes, builder = self._codegen._function_pass_manager()
        for function in ll_module.functions:
            if not function.is_declaration:
                passes.run(function, builder)

    def finalize(self) -> None:
        """Link what is called here; callers may link this then."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        if name.startswith(_FOR_PYTHON) and not self.is_kernel:
            return _REFUSAL
        self._ensure_machine_code()
        return super().get_pointer_to_function(name)

    def _get_compiled_object(self) -> bytes:
        self._ensure_machine_code()
        return super()._get_compiled_object()

    def _ensure_machine_code(self) -> None:
        self._ensure_finalized()
        if not self._is_machine_code:
            self._optimize_final_module()
            self._final_module.verify()
            self._shared_module = None
            self._finalize_final_module()
            for variable in self._final_module.global_variables:
                environment = lookup_environment(variable.name)
                if environment is not None:
                    self._codegen.set_env(variable.name, environment)

    def _finalize_final_module(self) -> None:
        """Make machine code, also of what was read from disk."""
        self.is_kernel = self._is_machine_code = True
        super()._finalize_final_module()


class _Codegen(JITCPUCodegen):
    """Numba's, with our libraries."""

    _library_class = _Library

    def set_env(self, env_name: str, env: Any) -> None:
        """Give a function its constants, as soon as it is machine code."""
        if self._engine.is_symbol_defined(env_name):
            super().set_env(env_name, env)


@contextmanager
def _our_libraries() -> Iterator[JITCPUCodegen]:
    """Let Numba put what is compiled meanwhile, its own functions too, into our libraries."""
    codegen = cpu_target.target_context.codegen()
    before = type(codegen)
    codegen.__class__ = _Codegen
    try:
        yield codegen
    finally:
        codegen.__class__ = before


class KernelCompiler(Compiler):
    """Numba's compiler, for kernels."""

    def _compile_bytecode(self) -> Any:
        with _our_libraries() as codegen:
            self.state.library = codegen.create_library(self.state.func_id.func_qualname)
            self.state.library.enable_object_caching()
            self.state.library.is_kernel = True
            return super()._compile_bytecode()


class _InnerCompiler(Compiler):
    """Numba's compiler, for what kernels call."""

    def _compile_bytecode(self) -> Any:
        if type(cpu_target.target_context.codegen()) is not _Codegen:
            name = self.state.func_id.func_name
            raise TypeError(f"{name}() is a part of kernels: Python cannot call it.")
        return super()._compile_bytecode()


def inner(function: Callable[..., Any], fastmath: Any, **options: Any) -> Any:
    """A function that kernels call, and Python does not."""
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    options |= {"fastmath": fastmath, "error_model": "numpy", "nogil": True}
    return numba.njit(pipeline_class=_InnerCompiler, **options)(function)
