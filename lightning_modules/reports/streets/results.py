"""Records of the codec of street scenes: one per model, decoder and test set, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from lightning_modules.reports.model import Picture

CODEC = "conditional_hyperprior"
"""`codec` of the records that this report is made from."""
SIDE_INFORMATION = ("none", "label map")


@dataclass(frozen=True)
class Result(DecoderResult):
    """What one model's decoder makes of one test set; its point is at the rate of the files."""

    lmbda: float
    labelled: bool
    """Whether the codec has the label map as side information."""
    critic: str | None
    """"oasis" or "patch", what g2 was trained against; `None` without a second stage."""

    @property
    def rate(self) -> float:
        """Mean bits per pixel of the files."""
        return self.point.bpp

    @property
    def pictures(self) -> Sequence[Picture]:
        """The images by name, with their files as far as they are there."""
        return sorted(self.point.pictures, key=lambda picture: picture.name)


def read_results(paths: Sequence[Path]) -> Found[Result]:
    """The records of street scenes among and below `paths`; see `read_decoder_results`."""
    subject, config = "the street-scenes codec", "configs/streets_two_stage.yaml"
    return read_decoder_results(paths, CODEC, read_result, subject, config)


def read_result(path: Path, record: dict[str, Any]) -> Result:
    """A record of street scenes as a result.

    Raises:
        ReportError: See `measured_point`; or its setting, decoder or training is not what the codec writes.
    """
    point = measured_point(path, record)
    lmbda = number(path, "setting.lambda", entry(path, record, "setting", "lambda"))
    if lmbda <= 0:
        raise ReportError(f"{path}: setting.lambda is {lmbda:g}; it should be above 0")
    side = entry(path, record, "setting", "side_information")
    if side not in SIDE_INFORMATION:
        raise ReportError(f"{path}: setting.side_information is {side!r}, not one of {', '.join(SIDE_INFORMATION)}")
    decoder, realism = entry(path, record, "decoder", "name"), entry(path, record, "decoder", "realism")
    training = mapping(path, record, "training")
    critic = training.get("critic")
    if critic is not None and not (isinstance(critic, Mapping) and isinstance(critic.get("critic"), str)):
        raise ReportError(
            f"{path}: training.critic is {critic!r:.80}; it should be an object that names its 'critic'. Test again."
        )
    rows = sorted(record["images"], key=lambda row: row["name"])
    return Result(
        path=path,
        dataset=point.dataset,
        weights=record["weights"] or str(path.parent.resolve()),
        decoder=decoder,
        realism=number(path, "decoder.realism", realism),
        training=training,
        # The rest of the record, its configuration above all, is not needed again.
        point=replace(point, record={"protocols": record["protocols"], "images": rows}, label=f"λ = {lmbda:g}"),
        created=str(record.get("created", "")),
        lmbda=lmbda,
        labelled=side == "label map",
        critic=None if critic is None else critic["critic"],
    )
