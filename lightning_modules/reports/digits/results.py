"""Records of the digits codec: one per model, decoder and test set, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from callbacks.names import ACCURACY, BITS_LIKELIHOOD, MSE
from lightning_modules.reports.decoder_result import (
    DecoderResult,
    Found,
    entry,
    mapping,
    number,
    read_decoder_results,
)
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.measured import measured_point

CODEC = "digits"
"""`codec` of the records that this report is made from."""
SIDE_INFORMATION = ("none", "label")

_ROW = ("name", "width", "height", "label", MSE, ACCURACY)
_WITH_ROWS = ("g1", "g2")
"""Decoders whose images are compared or shown. A report has hundreds of records of 10,000 images; the rows of the
others are checked and let go."""


@dataclass(frozen=True)
class Result(DecoderResult):
    """What one model's decoder makes of one test set; its point is at the rate of the cross-entropy."""

    code_bits: int
    labelled: bool
    """Whether the codec has the digit as side information."""
    beta: float | None
    """Weight of the critic where encoder and decoder were trained jointly."""
    noise_dim: int | None
    """Not among the settings in `training`."""

    @property
    def rate(self) -> float:
        """Cross-entropy in bits per image: the paper's rate."""
        return self.point.figures[BITS_LIKELIHOOD]


def read_results(paths: Sequence[Path]) -> Found[Result]:
    """The digits records among and below `paths`; see `read_decoder_results`.

    The rows of g1 and g2 hold name, width, height, label, MSE and accuracy; those of other decoders are let go.
    """
    return read_decoder_results(paths, CODEC, read_result, "the digits codec", "a digits config")


def read_result(path: Path, record: dict[str, Any]) -> Result:
    """A digits record as a result.

    Raises:
        ReportError: See `measured_point`; or its setting, decoder or training is not what the digits codec writes.
    """
    point = measured_point(path, record)
    code_bits = entry(path, record, "setting", "code_bits")
    if isinstance(code_bits, bool) or not isinstance(code_bits, int) or code_bits < 1:
        raise ReportError(f"{path}: setting.code_bits is {code_bits!r}; it should be a number of bits")
    side = entry(path, record, "setting", "side_information")
    if side not in SIDE_INFORMATION:
        raise ReportError(f"{path}: setting.side_information is {side!r}, not one of {', '.join(SIDE_INFORMATION)}")
    decoder, realism = entry(path, record, "decoder", "name"), entry(path, record, "decoder", "realism")
    training = dict(mapping(path, record, "training"))
    noise_dim = training.pop("noise_dim", None)
    if isinstance(training.get("adversarial"), Mapping):
        # What was asked for, null for "the paper's"; what came of it is above.
        training["adversarial"] = {k: v for k, v in training["adversarial"].items() if k != "noise_dim"}
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
        realism=number(path, "decoder.realism", realism),
        beta=None if beta is None else number(path, "setting.beta", beta),
        noise_dim=noise_dim,
        training=training,
        point=replace(point, bpp=rate / pixels, pictures=(), record=slim, label=f"{rate:.2f} bits"),
        created=str(record.get("created", "")),
    )


def pixels_of(result: Result) -> int:
    """Pixels of an image."""
    return round(result.rate / result.point.bpp)
