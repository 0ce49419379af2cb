"""Captions that were made elsewhere."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.captioners.base import Captioner, CaptionError, Side
from datamodules.captions import read_captions
from datamodules.errors import DataError, first_of


class CaptionFile(Captioner):
    """Captions from two JSON maps, image name -> caption: of the originals, and of one codec's reconstructions.

    These are the files that `CaptionSimilarity` writes after a test (`captions/{dataset}/originals.json` and
    `reconstructions.json` in the run directory), and those that the TACO authors publish. Since the
    reconstructions' file belongs to one set of reconstructions, it is for `test`, not for validation in training.

    Args:
        originals: File with the captions of the originals.
        reconstructions: File with the captions of the reconstructions.
    """

    def __init__(self, originals: str, reconstructions: str) -> None:
        self.paths: dict[Side, Path] = {"original": Path(originals), "reconstruction": Path(reconstructions)}
        self._captions: dict[Side, dict[str, tuple[str, ...]]] = {}

    def prepare(self, device: torch.device) -> None:
        """Read the files.

        Raises:
            CaptionError: a file is missing or is not such a map.
        """
        for side, path in self.paths.items():
            if not path.is_file():
                raise CaptionError(f"there is no file {path} with captions of the {side}s: {_setting(side)} names it")
            try:
                self._captions[side] = read_captions(path)
            except DataError as error:
                raise CaptionError(f"{error} ({_setting(side)} names the file)") from error

    def protocol(self) -> dict[str, Any]:
        """The files, by name and content."""
        files = {f"{side}s": {"file": path.name, "sha256": _digest(path)} for side, path in self.paths.items()}
        return {"captioner": "file", **files}

    def __call__(self, images: Tensor, names: list[str], side: Side) -> list[str]:
        """Look the captions up."""
        captions = self._captions[side]
        if missing := [name for name in names if name not in captions]:
            raise CaptionError(f"{self.paths[side]} has no caption of {side} {first_of(missing)}; add it")
        if several := [name for name in names if len(captions[name]) > 1]:
            raise CaptionError(
                f"{self.paths[side]} has {len(captions[several[0]])} captions of {several[0]}; keep one of each image"
            )
        return [captions[name][0] if captions[name] else "" for name in names]


def _setting(side: Side) -> str:
    return f"callbacks.captioners.CaptionFile.init_args.{side}s"


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
