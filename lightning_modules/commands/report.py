"""`report`: result records to a page with curves, BD tables and pictures, and to the same as files for papers."""

import argparse
import math
from pathlib import Path

from lightning_modules.commands.errors import CommandError
from lightning_modules.reports.errors import ReportError

TITLE = "Rate-distortion report"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli report",
        description="Make a report from result records: one HTML page with rate-distortion curves, BD tables, costs "
        "and pictures, and the figures, tables and pictures as files for papers.",
        epilog="example: report runs/demo/results docs/results/kodak_anchors -o report --anchor jpeg",
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="result records, or folders that hold them"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the report")
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
    # Drawing and what it imports take seconds to load, which the other verbs need not wait for.
    from lightning_modules.reports.make import make_report
    from lightning_modules.reports.writer import Options

    try:
        make_report(
            options.results,
            options.output,
            Options(
                title=options.title,
                anchor=options.anchor,
                pictures=options.pictures,
                match_bpp=options.match_bpp,
                zoom=options.zoom,
                originals=options.originals,
                common_range=options.common_range,
                log_rate=options.log_rate,
            ),
            options.references,
            options.dataset,
            options.force,
        )
    except ReportError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{options.output}: cannot be written ({error})") from error


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
