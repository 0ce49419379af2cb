"""`decompress`: files to pictures, or a description of what files hold."""

import argparse
import time
from pathlib import Path

from lightning_modules.codecs.bitstream import VERSION, Bitstream
from lightning_modules.codecs.checkpoint import load_codec
from lightning_modules.codecs.codec import CODEC_IDS
from lightning_modules.codecs.conditional_codec import ConditionalCodec
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.commands.batch import add_shared_arguments, choose_device, pair, run_jobs
from lightning_modules.commands.conditional import check_realism_option
from lightning_modules.commands.digits import check_label
from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.pictures import PICTURE_SUFFIXES, write_picture


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli decompress",
        description="Decompress files to pictures; no caption is needed.",
        epilog="example: decompress photo.taco photo.png --checkpoint runs/taco/last.ckpt",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="files, then the output: a picture, or a folder for many"
    )
    parser.add_argument("--checkpoint", help="training checkpoint that the files were written with")
    parser.add_argument(
        "--realism",
        type=float,
        metavar="A",
        help="of codecs with two decoders: 0 for the least error, 1 (the default, if trained) for the most realism, "
        "or between; any of them from the same file",
    )
    parser.add_argument("--label", type=int, metavar="N", help="decode a digit as if its class were this one")
    parser.add_argument("--info", action="store_true", help="print what the files hold, and decode nothing")
    add_shared_arguments(parser)
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: Arguments that cannot be used.
        CheckpointError: The checkpoint cannot be used.
        BitstreamError: The file cannot be decoded.
    """
    options = _parser().parse_args(args)
    if options.info:
        run_jobs([(Path(p), Path(p)) for p in options.paths], lambda source, _: _describe(source))
        return
    if options.checkpoint is None:
        raise CommandError("--checkpoint is missing: files do not hold the decoder's weights")
    jobs = pair(options.paths, ".png", options.force)
    for _, target in jobs:
        if target.suffix.lower() not in PICTURE_SUFFIXES:
            raise CommandError(f"{target}: pictures are written losslessly, as {', '.join(PICTURE_SUFFIXES)}")
    device = choose_device(options.device)
    codec, _ = load_codec(options.checkpoint, device, encoder=False)
    check_realism_option(codec, options.realism, options.checkpoint)
    check_label(codec, options.label, options.checkpoint)

    def work(source: Path, target: Path) -> str:
        data = _read(source)
        start = time.perf_counter()
        if isinstance(codec, DigitCodec):
            x_hat = codec.decompress(data, options.realism, options.label)
        elif isinstance(codec, ConditionalCodec):
            x_hat = codec.decompress(data, options.realism)
        else:
            x_hat = codec.decompress(data)
        seconds = time.perf_counter() - start
        write_picture(target, x_hat, Bitstream.from_bytes(data).greyscale)
        return f"{source} -> {target}  {x_hat.shape[-1]}x{x_hat.shape[-2]}  {seconds:.2f} s"

    run_jobs(jobs, work)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"{path}: cannot be read ({error.strerror})") from error


def _describe(path: Path) -> str:
    data = _read(path)
    stream = Bitstream.from_bytes(data)
    codec = {number: name for name, number in CODEC_IDS.items()}.get(stream.codec_id, f"number {stream.codec_id}")
    channels = "greyscale" if stream.greyscale else "RGB"
    return "\n".join(
        (
            f"{path}",
            f"  format   version {VERSION}, intact",
            f"  codec    {codec}, weights {stream.fingerprint}",
            f"  picture  {stream.width}x{stream.height} {channels}",
            f"  size     {len(data)} bytes, {len(stream.payload)} of them payload",
            f"  rate     {8 * len(data) / (stream.width * stream.height):.4f} bpp",
        )
    )
