"""What a report is made of: figures, points and curves, whatever file they were read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["measured", "compressai", "printed"]
"""Our own record, one of CompressAI's result files, or figures that a paper prints."""


@dataclass(frozen=True)
class Figure:
    """A kind of figure, such as PSNR."""

    name: str
    """As in records and logged keys, for example "ms_ssim"."""
    title: str
    """As a reader knows it, for example "MS-SSIM"."""
    unit: str
    higher_is_better: bool | None


@dataclass(frozen=True)
class Picture:
    """One image at one point."""

    name: str
    figures: Mapping[str, float]
    """Finite figures of this image, `bpp` among them."""
    original: Path | None = None
    """File of the original, where it lies on this machine."""
    reconstruction: Path | None = None
    """File of the reconstruction, where it lies on this machine."""


@dataclass(frozen=True)
class Point:
    """One codec at one setting on one dataset."""

    codec: str
    dataset: str
    label: str
    """The setting in words, for example "λ = 0.01" or "quality = 75"."""
    bpp: float
    figures: Mapping[str, float]
    """Figure name -> finite mean over the dataset."""
    source: str
    """Where the point was read: a file, or a publication with its table."""
    pictures: tuple[Picture, ...] = ()
    record: Mapping[str, Any] | None = None
    """The whole record (kind "measured")."""
    kind: Kind = "measured"
    missing: Mapping[str, str] = field(default_factory=dict)
    """Figure name -> why it has no finite mean, or on which share of the images it could not be measured."""
    remark: str = ""
    """What the source says of itself, such as the encoder's version."""


@dataclass(frozen=True)
class Curve:
    """The points of one codec on one dataset, by rising rate."""

    codec: str
    dataset: str
    kind: Kind
    points: tuple[Point, ...]
    notes: tuple[str, ...] = field(default=())
    """What a reader must know, such as a protocol that differs from the others'."""
