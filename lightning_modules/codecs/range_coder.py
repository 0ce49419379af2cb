"""rANS coding of whole tensors over CompressAI's coder, with a checksum of the symbols on both sides."""

import zlib

import numpy as np
import torch
from compressai import ans
from torch import Tensor

from lightning_modules.codecs.cdf_tables import CdfTables

_SYMBOL_LIMIT = 2**30
_OVERREAD_BYTES_PER_SYMBOL = 2
_OVERREAD_MARGIN = 1 << 16
_FEWEST_SYMBOLS = 3
"""CompressAI's coder writes outside its buffer when it flushes fewer; what fills up costs nothing and is not read."""


def _flat(indexes: Tensor) -> list[int]:
    flat: list[int] = indexes.reshape(-1).tolist()
    return flat


class SymbolEncoder:
    """Collects symbols and writes them as one rANS stream."""

    def __init__(self) -> None:
        self._encoder = ans.BufferedRansEncoder()
        self._checksum = 0
        self._count = 0

    def put(self, symbols: Tensor, indexes: Tensor, tables: CdfTables) -> None:
        """Append integer-valued `symbols` under the tables at `indexes` (same shape).

        Raises:
            ValueError: A symbol is not finite or beyond 2^30: the model has diverged.
        """
        if not bool(torch.isfinite(symbols).all()) or float(symbols.abs().max()) > _SYMBOL_LIMIT:
            raise ValueError(
                "the latent holds non-finite or huge values and cannot be coded; the checkpoint has probably "
                "diverged: use an earlier one"
            )
        array = symbols.reshape(-1).to("cpu", torch.int32).numpy()
        self._checksum = zlib.crc32(array.astype("<i4").tobytes(), self._checksum)
        self._count += len(array)
        self._encoder.encode_with_indexes(array.tolist(), _flat(indexes), tables.cdfs, tables.sizes, tables.offsets)

    def finish(self) -> tuple[bytes, int]:
        """The stream and the 16-bit checksum of its symbols."""
        if self._count < _FEWEST_SYMBOLS:
            nearly_certain = ([[0, 65535, 65536]], [3], [0])
            self._encoder.encode_with_indexes([0] * _FEWEST_SYMBOLS, [0] * _FEWEST_SYMBOLS, *nearly_certain)
        return self._encoder.flush(), self._checksum & 0xFFFF


class SymbolDecoder:
    """Reads back what a `SymbolEncoder` wrote.

    Args:
        stream: The bytes; arbitrary bytes give arbitrary symbols, never a read outside the buffer.
        symbols: Upper bound of the number of symbols that will be asked for.
    """

    def __init__(self, stream: bytes, symbols: int) -> None:
        # The C++ decoder does not know where its buffer ends. A symbol consumes at most 16 bits, so zeros behind
        # the stream keep a damaged one from reading foreign memory.
        padding = _OVERREAD_BYTES_PER_SYMBOL * symbols + _OVERREAD_MARGIN
        self._decoder = ans.RansDecoder()
        self._decoder.set_stream(stream + bytes(padding))
        self._checksum = 0

    def get(self, indexes: Tensor, tables: CdfTables) -> Tensor:
        """Symbols for `indexes`, float64 tensor of the same shape and device."""
        values = self._decoder.decode_stream(_flat(indexes), tables.cdfs, tables.sizes, tables.offsets)
        array = np.asarray(values, dtype="<i4")
        self._checksum = zlib.crc32(array.tobytes(), self._checksum)
        return torch.from_numpy(array.astype(np.float64)).to(indexes.device).view(indexes.shape)

    @property
    def checksum(self) -> int:
        """16-bit checksum of all symbols read so far."""
        return self._checksum & 0xFFFF
