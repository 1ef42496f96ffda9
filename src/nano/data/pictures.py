"""Any picture, made to look like those of a training set: of one digit, or a photograph."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

__all__ = ["read_digit", "read_photograph"]

#: A picture whose darkest and lightest places differ by less is blank.
_LEAST_CONTRAST = 0.1
#: Below this fraction of full ink, a pixel is paper (shadows, JPEG noise).
_PAPER = 0.2
#: No side longer than this is looked at: trimming needs no more.
_LARGEST = 512


def read_digit(
    path: str | os.PathLike[str], size: int = 28, box: int = 20, by_mass: bool = True
) -> NDArray:
    """A picture of one digit as (size, size) float32, from 0 (paper) to 1 (ink).

    Transparent pixels count as white, or as black if all others are white. Dark ink on light
    paper is recognised by the picture's border and inverted. The digit is trimmed, scaled to fit
    a square of ``box`` pixels, and put in the middle: as the makers of MNIST did with a box of
    20 in 28, by centre of mass.

    Args:
        path: an image file, of any size and colour.
        size: of the result.
        box: the square that the digit must fit.
        by_mass: centre the centre of mass, not the box.

    Raises:
        RuntimeError: if the file is missing, no image, or blank.
    """
    ink = _ink(_grey(_opened("read_digit", path, "L")), path)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = box / max(ink.shape)
    height, width = (max(1, round(n * scale)) for n in ink.shape)
    ink = _resized(ink, height, width)
    if by_mass:
        total = ink.sum()
        centre = [(ink.sum(1 - d) * (np.arange(ink.shape[d]) + 0.5)).sum() / total for d in (0, 1)]
    else:
        centre = [height / 2, width / 2]
    top, left = (
        int(np.clip(round(size / 2 - c), 0, size - n))
        for c, n in zip(centre, ink.shape, strict=True)
    )
    out = np.zeros((size, size), np.float32)
    out[top : top + height, left : left + width] = ink
    return out


def read_photograph(path: str | os.PathLike[str], size: int = 32) -> NDArray:
    """A picture as (size, size, 3) float32, red, green and blue from 0 to 1.

    Of a picture that is no square, the middle is taken. Each pixel of the result is the mean of
    the area that it covers. Transparent pixels count as white.

    Args:
        path: an image file, of any size and colour.
        size: of the result.

    Raises:
        RuntimeError: if the file is missing or no image.
    """
    from PIL import Image, ImageOps

    opened = _opened("read_photograph", path, "RGB")
    whole = _on_paper(opened, "white", "RGB")
    square = ImageOps.fit(whole, (size, size), Image.Resampling.BOX)
    return np.asarray(square, np.float32) / 255


def _opened(owner: str, path: str | os.PathLike[str], mode: str) -> Any:
    """The picture the right way up, in red, green, blue and opacity, and not too large.

    ``mode`` is what is to be made of it, in Pillow's words: JPEG files can be read as grey.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise DataError(
            owner,
            "reading pictures needs the package pillow.",
            hint="pip install 'nano-dl[train]'",
        ) from None
    try:
        # A large picture is what _LARGEST is for; far too large a one is an error all the same.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            picture.draft(mode, (_LARGEST, _LARGEST))
            whole = ImageOps.exif_transpose(picture)
            if whole.mode[0] in "IF":
                whole = _eight_bits(whole)
            colour = whole.convert("RGBA")
    except FileNotFoundError:
        raise DataError(owner, f"there is no file {path}.") from None
    except UnidentifiedImageError:
        raise DataError(
            owner, f"{path} is no picture.", hint="Give a PNG, JPEG, GIF, BMP or WebP file."
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(owner, f"{path} cannot be read ({reason}).") from None
    colour.thumbnail((_LARGEST, _LARGEST))
    return colour


def _grey(colour: Any) -> NDArray:
    """The picture in grey, 0 black to 1 white."""
    grey = _brightness(_on_paper(colour, "white", "L"))
    if np.ptp(grey) < _LEAST_CONTRAST:  # white ink on nothing
        grey = _brightness(_on_paper(colour, "black", "L"))
    return grey


def _brightness(picture: Any) -> NDArray:
    return np.asarray(picture, np.float32) / 255


def _eight_bits(picture: Any) -> Any:
    """A picture of 16 or 32 bits a pixel, or of fractions, from its darkest to its lightest."""
    from PIL import Image

    a = np.nan_to_num(np.asarray(picture, np.float64))
    span = float(np.ptp(a)) or 1.0
    return Image.fromarray(((a - a.min()) / span * 255).astype(np.uint8))


def _on_paper(colour: Any, paper: str, mode: str) -> Any:
    """A picture with transparent places, laid on paper; ``mode`` is Pillow's."""
    from PIL import Image

    sheet = Image.new("RGBA", colour.size, paper)
    return Image.alpha_composite(sheet, colour).convert(mode)


def _ink(grey: NDArray, path: str | os.PathLike[str]) -> NDArray:
    """0 where there is paper, up to 1 where there is most ink. The border is paper."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey - np.median(border))
    # Ink is on one side of the paper only: highlights beside dark ink are not ink.
    darker = grey < np.median(border)
    ink = np.where(darker == (ink[darker].sum() >= ink[~darker].sum()), ink, 0)
    if ink.max() < _LEAST_CONTRAST:
        raise DataError(
            "read_digit",
            f"{path} is blank: no digit stands out from its border.",
            hint="The picture should show one digit with some paper around it.",
        )
    ink = ink / ink.max()
    return np.where(ink < _PAPER, 0, ink).astype(np.float32)


def _resized(ink: NDArray, height: int, width: int) -> NDArray:
    from PIL import Image

    # Each new pixel is the mean of the area that it covers.
    small = Image.fromarray(ink).resize((width, height), Image.Resampling.BOX)
    out = np.asarray(small, np.float32)
    return out / max(float(out.max()), 1e-6)
