"""Size of label maps under lossless coders: CamVid's 24 validation maps at an eighth of 512x256.

    python benchmarks/label_maps.py [--root DATA_ROOT/camvid] [--width 512 --height 256] [--markdown PAGE]

PAGE is made, or gets a new table between its lines `<!-- label maps -->` and `<!-- end of label maps -->`; whatever
else stands in it stays.

Every size is of real bytes, headers included, but for the row of counts with back-off, which is of its
probabilities. Rows of the fitted model: this project's stream of one map alone, and the same probabilities through
`constriction`, whose coder is independent of ours. In a file the map shares its stream with the latents, so that the
coder's state, most of the difference to the probabilities, is paid once for all. Times are of one core, per map.
"""

import argparse
import io
import lzma
import os
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import constriction
import numpy as np
import pillow_jxl  # noqa: F401  # on import it tells Pillow of itself
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_modules.codecs.integer_frequencies import TOTAL
from lightning_modules.codecs.label_map_prior import LabelMapPrior
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder

CLASSES, SCALE = 12, 8
Coder = tuple[Callable[[Tensor], bytes], Callable[[bytes, Tensor], Tensor]]
"""Map to bytes; bytes, and a map of the same size, to the map."""
BEGIN, END = "<!-- label maps -->", "<!-- end of label maps -->"
"""Lines of a page between which the table is."""
_LZMA = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]


def read_maps(folder: Path, size: tuple[int, int]) -> list[Tensor]:
    """Label maps int64 (H, W) of a folder, resized to (width, height) by nearest sampling."""
    images = (Image.open(path).resize(size, Image.Resampling.NEAREST) for path in sorted(folder.glob("*.png")))
    return [torch.from_numpy(np.array(image)).long() for image in images]


def image_coder(name: str, **options: object) -> Coder:
    """A format of Pillow's."""

    def encode(labels: Tensor) -> bytes:
        file = io.BytesIO()
        Image.fromarray(labels.numpy().astype(np.uint8)).save(file, name, **options)
        return file.getvalue()

    def decode(data: bytes, like: Tensor) -> Tensor:
        return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("L"))).long()

    return encode, decode


def bytes_coder(encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes]) -> Coder:
    """A coder of byte strings."""
    return (
        lambda labels: encode(labels.numpy().astype(np.uint8).tobytes()),
        lambda data, like: torch.from_numpy(np.frombuffer(decode(data), np.uint8).copy()).long().view(like.shape),
    )


def deflate(data: bytes) -> bytes:
    """A bare DEFLATE stream."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    return coder.compress(data) + coder.flush()


def prior_coder(prior: LabelMapPrior) -> Coder:
    """This project's stream, with one map alone."""

    def encode(labels: Tensor) -> bytes:
        encoder = SymbolEncoder()
        prior.put(encoder, labels)
        return encoder.finish()[0]

    def decode(data: bytes, like: Tensor) -> Tensor:
        height, width = like.shape
        return prior.get(SymbolDecoder(data, prior.symbol_limit(height, width)), height, width)

    return encode, decode


def constriction_coder(prior: LabelMapPrior) -> Coder:
    """The probabilities of `prior` through constriction's range coder."""
    family = constriction.stream.model.Categorical(perfect=False)

    def encode(labels: Tensor) -> bytes:
        encoder = constriction.stream.queue.RangeEncoder()
        for symbols, rows in prior.coded(labels):
            encoder.encode(symbols.int().numpy(), family, (rows.double() / TOTAL).numpy())
        return bytes(encoder.get_compressed().tobytes())

    def decode(data: bytes, like: Tensor) -> Tensor:
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, np.uint32))
        height, width = like.shape

        def read(rows: Tensor) -> Tensor:
            return torch.from_numpy(decoder.decode(family, (rows.double() / TOTAL).numpy())).long()

        return prior.decoded(height, width, read)

    return encode, decode


def count_bits(training: list[Tensor], maps: list[Tensor]) -> float:
    """Mean bits of maps under counts of 0 to 6 neighbours, each order backing off to the one below.

    p_k = (max(n - d, 0) + (a + d t) p_{k-1}) / (N + a), with n and N the counts of the class and of the context,
    t the classes seen in it, d = 1/2: interpolated absolute discounting. The order and a = 150, which are the best on
    the validation maps, favour this row. Counts are of each training map at 16 of its 64 shifts, and mirrored.
    """
    offsets = ((0, -1), (-1, 0), (-1, 1), (-1, -1), (-1, 2), (0, -2))
    shifts = [(y, x) for y in range(0, SCALE, 2) for x in range(0, SCALE, 2)]
    shifted = np.stack([labels[y::SCALE, x::SCALE].numpy() for labels in training for y, x in shifts])
    shifted = np.concatenate((shifted, shifted[:, :, ::-1]))
    coded = np.stack([labels.numpy() for labels in maps])

    def keys(stack: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        padded = np.pad(stack, ((0, 0), (2, 0), (2, 2)), constant_values=CLASSES)
        result = [np.zeros(stack.size, np.int64)]
        for dy, dx in offsets:
            moved = padded[:, 2 + dy : 2 + dy + stack.shape[1], 2 + dx : 2 + dx + stack.shape[2]]
            result.append(result[-1] * (CLASSES + 1) + moved.reshape(-1))
        return result

    symbols = coded.reshape(-1)
    probability = np.full((symbols.size, CLASSES), 1 / CLASSES)
    discount, strength = 0.5, 150
    for seen, asked in zip(keys(shifted), keys(coded), strict=True):
        contexts, numbers = np.unique(seen, return_inverse=True)
        counts = np.bincount(numbers * CLASSES + shifted.reshape(-1), minlength=contexts.size * CLASSES)
        at = np.searchsorted(contexts, asked).clip(0, contexts.size - 1)
        n = counts.reshape(-1, CLASSES)[at] * (contexts[at] == asked)[:, None]
        backed_off = (strength + discount * (n > 0).sum(1, keepdims=True)) * probability
        probability = (np.maximum(n - discount, 0) + backed_off) / (n.sum(1, keepdims=True) + strength)
    return float(-np.log2(probability[np.arange(symbols.size), symbols]).sum() / len(maps))


def measured(coder: Coder, maps: list[Tensor]) -> tuple[float, float, float]:
    """Mean bits, and median milliseconds to encode and to decode.

    Raises:
        RuntimeError: A map came back changed.
    """
    encode, decode = coder
    bits, encoding, decoding = [], [], []
    for labels in maps[:1] + maps:  # the first warms up
        start = time.process_time()
        data = encode(labels)
        middle = time.process_time()
        back = decode(data, labels)
        encoding.append(middle - start)
        decoding.append(time.process_time() - middle)
        bits.append(8 * len(data))
        if not torch.equal(back, labels):
            raise RuntimeError("a coder that should be lossless is not")
    return statistics.mean(bits[1:]), 1e3 * statistics.median(encoding[1:]), 1e3 * statistics.median(decoding[1:])


def page_around(page: Path) -> tuple[str, str]:
    """What stands before the table of a page, and behind it; nothing where there is no page yet.

    Raises:
        ValueError: The page has no single place for the table.
    """
    if not page.exists():
        return "", ""
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    begins, ends = ([i for i, line in enumerate(lines) if line.strip() == mark] for mark in (BEGIN, END))
    if len(begins) != 1 or len(ends) != 1 or begins > ends:
        raise ValueError(
            f"{page} exists and has no place for the table: put one line {BEGIN} and below it one line {END} where "
            "it shall stand, or name a new file"
        )
    return "".join(lines[: begins[0]]), "".join(lines[ends[0] + 1 :])


def write_table(page: Path, table: str) -> None:
    """Put a table into a page in place of its older one; see `page_around`."""
    before, behind = page_around(page)
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}\n{behind}", encoding="utf-8")


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("DATA_ROOT", "data")) / "camvid"
    parser.add_argument("--root", type=Path, default=default, help="folder with trainannot and valannot")
    parser.add_argument("--width", type=int, default=512, help="of the images")
    parser.add_argument("--height", type=int, default=256, help="of the images")
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="also write the table to this page")
    options = parser.parse_args()
    if options.markdown:
        try:
            page_around(options.markdown)  # now, and not after minutes of measuring
        except ValueError as error:
            parser.error(str(error))
    torch.set_num_threads(1)
    size = options.width, options.height
    training, full = read_maps(options.root / "trainannot", size), read_maps(options.root / "valannot", size)
    if not training or not full:
        parser.error(f"no maps in {options.root}/trainannot or valannot: give CamVid's folder with --root")
    maps = [labels[::SCALE, ::SCALE].contiguous() for labels in full]

    prior = LabelMapPrior(CLASSES)
    start = time.process_time()
    prior.fit(training, SCALE)
    fit_seconds = time.process_time() - start
    rows: list[tuple[str, float, float | None, float | None]] = [
        (name, *measured(coder, maps))
        for name, coder in {
            "PNG": image_coder("PNG", optimize=True),
            "JPEG XL lossless, effort 9": image_coder("JXL", lossless=True, effort=9),
            "WebP lossless": image_coder("WEBP", lossless=True, quality=100, method=6),
            "LZMA, bare": bytes_coder(
                lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=_LZMA),
                lambda data: lzma.decompress(data, lzma.FORMAT_RAW, filters=_LZMA),
            ),
            "DEFLATE, bare (zlib)": bytes_coder(deflate, lambda data: zlib.decompress(data, -15)),
            "brotli 11": bytes_coder(lambda data: brotli.compress(data, quality=11, lgwin=16), brotli.decompress),
            "ours, not fitted": prior_coder(LabelMapPrior(CLASSES)),
            "ours, fitted": prior_coder(prior),
            "ours, fitted, through constriction": constriction_coder(prior),
        }.items()
    ]
    ideal = float(-torch.log2(prior.likelihood(torch.stack(maps))).sum() / len(maps))
    rows.append(("ours, fitted: probabilities alone", ideal, None, None))
    rows.append(("counts of 6 neighbours with back-off: probabilities alone", count_bits(training, maps), None, None))

    height, width = maps[0].shape
    title = f"{len(maps)} maps of {width}x{height}, {CLASSES} classes; the model was fitted in {fit_seconds:.0f} s"
    header = ("coder", "bits per map", f"bpp at {options.width}x{options.height}", "encode ms", "decode ms")
    pixels = options.width * options.height
    cells = [
        (name, f"{bits:.0f}", f"{bits / pixels:.5f}", *("" if ms is None else f"{ms:.1f}" for ms in times))
        for name, bits, *times in rows
    ]
    table = Table(*header, title=title)
    for row in cells:
        table.add_row(*row)
    Console(width=118).print(table)
    if options.markdown:
        lines = [header, ("---",) + ("---:",) * 4, *cells]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        write_table(options.markdown, f"{title}:\n\n{text}")


if __name__ == "__main__":
    main()
