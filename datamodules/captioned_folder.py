"""A folder of images with a caption file beside it: Kodak, CLIC, Flickr8k, or one's own photographs."""

import re
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.base import CaptionedImageDataModule
from datamodules.captions import read_captions
from datamodules.errors import DataError, first_of
from datamodules.samples import Sample

IMAGE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
"""What counts as an image, in any case."""


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `image2` before `image10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


class CaptionedFolderDataModule(CaptionedImageDataModule):
    """The images directly in one folder, with or without captions, for training and for test.

    Test takes all images; training takes all but the `val_images` that are held out. To test on images that
    were not trained on, use two folders. Samples are in natural order of their names. Images in subfolders
    are not looked for: let `root` be the folder that holds the images.

    Args:
        root: Folder with the images.
        captions_file: JSON map from file name to a caption or a list of captions, or CSV with the columns
            image,caption and a row per caption; null for images without captions. Garbled characters are
            removed from captions.
        name: Short name of the dataset, in logged keys and results; null for the name of the folder.
        kwargs: See `CaptionedImageDataModule`.

    Raises:
        DataError: the folder is missing or has no images, the caption file is missing or not of these forms,
            or it lacks captions of some images. Captions without an image are only counted, in a warning.
    """

    def __init__(
        self,
        root: str,
        captions_file: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.captions_file = None if captions_file is None else Path(captions_file)
        self.train_name = self.test_name = name or self.root.resolve().name
        self._samples: list[Sample] | None = None

    def training_samples(self) -> list[Sample]:
        """List all images of the folder."""
        if self._samples is None:
            self._samples = self._read()
        return self._samples

    def test_samples(self) -> list[Sample]:
        """List all images of the folder."""
        return self.training_samples()

    def _read(self) -> list[Sample]:
        if not self.root.is_dir():
            raise DataError(f"there is no folder {self.root}: set --data.root to the folder that holds the images")
        names = [path.name for path in self.root.iterdir() if path.suffix.lower() in IMAGE_EXTENSIONS]
        if not names:
            raise DataError(
                f"no image in {self.root} (looked for {', '.join(sorted(IMAGE_EXTENSIONS))}): "
                "set --data.root to the folder that holds the images themselves"
            )
        names.sort(key=natural_order)
        captions = {} if self.captions_file is None else read_captions(self.captions_file)
        if self.captions_file is not None:
            silent = [name for name in names if not captions.get(name)]
            if silent:
                raise DataError(
                    f"{len(silent)} of {len(names)} images in {self.root} have no caption in "
                    f"{self.captions_file}: {first_of(silent)}. Add their captions, or move these images to "
                    "another folder."
                )
            spare = sorted(set(captions) - set(names))
            if spare:
                rank_zero_warn(f"{len(spare)} captions in {self.captions_file} have no image: {first_of(spare)}")
        return [Sample(name, self.root / name, captions.get(name, ())) for name in names]
