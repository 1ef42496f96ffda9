"""Only kernels become machine code; what they call does what it would do by itself."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

import numba
from numba.core.codegen import JITCodeLibrary

from nano.backends.fused import linking
from nano.backends.fused.jit import Kernel, inline, prange

PROGRAM = """
import numpy as np
from tests.backends.fused.test_linking import _shares
_shares(np.array([4.0, 36.0]), y := np.empty(2))
assert y.tolist() == [0.25, 0.75]
try:
    _shares(np.array([-1.0, 9.0]), y)
except ValueError as error:
    print(error)
hits = sum(_shares._parallel.stats.cache_hits.values())
print(hits)
"""


@inline
def _root(x):
    return np.sqrt(x)


@inline
def _checked_root(x, i):
    if x[i] < 0:
        raise ValueError("number", i, "is negative")
    return _root(x[i])


@inline
def _sum(x):
    total = 0.0
    for i in range(x.size):
        total += _checked_root(x, i)
    return np.full(x.size, total)


def _roots(x, y):
    for i in prange(x.size):
        y[i] = _root(x[i])


def _shares_of_roots(x, y):
    total = _sum(x)
    for i in prange(x.size):
        y[i] = _checked_root(x, np.int64(i)) / total[i]


_shares = Kernel(_shares_of_roots)


def libraries(dispatcher):
    return [form.library for form in dispatcher.overloads.values()]


def test_what_a_kernel_calls_is_no_machine_code():
    x, y = np.array([4.0, 9.0]), np.empty(2)
    for kernel in (Kernel(_roots, kept=False), Kernel(_roots, kept=False).serial):
        kernel(x, y)
        assert y.tolist() == [2, 3]
    found = libraries(_root)
    assert found
    assert not any(library._is_machine_code for library in found)


def test_python_is_told_that_it_cannot_call_it():
    Kernel(_roots, kept=False).serial(np.ones(1), np.empty(1))
    with pytest.raises(TypeError):
        _root(1.0)


def test_the_users_own_functions_are_compiled_as_ever():
    Kernel(_shares_of_roots, kept=False).serial(np.ones(3), np.empty(3))

    @numba.njit
    def own(n):
        return np.zeros(n).size + _root(4.0)  # both were compiled for a kernel, too

    assert own(3) == 5
    assert {type(found) for found in libraries(own)} == {JITCodeLibrary}


def test_a_kernel_that_fails_to_compile_leaves_numba_as_it_was():
    def wrong(x):
        x.no_such_name()

    with pytest.raises(numba.TypingError):
        Kernel(wrong, kept=False).serial(np.ones(1))
    assert not isinstance(numba.core.registry.cpu_target.target_context.codegen(), linking._Codegen)


def test_errors_and_constants_survive_the_way_over_the_disk(tmp_path):
    env = os.environ | {"NANO_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "2"}
    env["PYTHONPATH"] = os.pathsep.join([os.getcwd(), *sys.path])
    for hits in (0, 1):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.split("\n")[:2] == ["('number', 0, 'is negative')", str(hits)]


@pytest.mark.parametrize("module", ["math", "convert", "jit", "batch_norm"])
def test_vectors_are_as_wide_as_the_processors_whichever_module_comes_first(module):
    """A cast was the first kernel of mixed precision: all that followed had half vectors."""
    code = f"import nano.backends.fused.{module}; from numba.core.registry import cpu_target; "
    code += "print(cpu_target.target_context.codegen().magic_tuple()[2])"
    env = {k: x for k, x in os.environ.items() if k != "NUMBA_CPU_FEATURES"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    features = done.stdout.strip().split(",")
    assert "-prefer-256-bit" in features or "+avx512f" not in features
