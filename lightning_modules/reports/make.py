"""From result files to a report on disk and its summary in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lightning_modules.reports.bd import BdValue, bd_table
from lightning_modules.reports.curves import load_curves
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve
from lightning_modules.reports.references import load_references, reference_curves
from lightning_modules.reports.sections import Part
from lightning_modules.reports.style import readable
from lightning_modules.reports.tables import LITTLE_OVERLAP
from lightning_modules.reports.writer import PAGE, Options, build_parts, write_report


def make_report(
    results: Sequence[Path],
    output: Path,
    options: Options,
    references: Sequence[Path] | None = None,
    dataset: str | None = None,
    force: bool = False,
) -> None:
    """Read result files, write a report, and print what was written with a table of BD-rates.

    Args:
        results: result records, or folders that hold them.
        output: folder of the report.
        options: what was chosen; the anchor under the record's name or the report's, in any case.
        references: files of printed figures to overlay; an empty list takes those of `configs/references` whose
            dataset is among the results; `None` has none.
        dataset: what CompressAI's files were measured on, where they do not say.
        force: write into a folder that holds other files too.

    Raises:
        ReportError: see `load_curves`, `choose_parts` and `write_report`.
    """
    parts = choose_parts(load_curves(results, dataset), options, references)
    written = write_report(parts, output, options.title, force)
    for part in parts:
        _print_summary(part)
    folders = {path.parent.relative_to(output).as_posix() for path in written} - {"."}
    print(f"{output / PAGE}  (and {len(written) - 1} files in {', '.join(sorted(folders))})")


def choose_parts(recorded: Sequence[Curve], options: Options, references: Sequence[Path] | None = None) -> list[Part]:
    """What a report shows of curves: with printed figures laid over, under readable names, a part per dataset.

    Args:
        recorded: from result files.
        options: see `make_report`.
        references: see `make_report`.

    Raises:
        ReportError: the anchor is none of the curves; or see `load_references` and `build_parts`.
    """
    printed = [] if references is None else load_references(references or None)
    datasets = {curve.dataset for curve in recorded}
    # Files that were named are shown in any case; of all there are, those that the results compare with.
    overlaid = [curve for curve in reference_curves(printed) if references or curve.dataset in datasets]
    everything = [*recorded, *overlaid]
    curves = readable(everything)
    return build_parts(curves, replace(options, anchor=_find_anchor(options.anchor, everything, curves)), printed)


def _find_anchor(wanted: str | None, recorded: Sequence[Curve], curves: Sequence[Curve]) -> str | None:
    """The anchor's name in the report; it may be given as the records have it, or as the report has it."""
    if wanted is None:
        return None
    for before, after in zip(recorded, curves, strict=True):
        if wanted.casefold() in (before.codec.casefold(), after.codec.casefold()):
            return after.codec
    names = ", ".join(dict.fromkeys(curve.codec for curve in recorded))
    raise ReportError(f"--anchor {wanted}: no such codec in these results; there are {names}")


def _print_summary(part: Part) -> None:
    """BD-rates of a dataset, and what could not be shown."""
    console = Console(highlight=False, markup=False)
    points = sum(len(curve.points) for curve in part.curves)
    console.print(f"{part.dataset}: {len(part.curves)} codecs, {points} points, {len(part.matches)} images shown")
    figures = [figure for figure in part.figures if figure.higher_is_better is not None]
    if part.anchor is not None and figures:
        view = Table(f"BD-rate against {part.anchor}", *(figure.title for figure in figures))
        for column in view.columns[1:]:
            column.justify = "right"
        rows: dict[str, list[str]] = {curve.codec: [] for curve in part.curves if curve.codec != part.anchor}
        for figure in figures:
            values = bd_table(part.curves, figure, part.anchor, ("pchip",), part.common_range)
            found = {row.codec: row.rate["pchip"] for row in values.rows}
            for codec, cells in rows.items():
                cells.append(_in_short(found.get(codec)))
        for codec, cells in rows.items():
            view.add_row(codec, *cells)
        console.print(view)
        thin = any(cell.endswith("*") for cells in rows.values() for cell in cells)
        mark = f"; * rests on under {LITTLE_OVERLAP:.0%} of what the two curves cover" if thin else ""
        console.print(f"(pchip{mark}; the page has the cubic fit and the ranges beside it)", soft_wrap=True)
    for problem in part.problems:
        console.print(f"picture not shown: {problem}", soft_wrap=True)


def _in_short(delta: BdValue | None) -> str:
    """A BD-rate, marked where little of the curves went into it."""
    if delta is None or delta.value is None:
        return "n/a"
    thin = delta.overlap is not None and delta.overlap < LITTLE_OVERLAP
    return f"{delta.value:+.1f} %" + ("*" if thin else "")
