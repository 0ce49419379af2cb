"""Records of codecs with several decoders: one per model, decoder and test set, found, told apart and checked."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Point
from lightning_modules.reports.records import load_json, search
from lightning_modules.reports.table import Cell, Missing


@dataclass(frozen=True)
class DecoderResult(ABC):
    """What one model's decoder makes of one test set."""

    path: Path
    dataset: str
    weights: str
    """Fingerprint of the model; all its decoders have the same."""
    decoder: str
    """"g1", "g2", "joint", "realism_0.4", "g2_as_3"."""
    realism: float
    """a of (1 - a) g1 + a g2."""
    training: Mapping[str, Any]
    """Settings of the training."""
    point: Point
    """Its figures at its rate in bits per pixel."""
    created: str

    @property
    @abstractmethod
    def rate(self) -> float:
        """The rate that its paper's figures are drawn over, in the paper's unit."""

    @property
    def series(self) -> str:
        """Stem of its files."""
        return self.path.stem

    @property
    def run_dir(self) -> Path:
        """Where its pictures are."""
        return self.path.parent.parent

    @property
    def place(self) -> str:
        """Where it was read, without what leads there on this machine."""
        return "/".join(self.path.parts[-3:])

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Rows of the record by image name, as far as they were kept."""
        assert self.point.record is not None
        return self.point.record["images"]

    def value(self, figure: str) -> float | None:
        """Mean of a figure over the test set."""
        return self.point.figures.get(figure)

    def why_missing(self, figure: str) -> str:
        """Why there is no such mean."""
        return self.point.missing.get(figure, f"{self.series} of {self.run_dir.name} was tested without {figure}")


R = TypeVar("R", bound=DecoderResult)


@dataclass(frozen=True)
class Found(Generic[R]):
    """What was found."""

    results: tuple[R, ...]
    ignored: int
    """Records of other codecs."""
    repeated: int
    """Older records of a series that was tested again."""


def read_decoder_results(
    paths: Sequence[Path], codec: str, read: Callable[[Path, dict[str, Any]], R], subject: str, config: str
) -> Found[R]:
    """The records of a codec among and below `paths`, by path; of several of the same weights, decoder and test set,
    the newest.

    Args:
        paths: Result records, or folders that hold them.
        codec: `codec` of the records wanted; others are counted.
        read: Makes a record a result.
        subject: The codec as a reader knows it, for messages.
        config: What such records are made with, for messages.

    Raises:
        ReportError: A path does not exist, a folder holds no record, there is no such record at all, or `read` finds
            one damaged; the message says what to do.
    """
    newest: dict[tuple[str, str, str], R] = {}
    ignored = repeated = 0
    found = search(paths).records
    for path in found:
        content = load_json(path)
        if not isinstance(content, dict) or content.get("codec") != codec:
            ignored += 1
            continue
        result = read(path, content)
        key = result.dataset, result.weights, result.decoder
        if key in newest:
            repeated += 1
            result = max(newest[key], result, key=lambda candidate: candidate.created)
        newest[key] = result
    if not newest:
        raise ReportError(
            f"{', '.join(map(str, paths))}: no record of {subject} among {len(found)} result records; "
            f"`test` with {config} writes them to results/ of its run directory"
        )
    return Found(tuple(sorted(newest.values(), key=lambda result: str(result.path))), ignored, repeated)


def cell(result: DecoderResult | None, figure: str, absent: str) -> Cell:
    """A mean, or why there is none; `absent` where there is no record at all."""
    if result is None:
        return Missing(absent)
    value = result.value(figure)
    return Missing(result.why_missing(figure)) if value is None else value


def value_of(series: Mapping[str, DecoderResult], decoder: str, figure: str, model: object) -> float | Missing:
    """A mean of one of a model's decoders, or why there is none; `model` names the model for that."""
    result = series.get(decoder)
    if result is None:
        return Missing(f"no record of {decoder} of {model}")
    value = result.value(figure)
    return Missing(result.why_missing(figure)) if value is None else value


def mapping(path: Path, record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object of a record.

    Raises:
        ReportError: It is missing or something else.
    """
    value = record.get(key)
    if not isinstance(value, Mapping):
        raise ReportError(f"{path}: {key!r} of the record is {value!r:.80}; it should be an object. Test again.")
    return value


def entry(path: Path, record: Mapping[str, Any], key: str, name: str) -> Any:
    """What an object of a record holds under a name.

    Raises:
        ReportError: There is no such object, or it has no such name.
    """
    holder = mapping(path, record, key)
    if name not in holder:
        raise ReportError(f"{path}: {key!r} of the record has no {name!r}; test again to replace it")
    return holder[name]


def number(path: Path, what: str, value: Any) -> float:
    """A finite number.

    Raises:
        ReportError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ReportError(f"{path}: {what} is {value!r}; it should be a number")
    return float(value)
