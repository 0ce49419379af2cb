"""The range coder at the edge of what CompressAI's can do."""

import pytest
import torch

from lightning_modules.codecs.cdf_tables import tables_of_probabilities
from lightning_modules.codecs.range_coder import SymbolDecoder, SymbolEncoder


@pytest.mark.parametrize("count", range(6))
def test_streams_of_few_symbols(count: int) -> None:
    tables = tables_of_probabilities(torch.full((1, 4), 0.25, dtype=torch.float64))
    symbols, rows = torch.arange(count) % 4, torch.zeros(count, dtype=torch.int64)
    for _ in range(50):  # what was written outside of a buffer did not always show
        encoder = SymbolEncoder()
        if count:
            encoder.put(symbols, rows, tables)
        stream, checksum = encoder.finish()
        decoder = SymbolDecoder(stream, count)
        if count:
            assert torch.equal(decoder.get(rows, tables).long(), symbols)
        assert decoder.checksum == checksum and len(stream) <= 8
