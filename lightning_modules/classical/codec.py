"""What every classical codec offers: one setting that trades rate for quality, and pixels to bytes and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""uint8 (H, W, 3): an RGB picture."""


class ClassicalCodecError(RuntimeError):
    """A classical codec that is not on this machine, or was asked for what it cannot do."""


@dataclass(frozen=True)
class Setting:
    """The one number that trades rate for quality."""

    name: str
    """As the codec's own users know it: "quality", "qp"."""
    lowest: float
    highest: float
    continuous: bool
    """Whether fractions make a difference; otherwise only whole numbers are taken."""
    raises_rate: bool
    """Whether a larger value makes larger files."""
    grid: tuple[float, ...]
    """Values that sample the codec's curve well."""

    def check(self, codec: str, value: float) -> float:
        """The value as the codec takes it: an int where fractions mean nothing.

        Raises:
            ClassicalCodecError: It is out of range, not finite, or a fraction where the codec takes none.
        """
        if not self.lowest <= value <= self.highest:
            raise ClassicalCodecError(
                f"{codec} takes {self.name} {self.lowest:g} to {self.highest:g}, not {value:g}: correct --quality"
            )
        if value == int(value):
            return int(value)
        if not self.continuous:
            raise ClassicalCodecError(f"{codec} takes whole numbers as {self.name}, not {value:g}: correct --quality")
        return float(value)

    def label(self, value: float) -> str:
        """Name of a point, which is also the name of its folder: "quality_75"."""
        return f"{self.name}_{value:g}"


class ClassicalCodec(ABC):
    """A codec without weights.

    A subclass gives the class attributes and the abstract methods. What its constructor takes beside paths are
    its options: they decide what the bits are, stand in result records, and name the codec where they are not the
    defaults.
    """

    base_name: ClassVar[str]
    suffix: ClassVar[str]
    """Of its files, with the dot."""
    setting: ClassVar[Setting]

    @property
    def name(self) -> str:
        """Name in records and reports: `base_name`, and what is not the default, as in "jpeg-subsampling_444"."""
        default = type(self)().options()
        changed = {key: value for key, value in self.options().items() if value != default[key]}
        return "-".join([self.base_name, *(f"{key}_{value}".replace(":", "") for key, value in changed.items())])

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """All that decides the bits beside the setting and the encoder's version, as plain values."""

    @abstractmethod
    def version(self) -> str:
        """Which encoder this is: libraries or programs, with their versions.

        Raises:
            ClassicalCodecError: It is not on this machine.
        """

    @abstractmethod
    def check_available(self) -> None:
        """Do nothing where the codec can run.

        Raises:
            ClassicalCodecError: It cannot; the message says what is missing and how to get it.
        """

    @abstractmethod
    def encode(self, pixels: Pixels, value: float) -> bytes:
        """A complete file.

        Args:
            pixels: uint8 (H, W, 3), RGB.
            value: Of the setting, as `Setting.check` returns it.

        Raises:
            ClassicalCodecError: The codec is missing, or cannot code this picture.
        """

    @abstractmethod
    def decode(self, data: bytes, size: tuple[int, int]) -> Pixels:
        """The picture in a file.

        Args:
            data: The file.
            size: Height and width of the picture. Every file holds them, but reference decoders write raw samples
                and do not say how many lines they are; a decoded picture of another size is an error.

        Returns:
            uint8 (H, W, 3), RGB.

        Raises:
            ClassicalCodecError: The codec is missing, or the file cannot be decoded to such a picture.
        """

    def describe(self) -> dict[str, Any]:
        """Options, and the encoder with its version, as plain values."""
        return {**self.options(), "encoder": self.version()}
