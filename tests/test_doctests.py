"""The examples in docstrings and the code blocks of the guide run and print what they say."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import nano

ROOT = Path(__file__).parent.parent
MODULES = [
    m.name for m in pkgutil.walk_packages(nano.__path__, "nano.") if not m.name.endswith("__main__")
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(name)
    globs = {**vars(module), "nano": nano, "np": np, "__name__": "example"}
    failed, _ = doctest.testmod(module, globs=globs, optionflags=FLAGS)
    assert not failed


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_code_blocks(page, tmp_path, monkeypatch):
    """All ```python blocks of a page run in one namespace, in order."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S):
        if ">>>" in block:
            test = doctest.DocTestParser().get_doctest(block, namespace, page.name, str(page), 0)
            runner = doctest.DocTestRunner(optionflags=FLAGS)
            runner.run(test, clear_globs=False)
            namespace.update(test.globs)
            assert not runner.failures
        else:
            exec(compile(block, str(page), "exec"), namespace)


def test_every_public_name_has_a_docstring():
    """Of what `nano`, `nano.nn`, `nano.optim` and `nano.data` hand on."""
    missing = []
    for module in ("nano", "nano.nn", "nano.nn.functional", "nano.nn.init", "nano.optim",
                   "nano.data", "nano.autograd"):  # fmt: skip
        m = importlib.import_module(module)
        for name, value in vars(m).items():
            public = not name.startswith("_") and callable(value)
            if public and getattr(value, "__module__", "").startswith("nano") and not value.__doc__:
                missing.append(f"{module}.{name}")
    assert not missing
