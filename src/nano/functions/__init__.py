"""The operators, a file a family: for each a Function and, right below it, the public function.

``bind`` imports them all and ties them to Tensor.
"""

from . import bind

__all__ = ["bind"]
