"""Drawing: tensors to pictures, and an original beside its reconstruction with a legend."""

import math

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

MIN_WIDTH = 320
"""Narrower images are enlarged, so that the legend has room."""
MARGIN = 8


def to_picture(image: Tensor) -> Image.Image:
    """An image (C, H, W) in [0, 1], C = 1 or 3, as an 8-bit picture.

    Reconstructions are multiples of 1/255 already; rounding only takes away the error of their float
    representation.
    """
    return to_pil_image((image.float() * 255).round().byte().cpu())


def comparison(original: Image.Image, reconstruction: Image.Image, figures: str, caption: str = "") -> Image.Image:
    """Original and reconstruction side by side, labelled, above a line of figures and the wrapped caption.

    Args:
        original: any size; images narrower than 320 pixels are enlarged by a whole factor, pixel by pixel.
        reconstruction: of the same size.
        figures: one short line such as "kodim01.png   0.201 bpp   31.20 dB"; wrapped too where it must be.
        caption: text below, of any length; "" for none. Pillow's own font has few letters beyond ASCII; others
            show as boxes.
    """
    factor = max(1, math.ceil(MIN_WIDTH / original.width))
    size = (factor * original.width, factor * original.height)
    font = ImageFont.load_default(max(14, size[0] // 40))
    line_height = math.ceil(1.4 * float(font.size))  # type: ignore[union-attr]
    width = 2 * size[0] + 3 * MARGIN
    lines = wrap(figures, font, width - 2 * MARGIN) + wrap(caption, font, width - 2 * MARGIN)

    top = line_height + MARGIN
    canvas = Image.new("RGB", (width, top + size[1] + MARGIN + len(lines) * line_height + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    panels = (("original", original), ("reconstruction", reconstruction))
    for i, (label, picture) in enumerate(panels):
        left = MARGIN + i * (size[0] + MARGIN)
        draw.text((left, MARGIN // 2), label, fill="black", font=font)
        canvas.paste(picture.convert("RGB").resize(size, Image.Resampling.NEAREST), (left, top))
    for i, line in enumerate(lines):
        draw.text((MARGIN, top + size[1] + MARGIN + i * line_height), line, fill="black", font=font)
    return canvas


def wrap(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most `width` pixels: broken between words, and within a word that is longer than a line.

    Spaces inside a line are kept as they are.
    """
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split(" "):
            if line and font.getlength(f"{line} {word}") > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
            while font.getlength(line) > width and len(line) > 1:
                fits = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or font.getlength(line[:n]) <= width)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    return lines
