"""The pixels of files: crops are those of decoding everything, whatever the file, and bad files are named."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datamodules.decoding import MAX_PIXELS, _ending_below, header_size, load_rgb, read_crop
from datamodules.errors import UnreadableImageError
from datamodules.transforms import CentreCrop, RandomCrop, SmallImageError, full_size
from tests.data_helpers import data, needs_data


def picture(width: int = 203, height: int = 171, seed: int = 0) -> Image.Image:
    """Something that JPEG does not compress to nothing: smooth colours under noise."""
    noise = np.random.default_rng(seed).integers(-40, 40, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    colours = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], -1)
    return Image.fromarray((colours + noise).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def cropped(pixels: NDArray[np.uint8], left: int, top: int, size: int) -> Tensor:
    """The reference: plain indexing."""
    return torch.from_numpy(pixels[top : top + size, left : left + size].copy()).permute(2, 0, 1)


def assert_crops_are_exact(content: bytes, pixels: NDArray[np.uint8], size: int = 40, keys: int = 12) -> None:
    height, width, _ = pixels.shape
    for key in range(keys):
        generator = torch.Generator().manual_seed(key)
        left = int(torch.randint(width - size + 1, (), generator=generator))
        top = int(torch.randint(height - size + 1, (), generator=generator))
        assert torch.equal(read_crop(content, RandomCrop(size), key), cropped(pixels, left, top, size))
    assert np.array_equal(read_crop(content, full_size, 0).permute(1, 2, 0).numpy(), pixels)
    assert np.array_equal(np.asarray(load_rgb(content)), pixels)


# --- crops are exact -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_crops(subsampling: str, how: dict[str, Any]) -> None:
    content = encoded(picture(), "JPEG", subsampling=subsampling, quality=90, **how)
    with Image.open(io.BytesIO(content)) as image:
        assert_crops_are_exact(content, np.asarray(image))


def test_jpeg_rows_below_the_crop_are_not_decoded() -> None:
    content = encoded(picture(64, 512), "JPEG", subsampling="4:2:0")
    for bottom, kept in ((1, 32), (16, 32), (17, 48), (479, 496), (480, 496)):
        shortened = _ending_below(content, bottom)
        assert shortened is not None and len(shortened) == len(content)
        with Image.open(io.BytesIO(shortened)) as image:
            assert image.size == (64, kept)
    assert _ending_below(content, 481) is None  # all of it is needed
    assert _ending_below(content + b"padding", 16) is None  # no end marker where it should be
    assert _ending_below(b"\xff\xd8\xff\xe0\xff\xff" + content[6:], 16) is None
    assert _ending_below(b"\xff\xd8" + b"\xff\xd9", 16) is None
    # With 4:4:4 blocks are 8 rows high.
    with Image.open(io.BytesIO(_ending_below(encoded(picture(64, 512), "JPEG", subsampling="4:4:4"), 17))) as image:
        assert image.size == (64, 32)


def test_a_truncated_jpeg_is_unreadable_wherever_the_crop_is() -> None:
    content = encoded(picture(64, 512), "JPEG")
    for length in (len(content) - 2, len(content) // 2):
        for key in range(8):
            with pytest.raises(UnreadableImageError, match="truncated"):
                read_crop(content[:length], RandomCrop(32), key)


def test_other_modes_and_formats() -> None:
    grey = picture().convert("L")
    three = np.stack([np.asarray(grey)] * 3, -1)
    for kind in ("PNG", "TIFF", "BMP", "PPM", "GIF"):
        assert_crops_are_exact(encoded(grey, kind), three)
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert_crops_are_exact(encoded(picture(), kind), np.asarray(picture()))
    grey_jpeg = encoded(grey, "JPEG")
    with Image.open(io.BytesIO(grey_jpeg)) as image:
        assert_crops_are_exact(grey_jpeg, np.stack([np.asarray(image)] * 3, -1))
    black_and_white = grey.convert("1")
    assert_crops_are_exact(
        encoded(black_and_white, "PNG"), np.stack([np.asarray(black_and_white) * np.uint8(255)] * 3, -1)
    )


def test_cmyk_as_adobe_writes_it() -> None:
    inks = np.zeros((171, 203, 4), dtype=np.uint8)
    inks[:, :] = (10, 200, 60, 30)
    content = encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in content  # which stores inks inverted
    crop = read_crop(content, RandomCrop(40), 3).float()
    expected = [(255 - ink) * (255 - 30) / 255 for ink in (10, 200, 60)]
    assert (crop - torch.tensor(expected)[:, None, None]).abs().max() < 3
    assert_crops_are_exact(content, np.asarray(load_rgb(content)))


def test_transparency_is_composited_on_white() -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (171, 203, 1)).astype(np.uint8)
    content = encoded(Image.fromarray(np.concatenate([np.asarray(picture()), alpha], -1)), "PNG")
    part = alpha / 255.0
    expected = np.asarray(picture()) * part + 255 * (1 - part)
    assert np.abs(np.asarray(load_rgb(content)) - expected).max() <= 1
    assert_crops_are_exact(content, np.asarray(load_rgb(content)))
    palette = Image.new("P", (50, 60), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(1, (0, 0, 25, 60))
    pixels = np.zeros((60, 50, 3), dtype=np.uint8)
    pixels[:, :25], pixels[:, 25:] = (0, 0, 255), (255, 255, 255)
    for kind in ("PNG", "GIF"):
        assert_crops_are_exact(encoded(palette, kind, transparency=0), pixels)


_TURNED = {  # stored pixels, as numpy, to what EXIF 2.3 says to show
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_crops_are_drawn_in_the_upright_image(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(picture(), kind, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        stored = np.asarray(image)
    assert_crops_are_exact(content, np.ascontiguousarray(_TURNED.get(orientation, lambda p: p)(stored)))
    assert header_size(content) == (203, 171)


def test_of_several_pictures_the_first() -> None:
    frames = [picture(seed=seed).quantize(256) for seed in range(3)]
    for kind in ("GIF", "WEBP"):
        settings = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **settings)
        assert_crops_are_exact(content, np.asarray(frames[0].convert("RGB")))
    content = encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
        assert_crops_are_exact(content, np.asarray(image))


@needs_data
@pytest.mark.parametrize(("folder", "count", "every"), [("coco_mini", 239, 1), ("flickr8k_1k", 1000, 5)])
def test_real_photographs(folder: str, count: int, every: int) -> None:
    paths = sorted(Path(data(folder)).rglob("*.jpg"))
    assert len(paths) == count
    for key, path in enumerate(paths[::every]):
        with Image.open(path) as image:
            whole = image.convert("RGB")
        size = min(256, *whole.size)
        expected = np.asarray(RandomCrop(size)(whole, key)).transpose(2, 0, 1)
        assert np.array_equal(read_crop(path, RandomCrop(size), key).numpy(), expected), path


# --- fast ------------------------------------------------------------------------------------------------


def test_fast_is_near_exact_for_jpeg_and_exact_elsewhere() -> None:
    for subsampling in ("4:4:4", "4:2:0"):
        content = encoded(picture(), "JPEG", subsampling=subsampling, quality=90)
        exact, fast = (
            read_crop(content, RandomCrop(64), 5, decode=decode).float() / 255 for decode in ("exact", "fast")
        )
        assert not torch.equal(exact, fast)
        assert 30 < -10 * torch.log10((exact - fast).square().mean()) < 60
    content = encoded(picture(), "PNG")
    assert torch.equal(read_crop(content, RandomCrop(64), 5, decode="fast"), read_crop(content, RandomCrop(64), 5))


@needs_data
def test_fast_on_coco() -> None:
    worst = []
    for key, path in enumerate(sorted(Path(data("coco_mini", "val2017")).glob("*.jpg"))[:40]):
        exact, fast = (
            read_crop(path, CentreCrop(128), key, decode=decode).float() / 255 for decode in ("exact", "fast")
        )
        worst.append(float((exact - fast).square().mean()))
    assert -10 * np.log10(max(worst)) > 35


# --- what is no image ------------------------------------------------------------------------------------


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG file by hand: Pillow writes neither bombs nor 16-bit colour."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return content


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>404</html>", r"it begins with b'<!DOCTYPE html><'"),
        (encoded(picture(), "PNG")[:5000], "truncated"),
        (encoded(picture(), "JPEG")[:100], ""),
        (png(4, 4, 16, 2, bytes(4 * 25)), "PNG of mode RGB with more than 8 bits per channel"),
        (png(4, 4, 16, 0, bytes(4 * 9)), "PNG of mode I;16 with more than 8 bits per channel"),
        (png(MAX_PIXELS // 8 + 1, 8, 8, 2, b""), f"more than {MAX_PIXELS} pixels"),
        (png(100_000, 100_000, 8, 2, b""), f"more than {MAX_PIXELS} pixels"),
    ],
    ids=["empty", "html", "truncated", "header", "rgb16", "grey16", "bomb", "large bomb"],
)
def test_bad_files(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    sources: list[tuple[Path | bytes, str | None]] = [(tmp_path / "bad.jpg", None), (content, "shard-3.tar/bad.jpg")]
    for source, name in sources:
        message = rf"bad.jpg cannot be read as an 8-bit image \(.*{reason}.*--data.on_unreadable skip"
        with pytest.raises(UnreadableImageError, match=message):
            load_rgb(source, name)
        with pytest.raises(UnreadableImageError, match=message):
            read_crop(source, full_size, 0, name)
    with pytest.raises(UnreadableImageError, match=r"absent.jpg cannot be read .*No such file"):
        read_crop(tmp_path / "absent.jpg", full_size, 0)


def broken_avif() -> bytes:
    content = encoded(picture(40, 30), "AVIF")
    return content.replace(b"pitm", b"none", 1)  # the box that tells which item is the image


def broken_dds() -> bytes:
    content = bytearray(encoded(picture(40, 30), "DDS"))
    content[80:88] = struct.pack("<I4s", 4, b"XXXX")  # the pixel format: compressed, in an unknown way
    return bytes(content)


@pytest.mark.parametrize("content", [broken_avif(), broken_dds()], ids=["avif", "dds"])
def test_broken_files_that_pillow_reports_as_runtime_errors(content: bytes) -> None:
    with pytest.raises(RuntimeError), Image.open(io.BytesIO(content)) as image:
        image.load()
    for read in (load_rgb, lambda content: read_crop(content, full_size, 0)):
        with pytest.raises(UnreadableImageError, match="an image in memory cannot be read"):
            read(content)


@pytest.mark.parametrize("where", ["box", "__call__"])
def test_errors_of_a_crop_are_not_put_down_to_the_file(where: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no fault of the file")

    crop = type("Broken", (RandomCrop,), {where: fail})(40)
    image = picture(50, 60)
    exif = Image.Exif()
    exif[274] = 6  # the crop of a turned image sees the image
    with pytest.raises(RuntimeError, match="no fault of the file"):
        read_crop(encoded(image, "PNG", exif=exif), crop, 0)


def test_the_largest_image_that_is_no_bomb_has_a_header() -> None:
    assert header_size(png(MAX_PIXELS // 5, 5, 8, 2, b"")) == (MAX_PIXELS // 5, 5)


def test_a_small_image_is_no_broken_one() -> None:
    content = encoded(picture(50, 30), "JPEG")
    with pytest.raises(SmallImageError, match=r"^the image is 50x30, smaller than the 40x40 crop.*small_images"):
        read_crop(content, RandomCrop(40), 0)
