"""`compress`: photographs to files."""

import argparse
import json
import time
from pathlib import Path

from lightning_modules.codecs.checkpoint import load_codec
from lightning_modules.codecs.conditional_hyperprior import ConditionalHyperprior
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.commands.batch import add_shared_arguments, choose_device, pair, run_jobs
from lightning_modules.commands.conditional import check_label_maps, read_label_map
from lightning_modules.commands.digits import check_labels, compress_digits, labels_of
from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.pictures import read_picture
from lightning_modules.files import write_atomically


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli compress",
        description="Compress photographs to files.",
        epilog="example: compress photo.png photo.taco --checkpoint runs/taco/last.ckpt --caption 'a red door'",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="photographs, then the output: a file, or a folder for many"
    )
    parser.add_argument("--checkpoint", required=True, help="training checkpoint that holds the codec")
    captions = parser.add_mutually_exclusive_group()
    captions.add_argument("--caption", help="what the photograph shows; it steers the encoder and is not sent")
    captions.add_argument("--captions", help="JSON file that maps file names to captions, for many photographs")
    parser.add_argument(
        "--label",
        type=labels_of,
        metavar="N[,N...]",
        help="class of a digit, or of each digit of a stack; it is sent",
    )
    parser.add_argument(
        "--label_maps",
        metavar="PATH",
        help="PNG whose values are the classes of the photograph's pixels, of its size or an eighth of it; or a "
        "folder of such with the photographs' names. It is sent",
    )
    parser.add_argument("--background", help="colour under transparent pixels, such as white or #ffffff")
    add_shared_arguments(parser)
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: Arguments or pictures that cannot be used.
        CheckpointError: The checkpoint cannot be used.
    """
    options = _parser().parse_args(args)
    captions = _read_captions(options.captions)
    device = choose_device(options.device)
    # The suffix names the codec, which only the checkpoint knows; outputs are checked before work begins.
    codec, text_encoder = load_codec(options.checkpoint, device)
    jobs = pair(options.paths, f".{codec.name}", options.force)
    if text_encoder is None and (options.caption or options.captions):
        raise CommandError(f"{options.checkpoint} holds codec {codec.name}, which reads no caption: leave it out")

    check_labels(codec, options.label, options.checkpoint)
    check_label_maps(codec, options.label_maps, options.checkpoint)

    def work(source: Path, target: Path) -> str:
        picture = read_picture(source, options.background)
        start = time.perf_counter()
        caption = options.caption or ""
        if captions is not None:
            if source.name not in captions:
                raise CommandError(f"{source}: has no caption in {options.captions}; add it, or use --caption")
            caption = captions[source.name]
        text = None if text_encoder is None else text_encoder([caption])
        try:
            if isinstance(codec, DigitCodec):
                data = compress_digits(codec, picture, options.label, device)
            elif isinstance(codec, ConditionalHyperprior):
                x = picture.x.to(device)
                y = read_label_map(codec, options.label_maps, source, x) if options.label_maps else None
                data = codec.compress(x, y, greyscale=picture.greyscale)
            else:
                data = codec.compress(picture.x.to(device), text, greyscale=picture.greyscale)
        except (ValueError, CommandError) as error:
            raise CommandError(f"{source}: {error}") from error
        seconds = time.perf_counter() - start
        write_atomically(target, lambda draft: draft.write_bytes(data))
        height, width = picture.x.shape[-2:]
        bpp = 8 * len(data) / (height * width)
        return f"{source} -> {target}  {width}x{height}  {len(data)} bytes  {bpp:.4f} bpp  {seconds:.2f} s"

    run_jobs(jobs, work)


def _read_captions(path: str | None) -> dict[str, str] | None:
    if path is None:
        return None
    try:
        captions = json.loads(Path(path).read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError) as error:
        raise CommandError(f"--captions {path}: cannot be read as JSON ({error})") from error
    if not isinstance(captions, dict) or not all(isinstance(c, str) for c in captions.values()):
        raise CommandError(f"--captions {path}: should map file names to captions")
    return captions
