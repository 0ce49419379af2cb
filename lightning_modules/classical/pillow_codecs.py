"""Codecs that Pillow brings along: JPEG, WebP, AVIF, JPEG 2000, and JPEG XL by its plugin."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import io
from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import PIL
from PIL import AvifImagePlugin, Image, features

from lightning_modules.classical.codec import ClassicalCodec, ClassicalCodecError, Pixels, Setting

Subsampling = Literal["4:2:0", "4:2:2", "4:4:4"]

_QUALITIES = (5, 10, 20, 35, 50, 65, 75, 90)


class PillowCodec(ClassicalCodec):
    """Codes in memory with Pillow."""

    format: ClassVar[str]
    """Pillow's name of the file format."""
    feature: ClassVar[str]
    """Pillow's name of the library behind it."""

    @abstractmethod
    def save_arguments(self, value: float) -> dict[str, Any]:
        """What `Image.save` is given at this setting."""

    def check_available(self) -> None:
        """Raise where Pillow was built without the library."""
        if not features.check(self.feature):
            raise ClassicalCodecError(
                f"{self.base_name}: this Pillow ({PIL.__version__}) was built without {self.feature}; install a "
                "Pillow from a wheel (pip install --only-binary :all: pillow), which has it"
            )

    def version(self) -> str:
        """Library and Pillow."""
        self.check_available()
        return f"{self.library()}, Pillow {PIL.__version__}"

    def library(self) -> str:
        """The library and its version."""
        return f"{self.feature} {features.version(self.feature)}"

    def encode(self, pixels: Pixels, value: float) -> bytes:
        """A complete file."""
        self.check_available()
        value = self.setting.check(self.name, value)
        stream = io.BytesIO()
        try:
            Image.fromarray(pixels).save(stream, format=self.format, **self.save_arguments(value))
        except (OSError, ValueError, RuntimeError) as error:
            height, width = pixels.shape[:2]
            raise ClassicalCodecError(
                f"{self.name} cannot code a picture of {width}x{height} at {self.setting.name} {value:g}: {error}"
            ) from error
        return stream.getvalue()

    def decode(self, data: bytes, size: tuple[int, int]) -> Pixels:
        """The picture in a file."""
        self.check_available()
        try:
            with Image.open(io.BytesIO(data), formats=[self.format]) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, RuntimeError, SyntaxError) as error:
            raise ClassicalCodecError(f"{self.name} cannot decode {len(data)} bytes: {error}") from error
        if pixels.shape[:2] != size:
            raise ClassicalCodecError(
                f"{self.name}: the file holds a picture of height and width {pixels.shape[:2]}, not {size}"
            )
        return pixels


class Jpeg(PillowCodec):
    """JPEG by libjpeg-turbo: baseline, default Huffman tables, islow DCT, as Pillow has them.

    Whole qualities are libjpeg's. Between them, the standard's example tables (Annex K) are scaled by the same
    rule with a fractional factor, which lets a target rate be met.

    Args:
        subsampling: Of the chroma. 4:2:0 is the default of Pillow and of libjpeg, and what published curves have.
        optimize: Compute Huffman tables for the picture: a few per cent fewer bits, the same pixels.
    """

    base_name = "jpeg"
    suffix = ".jpg"
    format = "JPEG"
    feature = "jpg"
    setting = Setting("quality", 1, 100, continuous=True, raises_rate=True, grid=_QUALITIES)

    def __init__(self, subsampling: Subsampling = "4:2:0", optimize: bool = False) -> None:
        self.subsampling = subsampling
        self.optimize = optimize

    def options(self) -> dict[str, Any]:
        """Chroma and Huffman tables."""
        return {"subsampling": self.subsampling, "optimize": self.optimize}

    def library(self) -> str:
        """libjpeg-turbo, or the libjpeg that Pillow was built with."""
        turbo = features.version_feature("libjpeg_turbo")
        return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"

    def save_arguments(self, value: float) -> dict[str, Any]:
        """Quality, or tables between two qualities."""
        rate = {"quality": value} if isinstance(value, int) else {"qtables": _scaled_tables(value)}
        return {**rate, "subsampling": self.subsampling, "optimize": self.optimize}


def _scaled_tables(quality: float) -> list[list[int]]:
    """Luminance and chrominance tables at a fractional quality, each 64 entries in Pillow's order."""
    # libjpeg's rule (jpeg_quality_scaling), but for the factor's rounding to whole per cent.
    percent = 5000 / quality if quality < 50 else 200 - 2 * quality
    return [[min(max(int((entry * percent + 50) // 100), 1), 255) for entry in table] for table in _annex_k_tables()]


@functools.cache
def _annex_k_tables() -> tuple[tuple[int, ...], ...]:
    """The standard's example tables, which are libjpeg's at quality 50, in Pillow's order."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, format="JPEG", quality=50)
    with Image.open(stream) as image:
        tables: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]
        return tuple(tuple(tables[i]) for i in sorted(tables))


class WebP(PillowCodec):
    """Lossy WebP by libwebp; its chroma is always 4:2:0.

    Args:
        method: Effort of the encoder, 0 to 6; 4 is the default of libwebp and of Pillow.
    """

    base_name = "webp"
    suffix = ".webp"
    format = "WEBP"
    feature = "webp"
    setting = Setting("quality", 0, 100, continuous=True, raises_rate=True, grid=_QUALITIES)

    def __init__(self, method: int = 4) -> None:
        if not 0 <= method <= 6:
            raise ClassicalCodecError(f"webp takes method 0 to 6, not {method}: correct --webp.method")
        self.method = method

    def options(self) -> dict[str, Any]:
        """Effort."""
        return {"method": self.method, "lossless": False}

    def library(self) -> str:
        """libwebp."""
        return f"libwebp {features.version('webp')}"

    def save_arguments(self, value: float) -> dict[str, Any]:
        """Quality and effort."""
        return {"quality": value, "method": self.method, "lossless": False}


class Avif(PillowCodec):
    """AVIF by libavif with the encoder aom: 8 bits, full range.

    It is coded as one tile on one thread: with more of them the bits would depend on the machine's cores.

    Args:
        speed: 0 (best) to 10 (fastest); 6 is the default of Pillow and of libavif's own encoder.
        subsampling: Of the chroma; 4:2:0 is the default of Pillow.
    """

    base_name = "avif"
    suffix = ".avif"
    format = "AVIF"
    feature = "avif"
    setting = Setting("quality", 0, 100, continuous=False, raises_rate=True, grid=(10, 20, 30, 40, 50, 60, 75, 90))

    def __init__(self, speed: int = 6, subsampling: Subsampling = "4:2:0") -> None:
        if not 0 <= speed <= 10:
            raise ClassicalCodecError(f"avif takes speed 0 to 10, not {speed}: correct --avif.speed")
        self.speed = speed
        self.subsampling = subsampling

    def options(self) -> dict[str, Any]:
        """Effort, chroma, threads."""
        return {"speed": self.speed, "subsampling": self.subsampling, "threads": 1, "tiles": 1}

    def check_available(self) -> None:
        """Raise where Pillow was built without libavif or without aom."""
        super().check_available()
        if AvifImagePlugin.get_codec_version("aom") is None:
            raise ClassicalCodecError(
                f"avif: the libavif of this Pillow ({PIL.__version__}) has no aom encoder; install a Pillow from a "
                "wheel (pip install --only-binary :all: pillow), which has it"
            )

    def library(self) -> str:
        """libavif and aom."""
        return f"libavif {features.version('avif')}, aom {AvifImagePlugin.get_codec_version('aom')}"

    def save_arguments(self, value: float) -> dict[str, Any]:
        """Quality, effort, and what keeps the bits the same everywhere."""
        return {
            "quality": value,
            "speed": self.speed,
            "subsampling": self.subsampling,
            "codec": "aom",
            "max_threads": 1,
            "autotiling": False,
        }


class JpegXl(PillowCodec):
    """Lossy JPEG XL by libjxl, through pillow-jxl-plugin: VarDCT in XYB, bare codestream.

    libjxl maps the quality to a Butteraugli distance: 0.1 + 0.09 (100 - quality) from 30 upwards, and up to its
    limit of 25 at quality 0, below which it cannot go.

    Args:
        effort: 1 (fastest) to 10; 7 is the default of libjxl.
    """

    base_name = "jxl"
    suffix = ".jxl"
    format = "JXL"
    feature = "jxl"
    setting = Setting("quality", 0, 99.9, continuous=True, raises_rate=True, grid=(5, 20, 35, 50, 65, 75, 85, 92))

    def __init__(self, effort: int = 7) -> None:
        if not 1 <= effort <= 10:
            raise ClassicalCodecError(f"jxl takes effort 1 to 10, not {effort}: correct --jxl.effort")
        self.effort = effort

    def options(self) -> dict[str, Any]:
        """Effort."""
        return {"effort": self.effort, "lossless": False, "threads": 1}

    def check_available(self) -> None:
        """Raise where the plugin is not installed, and register it where it is."""
        if importlib.util.find_spec("pillow_jxl") is None:
            raise ClassicalCodecError("jxl: Pillow's plugin is not installed; pip install pillow-jxl-plugin")
        importlib.import_module("pillow_jxl")  # on import it tells Pillow of itself

    def library(self) -> str:
        """The plugin, which carries its libjxl and does not tell its version."""
        return f"pillow-jxl-plugin {importlib.metadata.version('pillow-jxl-plugin')} with its libjxl"

    def save_arguments(self, value: float) -> dict[str, Any]:
        """Quality and effort."""
        # The bits are the same for any number of threads; with one the times compare with the other codecs'.
        return {"quality": value, "effort": self.effort, "lossless": False, "num_threads": 0}


class Jpeg2000(PillowCodec):
    """Lossy JPEG 2000 by OpenJPEG: 9/7 wavelet, ICT colour transform, one quality layer, JP2 file.

    Its setting is the rate itself, which OpenJPEG meets closely from below; the file's boxes come on top.
    """

    base_name = "jpeg2000"
    suffix = ".jp2"
    format = "JPEG2000"
    feature = "jpg_2000"
    setting = Setting("rate", 0.02, 12, continuous=True, raises_rate=True, grid=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2))

    def options(self) -> dict[str, Any]:
        """Wavelet and colour transform."""
        return {"irreversible": True, "colour_transform": True}

    def library(self) -> str:
        """OpenJPEG."""
        return f"OpenJPEG {features.version('jpg_2000')}"

    def save_arguments(self, value: float) -> dict[str, Any]:
        """Compression ratio to 24 bits per pixel."""
        return {"quality_mode": "rates", "quality_layers": [24 / value], "irreversible": True, "mct": 1}
