"""Pictures at matched rate: which to show, and whether the files are what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from callbacks.names import BPP, PSNR
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve, Picture, Point

Pixels = NDArray[np.uint8]
"""(H, W, 3), 8-bit RGB."""

PSNR_TOLERANCE = 0.01
"""dB; files whose PSNR is further from the record's are not what was measured."""
ERROR_SCALE = 32
"""Error maps end at this luma difference, in 8-bit levels; greater ones look the same."""
MAX_ZOOM = 6
MIN_WINDOW = 64
"""Narrowest window that is chosen on its own, in pixels."""
SUFFIXES = ("", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
"""Tried behind an image's name in the folder of originals."""


class Window(NamedTuple):
    """A rectangle in pixels, from its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What lies in it."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True)
class Reconstruction:
    """One codec's picture of an image."""

    codec: str
    label: str
    """The setting."""
    picture: Picture
    pixels: Pixels

    @property
    def bpp(self) -> float:
        """Rate of this image."""
        return self.picture.figures[BPP]


@dataclass(frozen=True)
class Match:
    """One image, and every codec's picture of it nearest to one rate."""

    dataset: str
    name: str
    target: float
    """The rate that was asked for, in bpp."""
    original: Pixels
    reconstructions: tuple[Reconstruction, ...]
    zoom: Window
    absent: tuple[str, ...]
    """Codecs that are not shown, and why."""


class _NotShownError(Exception):
    """Why a picture is not shown."""


def match_pictures(
    curves: Sequence[Curve],
    choice: int | Sequence[str],
    target: float | None = None,
    zoom: tuple[int, int, int] | None = None,
    originals: Path | None = None,
) -> tuple[list[Match], list[str]]:
    """Pictures of some images of one dataset, at matched rate.

    For each image, each codec is shown at the point whose rate for this image is nearest to the target, in ratio,
    among the points whose reconstruction is on disk. A picture is only shown where original and reconstruction have
    the PSNR that the record states, to 0.01 dB.

    Args:
        curves: of one dataset; only measured ones have pictures.
        choice: how many images, by name, those that most codecs have first; or the names of those that are shown if
            the dataset has them.
        target: rate in bpp; without it, `common_rate` of each image.
        zoom: x, y and width of the enlarged window in pixels, its height as the picture's shape has it; without
            it, the window in which the codecs differ most.
        originals: folder of the originals, instead of the paths in the records.

    Returns:
        The images that can be shown, and why others, asked for or next in order, cannot.

    Raises:
        ReportError: the window lies outside a picture.
    """
    known: dict[str, int] = {}
    for curve in curves:
        for name in {picture.name for point in curve.points for picture in point.pictures}:
            known[name] = known.get(name, 0) + 1
    if isinstance(choice, int):
        names = sorted(known, key=lambda name: (-known[name], name))
        wanted = choice
    else:
        choice = [name for name in choice if name in known]
        names, wanted = list(choice), len(choice)
    matches: list[Match] = []
    problems: list[str] = []
    for name in names:
        if len(matches) == wanted or (isinstance(choice, int) and len(problems) >= wanted):
            break
        match = _match(curves, name, target, zoom, originals)
        if match.reconstructions:
            matches.append(match)
        else:
            problems.append(f"{name}: " + "; ".join(match.absent))
    return matches, problems


def common_rate(rates: Sequence[Sequence[float]]) -> float:
    """The rate at which codecs are best compared: the median of those within reach of the most codecs.

    A codec reaches the rates between its lowest and its highest. Kept are, of all rates, those that the greatest
    number of codecs reach; their median is the target.

    Args:
        rates: of each codec, in bpp; at least one in all.
    """
    ranges = [(min(column), max(column)) for column in rates if column]
    everything = sorted(rate for column in rates for rate in column)
    reach = [sum(low <= rate <= high for low, high in ranges) for rate in everything]
    return statistics.median(rate for rate, count in zip(everything, reach, strict=True) if count == max(reach))


def psnr(a: Pixels, b: Pixels) -> float:
    """PSNR of 8-bit pictures in dB, over all pixels and channels; `inf` where they are equal."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def luma(pixels: Pixels) -> NDArray[np.float64]:
    """Y' of ITU-R BT.601, 0 to 255."""
    weights: NDArray[np.float64] = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return weights


def error_levels(a: Pixels, b: Pixels) -> Pixels:
    """(H, W) absolute luma difference; 0 to `ERROR_SCALE` becomes 0 to 255, greater ones are 255."""
    difference = np.abs(luma(a) - luma(b)) * (255 / ERROR_SCALE)
    return np.clip(np.rint(difference), 0, 255).astype(np.uint8)


def zoom_factor(width: int) -> int:
    """How many times a window chosen on its own is enlarged in a picture of this width."""
    return max(1, min(MAX_ZOOM, width // MIN_WINDOW))


def telling_window(original: Pixels, others: Sequence[Pixels]) -> Window:
    """The window in which the luma of the reconstructions differs most, or with only one, from the original."""
    height, width = original.shape[:2]
    factor = zoom_factor(width)
    window_height, window_width = max(1, height // factor), max(1, width // factor)
    lumas = [luma(pixels) for pixels in (others if len(others) > 1 else [original, *others])]
    spread = np.std(np.stack(lumas), axis=0)
    table = np.pad(spread.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = (
        table[window_height:, window_width:]
        - table[:-window_height, window_width:]
        - table[window_height:, :-window_width]
        + table[:-window_height, :-window_width]
    )
    y, x = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return Window(int(x), int(y), window_width, window_height)


def _match(
    curves: Sequence[Curve],
    name: str,
    target: float | None,
    zoom: tuple[int, int, int] | None,
    originals: Path | None,
) -> Match:
    pairs: dict[str, list[tuple[Point, Picture]]] = {}
    absent: dict[str, list[str]] = {}
    """Reason -> codecs."""
    for curve in curves:
        here = [(point, picture) for point in curve.points for picture in point.pictures if picture.name == name]
        on_disk = [(point, picture) for point, picture in here if picture.reconstruction is not None]
        if on_disk:
            pairs[curve.codec] = on_disk
        elif here:
            absent.setdefault(_reconstruction_missing(here[0][0], name), []).append(curve.codec)
    rates = [[picture.figures[BPP] for _, picture in column] for column in pairs.values()]
    rate = target if target is not None else common_rate(rates) if rates else math.nan
    original: Pixels | None = None
    shown = []
    for codec, column in pairs.items():
        point, picture = min(column, key=lambda pair: abs(math.log(pair[1].figures[BPP] / rate)))
        try:
            reference, pixels = _verified(point, picture, originals)
            if original is not None and not np.array_equal(reference, original):
                raise _NotShownError("its original is another picture than that of the codecs before it")
        except _NotShownError as error:
            absent.setdefault(str(error), []).append(codec)
        else:
            original = reference
            shown.append(Reconstruction(codec, point.label, picture, pixels))
    reasons = tuple(f"{', '.join(codecs)}: {reason}" for reason, codecs in absent.items())
    if original is None:
        empty = np.zeros((0, 0, 3), np.uint8)
        return Match(curves[0].dataset, name, rate, empty, (), Window(0, 0, 0, 0), reasons)
    window = _given_window(original, zoom, name) if zoom else telling_window(original, [r.pixels for r in shown])
    return Match(curves[0].dataset, name, rate, original, tuple(shown), window, reasons)


def _reconstruction_missing(point: Point, name: str) -> str:
    stated = _stated(point, name, "reconstruction")
    if stated is None:
        return "the record names no reconstruction; test again and let it write them beside the record"
    return f"reconstruction {stated}, beside the record, is missing; copy it there, or test again"


def _stated(point: Point, name: str, key: str) -> str | None:
    """A path as the record has it."""
    rows = point.record["images"] if point.record is not None else []
    return next((row.get(key) for row in rows if row["name"] == name), None)


def _verified(point: Point, picture: Picture, originals: Path | None) -> tuple[Pixels, Pixels]:
    """Original and reconstruction, which have the recorded PSNR."""
    assert picture.reconstruction is not None, "chosen by the caller"
    path = picture.original if originals is None else _find_original(originals, picture.name)
    if path is None and originals is not None:
        raise _NotShownError(f"{originals} (--originals) holds no original of {picture.name}")
    if path is None:
        stated = _stated(point, picture.name, "original") or "not named in the record"
        raise _NotShownError(f"the original ({stated}) is not on this machine; name its folder with --originals")
    original, pixels = _read(path), _read(picture.reconstruction)
    if original.shape != pixels.shape:
        raise _NotShownError(
            f"{path} has {original.shape[1]}x{original.shape[0]} pixels, the reconstruction {pixels.shape[1]}x"
            f"{pixels.shape[0]}: the original on disk is not what was measured (the dataset crops or resizes)"
        )
    measured = psnr(original, pixels)
    if PSNR not in picture.figures:
        # Identical pictures have no finite PSNR.
        if measured == math.inf:
            return original, pixels
        raise _NotShownError(f"the record has no PSNR of {picture.name} by which the files could be checked")
    if not abs(measured - picture.figures[PSNR]) <= PSNR_TOLERANCE:
        raise _NotShownError(
            f"{path} and {picture.reconstruction} have a PSNR of {measured:.3f} dB, the record says "
            f"{picture.figures[PSNR]:.3f} dB: the files on disk are not what was measured"
        )
    return original, pixels


def _find_original(folder: Path, name: str) -> Path | None:
    return next((folder / (name + suffix) for suffix in SUFFIXES if (folder / (name + suffix)).is_file()), None)


def _read(path: Path) -> Pixels:
    try:
        with Image.open(path) as opened:
            return np.array(ImageOps.exif_transpose(opened).convert("RGB"), dtype=np.uint8)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _NotShownError(f"{path} cannot be read as a picture ({error})") from error


def _given_window(original: Pixels, zoom: tuple[int, int, int], name: str) -> Window:
    height, width = original.shape[:2]
    x, y, size = zoom
    window = Window(x, y, size, max(1, round(size * height / width)))
    if size < 1 or x < 0 or y < 0 or x + window.width > width or y + window.height > height:
        raise ReportError(
            f"--zoom {x},{y},{size}: a window of {window.width}x{window.height} pixels there is not inside {name} "
            f"({width}x{height})"
        )
    return window
