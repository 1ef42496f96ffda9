"""Einstein summation: products and sums over named dimensions.

An equation such as ``"bij,bjk->bik"`` is first made *plain*: the ellipsis gets
letters of its own, letters repeated inside an operand are replaced by a
diagonal, and dimensions of size 1 that meet larger ones are dropped. The gradient
of a plain equation is again a plain equation.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd.function import Function
from ..backends import kernels
from ..errors import DtypeError, ShapeError
from ..tensor import Tensor, wrap
from .autocast import lowered
from .autocast import state as autocast_state
from .operands import check_tensor

__all__ = ["einsum"]


class Einsum(Function):
    """Operands multiplied and summed as a plain equation says.

    The gradient of an operand is the same product with the output's gradient in the
    operand's place: for "ij,jk->ik" it is "ik,jk->ij" and "ik,ij->jk". A letter that only this
    operand had was summed; its gradient is repeated, which a factor of ones says.
    """

    @staticmethod
    def forward(ctx, *arrays, equation):
        ctx.save_for_backward(*arrays)
        ctx.equation = equation
        return kernels.einsum(equation, *arrays)

    @staticmethod
    def backward(ctx, grad_output):
        operands = ctx.saved_tensors
        left, out = ctx.equation.split("->")
        names = left.split(",")
        grads = []
        for i, name in enumerate(names):
            if not ctx.needs_input_grad[i]:
                grads.append(None)
                continue
            others = [x for j, x in enumerate(operands) if j != i]
            terms = [out] + [n for j, n in enumerate(names) if j != i]
            known = set("".join(terms))
            for letter, size in zip(name, ctx._edges[i][2], strict=True):
                if letter not in known:
                    terms.append(letter)
                    others.append(wrap(np.ones(size, grad_output._data.dtype)))
            equation = f"{','.join(terms)}->{name}"
            grads.append(Einsum.apply(grad_output, *others, equation=equation))
        return tuple(grads)


class Diagonal(Function):
    """The elements of x whose repeated letters have equal indices: "iij" read as "ij"."""

    @staticmethod
    def forward(ctx, x, *, name, unique):
        ctx.name, ctx.unique, ctx.shape = name, unique, x.shape
        return np.einsum(f"{name}->{unique}", x).copy()

    @staticmethod
    def backward(ctx, grad_output):
        return OnDiagonal.apply(grad_output, name=ctx.name, unique=ctx.unique, shape=ctx.shape)


class OnDiagonal(Function):
    """Zeros of ``shape`` with x on the diagonal that :class:`Diagonal` reads."""

    @staticmethod
    def forward(ctx, x, *, name, unique, shape):
        ctx.name, ctx.unique = name, unique
        y = np.zeros(shape, x.dtype)
        np.einsum(f"{name}->{unique}", y)[...] = x
        return y

    @staticmethod
    def backward(ctx, grad_output):
        return Diagonal.apply(grad_output, name=ctx.name, unique=ctx.unique)


def einsum(equation: str, *operands: Any) -> Tensor:
    """Multiply operands and sum, as an equation over named dimensions says.

    Each operand's dimensions are named by letters; a letter that stands for a dimension in
    several operands pairs them; letters that are missing after ``->`` are summed over.
    Without ``->``, the letters that occur once come out in alphabetical order. ``...`` stands
    for any further dimensions, which are broadcast. A letter repeated inside one operand takes
    its diagonal.

    Source: A. Einstein, "Die Grundlage der allgemeinen Relativitaetstheorie", 1916.

    Args:
        equation: for instance ``"bij,bjk->bik"``.
        operands: Tensors of one dtype, one for each term; or one list of them.

    Raises:
        RuntimeError: if the equation is wrong, or sizes or dtypes do not fit together.

    >>> a, b = nano.tensor([[1.0, 2.0], [3.0, 4.0]]), nano.tensor([1.0, 10.0])
    >>> nano.einsum("ij,j->i", a, b), nano.einsum("ii", a)
    (tensor([21., 43.]), tensor(5.))
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if autocast_state.dtype is not None:
        operands = lowered(*operands)
    for i, x in enumerate(operands):
        check_tensor("einsum", x, f"operand {i}")
        if x._data.dtype != operands[0]._data.dtype:
            raise DtypeError(
                "einsum", f"operands must have one dtype, got {operands[0].dtype} and {x.dtype}."
            )
    names, out = _parse(equation, operands)
    tensors = []
    sizes = _sizes(equation, names, operands)
    for i, (name, x) in enumerate(zip(names, operands, strict=True)):
        unique = "".join(dict.fromkeys(name))
        if unique != name:
            x = Diagonal.apply(x, name=name, unique=unique)
        shape = x._data.shape
        kept = [j for j, c in enumerate(unique) if shape[j] == sizes[c]]
        if len(kept) < len(unique):  # size 1 against a larger one: the same for all of them
            x = x.reshape([shape[j] for j in kept])
        names[i] = "".join(unique[j] for j in kept)
        tensors.append(x)
    return Einsum.apply(*tensors, equation=f"{','.join(names)}->{out}")


def _wrong(equation: str, what: str) -> ShapeError:
    return ShapeError("einsum", what, facts=f"equation {equation!r}")


def _parse(equation: str, operands: Sequence[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand and of the output, with the ellipsis replaced by letters."""
    if not operands:
        raise _wrong(equation, "at least one operand is needed.")
    left, arrow, out = equation.replace(" ", "").partition("->")
    names = left.split(",")
    for term in [*names, out]:
        rest = term.replace("...", "", 1)
        if wrong := set(rest) - set(string.ascii_letters):
            raise _wrong(equation, f"subscripts are letters and one ..., got {min(wrong)!r}.")
    if len(names) != len(operands):
        raise _wrong(equation, f"it names {len(names)} operands, but {len(operands)} were given.")
    further = []
    for i, (name, x) in enumerate(zip(names, operands, strict=True)):
        extra = x._data.ndim - len(name.replace("...", ""))
        if extra < 0 or (extra and "..." not in name):
            raise _wrong(
                equation, f"operand {i} of shape {x.shape} does not have the dims of {name!r}."
            )
        further.append(extra)
    used = set("".join(names)) | set(out)
    fresh = [c for c in string.ascii_letters if c not in used]
    if max(further) > len(fresh):
        raise _wrong(equation, "it has more dimensions than there are letters.")
    # The dimensions of ... are aligned at their end, as broadcasting aligns them.
    dots = "".join(fresh[: max(further)])
    names = [n.replace("...", dots[len(dots) - k :]) for n, k in zip(names, further, strict=True)]
    if not arrow:
        everything = "".join(names)
        once = sorted(c for c in set(everything) - set(dots) if everything.count(c) == 1)
        return names, dots + "".join(once)
    out = out.replace("...", dots)
    for c in out:
        if out.count(c) > 1:
            raise _wrong(equation, f"{c!r} stands in the output more than once.")
        if not any(c in n for n in names):
            raise _wrong(equation, f"{c!r} of the output stands in no operand.")
    return names, out


def _sizes(equation: str, names: list[str], operands: Sequence[Tensor]) -> dict[str, int]:
    """The size of each letter, 1 giving way to any other."""
    sizes: dict[str, int] = {}
    for i, (name, x) in enumerate(zip(names, operands, strict=True)):
        own: dict[str, int] = {}
        for c, n in zip(name, x._data.shape, strict=True):
            if own.setdefault(c, n) != n:
                raise _wrong(
                    equation, f"{c!r} is repeated in operand {i} with sizes {own[c]} and {n}."
                )
            known = sizes.setdefault(c, n)
            if known == 1:
                sizes[c] = n
            elif n not in (1, known):
                raise _wrong(equation, f"{c!r} has size {n} in operand {i}, but {known} before.")
    return sizes
