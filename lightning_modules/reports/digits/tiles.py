"""Pictures of digits side by side, pixel for pixel, with text around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

from lightning_modules.files import write_atomically
from lightning_modules.reports.lettering import font

Grey = NDArray[np.uint8]
"""(H, W), 8-bit grey levels."""

TEXT = 15
"""Height of text in pixels."""
GAP = 12
EMPTY = 208
"""Grey level of a place without a picture."""


def read_grey(path: Path) -> Grey | None:
    """An 8-bit picture as grey levels; `None` where there is none that can be read."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"))
    except (OSError, UnidentifiedImageError):
        return None


def with_title(picture: Grey, title: str) -> Image.Image:
    """A picture under a line of text, on white, at least as wide as the text."""
    width = max(picture.shape[1], round(font(TEXT).getlength(title)))
    canvas = Image.new("L", (width, picture.shape[0] + 2 * TEXT), 255)
    canvas.paste(Image.fromarray(picture), (0, 2 * TEXT))
    ImageDraw.Draw(canvas).text((0, TEXT // 3), title, 0, font(TEXT))
    return canvas


def beside(panels: list[Image.Image], columns: int) -> Image.Image:
    """Panels in rows of `columns`, on white."""
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    widths = [max(row[i].width for row in rows if i < len(row)) for i in range(min(columns, len(panels)))]
    heights = [max(panel.height for panel in row) for row in rows]
    canvas = Image.new("L", (sum(widths) + GAP * (len(widths) + 1), sum(heights) + GAP * (len(rows) + 1)), 255)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for i, panel in enumerate(row):
            canvas.paste(panel, (GAP + sum(widths[:i]) + GAP * i, top))
        top += height + GAP
    return canvas


def save_png(picture: Image.Image, stem: Path) -> list[Path]:
    """Write `stem`.png."""
    path = stem.with_name(f"{stem.name}.png")
    write_atomically(path, lambda draft: picture.save(draft, "PNG", optimize=True))
    return [path]
