"""A strip of pictures side by side under their labels, in a file small enough to keep beside a report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from lightning_modules.files import write_atomically
from lightning_modules.reports.lettering import font

GAP = 6
"""Between pictures, in pixels."""
MAX_PNG = 300_000
"""Bytes; a larger strip becomes a JPEG."""
JPEG_QUALITY = 90


class Panel(NamedTuple):
    """A picture of a strip."""

    title: str
    lines: tuple[str, ...]
    """Figures below the title."""
    picture: Image.Image
    """RGB; all of a strip are of one size."""


def write_strip(panels: Sequence[Panel], stem: Path) -> list[Path]:
    """Write `stem`.png, without loss, or where that takes more than `MAX_PNG` bytes `stem`.jpg.

    Returns:
        The one file.
    """
    strip = draw_strip(panels)
    data, suffix = _encoded(strip, "PNG", optimize=True), ".png"
    if len(data) > MAX_PNG:
        data, suffix = _encoded(strip, "JPEG", quality=JPEG_QUALITY, subsampling=0), ".jpg"
    path = stem.with_name(f"{stem.name}{suffix}")
    write_atomically(path, lambda draft: draft.write_bytes(data))
    return [path]


def draw_strip(panels: Sequence[Panel]) -> Image.Image:
    """The pictures pixel for pixel in a row on white, each under its label."""
    height = max(panel.picture.height for panel in panels)
    letters = font(max(12, max(panel.picture.width for panel in panels) // 22))
    step = round(1.3 * letters.size)
    labels = [(panel.title, *panel.lines) for panel in panels]
    # A picture narrower than its label gets the label's width.
    widths = [
        max(panel.picture.width, *(round(letters.getlength(line)) + step // 2 for line in label))
        for panel, label in zip(panels, labels, strict=True)
    ]
    head = max(map(len, labels)) * step + step // 3
    canvas = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), head + height), "white")
    draw = ImageDraw.Draw(canvas)
    left = 0
    for panel, label, width in zip(panels, labels, widths, strict=True):
        for i, line in enumerate(label):
            bottom = head - step // 3 - (len(label) - 1 - i) * step
            draw.text((left + width // 2, bottom), line, "black", letters, anchor="md")
        canvas.paste(panel.picture, (left + (width - panel.picture.width) // 2, head))
        left += width + GAP
    return canvas


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
