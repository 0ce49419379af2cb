"""`prepare`: data sets downloaded, checked, unpacked, and packed into shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_modules.commands.errors import CommandError

if TYPE_CHECKING:
    from datamodules.preparation.releases import Release
    from datamodules.samples import Sample


_OPTIONS = {"set --data.root to": "name", "--data.captions_file": "--captions", "--data.join": "--join"}
"""What `prepare shards` calls the settings of a folder of images."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli prepare",
        description="Get data ready. Both commands can be interrupted and repeated: what is done is not done again.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{coco,shards}")
    coco = commands.add_parser(
        "coco",
        help="downloads COCO with captions, checks it and unpacks it",
        description="Download COCO's published zip files, check them, unpack them into ROOT in the official layout "
        "and count images and captions. 2014 takes 20.4 GB to download, and at most twice that on disk.",
        epilog="example: prepare coco --root data/coco --shards parquet",
    )
    coco.add_argument("--root", type=Path, required=True, help="folder of the data set; made if it does not exist")
    coco.add_argument("--year", type=int, choices=(2014, 2017), default=2014, help="2014 is what TACO used (default)")
    coco.add_argument("--splits", nargs="+", choices=("train", "val"), default=["train", "val"], help="default: both")
    coco.add_argument(
        "--shards",
        choices=("none", "parquet", "webdataset"),
        default="none",
        help="also write shards for streaming, to ROOT/shards/train2014 and so on (default: none)",
    )
    source = coco.add_mutually_exclusive_group()
    source.add_argument("--mirror", metavar="URL", help="server with the layout of http://images.cocodataset.org")
    source.add_argument(
        "--archives", type=Path, metavar="DIR", help="folder that holds the zip files, for machines without network"
    )
    coco.add_argument(
        "--keep_archives", action="store_true", help="leave downloaded zip files in ROOT/archives when unpacked"
    )
    _add_shard_options(coco)

    shards = commands.add_parser(
        "shards",
        help="packs a folder of captioned images into shards",
        description="Pack the images of a folder and their captions into shards for streaming, with an index.json.",
        epilog="example: prepare shards photographs --captions photographs/captions.json -o photographs_shards",
    )
    shards.add_argument("folder", type=Path, help="folder with the images")
    shards.add_argument("--captions", metavar="FILE", help="their captions, .json, .jsonl or .csv (default: none)")
    shards.add_argument(
        "--join",
        choices=("name", "stem"),
        default="name",
        help="stem: names in FILE and of images may differ in folder and ending",
    )
    shards.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the shards")
    shards.add_argument("--format", choices=("parquet", "webdataset"), default="parquet", help="default: parquet")
    _add_shard_options(shards)
    return parser


def _add_shard_options(parser: argparse.ArgumentParser) -> None:
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--shard_count",
        type=_count,
        metavar="N",
        help="number of shards, best a multiple of processes x workers (default: 128, or all images if fewer)",
    )
    amount.add_argument("--shard_size", type=_count, metavar="N", help="instead: at most N images in a shard")
    parser.add_argument("--seed", type=int, default=0, help="of the order of images in shards (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace files of other content that are in the way")
    parser.add_argument("--verify", action="store_true", help="check the SHA-256 of shards that are there, too")


def main(args: list[str], releases: Mapping[int, Release] | None = None) -> None:
    """Run the verb.

    Args:
        args: Arguments after the verb.
        releases: What is published, by year; None for COCO as it is.

    Raises:
        CommandError: Data cannot be had or written, or are not what is published.
        SystemExit: With code 130 after Ctrl-C.
    """
    options = _parser().parse_args(args)
    # The datamodules import Lightning, which the other verbs need not wait for.
    from datamodules.errors import DataError
    from datamodules.preparation import COCO

    try:
        if options.command == "coco":
            _coco(options, COCO if releases is None else releases)
        else:
            _shards(options)
    except DataError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error}: mend this, and the same command continues") from error
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        raise SystemExit(130) from None


def _coco(options: argparse.Namespace, releases: Mapping[int, Release]) -> None:
    from datamodules import CocoCaptionsDataModule
    from datamodules.preparation import prepare_coco
    from datamodules.preparation.releases import OFFICIAL_SERVER

    done = prepare_coco(
        options.root,
        releases[options.year],
        options.splits,
        options.mirror or OFFICIAL_SERVER,
        options.archives,
        options.keep_archives,
        options.force,
    )
    if not done:
        print(f"{options.root} was complete already")
    if options.shards == "none":
        return
    data = CocoCaptionsDataModule(str(options.root), year=options.year)
    for split in options.splits:
        samples = data.training_samples() if split == "train" else data.test_samples()
        _write(options, samples, options.root / "shards" / f"{split}{options.year}", options.shards)


def _shards(options: argparse.Namespace) -> None:
    from datamodules import CaptionedFolderDataModule
    from datamodules.errors import DataError

    if not options.folder.is_dir():
        raise CommandError(f"there is no folder {options.folder}: name the one that holds the images")
    if options.captions is not None and not Path(options.captions).is_file():
        raise CommandError(
            f"there is no caption file {options.captions}: set --captions to a .json, .jsonl or .csv file, or "
            "leave it out"
        )
    data = CaptionedFolderDataModule(str(options.folder), options.captions, join=options.join)
    try:
        samples = data.training_samples()
    except DataError as error:  # its remedy names the settings of a config, which here are options
        message = str(error)
        for setting, option in _OPTIONS.items():
            message = message.replace(setting, option)
        raise CommandError(message) from error
    _write(options, samples, options.output, options.format)


def _write(options: argparse.Namespace, samples: Sequence[Sample], folder: Path, format: str) -> None:
    from datamodules.preparation.shards import SHARD_COUNT, write_shards

    count = options.shard_count or min(SHARD_COUNT, len(samples))
    if options.shard_size:
        count = -(-len(samples) // options.shard_size)
    write_shards(samples, folder, format, count, options.seed, options.force, options.verify)  # type: ignore[arg-type]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)
