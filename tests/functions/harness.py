"""One table of cases an operator family; from it the checks are generated.

A case says how an operator is called *once*, for nano and for PyTorch: its
``call`` gets the module first. What is checked of each case:

* forward, in every dtype named, against PyTorch (values, dtype and shape) and,
  where ``numpy`` is given, against NumPy or SciPy in float64;
* the gradient, in float64, along random directions; the gradient of the gradient;
* the gradient in float32 against PyTorch's;
* that transposed, reversed and sliced inputs give what contiguous ones give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import nano

#: Relative and absolute tolerance by dtype. float64 and float32: some units in the last
#: place, for sums may be done in another order; 16-bit formats: their spacing (2^-10 and
#: 2^-7), twice, as either side may round after each step of a composed operator.
TOLERANCE = {
    "float64": (1e-12, 1e-12),
    "float32": (2e-5, 2e-6),
    "float16": (4e-3, 4e-3),
    "bfloat16": (3e-2, 3e-2),
}
FLOATS = ("float64", "float32", "float16", "bfloat16")
WIDE = ("float64", "float32")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
EVERY = (*FLOATS, *INTEGERS, "bool")


@dataclass(frozen=True)
class Case:
    """One way to call an operator.

    Attributes:
        name: unique in its table.
        call: ``call(module, *tensors)``, with ``nano`` or ``torch`` as module.
        shapes: of the random inputs, drawn uniformly from ``low`` to ``high``.
        arrays: instead of ``shapes``, a function from a NumPy generator to the inputs as
            arrays. Integer and boolean arrays keep their dtype; floating ones take the
            dtype under test.
        dtypes: compared with PyTorch.
        grad: whether derivatives are checked.
        gradgrad: whether second derivatives are checked.
        layouts: whether odd memory layouts are checked.
        numpy: the same on float64 arrays, if NumPy or SciPy has it.
    """

    name: str
    call: Callable[..., Any]
    shapes: Sequence[tuple[int, ...]] = ((2, 3),)
    low: float = -2.0
    high: float = 2.0
    arrays: Callable[[np.random.Generator], Sequence[np.ndarray]] | None = None
    dtypes: Sequence[str] = FLOATS
    grad: bool = True
    gradgrad: bool = True
    layouts: bool = True
    numpy: Callable[..., Any] | None = None
    tolerance: dict[str, tuple[float, float]] = field(default_factory=dict)

    def inputs(self, dtype: str, seed: int = 0) -> list[np.ndarray]:
        """The inputs as arrays, the same for a seed; 16-bit floats are given as float32."""
        rng = np.random.default_rng(sum(map(ord, self.name)) + seed)
        if self.arrays is not None:
            drawn = list(self.arrays(rng))
        else:
            drawn = [rng.uniform(self.low, self.high, shape) for shape in self.shapes]
        out = []
        for a in drawn:
            a = np.asarray(a)
            if a.dtype.kind == "f":
                if dtype == "bool":
                    a = a > 0
                elif dtype.startswith(("int", "uint")):
                    a = np.round(a * 3).astype(dtype)
                else:
                    a = a.astype("float32" if dtype in ("float16", "bfloat16") else dtype)
            out.append(a)
        return out


def to_nano(a: np.ndarray, dtype: str, requires_grad: bool = False) -> nano.Tensor:
    """A nano tensor of an array; floating ones in ``dtype``."""
    t = nano.tensor(a)
    if t.is_floating_point():
        t = t.to(getattr(nano, dtype) if dtype in FLOATS else t.dtype)
        t.requires_grad_(requires_grad)
    return t


def to_torch(a: np.ndarray, dtype: str, requires_grad: bool = False) -> torch.Tensor:
    """A PyTorch tensor of an array; floating ones in ``dtype``."""
    t = torch.tensor(a)
    if t.is_floating_point():
        t = t.to(getattr(torch, dtype) if dtype in FLOATS else t.dtype)
        t.requires_grad_(requires_grad)
    return t


def outputs(result: Any) -> list[Any]:
    """The tensors of a result: one, or several in a tuple or list."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def to_array(t: Any) -> np.ndarray:
    """The values of a tensor of either library, as float64 if it is floating point."""
    if isinstance(t, torch.Tensor):
        t = t.detach()
        return t.double().numpy() if t.is_floating_point() else t.numpy()
    t = t.detach()
    return t.double().numpy() if t.is_floating_point() else t.numpy()


def assert_same(ours: Any, theirs: Any, tolerance: tuple[float, float]) -> None:
    """Same dtype, shape and, to the tolerance, values (NaN equals NaN)."""
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    assert tuple(ours.shape) == tuple(theirs.shape)
    rtol, atol = tolerance
    np.testing.assert_allclose(to_array(ours), to_array(theirs), rtol=rtol, atol=atol)


def odd_layouts(a: np.ndarray) -> list[np.ndarray]:
    """The same values in other memory layouts: column-major, reversed, with gaps."""
    if a.ndim == 0:
        return []
    found = [np.asfortranarray(a)]
    backwards = tuple(slice(None, None, -1) for _ in a.shape)
    found.append(np.ascontiguousarray(a[backwards])[backwards])
    gaps = np.full(tuple(2 * n for n in a.shape), 77, a.dtype)
    every_other = tuple(slice(None, None, 2) for _ in a.shape)
    gaps[every_other] = a
    found.append(gaps[every_other])
    return found


def operator_tests(cases: Sequence[Case]) -> type:
    """A class of tests generated from a table of cases."""
    names = [c.name for c in cases]
    assert len(set(names)) == len(names), "two cases have the same name"
    differentiable = [c for c in cases if c.grad]

    def each(some: Sequence[Any]) -> Any:
        return pytest.mark.parametrize("case", some, ids=lambda c: c.name.replace(" ", "-"))

    class OperatorTests:
        table = cases

        @pytest.mark.parametrize(
            ("case", "dtype"), [(c, d) for c in cases for d in c.dtypes], ids=lambda x: _id(x)
        )
        def test_forward_equals_pytorch(self, case: Case, dtype: str) -> None:
            arrays = case.inputs(dtype)
            ours = outputs(case.call(nano, *[to_nano(a, dtype) for a in arrays]))
            theirs = outputs(case.call(torch, *[to_torch(a, dtype) for a in arrays]))
            assert len(ours) == len(theirs)
            tolerance = case.tolerance.get(dtype) or TOLERANCE.get(dtype, (0, 0))
            if not ours[0].is_floating_point() and dtype in FLOATS:
                tolerance = (0, 0)
            elif dtype not in FLOATS:
                tolerance = TOLERANCE["float32"]
            for mine, other in zip(ours, theirs, strict=True):
                assert_same(mine, other, tolerance)

        @each([c for c in cases if c.numpy])
        def test_forward_equals_numpy(self, case: Case) -> None:
            arrays = case.inputs("float64")
            ours = outputs(case.call(nano, *[to_nano(a, "float64") for a in arrays]))
            theirs = outputs(case.numpy(*arrays))
            for mine, other in zip(ours, theirs, strict=True):
                rtol, atol = TOLERANCE["float64"]
                np.testing.assert_allclose(to_array(mine), other, rtol=rtol, atol=atol)

        @each(differentiable)
        def test_gradient(self, case: Case) -> None:
            ts = [to_nano(a, "float64", True) for a in case.inputs("float64")]
            assert nano.autograd.gradcheck(lambda *x: case.call(nano, *x), ts)

        @each([c for c in differentiable if c.gradgrad])
        def test_gradient_of_gradient(self, case: Case) -> None:
            ts = [to_nano(a, "float64", True) for a in case.inputs("float64")]
            assert nano.autograd.gradgradcheck(lambda *x: case.call(nano, *x), ts)

        @each(differentiable)
        def test_gradient_equals_pytorch(self, case: Case) -> None:
            arrays = case.inputs("float32")
            ours_in = [to_nano(a, "float32", True) for a in arrays]
            theirs_in = [to_torch(a, "float32", True) for a in arrays]
            ours = outputs(case.call(nano, *ours_in))
            theirs = outputs(case.call(torch, *theirs_in))
            rng = np.random.default_rng(1)
            total, total_theirs = 0.0, 0.0
            for mine, other in zip(ours, theirs, strict=True):
                assert mine.requires_grad == other.requires_grad
                if mine.requires_grad:
                    w = rng.uniform(-1, 1, tuple(mine.shape)).astype("float32")
                    total = (mine * nano.tensor(w)).sum() + total
                    total_theirs = (other * torch.tensor(w)).sum() + total_theirs
            total.backward()
            total_theirs.backward()
            for mine, other in zip(ours_in, theirs_in, strict=True):
                if other.grad is not None:
                    assert_same(mine.grad, other.grad, (1e-4, 1e-5))

        @each([c for c in cases if c.layouts])
        def test_memory_layouts(self, case: Case) -> None:
            arrays = case.inputs("float64")
            expected = outputs(case.call(nano, *[to_nano(a, "float64") for a in arrays]))
            for i, a in enumerate(arrays):
                for odd in odd_layouts(a):
                    moved = [nano.from_numpy(x.copy()) for x in arrays]
                    moved[i] = nano.from_numpy(odd)
                    got = outputs(case.call(nano, *moved))
                    for mine, other in zip(got, expected, strict=True):
                        rtol, atol = TOLERANCE["float64"]
                        np.testing.assert_allclose(
                            to_array(mine), to_array(other), rtol=rtol, atol=atol
                        )

    OperatorTests.cases = list(cases)  # for checks of all tables
    # A check for which the table has no case is not there, rather than skipped.
    if not any(c.numpy for c in cases):
        del OperatorTests.test_forward_equals_numpy
    if not differentiable:
        del OperatorTests.test_gradient, OperatorTests.test_gradient_equals_pytorch
    if not any(c.gradgrad for c in differentiable):
        del OperatorTests.test_gradient_of_gradient
    if not any(c.layouts for c in cases):
        del OperatorTests.test_memory_layouts
    return OperatorTests


def _id(x: Any) -> str:
    return x.name.replace(" ", "-") if isinstance(x, Case) else str(x)
