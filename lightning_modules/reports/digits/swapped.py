"""Decoding a code with another digit: how often the classifier sees that digit, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from callbacks.names import ACCURACY, MSE, RECONSTRUCTIONS
from callbacks.run_files import png_path
from lightning_modules.reports.digits.grids import grid_of, original_of
from lightning_modules.reports.digits.models import CLASSES, DatasetModels, Model
from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.digits.tiles import EMPTY, GAP, TEXT, Grey, read_grey, save_png
from lightning_modules.reports.lettering import font
from lightning_modules.reports.section import Section, Shown
from lightning_modules.reports.table import Cell, Column, Missing, Table

PREFIX = "g2_as_"
SCALE = 2
"""Pixels of the picture per pixel of an image."""
HEAD = 24
"""Room for the labels, in pixels."""
MSE_TOLERANCE = 1e-6
"""Pictures that are further from the record's MSE are not what was measured."""


def swapped_accuracy(model: Model) -> dict[int, float]:
    """Label k -> share, in percent, of the images of other digits that the classifier sees as k once decoded so."""
    found = {k: result.value(ACCURACY) for k in range(CLASSES) if (result := model.series.get(f"{PREFIX}{k}"))}
    return {k: value for k, value in found.items() if value is not None}


def swapped_section(models: DatasetModels) -> Section | None:
    """Table and picture; `None` where no model was decoded with other labels."""
    decoded = [model for model in models.labelled if any(name.startswith(PREFIX) for name in model.series)]
    if not decoded:
        return None
    tiles, remarks = collect(decoded[0])
    shown: tuple[Shown, ...] = ()
    if any(tile is not None for row in tiles for tile in row[1:]):
        alt = f"Rows: the first test image of each digit. Columns: the original, then decoded as 0 to 9, {decoded[0]}"
        shown = (Shown("swapped", alt, partial(_write, tiles), "pictures"),)
    text = (
        "The proposed g2 decodes each code with label k instead of the image's own; shown is the share, in percent, "
        "that the classifier sees as k. Images whose own digit is k are left out.",
    )
    return Section("Decoding with another digit", text, (_table(decoded),), shown, tuple(remarks))


def collect(model: Model) -> tuple[list[list[Grey | None]], list[str]]:
    """The tiles of the picture: for each digit the original and its ten decodings, `None` where there is none."""
    own = model.series.get("g2")
    if own is None:
        return [], [f"No picture of swapped labels: there is no record of g2 of {model}."]
    tiles: list[list[Grey | None]] = []
    remarks, absent = [], 0
    for digit in range(CLASSES):
        place = next((i for i, row in enumerate(own.rows) if row["label"] == digit), None)
        if place is None:
            remarks.append(f"No test image is a {digit}.")
            tiles.append([None] * (CLASSES + 1))
            continue
        series = [own if k == digit else model.series.get(f"{PREFIX}{k}") for k in range(CLASSES)]
        decoded = [None if result is None else _decoded(result, place, own.rows[place]) for result in series]
        absent += sum(tile is None for tile in decoded)
        tiles.append([_original(own, place, decoded[digit], remarks), *decoded])
    if absent:
        remarks.append(
            f"{absent} places of the picture are empty: neither {RECONSTRUCTIONS}/ nor grids/ of "
            f"{own.run_dir.name} has these decodings."
        )
    return tiles, remarks


def _decoded(result: Result, place: int, row: Mapping[str, Any]) -> Grey | None:
    """A reconstruction: its own file if there is one, else its tile of the grid."""
    path = png_path(result.run_dir / RECONSTRUCTIONS, result.series, row["name"])
    return read_grey(path) if path.is_file() else _cut(grid_of(result), place, row)


def _original(own: Result, place: int, decoded: Grey | None, remarks: list[str]) -> Grey | None:
    """The original from the grid of the first test images, if it is the one that the record measured against."""
    row = own.rows[place]
    tile = _cut(original_of(own), place, row)
    if tile is None:
        remarks.append(f"No original of {row['name']}: {original_of(own).name} is not there, or ends before it.")
    elif decoded is not None and row[MSE] is not None:
        mse = float(np.mean((tile.astype(np.float64) - decoded) ** 2)) / 255**2
        if abs(mse - float(row[MSE])) > MSE_TOLERANCE:
            remarks.append(
                f"No original of {row['name']}: with it the MSE is {mse:.6f}, and the record has {row[MSE]:.6f}."
            )
            return None
    return tile


def _cut(path: Path, place: int, row: Mapping[str, Any]) -> Grey | None:
    """The tile of the image at a place of the test set from a grid; `None` where the grid is missing or smaller."""
    grid = read_grey(path)
    height, width = row["height"], row["width"]
    if grid is None or grid.shape[1] < width:
        return None
    line, column = divmod(place, grid.shape[1] // width)
    top, left = line * height, column * width
    tile = grid[top : top + height, left : left + width]
    return tile if tile.shape == (height, width) else None


def _table(decoded: list[Model]) -> Table:
    columns = (
        Column("code bits"),
        Column("rate", "bits", False, 2),
        *(Column(f"as {k}", "%", True, 1) for k in range(CLASSES)),
        Column("mean", "%", True, 2),
    )
    rows: list[tuple[Cell, ...]] = []
    for model in decoded:
        found = swapped_accuracy(model)
        cells: list[Cell] = []
        for k in range(CLASSES):
            result = model.series.get(f"{PREFIX}{k}")
            reason = f"no record of {PREFIX}{k}" if result is None else result.why_missing(ACCURACY)
            cells.append(found.get(k, Missing(reason)))
        lacking = [str(k) for k in range(CLASSES) if k not in found]
        mean: Cell = Missing(f"labels {', '.join(lacking)} are missing") if lacking else sum(found.values()) / CLASSES
        rows.append((model.code_bits, model.first.rate, *cells, mean))
    return Table(
        "swapped", "Share that the classifier sees as the label they were decoded with.", columns, tuple(rows)
    )


def _write(tiles: list[list[Grey | None]], stem: Path) -> list[Path]:
    height, width = next(tile.shape for row in tiles for tile in row if tile is not None)
    size = SCALE * width, SCALE * height
    # The originals stand a little apart.
    lefts = [0, *(size[0] + GAP + k * size[0] for k in range(CLASSES))]
    canvas = Image.new("L", (lefts[-1] + size[0], HEAD + CLASSES * size[1]), 255)
    draw = ImageDraw.Draw(canvas)
    for left, title in zip(lefts, ("original", *map(str, range(CLASSES))), strict=True):
        draw.text((left + size[0] // 2, HEAD // 2), title, 0, font(TEXT), anchor="mm")
    for i, row in enumerate(tiles):
        for left, tile in zip(lefts, row, strict=True):
            pixels = np.full((height, width), EMPTY, np.uint8) if tile is None else tile
            canvas.paste(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST), (left, HEAD + i * size[1]))
    return save_png(canvas, stem)
