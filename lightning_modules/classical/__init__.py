"""Codecs without weights, as anchors: they go through the same tests, metrics and records as learned ones."""

from lightning_modules.classical.binaries import Bpg, Hm, Vtm
from lightning_modules.classical.chosen_setting import ChosenSetting
from lightning_modules.classical.codec import ClassicalCodec, ClassicalCodecError
from lightning_modules.classical.module import ClassicalModule
from lightning_modules.classical.pillow_codecs import Avif, Jpeg, Jpeg2000, JpegXl, WebP

CODECS: dict[str, type[ClassicalCodec]] = {
    codec.base_name: codec for codec in (Jpeg, WebP, Avif, JpegXl, Jpeg2000, Bpg, Vtm, Hm)
}
"""By the name that the command line knows."""

__all__ = [
    "CODECS",
    "Avif",
    "Bpg",
    "ChosenSetting",
    "ClassicalCodec",
    "ClassicalCodecError",
    "ClassicalModule",
    "Hm",
    "Jpeg",
    "Jpeg2000",
    "JpegXl",
    "Vtm",
    "WebP",
]
