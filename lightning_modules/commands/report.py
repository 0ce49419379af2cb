"""`report`: result records to a page with curves, BD tables and pictures, on disk or served while they arrive."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.reporting import report_errors
from lightning_modules.reports.errors import ReportError

if TYPE_CHECKING:
    from lightning_modules.reports.writer import Options

TITLE = "Rate-distortion report"
PORT = 8765


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli report",
        description="Make a report from result records: one HTML page with rate-distortion curves, BD tables, costs "
        "and pictures, and the figures, tables and pictures as files for papers. With --watch the page is served "
        "instead, and follows the records while they arrive.",
        epilog="examples: report runs/demo/results docs/results/kodak_anchors -o report --anchor jpeg; "
        "report runs/taco --watch",
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="result records, or folders that hold them"
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the report")
    place.add_argument(
        "--watch",
        action="store_true",
        help="write nothing, but serve the page to this machine's browsers and make it anew when records arrive; "
        "RESULTS need not exist yet",
    )
    parser.add_argument(
        "--port",
        type=_port,
        metavar="N",
        help=f"where --watch serves: http://127.0.0.1:N/ (default: {PORT}; 0 for a free one)",
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that holds other files too")
    parser.add_argument(
        "--anchor",
        metavar="CODEC",
        help="what BD values are against; default: JPEG if it was measured, else the codec with the most points",
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
    parser.add_argument("--title", default=TITLE, help=f"title of the page (default: {TITLE})")
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: Records that cannot be read or compared, choices that they do not have, an output folder that
            holds something else, or a port that is taken.
    """
    options = _parser().parse_args(args)
    if options.originals is not None and not options.originals.is_dir():
        raise CommandError(f"--originals {options.originals}: no such folder")
    if options.port is not None and not options.watch:
        raise CommandError(f"--port {options.port} is of --watch, which serves the page instead of writing it to -o")
    if options.force and options.watch:
        raise CommandError("--force is of -o; --watch writes nothing")
    (_watch if options.watch else _make)(options)


def _make(options: argparse.Namespace) -> None:
    # Drawing and what it imports take seconds to load, which the other verbs need not wait for.
    from lightning_modules.reports.make import make_report

    with report_errors(options.output):
        make_report(
            options.results, options.output, _chosen(options), options.references, options.dataset, options.force
        )


def _watch(options: argparse.Namespace) -> None:
    port = PORT if options.port is None else options.port
    try:
        from lightning_modules.reports.live.watch import watch

        watch(options.results, port, _chosen(options), options.references, options.dataset)
    except ReportError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        print("\nstopped", flush=True)


def _chosen(options: argparse.Namespace) -> Options:
    from lightning_modules.reports.writer import Options

    return Options(
        title=options.title,
        anchor=options.anchor,
        pictures=options.pictures,
        match_bpp=options.match_bpp,
        zoom=options.zoom,
        originals=options.originals,
        common_range=options.common_range,
        log_rate=options.log_rate,
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


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
