"""Figures that papers print, from `configs/references`: curves to overlay, and rows for tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve, Point
from lightning_modules.reports.reference_file import Printed, Reference, read_reference

__all__ = [
    "FOLDER",
    "Printed",
    "Reference",
    "bd_references",
    "cost_references",
    "load_references",
    "read_reference",
    "reference_curves",
    "reference_points",
]

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "references"
"""The references of this repository."""


def load_references(paths: Sequence[Path] | None = None) -> list[Reference]:
    """Read and check references.

    Args:
        paths: Files, and folders whose `*.json` are read; `None` for all of `FOLDER`.

    Raises:
        ReportError: A folder holds none, or see `read_reference`.
    """
    files: dict[Path, Path] = {}
    for path in [FOLDER] if paths is None else paths:
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise ReportError(f"{path} holds no reference (*.json)")
        for file in found:
            files.setdefault(file.resolve(), file)
    return [read_reference(file) for file in files.values()]


def reference_points(references: Iterable[Reference]) -> list[Point]:
    """The points of all references of kind "rd" but doubtful ones; `label` is the setting, `remark` the note."""
    return [
        Point(
            codec=row.codec,
            dataset=reference.dataset,
            label=row.setting,
            bpp=row.bpp,
            figures=row.figures,
            source=row.source,
            kind="printed",
            remark=row.note,
        )
        for reference in references
        if reference.kind == "rd"
        for row in reference.rows
        if row.bpp is not None and not row.doubtful
    ]


def reference_curves(references: Iterable[Reference]) -> list[Curve]:
    """Curves of kind "printed", one per codec and dataset, with where they were printed and how as notes.

    Points that are probably misprints are left out, and the notes say so.
    """
    references = [reference for reference in references if reference.kind == "rd"]
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    notes: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for reference in references:
        for point in reference_points([reference]):
            key = point.codec, point.dataset
            groups[key].append(point)
            notes[key].setdefault(f"Printed in {point.source}.")
            notes[key].update(dict.fromkeys(reference.notes))
            if point.remark:
                notes[key].setdefault(f"{point.label}: {point.remark}" if point.label else point.remark)
    for reference in references:
        for row in reference.rows:
            key = row.codec, reference.dataset
            if row.doubtful and key in groups:
                notes[key].setdefault(f"Not drawn: {row.setting or 'a point'} of {row.source}. {row.doubtful}")
    return [
        Curve(codec, dataset, "printed", tuple(sorted(points, key=lambda p: p.bpp)), tuple(notes[codec, dataset]))
        for (codec, dataset), points in groups.items()
    ]


def bd_references(references: Iterable[Reference]) -> list[Reference]:
    """Tables of Bjøntegaard differences: `rows` against `anchor`, in `units`, doubtful ones marked."""
    return [reference for reference in references if reference.kind == "bd"]


def cost_references(references: Iterable[Reference]) -> list[Reference]:
    """Tables of parameters and times, in `units`, measured on `hardware`."""
    return [reference for reference in references if reference.kind == "cost"]
