"""The examples run, learn, and draw."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_two_moons(tmp_path):
    source = EXAMPLES / "two_moons.py"
    text = source.read_text()
    assert len(text.splitlines()) <= 40
    assert not re.search(r"nano\.(optim|nn|train)", text)
    done = subprocess.run(
        [sys.executable, source], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.splitlines()[-1].split()[-1].rstrip("%"))
    assert accuracy >= 99
    with Image.open(tmp_path / "two_moons.png") as picture:
        picture.load()
        # Two regions and two kinds of points: it is no empty sheet.
        assert len(picture.convert("RGB").getcolors(100_000)) > 10
