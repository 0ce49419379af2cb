"""How a codec looks in every figure of a report: name, colour, marker, line; and what the axes say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from callbacks.names import MS_SSIM
from lightning_modules.reports.figures import digits_of
from lightning_modules.reports.model import Curve, Figure, Kind

Line = Literal["solid", "dashed", "none"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7a7a7a")
"""Okabe and Ito, "Color Universal Design" (2008), told apart with every common colour vision; grey replaces their
yellow, which white paper swallows."""

MARKERS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("triangle-down", "v"),
    ("cross", "P"),
    ("pentagon", "p"),
    ("star", "*"),
    ("x", "X"),
)
"""Plotly's and matplotlib's name of each marker. There are nine beside eight colours, so 72 codecs look different."""

LINES: dict[Kind, Line] = {"measured": "solid", "compressai": "dashed", "printed": "none"}
SUFFIXES: dict[Kind, str] = {"measured": "", "compressai": " (CompressAI)", "printed": " (printed)"}

CODEC_TITLES = {
    "jpeg": "JPEG",
    "webp": "WebP",
    "avif": "AVIF",
    "jpegxl": "JPEG XL",
    "jpeg_xl": "JPEG XL",
    "jxl": "JPEG XL",
    "bpg": "BPG",
    "vtm": "VTM",
    "hm": "HM",
    "taco": "TACO",
    "elic": "ELIC",
}

RATE_TITLE = "rate (bits per pixel)"


@dataclass(frozen=True)
class CurveStyle:
    """How one curve is drawn."""

    title: str
    """As the legend has it."""
    colour: str
    plotly_marker: str
    matplotlib_marker: str
    line: Line
    filled: bool
    """Markers of figures that were not measured here are open."""


def readable(curves: Sequence[Curve]) -> list[Curve]:
    """The same curves with codecs named as readers know them: "jpeg" becomes "JPEG", a published curve says so.

    What stands behind a name in brackets (a variant, an origin) stays. Names are unique within a dataset, as they
    were; where two would become one, the records' own stay.
    """
    names = [_title(curve) for curve in curves]
    places = [(curve.dataset, name.casefold()) for curve, name in zip(curves, names, strict=True)]
    unique = [
        name if places.count(place) == 1 else curve.codec
        for curve, name, place in zip(curves, names, places, strict=True)
    ]
    return [
        replace(curve, codec=name, points=tuple(replace(point, codec=name) for point in curve.points))
        for curve, name in zip(curves, unique, strict=True)
    ]


def style_curves(curves: Sequence[Curve]) -> list[CurveStyle]:
    """One style per curve, in the order given.

    Colour and marker belong to the codec: they are the same in every figure, on every dataset, and for measured and
    published figures of one codec, which the line and the filling tell apart. Pass the curves of all datasets at
    once. Codecs that were measured come first in the palette.
    """
    ranked = sorted(curves, key=lambda curve: (list(LINES).index(curve.kind), curve.codec.casefold()))
    order = list(dict.fromkeys(_without_suffix(curve.codec).casefold() for curve in ranked))
    styles = []
    for curve in curves:
        i = order.index(_without_suffix(curve.codec).casefold())
        line, filled = LINES[curve.kind], curve.kind == "measured"
        styles.append(CurveStyle(curve.codec, COLOURS[i % len(COLOURS)], *MARKERS[i % len(MARKERS)], line, filled))
    return styles


def _title(curve: Curve) -> str:
    base, bracket, rest = _split(_without_suffix(curve.codec))
    return CODEC_TITLES.get(base.casefold(), base) + bracket + rest + SUFFIXES[curve.kind]


def _split(name: str) -> tuple[str, str, str]:
    """The codec, and what stands in brackets behind it."""
    starts = [name.index(bracket) for bracket in (" (", " [") if bracket in name]
    at = min(starts, default=len(name))
    return name[:at], name[at : at + 2], name[at + 2 :]


def _without_suffix(name: str) -> str:
    for suffix in (*SUFFIXES.values(), " (published)"):
        if suffix:
            name = name.removesuffix(suffix)
    return name


def in_decibel(figure: Figure) -> bool:
    """Whether the figure is drawn in dB though it is recorded without a unit: MS-SSIM, whose curves would all
    cling to 1."""
    return figure.name == MS_SSIM


def drawn(figure: Figure, value: float) -> float:
    """The height at which a value is drawn: itself, or -10 log10(1 - MS-SSIM)."""
    if not in_decibel(figure):
        return value
    return -10 * math.log10(1 - value) if value < 1 else math.inf


def axis_title(figure: Figure) -> str:
    """Name, unit, and which way is better, for example "PSNR (dB) ↑"."""
    unit = "dB" if in_decibel(figure) else figure.unit
    arrow = {True: " ↑", False: " ↓", None: ""}[figure.higher_is_better]
    return figure.title + (f" ({unit})" if unit else "") + arrow


def value_text(figure: Figure, value: float) -> str:
    """A value with its unit, in the digits of the tables; MS-SSIM also in dB, as it is drawn."""
    text = f"{value:.{digits_of(figure)}f}"
    if in_decibel(figure) and value < 1:
        return f"{text} ({drawn(figure, value):.2f} dB)"
    return f"{text} {figure.unit}".rstrip()


def drawn_points(curve: Curve, figure: Figure) -> list[tuple[float, float, int]]:
    """Rate (bpp), height and index of the points of a curve that have the figure and can be drawn."""
    points = []
    for i, point in enumerate(curve.points):
        if figure.name in point.figures:
            height = drawn(figure, point.figures[figure.name])
            if math.isfinite(height) and math.isfinite(point.bpp) and point.bpp > 0:
                points.append((point.bpp, height, i))
    return points
