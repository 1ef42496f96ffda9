"""Pictures of digits, of any size and colour."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nano.data import read_digit, read_photograph
from nano.errors import DataError


def draw(size=(200, 300), paper="white", ink="black", mode="RGB", box=(80, 100, 110, 220)):
    """A thick vertical bar with a foot, off the middle."""
    image = Image.new(mode, size, paper)
    pen = ImageDraw.Draw(image)
    pen.rectangle(box, fill=ink)
    pen.rectangle((box[0] - 30, box[3] - 20, box[2] + 30, box[3]), fill=ink)
    return image


@pytest.fixture
def expected(tmp_path):
    draw().save(tmp_path / "plain.png")
    return read_digit(tmp_path / "plain.png")


def test_trimmed_scaled_and_centred(expected):
    assert expected.shape == (28, 28)
    assert expected.dtype == np.float32
    assert expected.min() == 0
    assert expected.max() == 1
    rows = np.flatnonzero(expected.any(1))
    assert rows[-1] - rows[0] + 1 == 20
    total = expected.sum()
    for axis in (0, 1):
        centre = (expected.sum(1 - axis) * (np.arange(28) + 0.5)).sum() / total
        assert abs(centre - 14) <= 0.5


@pytest.mark.parametrize(
    "picture",
    [
        draw(paper="black", ink="white"),
        draw(paper="yellow", ink="navy"),
        draw(mode="L", paper=255, ink=0),
        draw(mode="RGBA", paper=(0, 0, 0, 0), ink=(0, 0, 0, 255)),
        draw(mode="L", paper=10, ink=90),
        draw(mode="1", paper=1, ink=0),
        draw(size=(600, 400), box=(300, 150, 330, 270)),
        draw().convert("P"),
    ],
    ids=["inverted", "colours", "grey", "transparent", "pale", "1 bit", "moved", "palette"],
)
def test_the_same_digit_in_other_clothes(picture, tmp_path, expected):
    picture.save(tmp_path / "other.png")
    other = read_digit(tmp_path / "other.png")
    # Colours scale the ink, trimming may differ by a pixel of the large picture.
    assert np.abs(other - expected).mean() < 0.01


def test_sizes(tmp_path, expected):
    # The smallest one, 40 x 60, has lost detail.
    for scale, tolerance in ((0.2, 0.04), (0.5, 0.02), (2, 0.01), (4, 0.01)):
        draw().resize((int(200 * scale), int(300 * scale))).save(tmp_path / "other.png")
        other = read_digit(tmp_path / "other.png")
        # Centring rounds to whole pixels, so the digit may come to lie one beside.
        shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        moved = [np.roll(other, shift, (0, 1)) for shift in shifts]
        assert min(np.abs(m - expected).mean() for m in moved) < tolerance


def test_box_and_size(tmp_path):
    draw().save(tmp_path / "a.png")
    small = read_digit(tmp_path / "a.png", size=8, box=8, by_mass=False)
    assert small.shape == (8, 8)
    assert small[0].any()
    assert small[-1].any()


def test_one_pixel_wide(tmp_path):
    a = np.zeros((50, 50), np.uint8)
    a[10:40, 25] = 255
    Image.fromarray(a).save(tmp_path / "thin.png")
    assert read_digit(tmp_path / "thin.png").sum() > 0


def test_faults(tmp_path):
    with pytest.raises(DataError, match="no file"):
        read_digit(tmp_path / "nothing.png")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(DataError, match="no picture"):
        read_digit(text)
    with pytest.raises(DataError, match="cannot be read"):
        read_digit(tmp_path)
    Image.new("L", (20, 20), 200).save(tmp_path / "blank.png")
    with pytest.raises(DataError, match="blank"):
        read_digit(tmp_path / "blank.png")
    cut = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (100, 100), dtype=np.uint8)
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:3000])
    with pytest.raises(DataError, match="cannot be read"):
        read_digit(cut)


def test_deep_pictures(tmp_path, expected):
    # Paper and ink both lie above what 8 bits hold, or, as fractions, below 1.
    grey = np.asarray(draw(mode="L", paper=255, ink=0))
    deep = {
        "16.png": (grey.astype(np.uint16) * 150 + 9000),
        "32.tif": grey.astype(np.int32) * 150 + 9000,
        "float.tif": grey.astype(np.float32) / 255,
    }
    for name, pixels in deep.items():
        Image.fromarray(pixels).save(tmp_path / name)
        assert np.abs(read_digit(tmp_path / name) - expected).mean() < 0.01, name


def test_white_ink_on_nothing(tmp_path, expected):
    draw(mode="RGBA", paper=(0, 0, 0, 0), ink="white").save(tmp_path / "a.png")
    assert np.abs(read_digit(tmp_path / "a.png") - expected).mean() < 0.01


def test_large_pictures(tmp_path, monkeypatch):
    draw().save(tmp_path / "a.png")  # 60,000 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    read_digit(tmp_path / "a.png")  # Pillow would warn
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(DataError, match="exceeds limit"):
        read_digit(tmp_path / "a.png")


def test_a_photograph_is_cut_square_and_made_small(tmp_path):
    # A red and a blue half in the middle square of a wide picture, green beside it.
    image = Image.new("RGB", (300, 100), (0, 255, 0))
    image.paste((255, 0, 0), (100, 0, 150, 100))
    image.paste((0, 0, 255), (150, 0, 200, 100))
    for turned in (image, image.rotate(90, expand=True)):
        turned.save(tmp_path / "a.png")
        pixels = read_photograph(tmp_path / "a.png", size=10)
        assert pixels.shape == (10, 10, 3)
        assert pixels.dtype == np.float32
        if turned is not image:
            pixels = np.rot90(pixels, -1)
        np.testing.assert_array_equal(pixels[:, :5], np.broadcast_to([1.0, 0, 0], (10, 5, 3)))
        np.testing.assert_array_equal(pixels[:, 5:], np.broadcast_to([0, 0, 1.0], (10, 5, 3)))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_photographs_of_every_kind(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.array([[0, 60000]] * 2, np.uint16))
    else:
        image = Image.new("L", (2, 2), 0)
        image.paste(255, (1, 0, 2, 2))
        image = image.convert(mode)
    image.save(tmp_path / "a.tiff")
    pixels = read_photograph(tmp_path / "a.tiff", size=2)
    # A level is 1 / 255; palettes and inks may be one off.
    np.testing.assert_allclose(pixels[:, 0], 0, atol=1.5 / 255)
    np.testing.assert_allclose(pixels[:, 1], 1, atol=1.5 / 255)


def test_a_photograph_with_nothing_on_it_is_white(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_photograph(tmp_path / "a.png") == 1).all()


def test_photographs_that_are_none(tmp_path):
    with pytest.raises(DataError, match=r"\[read_photograph\] there is no file"):
        read_photograph(tmp_path / "no.png")
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(DataError, match=r"\[read_photograph\] .* is no picture"):
        read_photograph(tmp_path / "a.png")
