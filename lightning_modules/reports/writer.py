"""A report on disk: the page, and the same figures, tables and pictures as files for papers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.figures import figures_of
from lightning_modules.reports.folder import ReportFolder
from lightning_modules.reports.model import Curve
from lightning_modules.reports.page import build_page
from lightning_modules.reports.pictures import match_pictures
from lightning_modules.reports.references import Reference
from lightning_modules.reports.sections import Part
from lightning_modules.reports.static_figures import write_panels, write_single
from lightning_modules.reports.strips import write_strip
from lightning_modules.reports.style import style_curves

PAGE = "index.html"
MANIFEST = "report.manifest"


@dataclass(frozen=True)
class Options:
    """What can be chosen in a report."""

    title: str
    anchor: str | None = None
    """Codec that BD values are against; `None` chooses by `default_anchor`."""
    pictures: int | tuple[str, ...] = 2
    """How many images are shown, or which."""
    match_bpp: float | None = None
    zoom: tuple[int, int, int] | None = None
    originals: Path | None = None
    common_range: bool = False
    log_rate: bool = False


def build_parts(curves: Sequence[Curve], options: Options, references: Sequence[Reference] = ()) -> list[Part]:
    """One part per dataset that has curves.

    Args:
        curves: of any number of datasets, under the names that the report shows.
        options: what was chosen.
        references: tables that papers print; those of a part's dataset are shown beside its own.

    Raises:
        ReportError: there are no curves, the anchor is none of them, or a picture or window that was asked for does
            not exist.
    """
    if not curves:
        raise ReportError("there are no result records to report")
    codecs = list(dict.fromkeys(curve.codec for curve in curves))
    if options.anchor is not None and options.anchor not in codecs:
        raise ReportError(f"no curve is called {options.anchor!r}, so it cannot be the anchor; there are: {codecs}")
    if not isinstance(options.pictures, int):
        known = {picture.name for curve in curves for point in curve.points for picture in point.pictures}
        if missing := [name for name in options.pictures if name not in known]:
            some = ", ".join(sorted(known)[:6]) or "none"
            raise ReportError(f"--pictures {missing[0]}: no record has such an image; they have {some}, ...")
    styles = dict(zip(map(id, curves), style_curves(curves), strict=True))
    parts: list[Part] = []
    for dataset in dict.fromkeys(curve.dataset for curve in curves):
        group = tuple(curve for curve in curves if curve.dataset == dataset)
        here = [curve.codec for curve in group]
        matches, problems = match_pictures(
            group, options.pictures, options.match_bpp, options.zoom, options.originals
        )
        parts.append(
            Part(
                dataset=dataset,
                slug=_unused(slug(dataset), [part.slug for part in parts]),
                curves=group,
                styles=tuple(styles[id(curve)] for curve in group),
                figures=tuple(figures_of(group)),
                anchor=options.anchor if options.anchor in here else default_anchor(group),
                matches=tuple(matches),
                problems=tuple(problems),
                common_range=options.common_range,
                log_rate=options.log_rate,
                references=tuple(reference for reference in references if reference.dataset == dataset),
            )
        )
    return parts


def default_anchor(curves: Sequence[Curve]) -> str | None:
    """The curve that the others of a dataset are compared with if none was chosen.

    JPEG, which everybody knows, if it was measured; else the measured curve with the most points, the first of
    equals; else, of published ones, the one with the most. `None` for a single curve.
    """
    if len(curves) < 2:
        return None
    measured = [curve for curve in curves if curve.kind == "measured"]
    jpeg = [curve for curve in measured if curve.codec.casefold() == "jpeg"]
    return max(jpeg or measured or curves, key=lambda curve: len(curve.points)).codec


def write_report(parts: Sequence[Part], folder: Path, title: str, force: bool = False) -> list[Path]:
    """Write a report; the page comes last, and is `index.html`.

    Files of an earlier report in the folder that this one does not have are removed; no other file is touched.

    Args:
        parts: from `build_parts`.
        folder: new, empty, or that of an earlier report.
        title: of the page.
        force: write into a folder that holds other files too.

    Returns:
        What was written.

    Raises:
        ReportError: the folder is a file, or holds something that is no report and `force` is false.
    """
    files = ReportFolder(folder, MANIFEST, force)
    strips = []
    for part in parts:
        figures = folder / "figures"
        for figure in part.figures:
            stem = figures / f"{part.slug}_{figure.name}"
            files.add(write_single(part.curves, part.styles, figure, stem, part.log_rate))
        if len(part.figures) > 1:
            stem = figures / f"{part.slug}_all"
            files.add(write_panels(part.curves, part.styles, part.figures, stem, part.log_rate))
        for table in [*part.tables(), *(part.bd(part.anchor) if part.anchor else [])]:
            if table.rows:
                for suffix, text in ((".csv", table.to_csv()), (".tex", table.to_latex())):
                    files.write_text(f"tables/{table.name}{suffix}", text)
        names: list[str] = []
        for match in part.matches:
            names.append(_unused(f"{part.slug}_{slug(Path(match.name).stem)}", names))
            files.add([write_strip(match, folder / "pictures" / f"{names[-1]}.png")])
        strips.append([f"pictures/{name}.png" for name in names])
    files.write_text(PAGE, build_page(parts, title, strips))
    files.finish()
    return [folder / name for name in files.written]


def slug(text: str) -> str:
    """A name as part of a file's name and of an address within the page."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "x"


def _unused(name: str, taken: Sequence[str]) -> str:
    number, candidate = 2, name
    while candidate in taken:
        number, candidate = number + 1, f"{name}-{number}"
    return candidate
