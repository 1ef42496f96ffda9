"""Every case of every operator's table: compiled equals eager."""

import importlib
import pkgutil

import numpy as np
import pytest

import nano
from tests import functions

from ..functions.harness import outputs, to_nano
from .both import allowed, assert_alike


def _cases():
    """The cases of all tables that there are."""
    for info in pkgutil.iter_modules(functions.__path__):
        if not info.name.startswith("test_"):
            continue
        module = importlib.import_module(f"{functions.__name__}.{info.name}")
        for name, tests in vars(module).items():
            for case in getattr(tests, "table", ()) if isinstance(tests, type) else ():
                label = f"{info.name[5:]}-{name[4:]}-{case.name}".replace(" ", "_")
                yield pytest.param(case, id=label)


CASES = list(_cases())


def drawn(case, step):
    """Inputs of the case, with other values at each step."""
    rng = np.random.default_rng(step)
    arrays = []
    for a in case.inputs("float32" if "float32" in case.dtypes else case.dtypes[0]):
        if a.dtype.kind == "f":
            # Not far away: some operators are defined for a part of all numbers.
            a = np.asarray(a * rng.uniform(0.9, 1.0, a.shape)).astype(a.dtype)
        arrays.append(a)
    return arrays


@pytest.mark.parametrize("case", CASES)
def test_forward(case):
    compiled = nano.compile(lambda *x: case.call(nano, *x))
    with nano.no_grad():
        for step in range(3):
            tensors = [to_nano(a, "float32") for a in drawn(case, step)]
            got = compiled(*tensors)
            assert_alike(got, case.call(nano, *tensors), allowed(compiled))
    assert compiled.graph()


DIFFERENTIABLE = [c for c in CASES if c.values[0].grad and "float32" in c.values[0].dtypes]


def gradients(case, tensors):
    """The outputs, and the gradients of their weighted sum."""
    total = 0.0
    results = outputs(case.call(nano, *tensors))
    for i, y in enumerate(results):
        if y.requires_grad:
            total = (y * (y.detach() * (i + 0.5))).sum() + total
    wanted = [t for t in tensors if t.requires_grad]
    found = nano.autograd.grad(total, wanted, allow_unused=True)
    return [y.detach() for y in results], found


@pytest.mark.parametrize("case", DIFFERENTIABLE)
def test_gradient(case):
    compiled = nano.compile(lambda *x: gradients(case, x))
    for step in range(3):
        tensors = [to_nano(a, "float32", True) for a in drawn(case, step)]
        assert_alike(compiled(*tensors), gradients(case, tensors), allowed(compiled))
    assert compiled.graph()
