"""Label maps without a trained model: DEFLATE (RFC 1951), or plain symbols where those are fewer bits.

The bytes go into the caller's stream as equally likely symbols, behind their number as a varint (LEB128), where 0
says that the labels follow as equally likely symbols of their own. Of the generic coders DEFLATE is within some
percent of the best on small maps (see `benchmarks/label_maps.py`), comes with Python, takes maps of any size, and
can be stopped when a damaged stream gives more than was asked for.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor

from lightning_modules.codecs.cdf_tables import CdfTables
from lightning_modules.codecs.integer_frequencies import TOTAL, frequencies, tables_of_frequencies
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder

LENGTH_BYTES = 5
"""At most, of the varint; more than any map of an image that the file format takes needs."""
_RAW = -15
"""zlib's window bits for a bare DEFLATE stream, without header and checksum."""


def _uniform(symbols: int) -> Tensor:
    return frequencies(torch.zeros(1, symbols, dtype=torch.int64))


def _deflated(labels: Tensor) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, _RAW, 9)
    return coder.compress(labels.to(torch.uint8).numpy().tobytes()) + coder.flush()


def _varint(value: int) -> list[int]:
    digits = [value >> 7 * place & 0x7F for place in range(max(1, math.ceil(value.bit_length() / 7)))]
    return [digit | 0x80 for digit in digits[:-1]] + digits[-1:]


def _chosen(labels: Tensor, classes: int) -> tuple[bytes, float]:
    """The DEFLATE stream, empty where plain symbols are fewer bits, and the bits of all."""
    plain = 8 + float(-torch.log2(_uniform(classes)[0, labels] / TOTAL).sum())
    data = _deflated(labels)
    bits = 8.0 * (len(_varint(len(data))) + len(data))
    # The decoder has been promised no more symbols than labels.
    return (data, bits) if bits < plain and len(data) <= len(labels) else (b"", plain)


def deflated_bits(labels: Tensor, classes: int) -> float:
    """What `put_deflated` will write, in bits."""
    return _chosen(labels, classes)[1]


def put_deflated(encoder: SymbolEncoder, labels: Tensor, classes: int) -> None:
    """Code labels, int64 (n,) from 0 to classes - 1."""
    data, _ = _chosen(labels, classes)
    _put(encoder, torch.tensor(_varint(len(data)) + list(data)), 256)
    if not data:
        _put(encoder, labels, classes)


def get_deflated(decoder: SymbolDecoder, count: int, classes: int) -> Tensor:
    """Decode `count` labels, int64; a damaged stream gives any, from no more than LENGTH_BYTES + count symbols."""
    length = 0
    for place in range(LENGTH_BYTES):
        digit = int(_get(decoder, 1, 256))
        length |= (digit & 0x7F) << 7 * place
        if digit < 0x80:
            break
    if not length:
        return _get(decoder, count, classes)
    data = bytes(_get(decoder, min(length, count), 256).tolist())
    try:
        plain = zlib.decompressobj(_RAW).decompress(data, count)
    except zlib.error:
        plain = b""
    labels = torch.frombuffer(bytearray(plain.ljust(count, b"\0")), dtype=torch.uint8)
    return labels.long().clamp_max(classes - 1)


def _tables(symbols: int) -> CdfTables:
    return tables_of_frequencies(_uniform(symbols))


def _put(encoder: SymbolEncoder, symbols: Tensor, alphabet: int) -> None:
    encoder.put(symbols, torch.zeros_like(symbols), _tables(alphabet))


def _get(decoder: SymbolDecoder, count: int, alphabet: int) -> Tensor:
    return decoder.get(torch.zeros(count, dtype=torch.int64), _tables(alphabet)).long()
