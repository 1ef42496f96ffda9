"""Training curves."""

import numpy as np
import pytest
from PIL import Image

from nano.errors import DataError
from nano.viz import draw_curves


def history(epochs, accuracy=True):
    rows = []
    for n in range(1, epochs + 1):
        row = {"epoch": n, "train_loss": 2 / n, "held_out_loss": 2.2 / n}
        if accuracy:
            row |= {"train_accuracy": 1 - 0.5 / n, "held_out_accuracy": 1 - 0.6 / n}
        rows.append(row)
    return rows


@pytest.mark.parametrize("epochs", [1, 30, 100])
@pytest.mark.parametrize("accuracy", [True, False])
def test_draws_both_curves(tmp_path, epochs, accuracy):
    draw_curves(history(epochs, accuracy), tmp_path / "curves.png", "a title")
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    with Image.open(tmp_path / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), int)
    for colour in ((0x4C, 0x72, 0xB0), (0xDD, 0x84, 0x52)):
        assert (np.abs(pixels - colour).sum(2) < 10).sum() > 20


def test_faults(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        draw_curves([], tmp_path / "curves.png")
    with pytest.raises(DataError, match="cannot be written"):
        draw_curves(history(2), tmp_path / "no" / "curves.png")


def test_a_fault_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match="No space left"):
        draw_curves(history(2), tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())
