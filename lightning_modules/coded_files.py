"""Tests through real files: a file for each picture, or one that holds a whole data set."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from lightning_modules.codecs.codec import Codec
from lightning_modules.codecs.digits import DigitCodec, StoredDigits
from lightning_modules.files import write_atomically
from lightning_modules.losses.rate_distortion import bits
from lightning_modules.step_output import StepOutput

T = TypeVar("T")


class CodedPictures(NamedTuple, Generic[T]):
    """Pictures that were written to a file each, and read back."""

    opened: list[T]
    """What the decoder made of each file."""
    bits: Tensor
    """Sizes of the files, float64 (B,)."""
    parts: dict[str, Tensor]
    """-log2 likelihood by latent, each float64 (B,)."""
    files: list[Path]
    encode_seconds: list[float]
    decode_seconds: list[float]

    def describe(self, output: StepOutput) -> StepOutput:
        """A step's output with the files and times."""
        times: Any = {"encode_seconds": self.encode_seconds, "decode_seconds": self.decode_seconds}
        return {**output, "file": self.files, **times}


def code_pictures(
    codec: Codec, batch: Any, folder: Path, side_information: Callable[[int], Any], opened: Callable[[bytes], T]
) -> CodedPictures[T]:
    """Compress each picture of a batch to a file, and read the file back.

    Args:
        codec: The codec.
        batch: Its pictures, names and data set.
        folder: Of the files: `{folder}/{dataset}/{name}.{codec}`.
        side_information: Y of picture i; its time is the encoder's.
        opened: What to make of the bytes of a file; its time is the decoder's.
    """
    device = batch["image"].device
    results, sizes, files, encoding, decoding = [], [], [], [], []
    parts: dict[str, list[Tensor]] = {}
    for i, name in enumerate(batch["name"]):
        start = clock(device)
        encoded = codec.encode(batch["image"][i : i + 1], side_information(i))
        encoding.append(clock(device) - start)
        file = folder / batch["dataset"] / f"{name}.{codec.name}"
        write_atomically(file, functools.partial(Path.write_bytes, data=encoded.data))
        start = clock(device)
        results.append(opened(file.read_bytes()))
        decoding.append(clock(device) - start)
        sizes.append(8 * file.stat().st_size)
        files.append(file)
        for latent, values in encoded.likelihoods().items():
            parts.setdefault(latent, []).append(bits(values))
    return CodedPictures(
        results,
        torch.tensor(sizes, dtype=torch.float64, device=device),
        {latent: torch.cat(values) for latent, values in parts.items()},
        files,
        encoding,
        decoding,
    )


def clock(device: torch.device) -> float:
    """Seconds, once the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class SetStream(NamedTuple):
    """A data set as its one file holds it."""

    file: Path
    stored: StoredDigits
    bits_per_image: float
    """Size of the whole file over the number of images."""


class SetFiles:
    """Data sets of digits, each in one file (with several processes: one each), dealt out batch by batch.

    Args:
        codec: The codec.
        folder: Of the files.
        rank: Of this process, in the file's name where there are several; None with one.
    """

    def __init__(self, codec: DigitCodec, folder: Path, rank: int | None) -> None:
        self._codec = codec
        self._folder = folder
        self._rank = "" if rank is None else f".rank{rank}"
        self._streams: dict[str, SetStream] = {}
        self._taken: dict[str, int] = {}

    def write(self, loaders: Any, limits: Sequence[int | float], device: torch.device) -> None:
        """Code what the loaders give, write it and read it back.

        Args:
            loaders: A loader or several.
            limits: Batches of each.
            device: Of the codec.
        """
        loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
        codes: dict[str, list[Tensor]] = {}
        labels: dict[str, list[Tensor]] = {}
        for loader, limit in zip(loaders, limits, strict=True):
            for batch in _first(loader, limit):
                codes.setdefault(batch["dataset"], []).append(self._codec.quantise(batch["image"].to(device)))
                y = self._codec.side_information(batch)
                if y is not None:
                    labels.setdefault(batch["dataset"], []).append(y)
        for dataset, parts in codes.items():
            data = self._codec.write(torch.cat(parts), torch.cat(labels[dataset]) if dataset in labels else None)
            file = self._folder / f"{dataset}{self._rank}.{self._codec.name}"
            write_atomically(file, functools.partial(Path.write_bytes, data=data))
            stored = self._codec.read(file.read_bytes())
            self._streams[dataset] = SetStream(file, stored, 8 * file.stat().st_size / len(stored.code))
            self._taken[dataset] = 0

    def next(self, dataset: str, count: int) -> tuple[SetStream, StoredDigits]:
        """The file of a data set, and what it holds of the next so many images."""
        stream = self._streams[dataset]
        place = slice(self._taken[dataset], self._taken[dataset] + count)
        self._taken[dataset] += count
        label = None if stream.stored.label is None else stream.stored.label[place]
        return stream, StoredDigits(stream.stored.code[place], label, stream.stored.keys[place])


def _first(batches: Iterable[Any], limit: int | float) -> Iterable[Any]:
    return batches if limit == float("inf") else islice(batches, int(limit))
