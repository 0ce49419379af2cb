"""The letters in pictures: the font that ships with matplotlib, so that a picture is the same on every machine."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
from PIL import ImageFont


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which has all letters.

    Args:
        size: In pixels.
    """
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
