"""The file format: 16 bytes around the entropy-coded payload of a 256x256 image.

    offset  bytes  field
    0       2      magic 0xF6 'L'
    2       1      version (3 bits) | greyscale (1 bit) | codec id (4 bits)
    3       3      weight fingerprint: first 24 bits of a SHA-256 over everything the decoder computes with
    6       1-     width in pixels, varint
            1-     height in pixels, varint
            1-     payload length in 32-bit words, varint
            4n     payload: one rANS stream (hyper-latent, then latent)
            2      CRC-16 of the decoded integer latents, checked after decoding
            2      CRC-16 of all bytes before it, checked before decoding

Padding is not stored: it follows from the size and the codec. Varints are LEB128, little end first. Checksums are
CRC-16/XMODEM, big end first. A file is self-contained but for the weights.
"""

import binascii
from dataclasses import dataclass

MAGIC = b"\xf6L"
VERSION = 1
MAX_PIXELS = 1 << 28
"""Larger images are refused before anything is allocated; 2^28 pixels are 16384 x 16384."""
_FIXED_BYTES = len(MAGIC) + 1 + 3
_CHECKSUM_BYTES = 4
FINGERPRINT_DIGITS = 6


class BitstreamError(ValueError):
    """A file cannot be decoded. Subclasses say why."""


class NotABitstreamError(BitstreamError):
    """The file does not start with this format's magic."""


class NewerVersionError(BitstreamError):
    """The file was written by a newer format version."""


class TruncatedFileError(BitstreamError):
    """The file ends before its payload does."""


class CorruptFileError(BitstreamError):
    """The file's bytes are not those that were written."""


class WrongCodecError(BitstreamError):
    """The file was written by another kind of codec."""


class WrongWeightsError(BitstreamError):
    """The file was written with other weights."""


class LatentMismatchError(BitstreamError):
    """Decoding gave other latents than were encoded."""


@dataclass(frozen=True)
class Bitstream:
    """The contents of one file.

    Attributes:
        codec_id: 0-15, see `codecs/codec.py`.
        fingerprint: Six hexadecimal digits naming the decoder's weights.
        width: Pixels, at least 1.
        height: Pixels, at least 1.
        greyscale: The source had one channel, and so shall the decoded picture.
        payload: Entropy-coded bytes, a multiple of four.
        latent_checksum: CRC of the integer latents, 16 bits.
    """

    codec_id: int
    fingerprint: str
    width: int
    height: int
    greyscale: bool
    payload: bytes
    latent_checksum: int

    def to_bytes(self) -> bytes:
        """Serialise.

        Raises:
            ValueError: The image is empty or beyond `MAX_PIXELS`.
        """
        _check_size(self.width, self.height, ValueError)
        head = MAGIC + bytes([VERSION << 5 | self.greyscale << 4 | self.codec_id])
        head += bytes.fromhex(self.fingerprint)
        head += _varint(self.width) + _varint(self.height) + _varint(len(self.payload) // 4)
        body = head + self.payload + self.latent_checksum.to_bytes(2, "big")
        return body + _crc16(body).to_bytes(2, "big")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Bitstream":
        """Parse and check everything that can be checked without decoding.

        Raises:
            NotABitstreamError: Wrong magic.
            NewerVersionError: A version this code does not know.
            TruncatedFileError: Too short for its own length field.
            CorruptFileError: Too long, an impossible size, or a wrong checksum.
        """
        if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
            raise NotABitstreamError("not a file of this format (it does not start with F6 4C)")
        if len(data) < _FIXED_BYTES + 3 + _CHECKSUM_BYTES:
            raise TruncatedFileError(f"truncated: {len(data)} bytes cannot hold even a header")
        version, greyscale, codec_id = data[2] >> 5, bool(data[2] & 16), data[2] & 15
        if version > VERSION:
            raise NewerVersionError(f"format version {version}; this program reads up to {VERSION}: update it")
        if version < 1:
            raise CorruptFileError("format version 0 does not exist: the file is damaged")
        width, at = _read_varint(data, _FIXED_BYTES)
        height, at = _read_varint(data, at)
        words, at = _read_varint(data, at)
        expected = at + 4 * words + _CHECKSUM_BYTES
        if len(data) < expected:
            raise TruncatedFileError(f"truncated: {len(data)} of {expected} bytes are there")
        if len(data) > expected:
            raise CorruptFileError(f"{len(data) - expected} bytes follow the end of the stream: the file is damaged")
        if _crc16(data[:-2]) != int.from_bytes(data[-2:], "big"):
            raise CorruptFileError("checksum mismatch: the file is damaged")
        _check_size(width, height, CorruptFileError)
        return cls(
            codec_id=codec_id,
            fingerprint=data[3:6].hex(),
            width=width,
            height=height,
            greyscale=greyscale,
            payload=data[at : at + 4 * words],
            latent_checksum=int.from_bytes(data[-4:-2], "big"),
        )


def _check_size(width: int, height: int, error: type[ValueError]) -> None:
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise error(f"image size {width}x{height} is outside 1 to {MAX_PIXELS} pixels")


def _crc16(data: bytes) -> int:
    return binascii.crc_hqx(data, 0)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Value and the offset behind it; five bytes at most."""
    value = 0
    for position in range(5):
        if at + position >= len(data):
            raise TruncatedFileError("truncated: the file ends inside its header")
        byte = data[at + position]
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, at + position + 1
    raise CorruptFileError("a length field has no end: the file is damaged")
