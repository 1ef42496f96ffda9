"""The picture of a confusion matrix."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from nano.errors import DataError
from nano.viz import confusion_matrix

COUNTS = np.array([[90, 10, 0], [0, 3, 1], [5, 0, 15]])
NAMES = ["cat", "dog", "automobile"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )
    return figures


def texts(figure):
    """By place, what stands in the cells."""
    (axes,) = figure.axes
    return {t.get_position(): t.get_text() for t in axes.texts if not isinstance(t, Annotation)}


def colours(figure):
    return figure.axes[0].images[0].get_array()


def test_counts_and_parts_of_rows_are_in_their_cells(tmp_path, drawn):
    confusion_matrix(COUNTS, tmp_path / "c.png", NAMES, "a title")
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]
    cells = {}
    for (x, y), text in texts(drawn[0]).items():
        cells.setdefault((round(y), round(x)), []).append(text)
    assert cells[0, 0] == ["90", "90.0%"]
    assert cells[0, 1] == ["10", "10.0%"]
    assert cells[1, 2] == ["1", "25.0%"]
    assert (0, 2) not in cells
    (axes,) = drawn[0].axes
    assert axes.get_title() == "a title"
    (summary,) = (t for t in axes.texts if isinstance(t, Annotation))
    assert summary.get_text() == "108 of 124 right · accuracy 87.10%"
    # Samples of each class, and precision of each prediction.
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        "cat  (100)",
        "dog  (4)",
        "automobile  (20)",
    ]
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        "cat\n94.7%",
        "dog\n23.1%",
        "automobile\n93.8%",
    ]


def test_colours(tmp_path, drawn):
    confusion_matrix(COUNTS, tmp_path / "c.png")
    shown = colours(drawn[0])
    red, _, blue = shown[..., 0], shown[..., 1], shown[..., 2]
    assert (np.diagonal(blue) > np.diagonal(red)).all()
    assert red[0, 1] > blue[0, 1]
    assert shown[1, 2, 1] < shown[0, 1, 1]  # 25 per cent are darker than 10
    np.testing.assert_array_equal(shown[0, 2], 1)
    with Image.open(tmp_path / "c.png") as picture:
        pixels = np.asarray(picture.convert("RGB"), int)
    for cell in (shown[0, 0], shown[1, 2]):
        assert (np.abs(pixels - cell[:3] * 255).sum(2) < 6).sum() > 500


def test_nothing_is_rounded_up_to_all(tmp_path, drawn):
    confusion_matrix([[99_999, 1], [0, 5]], tmp_path / "c.png")
    assert {"99.9%", "100%", "99,999"} <= set(texts(drawn[0]).values())


@pytest.mark.parametrize("counts", [[[0, 0], [0, 0]], [[3]], np.eye(40, dtype=int)])
def test_empty_small_and_large(tmp_path, counts, drawn):
    confusion_matrix(counts, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert min(picture.size) > 300
    if len(counts) == 40:
        assert not texts(drawn[0])  # colours only


def test_faults(tmp_path, monkeypatch):
    target = tmp_path / "c.png"
    for wrong, error in (
        ([[1, 2]], RuntimeError),
        ([1], RuntimeError),
        (np.zeros((0, 0), int), RuntimeError),
        ([[1, -1], [0, 0]], ValueError),
        ([[0.5]], ValueError),
    ):
        with pytest.raises(error, match="confusion_matrix"):
            confusion_matrix(wrong, target)
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        confusion_matrix(COUNTS, target, ["a", "b"])
    with pytest.raises(DataError, match="cannot be written"):
        confusion_matrix(COUNTS, tmp_path / "no" / "c.png")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(DataError, match="No space"):
        confusion_matrix(COUNTS, target)
    assert not list(tmp_path.iterdir())
