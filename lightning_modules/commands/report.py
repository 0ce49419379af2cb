"""`report`: result records to a page with curves, BD tables and pictures, and to the same as files for papers."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lightning_modules.commands.errors import CommandError
from lightning_modules.reports.bd import bd_table
from lightning_modules.reports.curves import load_curves
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve
from lightning_modules.reports.sections import Part
from lightning_modules.reports.style import readable
from lightning_modules.reports.writer import Options, build_parts, write_report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli report",
        description="Make a report from result records: one HTML page with rate-distortion curves, BD tables, costs and "
        "pictures, and the figures, tables and pictures as files for papers.",
        epilog="example: report runs/demo/results docs/results/kodak_anchors -o report --anchor jpeg",
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="result records, or folders that hold them"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the report")
    parser.add_argument(
        "--anchor",
        metavar="CODEC",
        help="codec that BD values are against; without it JPEG if it was measured, else the codec with the most points",
    )
    parser.add_argument(
        "--references",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="overlay figures that papers print: these files, or without a file all of configs/references",
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="what CompressAI's result files were measured on, where they do not say"
    )
    parser.add_argument(
        "--common_range",
        action="store_true",
        help="BD values over the range that all codecs have in common, instead of each pair's own",
    )
    parser.add_argument("--log_rate", action="store_true", help="logarithmic rate axis (in the page: at first)")
    parser.add_argument(
        "--pictures",
        default=2,
        type=_pictures,
        metavar="N|NAME,...",
        help="how many images to show, or which (default: 2; 0 for none)",
    )
    parser.add_argument(
        "--match_bpp",
        type=_rate,
        metavar="BPP",
        help="rate at which codecs are shown; default: of each image the median of the rates that most codecs reach",
    )
    parser.add_argument(
        "--zoom",
        type=_zoom,
        metavar="X,Y,SIZE",
        help="enlarged window, its upper left corner and width in pixels; default: where the codecs differ most",
    )
    parser.add_argument(
        "--originals", type=Path, metavar="DIR", help="folder of the original images, if not where the records say"
    )
    parser.add_argument("--title", default=Options.title, help=f"title of the page (default: {Options.title})")
    parser.add_argument("--force", action="store_true", help="write into a folder that holds other files too")
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: Records that cannot be read or compared, choices that they do not have, or an output folder that
            holds something else.
    """
    options = _parser().parse_args(args)
    if options.originals is not None and not options.originals.is_dir():
        raise CommandError(f"--originals {options.originals}: no such folder")
    try:
        recorded = _load(options.results, options.references, options.dataset)
        curves = readable(recorded)
        parts = build_parts(
            curves,
            Options(
                title=options.title,
                anchor=_find_anchor(options.anchor, recorded, curves),
                pictures=options.pictures,
                match_bpp=options.match_bpp,
                zoom=options.zoom,
                originals=options.originals,
                common_range=options.common_range,
                log_rate=options.log_rate,
            ),
        )
        written = write_report(parts, options.output, options.title, options.force)
    except ReportError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{options.output}: cannot be written ({error})") from error
    for part in parts:
        _print_summary(part)
    folders = {path.parent.relative_to(options.output).as_posix() for path in written} - {"."}
    print(f"{options.output / 'index.html'}  (and {len(written) - 1} files in {', '.join(sorted(folders))})")


def _load(results: Sequence[Path], references: Sequence[Path] | None, dataset: str | None) -> list[Curve]:
    return load_curves(results, dataset)


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
            found = {row.codec: row.rate["pchip"].value for row in values.rows}
            for codec, cells in rows.items():
                value = found.get(codec)
                cells.append("n/a" if value is None else f"{value:+.1f} %")
        for codec, cells in rows.items():
            view.add_row(codec, *cells)
        console.print(view)
        console.print("(pchip; the page has the cubic fit and the ranges beside it)")
    for problem in part.problems:
        console.print(f"picture not shown: {problem}", soft_wrap=True)


def _pictures(text: str) -> int | tuple[str, ...]:
    if text.isdecimal():
        return int(text)
    names = tuple(name for name in text.split(",") if name)
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor names of images")
    return names


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate above 0 bpp")
    return rate


def _zoom(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts) or int(parts[2]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,SIZE in pixels, such as 320,200,128")
    return int(parts[0]), int(parts[1]), int(parts[2])
