"""The container: overhead, every named error, and thousands of damaged files."""

import random
from pathlib import Path

import pytest
import torch

from lightning_modules.codecs import bitstream as bs
from lightning_modules.codecs.bitstream import Bitstream, BitstreamError
from lightning_modules.codecs.elic import ElicCodec
from tests.conftest import SMALL
from tests.test_codec import photograph, small_codec, text


def stream(width: int = 256, height: int = 256, payload: bytes = bytes(2000)) -> Bitstream:
    return Bitstream(2, "a1b2c3", width, height, False, payload, 0xBEEF)


def test_overhead_at_256x256_is_at_most_16_bytes() -> None:
    assert len(stream().to_bytes()) - 2000 == 16
    assert len(stream(payload=bytes(60_000)).to_bytes()) - 60_000 == 16


@pytest.mark.parametrize("size", [(1, 1), (127, 128), (4000, 3000), (16384, 16384)])
@pytest.mark.parametrize("greyscale", [True, False])
def test_round_trip(size: tuple[int, int], greyscale: bool) -> None:
    before = Bitstream(15, "00ff7f", *size, greyscale, b"abcd" * 77, 65535)
    assert Bitstream.from_bytes(before.to_bytes()) == before


def test_each_error_has_its_name() -> None:
    data = stream().to_bytes()
    newer = bytearray(data)
    newer[2] = 2 << 5 | newer[2] & 31
    cases: list[tuple[bytes, type[BitstreamError]]] = [
        (b"", bs.NotABitstreamError),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), bs.NotABitstreamError),
        (bytes(newer), bs.NewerVersionError),
        (data[:-1], bs.TruncatedFileError),
        (data[:8], bs.TruncatedFileError),
        (data[:1], bs.TruncatedFileError),
        (data + b"x", bs.CorruptFileError),
        (data[:500] + bytes([data[500] ^ 4]) + data[501:], bs.CorruptFileError),
    ]
    for damaged, error in cases:
        with pytest.raises(error):
            Bitstream.from_bytes(damaged)


def test_impossible_sizes_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ValueError, match="outside 1 to"):
        stream(width=1 << 20, height=1 << 20).to_bytes()
    body = bs.MAGIC + bytes([1 << 5 | 2]) + bytes(3) + b"\xff\xff\xff\x7f" * 2 + b"\x00" + bytes(2)
    data = body + bs._crc16(body).to_bytes(2, "big")
    with pytest.raises(bs.CorruptFileError, match="image size"):
        Bitstream.from_bytes(data)
    endless = bs.MAGIC + bytes([1 << 5 | 2]) + bytes(3) + b"\xff" * 40
    with pytest.raises(bs.CorruptFileError, match="no end"):
        Bitstream.from_bytes(endless)


def test_other_weights_and_other_codecs_are_named() -> None:
    codec, other = small_codec(), small_codec()
    data = codec.compress(photograph(64, 64), text(1))
    with torch.no_grad():
        other.g_s[0].conv_b[3].bias[0] += 1
    with pytest.raises(bs.WrongWeightsError, match=codec.fingerprint()[:6]):
        other.decompress(data)
    with pytest.raises(bs.WrongCodecError, match="taco"):
        ElicCodec(**SMALL).eval().decompress(data)


def test_a_latent_mismatch_is_detected_behind_a_valid_checksum() -> None:
    codec = small_codec()
    parsed = Bitstream.from_bytes(codec.compress(photograph(64, 64), text(1)))
    forged = Bitstream(**{**parsed.__dict__, "latent_checksum": parsed.latent_checksum ^ 1})
    with pytest.raises(bs.LatentMismatchError):
        codec.decompress(forged.to_bytes())


def _damage(data: bytes, other: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        flipped = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == 2:
        at = rng.randrange(1, len(data))
        return data[:at] + other[at:]
    if kind == 3:
        return rng.randbytes(rng.randrange(200))
    if kind == 4:
        return data[:3] + rng.randbytes(len(data) - 3)
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]


def test_two_thousand_damaged_files_end_in_named_errors(trained: tuple) -> None:
    codec = trained[0].codec
    first, second = (codec.compress(photograph(h, 64), text(1)) for h in (64, 80))
    rng, rejected = random.Random(0), 0
    while rejected < 2000:
        damaged = _damage(first, second, rng)
        if damaged in (first, second):  # a splice at the common header is the other file, whole
            continue
        with pytest.raises(BitstreamError):
            codec.decompress(damaged)
        rejected += 1


def test_garbage_payloads_with_valid_checksums_are_detected(trained: tuple) -> None:
    """What an attacker would send: everything fits but the payload, which reaches the range decoder."""
    codec = trained[0].codec
    parsed = Bitstream.from_bytes(codec.compress(photograph(64, 64), text(1)))
    rng = random.Random(1)
    for length in (0, 1, 2, 3, 50, 400):
        for filler in (lambda n: rng.randbytes(n), lambda n: b"\xff" * n, lambda n: bytes(n)):
            forged = Bitstream(**{**parsed.__dict__, "payload": filler(4 * length), "latent_checksum": 12345})
            with pytest.raises(bs.LatentMismatchError):
                codec.decompress(forged.to_bytes())


def test_files_are_byte_identical_on_every_run(trained: tuple, tmp_path: Path) -> None:
    codec = trained[0].codec
    x = photograph(96, 160)
    assert codec.compress(x, text(1)) == codec.compress(x, text(1))
