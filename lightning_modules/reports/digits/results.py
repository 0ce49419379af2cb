"""Records of the digits codec: one per model, decoder and test set, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from callbacks.names import ACCURACY, BITS_LIKELIHOOD, MSE
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.measured import measured_point
from lightning_modules.reports.model import Point
from lightning_modules.reports.records import load_json, search

CODEC = "digits"
"""`codec` of the records that this report is made from."""
SIDE_INFORMATION = ("none", "label")

_ROW = ("name", "width", "height", "label", MSE, ACCURACY)
_WITH_ROWS = ("g1", "g2")
"""Decoders whose images are compared or shown. A report has hundreds of records of 10,000 images; the rows of the
others are checked and let go."""


@dataclass(frozen=True)
class Result:
    """What one model's decoder makes of one test set."""

    path: Path
    dataset: str
    weights: str
    """Fingerprint of the model; all its decoders have the same."""
    code_bits: int
    labelled: bool
    """Whether the codec has the digit as side information."""
    decoder: str
    """"g1", "g2", "joint", "realism_0.4", "g2_as_3"."""
    realism: float
    """a of (1 - a) g1 + a g2."""
    beta: float | None
    """Weight of the critic where encoder and decoder were trained jointly."""
    noise_dim: int | None
    training: Mapping[str, Any]
    """All other settings of the training."""
    point: Point
    """Its figures at the rate of the cross-entropy, in bits per pixel."""
    created: str

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
    def rate(self) -> float:
        """Cross-entropy in bits per image: the paper's rate."""
        return self.point.figures[BITS_LIKELIHOOD]

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """name, width, height, label, MSE and accuracy of each image by name; only of g1 and g2."""
        assert self.point.record is not None
        return self.point.record["images"]

    def value(self, figure: str) -> float | None:
        """Mean of a figure over the test set."""
        return self.point.figures.get(figure)

    def why_missing(self, figure: str) -> str:
        """Why there is no such mean."""
        return self.point.missing.get(figure, f"{self.series} of {self.run_dir.name} was tested without {figure}")


@dataclass(frozen=True)
class Results:
    """What was found."""

    results: tuple[Result, ...]
    ignored: int
    """Records of other codecs."""
    repeated: int
    """Older records of a series that was tested again."""


def read_results(paths: Sequence[Path]) -> Results:
    """The digits records among and below `paths`, by path; of several of the same weights, decoder and test set, the
    newest.

    Raises:
        ReportError: A path does not exist, a folder holds no record, there is no digits record at all, or a record is
            damaged; the message says what to do.
    """
    newest: dict[tuple[str, str, str], Result] = {}
    ignored = repeated = 0
    found = search(paths).records
    for path in found:
        content = load_json(path)
        if not isinstance(content, dict) or content.get("codec") != CODEC:
            ignored += 1
            continue
        result = read_result(path, content)
        key = result.dataset, result.weights, result.decoder
        if key in newest:
            repeated += 1
            result = max(newest[key], result, key=lambda candidate: candidate.created)
        newest[key] = result
    if not newest:
        raise ReportError(
            f"{', '.join(map(str, paths))}: no record of the digits codec among {len(found)} result records; "
            "`test` with a digits config writes them to results/ of its run directory"
        )
    return Results(tuple(sorted(newest.values(), key=lambda result: str(result.path))), ignored, repeated)


def read_result(path: Path, record: dict[str, Any]) -> Result:
    """A digits record as a result.

    Raises:
        ReportError: See `measured_point`; or its setting, decoder or training is not what the digits codec writes.
    """
    point = measured_point(path, record)
    code_bits = _entry(path, record, "setting", "code_bits")
    if isinstance(code_bits, bool) or not isinstance(code_bits, int) or code_bits < 1:
        raise ReportError(f"{path}: setting.code_bits is {code_bits!r}; it should be a number of bits")
    side = _entry(path, record, "setting", "side_information")
    if side not in SIDE_INFORMATION:
        raise ReportError(f"{path}: setting.side_information is {side!r}, not one of {', '.join(SIDE_INFORMATION)}")
    decoder, realism = _entry(path, record, "decoder", "name"), _entry(path, record, "decoder", "realism")
    training = dict(_mapping(path, record, "training"))
    noise_dim = training.pop("noise_dim", None)
    if noise_dim is not None and (isinstance(noise_dim, bool) or not isinstance(noise_dim, int) or noise_dim < 0):
        raise ReportError(f"{path}: training.noise_dim is {noise_dim!r}; it should be a count")
    beta = record["setting"].get("beta")
    rate = point.figures.get(BITS_LIKELIHOOD)
    if rate is None or rate <= 0:
        raise ReportError(
            f"{path} has no rate ('{BITS_LIKELIHOOD}' above 0 in 'mean'); test again with callbacks.Bits among "
            "trainer.callbacks"
        )
    rows = record["images"]
    pixels = rows[0]["width"] * rows[0]["height"]
    kept = [{key: row.get(key) for key in _ROW} for row in rows] if decoder in _WITH_ROWS else []
    slim = {"protocols": record["protocols"], "images": sorted(kept, key=lambda row: row["name"])}
    return Result(
        path=path,
        dataset=point.dataset,
        weights=record["weights"] or str(path.parent.resolve()),
        code_bits=code_bits,
        labelled=side == "label",
        decoder=decoder,
        realism=_number(path, "decoder.realism", realism),
        beta=None if beta is None else _number(path, "setting.beta", beta),
        noise_dim=noise_dim,
        training=training,
        point=replace(point, bpp=rate / pixels, pictures=(), record=slim, label=f"{rate:.2f} bits"),
        created=str(record.get("created", "")),
    )


def pixels_of(result: Result) -> int:
    """Pixels of an image."""
    return round(result.rate / result.point.bpp)


def _mapping(path: Path, record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    if not isinstance(value, Mapping):
        raise ReportError(f"{path}: {key!r} of the record is {value!r:.80}; it should be an object. Test again.")
    return value


def _entry(path: Path, record: Mapping[str, Any], key: str, name: str) -> Any:
    holder = _mapping(path, record, key)
    if name not in holder:
        raise ReportError(f"{path}: {key!r} of the record has no {name!r}; test again to replace it")
    return holder[name]


def _number(path: Path, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ReportError(f"{path}: {what} is {value!r}; it should be a number")
    return float(value)
