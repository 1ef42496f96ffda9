"""The house has floors, and imports run downward only."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "nano"

#: Every module or package directly under nano, by floor. Those of one floor are siblings, and
#: do not import each other, except where a floor says so.
FLOORS: list[set[str]] = [
    {"errors", "hook", "dtypes", "config", "random", "formatting", "devices", "handles", "layouts"},
    {"backends"},
    {"storage", "tensor", "autograd"},
    {"functions"},
    {"compiler", "nn", "optim", "data", "checkpoint"},
    {"models", "train", "viz", "distributed", "profiler", "optimized"},
    {"recipes", "doctor"},
    {"results", "runs"},
    {"cli", "__main__"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
#: Floors whose members build on each other: dtypes on errors; autograd on Tensor; and the
#: command line's two faces. Cycles in them are refused by `test_no_cycles`.
SHARED_FLOORS = {0, 2, 8}
#: Tensor asks for a refresh of its history when an in-place operator changed it; the design's
#: exception, bind.py, imports downward like any other: it is Tensor that gets the methods.
INSIDE_A_FUNCTION = {("tensor", "autograd")}


def modules():
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def imports_of(path, *, top_level_only=False):
    """The modules directly under nano that a file imports, and whether at the top level."""
    tree = ast.parse(path.read_text())
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    depth = len(parts)
    found = []
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        at_top = id(node) in top
        if top_level_only and not at_top:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                names = alias.name.split(".")
                if names[0] == "nano":
                    found.append((names[1] if len(names) > 1 else "", at_top))
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")
            if node.level == 0 and module[0] == "nano":
                inner = module[1:]
                found += _targets(inner, node, at_top)
            elif node.level == depth:  # from .. up to the package itself
                found += _targets([m for m in module if m], node, at_top)
            elif node.level > depth:
                raise AssertionError(f"{path}: relative import leaves the package")
    return found


def _targets(inner, node, at_top):
    if inner:
        return [(inner[0], at_top)]
    return [(alias.name, at_top) for alias in node.names]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert own in FLOOR_OF, f"{own} stands on no floor"
    for target, at_top in imports_of(path):
        assert target != "", f"{path.name} imports nano itself"
        if target == own or target == "__version__":
            continue
        assert target in FLOOR_OF, f"{path.name} imports {target}, which stands on no floor"
        if not at_top and (own, target) in INSIDE_A_FUNCTION:
            continue
        up, here = FLOOR_OF[target], FLOOR_OF[own]
        if here in SHARED_FLOORS:
            assert up <= here, f"{own} (floor {here}) imports {target} (floor {up})"
        else:
            assert up < here, f"{own} (floor {here}) imports {target} (floor {up})"


def test_no_cycles():
    """At import time no module waits for another that waits for it."""
    graph = {}
    for path in modules():
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        targets = {t for t, _ in imports_of(path, top_level_only=True)} & set(FLOOR_OF)
        graph.setdefault(own, set()).update(targets - {own})
    done, order = set(), []
    while len(done) < len(graph):
        ready = [
            m for m in graph if m not in done and graph[m] <= done | (set(FLOOR_OF) - set(graph))
        ]
        assert ready, f"cycle among {set(graph) - done}"
        done.update(ready)
        order += ready
    assert len(order) == len(graph)


def test_the_check_can_fail(tmp_path, monkeypatch):
    """A file on floor 1 that imports from floor 2 is found."""
    bad = tmp_path / "backends" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("from ..tensor import Tensor\n")
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    with pytest.raises(AssertionError, match=r"backends \(floor 1\) imports tensor \(floor 2\)"):
        test_imports_run_downward(bad)


def test_heavy_libraries_are_not_imported():
    """`import nano` brings in NumPy and what is as light."""
    code = "import sys, json, nano; print(json.dumps(sorted(m.split('.')[0] for m in sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(out.stdout))
    heavy = {"torch", "scipy", "matplotlib", "sklearn", "rich", "PIL", "pooch", "numba",
             "threadpoolctl", "safetensors", "pandas", "requests"}  # fmt: skip
    assert not loaded & heavy


def test_no_file_is_named_after_a_library():
    libraries = {"numpy", "torch", "scipy", "matplotlib", "rich", "numba", "safetensors", "typer"}
    assert not {p.stem for p in modules()} & libraries
