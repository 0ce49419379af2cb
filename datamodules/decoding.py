"""What the pixels of an image file are, for files and for bytes, whole or only as much as a crop needs.

A random crop of a JPEG does not need the rows below it, and decoding Huffman codes is most of the cost of a
photograph. `read_crop` therefore chooses the crop from the header, declares the JPEG to end below the crop, and
decodes that: the pixels are those of decoding everything and cropping, bit for bit.
"""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from datamodules.errors import UnreadableImageError
from datamodules.transforms import Crop, to_bytes

Decode = Literal["exact", "fast"]
"""How `read_crop` decodes JPEG. "exact": as everybody does. "fast": with libjpeg's fastest inverse DCT and without
smoothing the chroma of subsampled files, which on COCO's files moves pixels by 1.3 of 255 on average and 19 at most
(PSNR 43 dB). It gains little where files are large for their pixels, as COCO's are: Huffman codes take the time then,
and smaller scales of the DCT would not help either. Every other format is read exactly."""

MAX_PIXELS = 89_478_485
"""An image with more pixels than this is taken for a decompression bomb; it is where Pillow begins to warn."""

DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    RuntimeError,  # of AVIF, and as NotImplementedError of DDS
    Image.DecompressionBombError,
)
"""What Pillow raises for broken files, over its formats. To be caught around decoding only: of what else may fail
with a RuntimeError, such as PyTorch, no file is to blame."""

_QUARTER_TURNS = range(5, 9)  # EXIF orientations that exchange width and height
_SIXTEEN_BITS = re.compile(r";16[BLN]")  # in Pillow's names of raw modes; BGR;16 without a letter is 5-6-5 bits
# JPEG markers: frames with Huffman codes (baseline, extended, progressive), and what may come before them (tables,
# restart interval, application data, comments).
_FRAMES = (0xC0, 0xC1, 0xC2)
_BEFORE_FRAME = (0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE)
_END_OF_IMAGE = b"\xff\xd9"

# By default Pillow gives an image's memory back to the system, and fresh pages for the next cost 5 % of decoding it.
# Three blocks, of 16 MB at most, are an image, its crop and a conversion.
if Image.core.get_blocks_max() == 0:
    Image.core.set_blocks_max(3)


def load_rgb(source: Path | bytes, name: str | None = None) -> Image.Image:
    """Read an image as 8-bit RGB: the one place that decides what the pixels of a file are.

    The EXIF orientation is applied, greyscale is expanded, palettes and CMYK are converted, and transparency
    is composited on white. Of animations and of files with several pictures the first is taken. Colour profiles are
    ignored, as in the published results.

    Args:
        source: A file, or the content of one.
        name: What messages call it; the path by default.

    Raises:
        UnreadableImageError: it is missing, empty, truncated, not an image, has more than `MAX_PIXELS` pixels, or has
            more than 8 bits per channel (for which there is no conversion that every tool agrees on).
    """
    with _readable(source, name), _opened(source) as image:
        return _rgb(ImageOps.exif_transpose(image))


def header_size(source: Path | bytes, name: str | None = None) -> tuple[int, int]:
    """Return (width, height) from the header alone.

    A quarter turn asked for by the EXIF orientation is not applied, because some formats have it after the pixels:
    use it for what is the same in both directions.

    Raises:
        UnreadableImageError: there is no header, or it says what `load_rgb` would refuse. Damage further on is not
            seen.
    """
    with _readable(source, name), _opened(source) as image:
        return image.size


def read_crop(
    source: Path | bytes, crop: Crop, key: int, name: str | None = None, decode: Decode = "exact"
) -> Tensor:
    """Read what a crop keeps of an image, as uint8 (3, h, w); batches divide it by 255.

    With `decode="exact"` it equals `to_bytes(crop(load_rgb(source), key))` for every file that this can read. Of an
    intact JPEG without EXIF rotation the rows below the crop are not decoded.

    Args:
        source: A file, or the content of one.
        crop: Chooses its place in the upright image.
        key: Of the sample: what the crop draws its place from.
        name: What messages call the image; the path by default.
        decode: See `Decode`.

    Raises:
        UnreadableImageError: see `load_rgb`.
        SmallImageError: the image is smaller than a crop that does not enlarge.
    """
    with ExitStack() as images:
        with _readable(source, name):
            data = source if isinstance(source, bytes) else source.read_bytes()
            image = images.enter_context(_opened(data))
            size, turned, is_jpeg = _upright(image), _orientation(image) != 1, image.format in ("JPEG", "MPO")
        if not is_jpeg:
            decode = "exact"
        box = crop.box(size, key)
        if turned:
            box = None  # it is one of the upright image
        with _readable(source, name):
            if box is None:
                pixels = _rgb(ImageOps.exif_transpose(_at_speed(image, decode)))
            else:
                shortened = _ending_below(data, box[3]) if is_jpeg else None
                if shortened is not None:
                    image = images.enter_context(Image.open(io.BytesIO(shortened)))
                pixels = _rgb(_at_speed(image, decode).crop(box))
        return to_bytes(crop(pixels, key) if box is None else pixels)


@contextmanager
def _readable(source: Path | bytes, name: str | None) -> Iterator[None]:
    """Turn what goes wrong inside into an `UnreadableImageError` that names the source."""
    if name is None:
        name = "an image in memory" if isinstance(source, bytes) else str(source)
    try:
        yield
    except DECODING_ERRORS as error:
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):
            reason = _not_an_image(source)
        elif isinstance(error, Image.DecompressionBombError):
            reason = f"it has more than {MAX_PIXELS} pixels, which may be a decompression bomb"
        raise UnreadableImageError(
            f"{name} cannot be read as an 8-bit image ({reason}): repair or remove it, "
            "or train without such files with --data.on_unreadable skip"
        ) from error


@contextmanager
def _opened(source: Path | bytes) -> Iterator[ImageFile.ImageFile]:
    """Read the header, and refuse what cannot become 8-bit RGB, before anything is decoded."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if image.mode.startswith("I") or image.mode == "F" or _SIXTEEN_BITS.search(str(image.tile[:1])):
            raise ValueError(f"{image.format} of mode {image.mode} with more than 8 bits per channel")
        yield image


def _not_an_image(source: Path | bytes) -> str:
    """Say what a file that is no image holds instead: an empty file and an error page are the usual finds."""
    if isinstance(source, bytes):
        start = source[:16]
    else:
        with source.open("rb") as file:
            start = file.read(16)
    return f"it is not an image of a known format: it begins with {start!r}" if start else "the file is empty"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, as Pillow's `exif_transpose` reads it; 1 is upright."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(2, 9) else 1


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) in _QUARTER_TURNS else (width, height)


def _rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB; of a crop and of the whole image it makes the same pixels."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _at_speed(image: ImageFile.ImageFile, decode: Decode) -> ImageFile.ImageFile:
    """Let Pillow's JPEG decoder take libjpeg's shortcuts where asked to."""
    if decode == "fast":
        image.decoderconfig = (1, 1)  # (scale, shortcuts): what `Image.draft` sets the first of
    return image


def _ending_below(data: bytes, bottom: int) -> bytes | None:
    """The same JPEG, declared to end soon below row `bottom`; None where the whole of it must be decoded.

    Rows are coded from top to bottom, so a smaller height in the frame header makes a decoder stop earlier. One more
    row of blocks is kept, because smooth chroma upsampling looks at the rows around. A file without the end marker
    may be truncated: it is left to the whole decoder, so that what is unreadable does not depend on the crop.
    """
    if not data.endswith(_END_OF_IMAGE):
        return None
    at = 2
    while data[at] == 0xFF and data[at + 1] in _BEFORE_FRAME:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if at + 12 > len(data):
            return None
    if data[at] != 0xFF or data[at + 1] not in _FRAMES:
        return None
    height, components = int.from_bytes(data[at + 5 : at + 7], "big"), data[at + 9]
    sampling = data[at + 11 : at + 11 + 3 * components : 3]
    row_of_blocks = 8 * max(1, *(factors & 15 for factors in sampling))
    rows = (-(-bottom // row_of_blocks) + 1) * row_of_blocks
    if rows >= height:
        return None
    whole = memoryview(data)
    return b"".join((whole[: at + 5], rows.to_bytes(2, "big"), whole[at + 7 :]))
