"""Pictures at matched rate as one PNG for papers: whole pictures, the enlarged window, error maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from callbacks.names import LPIPS, PSNR
from lightning_modules.files import write_atomically
from lightning_modules.reports.lettering import font
from lightning_modules.reports.pictures import ERROR_SCALE, Match, Pixels, Reconstruction, Window, error_levels

COLOUR_MAP = "inferno"
"""Perceptually uniform, black where nothing differs (van der Walt and Smith, 2015)."""
MAX_COLUMNS = 6
TEXT = 7 / 72 / 7
"""Height of the text over the width of the strip: 7 points where the strip is 7 inches wide."""


def colour_map() -> Pixels:
    """(256, 3) colours of `error_levels`."""
    colours = mpl.colormaps[COLOUR_MAP](np.arange(256), bytes=True)[:, :3]
    return np.ascontiguousarray(colours, dtype=np.uint8)


def error_picture(original: Pixels, pixels: Pixels) -> Image.Image:
    """The error map in colours, as a palette picture."""
    picture = Image.fromarray(error_levels(original, pixels)).convert("P")
    picture.putpalette(colour_map().tobytes())
    return picture


def figures_in_words(reconstruction: Reconstruction) -> list[str]:
    """Rate and quality of a picture as lines of a label."""
    figures = reconstruction.picture.figures
    rate = f"{reconstruction.bpp:.3f} bpp"
    lines = [f"{rate}, {figures[PSNR]:.2f} dB" if PSNR in figures else f"{rate}, lossless"]
    return lines + ([f"LPIPS {figures[LPIPS]:.3f}"] if LPIPS in figures else [])


def write_strip(match: Match, path: Path) -> Path:
    """Write the strip of one image.

    Columns: the original, then the codecs; more than `MAX_COLUMNS` continue below. Rows: the whole picture with a box
    around the window; the window, every pixel enlarged to a square; and the absolute luma difference to the
    original on a fixed scale. Pictures are pixel for pixel.
    """
    strip = draw_strip(match)
    write_atomically(path, lambda draft: strip.save(draft, "PNG"))
    return path


def draw_strip(match: Match) -> Image.Image:
    """The strip of one image; see `write_strip`."""
    panels: list[Reconstruction | None] = [None, *match.reconstructions]
    # Rows of equal length, as far as the number allows: no single panel is left over.
    columns = -(-len(panels) // -(-len(panels) // MAX_COLUMNS))
    height, width = match.original.shape[:2]
    # Narrow pictures are enlarged as a whole, so that the labels have room.
    scale = max(1, -(-400 // width))
    size = (scale * width, scale * height)
    gap = max(4, size[0] // 60)
    total = columns * (size[0] + gap) - gap
    lettering = font(max(12, round(TEXT * total)))
    line = round(1.3 * lettering.size)
    labels = [_label(panel) for panel in panels]
    head = max(len(label) for label in labels) * line + line // 3
    block = head + 3 * size[1] + 2 * gap
    blocks = -(-len(panels) // columns)
    canvas = Image.new("RGB", (total, blocks * (block + 2 * gap) - 2 * gap), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (panel, label) in enumerate(zip(panels, labels, strict=True)):
        left, top = (i % columns) * (size[0] + gap), (i // columns) * (block + 2 * gap)
        _write_label(draw, left + size[0] // 2, top + head - line // 3, label, lettering, line)
        for row, picture in enumerate(_rows(match, panel, size)):
            canvas.paste(picture, (left, top + head + row * (size[1] + gap)))
    return canvas


def _label(panel: Reconstruction | None) -> list[str]:
    return ["Original"] if panel is None else [panel.codec, *figures_in_words(panel)]


def _rows(match: Match, panel: Reconstruction | None, size: tuple[int, int]) -> list[Image.Image]:
    pixels = match.original if panel is None else panel.pixels
    whole = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
    scale = size[0] // match.original.shape[1]
    window = match.zoom
    _draw_box(whole, Window(*(scale * side for side in window)), max(2, size[0] // 250))
    enlarged = Image.fromarray(window.cut(pixels))
    factor = max(1, min(size[0] // window.width, size[1] // window.height))
    enlarged = enlarged.resize((factor * window.width, factor * window.height), Image.Resampling.NEAREST)
    zoomed = Image.new("RGB", size, "white")
    zoomed.paste(enlarged, ((size[0] - enlarged.width) // 2, (size[1] - enlarged.height) // 2))
    if panel is None:
        return [whole, zoomed, _colour_bar(size)]
    error = error_picture(match.original, panel.pixels).convert("RGB").resize(size, Image.Resampling.NEAREST)
    return [whole, zoomed, error]


def _draw_box(picture: Image.Image, window: Window, thick: int) -> None:
    """A white line around the window between two thin black ones, which shows on any picture."""
    draw = ImageDraw.Draw(picture)
    thin = max(1, thick // 2)
    left, top, right, bottom = window.x, window.y, window.x + window.width - 1, window.y + window.height - 1
    for out, width, colour in ((2 * thin + thick, 2 * thin + thick, "black"), (thin + thick, thick, "white")):
        draw.rectangle((left - out, top - out, right + out, bottom + out), outline=colour, width=width)


def _colour_bar(size: tuple[int, int]) -> Image.Image:
    """The key of the error maps, in the place where the original has no error."""
    key = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(key)
    lettering = font(max(12, round(TEXT * 4 * size[0])))
    bar = Image.fromarray(np.tile(colour_map()[None], (1, 1, 1))).resize((size[0] * 7 // 10, max(6, size[1] // 16)))
    left, top = (size[0] - bar.width) // 2, (size[1] - bar.height) // 2
    key.paste(bar, (left, top))
    below = top + bar.height + lettering.size // 3
    middle = size[0] // 2
    draw.text((middle, top - lettering.size // 2), "luma error (8-bit levels)", "black", lettering, anchor="md")
    for x, text in ((left, "0"), (middle, str(ERROR_SCALE // 2)), (left + bar.width, f"≥ {ERROR_SCALE}")):
        draw.text((x, below), text, "black", lettering, anchor="ma")
    return key


def _write_label(
    draw: ImageDraw.ImageDraw,
    middle: int,
    bottom: int,
    lines: Sequence[str],
    lettering: ImageFont.FreeTypeFont,
    step: int,
) -> None:
    for i, text in enumerate(lines):
        draw.text((middle, bottom - (len(lines) - 1 - i) * step), text, "black", lettering, anchor="md")
