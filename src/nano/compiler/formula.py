"""An operator's formula, written out for the variables of a generated loop.

A formula is an expression in the names of ``forward``'s parameters, tensors and keyword
arguments alike. It may use ``+ - * / **``, comparisons, ``& | ^ ~``, a choice ``a if test else
b`` whose test is of keyword arguments only, the number ``inf``, and the functions of
:data:`FUNCTIONS`. Numbers in it have the dtype of the tensors.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from ..autograd.function import Function

__all__ = ["FUNCTIONS", "TRANSCENDENTAL", "Term", "UnsupportedError", "expression", "parameters"]

#: Functions of a formula that take many instructions. Loops over them vectorise in float32.
TRANSCENDENTAL = {"exp", "log", "tanh", "erf", "sigmoid", "log1p", "expm1"}
TRANSCENDENTAL |= {"normal_cdf", "gelu_slope"}
_ROUNDING = {"floor": "np.floor", "ceil": "np.ceil", "rint": "np.rint", "sqrt": "np.sqrt"}
#: Not here, although formulas have them: sin and cos. Numba calls the C library for each
#: number, and so do float64's exp and the like: five times slower than NumPy's vectors.
FUNCTIONS = TRANSCENDENTAL | set(_ROUNDING) | {"abs", "maximum", "minimum", "sign", "where", "to"}

_FOLD: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


class UnsupportedError(Exception):
    """No loop can be generated for this; the operator runs by itself."""


class Term(NamedTuple):
    """A part of an expression.

    Attributes:
        tree: its syntax tree.
        kind: ``"real"``, ``"integer"`` or ``"truth"``; ``"number"`` for one that is known now;
            ``"none"`` for an operand that is not given.
    """

    tree: ast.expr
    kind: str

    @property
    def number(self) -> Any:
        """The value of a number."""
        return ast.literal_eval(self.tree) if self.kind == "number" else None


_NONE = Term(ast.Constant(None), "none")


def term(x: Any, kind: str) -> Term:
    """A variable of the loop, by its name, or a number."""
    if kind == "number":
        return _number(x)
    return Term(ast.Name(x), kind) if x is not None else _NONE


def _number(x: Any) -> Term:
    return Term(ast.Constant(x), "number")


@cache
def parameters(function: type[Function]) -> tuple[list[str], dict[str, Any]]:
    """The names of the operands of ``forward``, and its keyword arguments with their defaults."""
    found = list(inspect.signature(function.forward).parameters.values())[1:]
    keywords = {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}
    return [p.name for p in found if p.kind is p.POSITIONAL_OR_KEYWORD], keywords


def formula_of(function: type[Function]) -> str:
    """The formula, or nothing if a subclass has another ``forward`` than it was written for."""
    for owner in function.__mro__:
        if "formula" in vars(owner):
            return function.formula
        if "forward" in vars(owner):
            return ""
    return ""


def expression(
    function: type[Function], operands: list[Term], attributes: dict[str, Any], wide: str, to: str
) -> tuple[str, str]:
    """The formula of an operator as Python source, and the kind of its value.

    Args:
        function: the operator.
        operands: the inputs of ``forward``.
        attributes: its keyword arguments.
        wide: ``"f32"`` or ``"f64"``: in which floating dtype it is computed; or ``"i64"``, if all
            operands are integers.
        to: the dtype that ``to(x, dtype)`` makes: one of these, or ``"truth"``.

    Raises:
        UnsupportedError: if there is no formula, or no loop can be made of it.
    """
    formula = formula_of(function)
    if not formula:
        raise UnsupportedError(f"{function.__name__} has no formula")
    names, keywords = parameters(function)
    if len(operands) > len(names):
        raise UnsupportedError(f"{function.__name__} is given more operands than it names")
    given = dict(zip(names, operands, strict=False))
    writer = _Writer(given, keywords | attributes, wide, to)
    result = writer.visit(ast.parse(formula, mode="eval").body)
    for name, value in attributes.items():
        if name not in writer.used and not _same(value, keywords.get(name)):
            raise UnsupportedError(f"the formula of {function.__name__} does not mention {name}")
    if result.kind == "number":
        result = writer.real(result)
    return ast.unparse(ast.fix_missing_locations(result.tree)), result.kind


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, (int, float, str)) and a == b)


class _Writer(ast.NodeVisitor):
    """Rewrites the syntax tree of a formula."""

    def __init__(
        self, operands: dict[str, Term], attributes: dict[str, Any], wide: str, to: str
    ) -> None:
        self._operands = operands
        self._attributes = attributes
        self._wide = wide
        self._to = to
        self.used: set[str] = set()

    def generic_visit(self, node: ast.AST) -> Any:
        raise UnsupportedError(f"a formula cannot have {type(node).__name__}")

    # Leaves

    def visit_Constant(self, node: ast.Constant) -> Term:
        return _number(node.value)

    def visit_Name(self, node: ast.Name) -> Term:
        if node.id in self._operands:
            return self._operands[node.id]
        if node.id in self._attributes:
            self.used.add(node.id)
            value = self._attributes[node.id]
            if type(value) in (int, float, bool):
                return _number(value)
            raise UnsupportedError(f"{node.id} is no number")
        if node.id == "inf":
            return Term(ast.Name("inf"), "real")
        raise UnsupportedError(f"the formula's {node.id} is not given")

    # Arithmetic

    def visit_BinOp(self, node: ast.BinOp) -> Term:
        x, y = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, (ast.BitAnd, ast.BitOr, ast.BitXor)):
            if x.kind != "truth" or y.kind != "truth":
                raise UnsupportedError("bits are combined of booleans only")
            return Term(ast.BinOp(x.tree, node.op, y.tree), "truth")
        if type(node.op) not in _FOLD:
            raise UnsupportedError(f"a formula cannot have {type(node.op).__name__}")
        if x.kind == y.kind == "number":
            return _number(_FOLD[type(node.op)](x.number, y.number))
        if isinstance(node.op, ast.Pow):
            return self._power(x, y)
        if self._wide == "i64" and "integer" in (x.kind, y.kind):
            return self._of_integers(x, node.op, y)
        return Term(ast.BinOp(self.real(x).tree, node.op, self.real(y).tree), "real")

    def _of_integers(self, x: Term, op: ast.operator, y: Term) -> Term:
        trees = []
        for t in (x, y):
            if t.kind == "number" and type(t.number) is int:
                trees.append(_call("np.int64", Term(t.tree, "integer")).tree)
            elif t.kind == "integer":
                trees.append(t.tree)
            else:
                raise UnsupportedError(f"an integer and a {t.kind}")
        if not isinstance(op, (ast.Add, ast.Sub, ast.Mult)):
            raise UnsupportedError("integers are added and multiplied only")
        return Term(ast.BinOp(trees[0], op, trees[1]), "integer")

    def _power(self, x: Term, y: Term) -> Term:
        """x^y for a y that is known and needs no logarithm: NumPy's powers vectorise."""
        base, exponent = self.real(x).tree, y.number
        if exponent == 1:
            return Term(base, "real")
        if exponent == 2:
            return Term(ast.BinOp(base, ast.Mult(), base), "real")
        if exponent == -1:
            return Term(ast.BinOp(self.real(_number(1)).tree, ast.Div(), base), "real")
        raise UnsupportedError(f"a power {exponent}")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Term:
        x = self.visit(node.operand)
        if isinstance(node.op, ast.USub):
            if x.kind == "number":
                return _number(-x.number)
            return Term(ast.UnaryOp(ast.USub(), self.real(x).tree), "real")
        if isinstance(node.op, ast.Invert) and x.kind == "truth":
            return Term(ast.UnaryOp(ast.Not(), x.tree), "truth")
        raise UnsupportedError("only booleans are inverted")

    def visit_Compare(self, node: ast.Compare) -> Term:
        if len(node.ops) != 1:
            raise UnsupportedError("a formula compares two numbers at a time")
        x, y = self.visit(node.left), self.visit(node.comparators[0])
        kinds = {x.kind, y.kind} - {"number"}
        if len(kinds) != 1 or "none" in kinds:
            raise UnsupportedError("only what is of one kind is compared")
        if kinds == {"real"}:
            x, y = self.real(x), self.real(y)
        elif any(isinstance(t.number, float) for t in (x, y)):
            raise UnsupportedError("an integer is compared with a fraction")
        return Term(ast.Compare(x.tree, node.ops, [y.tree]), "truth")

    # Choices and functions

    def visit_IfExp(self, node: ast.IfExp) -> Term:
        names = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
        if not names <= self._attributes.keys():
            raise UnsupportedError("a choice in a formula is of keyword arguments only")
        self.used |= names
        test = compile(ast.Expression(node.test), "<formula>", "eval")
        chosen = eval(test, {"__builtins__": {}}, dict(self._attributes))
        return self.visit(node.body if chosen else node.orelse)

    def visit_Call(self, node: ast.Call) -> Term:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            raise UnsupportedError(f"no loop calls {ast.unparse(node.func)}")
        name = node.func.id
        if name == "to":
            return self._converted(node)
        args = [self.visit(a) for a in node.args]
        if name == "where":
            return self._where(*args)
        if name in ("maximum", "minimum"):
            given = [a for a in args if a.kind != "none"]
            if len(given) == 1:
                return given[0]
            return _call(f"math.{name}", *map(self.real, args))
        (x,) = map(self.real, args)
        if name == "sign":
            one, zero, minus = [self.real(_number(n)) for n in (1, 0, -1)]
            above = ast.Compare(x.tree, [ast.Gt()], [zero.tree])
            below = ast.Compare(x.tree, [ast.Lt()], [zero.tree])
            return Term(ast.IfExp(above, one.tree, ast.IfExp(below, minus.tree, zero.tree)), "real")
        if name in TRANSCENDENTAL:
            if self._wide != "f32":
                raise UnsupportedError(f"{name} of float64 numbers does not vectorise")
            return _call(f"math.{name}", x)
        return _call(_ROUNDING.get(name, name), x)

    def _where(self, condition: Term, x: Term, y: Term) -> Term:
        if condition.kind != "truth":
            raise UnsupportedError("where asks for a boolean")
        if not x.kind == y.kind == "truth":
            x, y = self.real(x), self.real(y)
        return Term(ast.IfExp(condition.tree, x.tree, y.tree), x.kind)

    def _converted(self, node: ast.Call) -> Term:
        x = self.visit(node.args[0])
        self.used |= {n.id for n in node.args[1:] if isinstance(n, ast.Name)}
        if x.kind == "number" or x.kind == "none":
            raise UnsupportedError("only tensors are converted")
        if self._to == "truth":
            zero = self.real(_number(0)) if x.kind == "real" else _number(0)
            if x.kind == "truth":
                return x
            return Term(ast.Compare(x.tree, [ast.NotEq()], [zero.tree]), "truth")
        # In the loop, bfloat16 numbers are float32 already.
        return _call(self._to, Term(x.tree, "real"))

    def real(self, x: Term) -> Term:
        """A floating-point operand: a number gets the dtype of the others."""
        if self._wide == "i64":
            raise UnsupportedError("arithmetic with integer")
        if x.kind == "number":
            text = _literal(float(x.number))
            return _call(self._wide, Term(ast.parse(text, mode="eval").body, "real"))
        if x.kind != "real":
            raise UnsupportedError(f"arithmetic with {x.kind}")
        return x


def _literal(x: float) -> str:
    """A number as source: 2, not 2.0; ``inf`` and ``nan`` are names."""
    return str(int(x)) if x.is_integer() and abs(x) < 1e6 and str(x)[0] != "-" else repr(x)


def _call(name: str, *args: Term) -> Term:
    function = ast.parse(name, mode="eval").body
    return Term(ast.Call(function, [a.tree for a in args], []), "real")
