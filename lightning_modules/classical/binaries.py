"""Codecs that are programs of their own: BPG, and the reference software of VVC (VTM) and HEVC (HM)."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from lightning_modules.classical.codec import ClassicalCodec, ClassicalCodecError, Pixels, Setting
from lightning_modules.classical.colour import rgb_to_ycbcr, ycbcr_to_rgb

_QPS = (47, 42, 37, 32, 27, 22, 17, 12)


class BinaryCodec(ClassicalCodec):
    """Calls an encoder and a decoder in a temporary folder.

    Args:
        encoder: Path of the encoder; null looks for its usual names on PATH.
        decoder: Path of the decoder; null looks for its usual names on PATH.
    """

    encoder_names: ClassVar[tuple[str, ...]]
    decoder_names: ClassVar[tuple[str, ...]]
    where_from: ClassVar[str]
    """Where its users get the programs."""
    version_arguments: ClassVar[tuple[str, ...]]
    """What makes the encoder print its version, whatever it returns then."""
    version_pattern: ClassVar[str]
    """Regular expression whose first group is the version in what the encoder prints."""

    def __init__(self, encoder: str | None = None, decoder: str | None = None) -> None:
        self.encoder = encoder
        self.decoder = decoder

    @abstractmethod
    def encode_in(self, folder: Path, pixels: Pixels, qp: int) -> Path:
        """Code a picture to a file in `folder`, and name the file."""

    @abstractmethod
    def decode_in(self, folder: Path, file: Path, size: tuple[int, int]) -> Pixels:
        """Decode a file that lies in `folder`."""

    def check_available(self) -> None:
        """Raise where one of the programs is missing."""
        self.encoder_path()
        self.decoder_path()

    def encoder_path(self) -> str:
        """The encoder."""
        return self._find(self.encoder, self.encoder_names, "encoder")

    def decoder_path(self) -> str:
        """The decoder."""
        return self._find(self.decoder, self.decoder_names, "decoder")

    def version(self) -> str:
        """What the encoder says of itself."""
        return _version_of(self.base_name, self.encoder_path(), self.version_arguments, self.version_pattern)

    def encode(self, pixels: Pixels, value: float) -> bytes:
        """A complete file."""
        value = self.setting.check(self.name, value)
        with tempfile.TemporaryDirectory(prefix=f"{self.base_name}-") as folder:
            file = self.encode_in(Path(folder), pixels, int(value))
            if not file.is_file() or file.stat().st_size == 0:
                raise ClassicalCodecError(f"{self.name}: {self.encoder_path()} ended well but wrote no file")
            return file.read_bytes()

    def decode(self, data: bytes, size: tuple[int, int]) -> Pixels:
        """The picture in a file."""
        with tempfile.TemporaryDirectory(prefix=f"{self.base_name}-") as folder:
            file = Path(folder) / f"stream{self.suffix}"
            file.write_bytes(data)
            pixels = self.decode_in(Path(folder), file, size)
        if pixels.shape[:2] != size:
            raise ClassicalCodecError(
                f"{self.name}: the file holds a picture of height and width {pixels.shape[:2]}, not {size}"
            )
        return pixels

    def run(self, command: list[str]) -> None:
        """Run a program to its end.

        Raises:
            ClassicalCodecError: It cannot be started or fails; the message ends with what it said.
        """
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise ClassicalCodecError(f"{self.name}: {command[0]} cannot be started ({error.strerror})") from error
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-1000:] or "nothing"
            raise ClassicalCodecError(f"{self.name}: {' '.join(command)} failed ({done.returncode}) and said: {said}")

    def _find(self, given: str | None, names: tuple[str, ...], part: str) -> str:
        for candidate in names if given is None else (given,):
            if (path := shutil.which(candidate)) is not None:
                return path
        if given is not None:
            raise ClassicalCodecError(f"{self.base_name}: --{self.base_name}.{part} {given} is no executable file")
        raise ClassicalCodecError(
            f"{self.base_name}: no {' or '.join(names)} on PATH. Get {self.where_from}; put the program on PATH, or "
            f"name it with --{self.base_name}.{part}"
        )


@functools.cache
def _version_of(codec: str, encoder: str, arguments: tuple[str, ...], pattern: str) -> str:
    try:
        done = subprocess.run([encoder, *arguments], capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ClassicalCodecError(f"{codec}: {encoder} cannot be started ({error.strerror})") from error
    found = re.search(pattern, done.stdout + done.stderr)
    if found is None:
        said = (done.stdout + done.stderr).strip()[:200] or "nothing"
        raise ClassicalCodecError(f"{codec}: {encoder} does not tell a version, so it may be another program: {said}")
    return found.group(1).strip()


class Bpg(BinaryCodec):
    """BPG by Fabrice Bellard's bpgenc: HEVC intra coding of a PNG file.

    The defaults are those of CompressAI's published curve (8 bits, 4:4:4, YCbCr, x265).

    Args:
        encoder: Path of bpgenc; null looks on PATH.
        decoder: Path of bpgdec; null looks on PATH.
        subsampling: Of the chroma.
        bit_depth: Of the coded samples.
        implementation: HEVC encoder inside bpgenc.
        colour_space: In which samples are coded.
    """

    base_name = "bpg"
    suffix = ".bpg"
    setting = Setting("qp", 0, 51, continuous=False, raises_rate=False, grid=_QPS)
    encoder_names = ("bpgenc",)
    decoder_names = ("bpgdec",)
    where_from = "libbpg (bellard.org/bpg)"
    version_arguments = ("-h",)
    version_pattern = r"(BPG Image Encoder version \S+)"

    def __init__(
        self,
        encoder: str | None = None,
        decoder: str | None = None,
        subsampling: Literal["4:2:0", "4:4:4"] = "4:4:4",
        bit_depth: Literal[8, 10] = 8,
        implementation: Literal["x265", "jctvc"] = "x265",
        colour_space: Literal["ycbcr", "rgb"] = "ycbcr",
    ) -> None:
        super().__init__(encoder, decoder)
        self.subsampling = subsampling
        self.bit_depth = bit_depth
        self.implementation = implementation
        self.colour_space = colour_space

    def options(self) -> dict[str, Any]:
        """What bpgenc is told beside the QP."""
        return {
            "subsampling": self.subsampling,
            "bit_depth": self.bit_depth,
            "implementation": self.implementation,
            "colour_space": self.colour_space,
        }

    def encode_in(self, folder: Path, pixels: Pixels, qp: int) -> Path:
        """Call bpgenc."""
        picture, file = folder / "picture.png", folder / "stream.bpg"
        Image.fromarray(pixels).save(picture)
        chroma = self.subsampling.replace(":", "")
        told = ["-q", str(qp), "-f", chroma, "-e", self.implementation, "-c", self.colour_space]
        self.run([self.encoder_path(), *told, "-b", str(self.bit_depth), "-o", str(file), str(picture)])
        return file

    def decode_in(self, folder: Path, file: Path, size: tuple[int, int]) -> Pixels:
        """Call bpgdec."""
        picture = folder / "decoded.png"
        self.run([self.decoder_path(), "-o", str(picture), str(file)])
        try:
            with Image.open(picture) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise ClassicalCodecError(f"{self.name}: {self.decoder_path()} wrote no readable PNG: {error}") from error


class ReferenceSoftware(BinaryCodec):
    """Intra coding with the test model of a video standard, on raw planes.

    The picture is fed as 8-bit YCbCr 4:4:4 of ITU-R BT.709, full range, the format of CompressAI's published curves.
    Samples are rounded to the nearest level in both directions. The program behind those curves cuts them off, which
    costs it 0.2 dB at 31 dB and lets no picture exceed 44 dB; PSNR measured here is higher by that.

    Args:
        encoder: Path of the encoder; null looks on PATH.
        decoder: Path of the decoder; null looks on PATH.
        config: The encoder's configuration file; null takes the intra one of the source tree (`../cfg` of the
            encoder's folder).
    """

    default_config: ClassVar[str]
    extra_arguments: ClassVar[tuple[str, ...]] = ()
    suffix = ".bin"

    def __init__(self, encoder: str | None = None, decoder: str | None = None, config: str | None = None) -> None:
        super().__init__(encoder, decoder)
        self.config = config

    def options(self) -> dict[str, Any]:
        """Colour format."""
        return {"colour_space": "YCbCr BT.709 full range", "subsampling": "4:4:4", "bit_depth": 8}

    def describe(self) -> dict[str, Any]:
        """Options, the configuration file's name, and the encoder."""
        return {**self.options(), "config": self.config_path().name, "encoder": self.version()}

    def check_available(self) -> None:
        """Raise where a program or the configuration file is missing."""
        super().check_available()
        self.config_path()

    def config_path(self) -> Path:
        """The encoder's configuration file."""
        if self.config is not None:
            path = Path(self.config)
        else:
            path = Path(self.encoder_path()).resolve().parent.parent / "cfg" / self.default_config
        if not path.is_file():
            raise ClassicalCodecError(
                f"{self.base_name}: there is no configuration file {path}; name {self.default_config} of the "
                f"encoder's source tree with --{self.base_name}.config"
            )
        return path

    def encode_in(self, folder: Path, pixels: Pixels, qp: int) -> Path:
        """Call the encoder on the planes."""
        planes, file = folder / "picture.yuv", folder / f"stream{self.suffix}"
        planes.write_bytes(rgb_to_ycbcr(pixels).tobytes())
        height, width = pixels.shape[:2]
        command = [self.encoder_path(), "-c", str(self.config_path()), "-i", str(planes), "-b", str(file)]
        command += ["-o", "/dev/null", "-q", str(qp), "-wdt", str(width), "-hgt", str(height), "-fr", "1", "-f", "1"]
        # Sides need not be multiples of the coding block: the padding is cut off again by the decoder.
        command += ["--InputChromaFormat=444", "--InputBitDepth=8", "--ConformanceWindowMode=1"]
        self.run([*command, *self.extra_arguments])
        return file

    def decode_in(self, folder: Path, file: Path, size: tuple[int, int]) -> Pixels:
        """Call the decoder, and read the planes."""
        planes = folder / "decoded.yuv"
        self.run([self.decoder_path(), "-b", str(file), "-o", str(planes), "-d", "8"])
        samples = np.fromfile(planes, dtype=np.uint8) if planes.is_file() else np.empty(0, np.uint8)
        height, width = size
        if samples.size != 3 * height * width:
            raise ClassicalCodecError(
                f"{self.name}: {self.decoder_path()} wrote {samples.size} samples; a picture of {width}x{height} has "
                f"{3 * height * width}"
            )
        return ycbcr_to_rgb(samples.reshape(3, height, width))


class Vtm(ReferenceSoftware):
    """VVC by its reference software VTM."""

    base_name = "vtm"
    setting = Setting("qp", 0, 63, continuous=False, raises_rate=False, grid=_QPS)
    encoder_names = ("EncoderAppStatic", "EncoderApp")
    decoder_names = ("DecoderAppStatic", "DecoderApp")
    where_from = "VTM (vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM) and build it"
    version_arguments = ("--help",)
    version_pattern = r"(VTM Encoder Version [^\s\[]+)"
    default_config = "encoder_intra_vtm.cfg"


class Hm(ReferenceSoftware):
    """HEVC (range extensions) by its reference software HM."""

    base_name = "hm"
    setting = Setting("qp", 0, 51, continuous=False, raises_rate=False, grid=_QPS)
    encoder_names = ("TAppEncoderStatic", "TAppEncoder")
    decoder_names = ("TAppDecoderStatic", "TAppDecoder")
    where_from = "HM (vcgit.hhi.fraunhofer.de/jvet/HM) and build it"
    version_arguments = ("--help",)
    version_pattern = r"HM software: (Encoder Version \[[^\]]+\])"
    default_config = "encoder_intra_main_rext.cfg"
    extra_arguments = ("--Level=5.1",)
