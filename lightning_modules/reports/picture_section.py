"""Pictures at matched rate as HTML, embedded without loss."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from lightning_modules.reports.pictures import (
    ERROR_SCALE,
    PSNR_TOLERANCE,
    Match,
    Pixels,
    Reconstruction,
    Window,
)
from lightning_modules.reports.strips import colour_map, error_picture, figures_in_words

MAX_PIXELS = 1 << 20
"""Of a larger picture only a part around the window is embedded: a page that takes minutes to open is not read."""


@dataclass(frozen=True)
class _Panel:
    name: str
    words: tuple[str, ...]
    image: str
    error: str | None


def picture_section(matches: Sequence[Match], problems: Sequence[str], files: Sequence[str]) -> str:
    """The pictures of one dataset.

    Args:
        matches: what is shown.
        problems: which images are not shown, and why.
        files: of each match, the address of its strip relative to the page.
    """
    parts = []
    if matches:
        parts.append(
            "<p>Each codec at the setting whose rate for this image is nearest to the stated one. The enlarged "
            "window follows the pointer (press and drag), or the arrow keys; at first it lies where the codecs "
            "differ most, unless it was chosen. Every picture shown has the PSNR that its record states, to "
            f"{PSNR_TOLERANCE} dB.</p>"
        )
        parts.append(_key())
    parts += [_article(match, file) for match, file in zip(matches, files, strict=True)]
    parts += [f'<p class="warning">Not shown: {html.escape(problem)}.</p>' for problem in problems]
    return "\n".join(parts)


def embed(picture: Image.Image) -> str:
    """A picture as the address of itself, lossless WebP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, quality=50, method=3, exact=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def shown_part(match: Match) -> Window:
    """The part of a picture that the page holds: all of it, or around the window where it is too large."""
    height, width = match.original.shape[:2]
    if height * width <= MAX_PIXELS:
        return Window(0, 0, width, height)
    shrink = (MAX_PIXELS / (height * width)) ** 0.5
    part_width = max(match.zoom.width, int(width * shrink))
    part_height = max(match.zoom.height, int(height * shrink))
    x = match.zoom.x + match.zoom.width // 2 - part_width // 2
    y = match.zoom.y + match.zoom.height // 2 - part_height // 2
    x, y = min(max(x, 0), width - part_width), min(max(y, 0), height - part_height)
    return Window(x, y, part_width, part_height)


def _article(match: Match, file: str) -> str:
    part = shown_part(match)
    height, width = match.original.shape[:2]
    cropped = (part.width, part.height) != (width, height)
    panels = [_Panel("Original", (f"{width}×{height} pixels",), _embed_part(match.original, part), None)]
    panels += [_panel(match, reconstruction, part) for reconstruction in match.reconstructions]
    window = (match.zoom.x - part.x, match.zoom.y - part.y, match.zoom.width, match.zoom.height)
    remark = f", the {part.width}×{part.height} pixels at ({part.x}, {part.y})" if cropped else ""
    lines = [
        f'<article class="match" data-width="{part.width}" data-height="{part.height}" '
        f'data-window="{",".join(map(str, window))}">',
        f"<h4>{html.escape(match.name)}<small>near {match.target:.3f} bpp{remark}</small></h4>",
        _swipe(panels, f"{match.dataset} {match.name}"),
        '<div class="panels">',
        *(_figure(panel, match, part) for panel in panels),
        "</div>",
        *(f'<p class="quiet">Not shown: {html.escape(reason)}.</p>' for reason in match.absent),
        f'<p class="files">The same for papers: <a href="{html.escape(file)}">PNG</a></p>',
        "</article>",
    ]
    return "\n".join(lines)


def _panel(match: Match, reconstruction: Reconstruction, part: Window) -> _Panel:
    signed = f"{100 * (reconstruction.bpp / match.target - 1):+.0f}".replace("-", "−")
    rate, *rest = figures_in_words(reconstruction)
    words = (f"{reconstruction.label} (rate {signed} %)", rate, *rest)
    error = embed(error_picture(part.cut(match.original), part.cut(reconstruction.pixels)).convert("RGB"))
    return _Panel(reconstruction.codec, words, _embed_part(reconstruction.pixels, part), error)


def _figure(panel: _Panel, match: Match, part: Window) -> str:
    size = f'width="{part.width}" height="{part.height}"'
    about = html.escape(f"{match.name}, {panel.name}")
    error = "" if panel.error is None else f'<img class="error" {size} src="{panel.error}" alt="{about}: luma error">'
    return (
        f'<figure class="panel" data-name="{html.escape(panel.name)}">'
        f"<figcaption><strong>{html.escape(panel.name)}</strong>"
        f"{'<br>'.join(html.escape(words) for words in panel.words)}</figcaption>"
        f'<div class="frame" tabindex="0" role="group" aria-label="{about}: arrow keys move the window">'
        f'<img {size} src="{panel.image}" alt="{about}"><div class="box"></div></div>'
        f'<canvas width="{match.zoom.width}" height="{match.zoom.height}" role="img" '
        f'aria-label="{about}: enlarged window"></canvas>{error}</figure>'
    )


def _swipe(panels: Sequence[_Panel], about: str) -> str:
    """Two pictures under a divider; the script fills it in, so it is hidden without."""

    def choice(label: str, chosen: int) -> str:
        options = "".join(
            f"<option{' selected' if i == chosen else ''}>{html.escape(panel.name)}</option>"
            for i, panel in enumerate(panels)
        )
        return f"<label>{label} <select>{options}</select></label>"

    return (
        '<div class="swipe" hidden><div class="controls">'
        f"{choice('Left', 0)}{choice('Right', 1)}</div>"
        '<div class="stage"><img alt=""><img alt=""><div class="divider"></div></div>'
        '<input type="range" min="0" max="100" step="0.1" value="50" autocomplete="off" '
        f'aria-label="Divider, {html.escape(about)}"></div>'
    )


def _key() -> str:
    stops = ", ".join("rgb({} {} {})".format(*colour) for colour in colour_map()[::15].tolist())
    return (
        '<p class="key"><span>Error maps: absolute luma difference, 8-bit levels, 0</span>'
        f'<span class="bar" style="background: linear-gradient(to right, {stops})"></span>'
        f"<span>{ERROR_SCALE} and more</span></p>"
    )


def _embed_part(pixels: Pixels, part: Window) -> str:
    return embed(Image.fromarray(part.cut(pixels)))
