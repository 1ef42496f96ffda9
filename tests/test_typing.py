"""Type checkers know what Tensor can do: methods are bound at import, out of their sight."""

import re
from pathlib import Path

import nano

SOURCE = (Path(nano.__file__).parent / "tensor.py").read_text()
DECLARED = set(
    re.findall(r"def (__\w+__)", SOURCE.split("if TYPE_CHECKING:")[1].split("# What it")[0])
)


def test_every_bound_operator_is_declared():
    in_class = set(re.findall(r"def (__\w+__)", SOURCE))
    bound = {
        name
        for name, value in vars(nano.Tensor).items()
        if name.startswith("__") and callable(value) and name not in in_class
    }
    in_place = {name for name in bound if name.startswith("__i") and name not in ("__init__",)}
    harmless = {"__hash__", "__new__", "__pos__", "__abs__", "__rand__", "__ror__", "__rxor__"}
    assert bound - in_place - harmless - DECLARED == set()


def test_every_declared_operator_is_bound():
    for name in DECLARED - {"__getattr__"}:
        assert callable(getattr(nano.Tensor, name)), name
    assert not hasattr(nano.Tensor, "__getattr__")
