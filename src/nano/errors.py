"""The errors that nano raises.

Each names its owner (the function or layer that found the mistake), what it
expected and what it got, and what to write instead. Each also *is* the
exception that PyTorch raises in the same place, so handlers written for
PyTorch keep working.
"""

__all__ = [
    "AmbiguousError",
    "AnomalyError",
    "ArgumentError",
    "AssertedError",
    "AttributeMissingError",
    "CheckpointError",
    "DataError",
    "DeviceError",
    "DimensionError",
    "DtypeError",
    "GradcheckError",
    "GradientError",
    "GraphBreak",
    "IndexingError",
    "InputError",
    "KeyMissingError",
    "MissingCheckpointError",
    "NanoError",
    "NumberRangeError",
    "OutOfRangeError",
    "RegistrationError",
    "ShapeError",
    "StateDictError",
    "TypeMismatchError",
    "ZeroDivisorError",
]


class NanoError(Exception):
    """Base of all errors that nano raises.

    Args:
        owner: the function, layer or file that found the mistake.
        what: one sentence: what was expected and what was given.
        facts: the values in question, in the caller's words.
        hint: what to write instead.

    >>> print(NanoError("add", "sizes differ.", facts="(2,) and (3,)", hint="Reshape one."))
    [add] sizes differ.
        (2,) and (3,)
        Reshape one.
    """

    def __init__(self, owner: str, what: str = "", *, facts: str = "", hint: str = "") -> None:
        # Unpickling rebuilds an exception from its args: the finished message alone.
        message = f"[{owner}] {what}" if what else owner
        lines = [message, *(f"    {line}" for line in (facts, hint) if line)]
        super().__init__("\n".join(lines))


class ShapeError(NanoError, RuntimeError):
    """Sizes that do not fit together."""


class AmbiguousError(NanoError, RuntimeError):
    """The truth of a tensor that is not one number."""


class DeviceError(NanoError, RuntimeError):
    """A device that nano does not have."""


class DtypeError(NanoError, NotImplementedError):
    """A dtype that an operator does not take; like NotImplementedError, it is a RuntimeError."""


class DimensionError(NanoError, IndexError):
    """A dimension that a tensor does not have."""


class IndexingError(NanoError, IndexError):
    """An index outside a dimension, or a class label outside the classes."""


class OutOfRangeError(IndexingError, RuntimeError):
    """A position outside a dimension, where PyTorch raises RuntimeError or IndexError by case."""


class TypeMismatchError(NanoError, TypeError):
    """An argument of a Python type that a function does not take."""


class InputError(NanoError, ValueError):
    """An argument of the right type whose value makes no sense."""


class NumberRangeError(NanoError, OverflowError, RuntimeError):
    """An integer that no dtype can hold."""


class ZeroDivisorError(NanoError, RuntimeError):
    """An integer divided by zero."""


class ArgumentError(NanoError, RuntimeError):
    """An argument of the right type that makes no sense, where PyTorch raises RuntimeError."""


class AssertedError(NanoError, AssertionError, ValueError):
    """An argument that makes no sense, where PyTorch has an assert statement."""


class GradientError(NanoError, RuntimeError):
    """A backward pass that cannot be done."""


class GraphBreak(NanoError, RuntimeError):  # noqa: N818  (PyTorch's word)
    """A function does something that a compiled program could not do again."""


class GradcheckError(GradientError):
    """A derivative that disagrees with finite differences."""


class AnomalyError(NanoError, RuntimeError):
    """A NaN or an infinity, found in anomaly mode or in training."""


class StateDictError(NanoError, RuntimeError):
    """A state_dict whose names or shapes do not fit the module."""


class DataError(NanoError, RuntimeError):
    """A data file that is missing, cut short or damaged."""


class CheckpointError(NanoError, RuntimeError):
    """A checkpoint that is missing, cut short or damaged, or cannot be written."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """A checkpoint that is not there."""


class RegistrationError(NanoError, KeyError):
    """A name under which a Module can register nothing."""

    __str__ = Exception.__str__  # KeyError would print the message in quotes


class KeyMissingError(NanoError, KeyError):
    """A key that a dict should have."""

    __str__ = Exception.__str__


class AttributeMissingError(NanoError, AttributeError):
    """A name that a Module does not have, or cannot have yet."""
