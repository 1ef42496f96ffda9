"""The operators: for each a Function and, right below it, the public function."""

from . import binary, bind, conversion, operands, unary

__all__ = ["binary", "bind", "conversion", "operands", "unary"]
