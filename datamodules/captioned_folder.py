"""A folder of images with a caption file beside it: Kodak, CLIC, Flickr8k, or one's own photographs."""

import re
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.base import CaptionedImageDataModule
from datamodules.caption_join import IMAGE_EXTENSIONS, Join, advice, join_captions
from datamodules.captions import read_captions
from datamodules.errors import DataError, first_of
from datamodules.samples import Sample


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts `image2` before `image10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


class CaptionedFolderDataModule(CaptionedImageDataModule):
    """The images directly in one folder, with or without captions, for training and for test.

    Test takes all images; training takes all but the `val_images` that are held out. To test on images that
    were not trained on, use two folders. Samples are in natural order of their names. Images in subfolders
    are not looked for: let `root` be the folder that holds the images.

    Images without a caption are an error that counts them; with `on_unreadable="skip"` they are left out with a
    warning instead. Captions without an image are counted in a warning; with `complete` they are an error.

    Args:
        root: Folder with the images.
        captions_file: JSON map from file name to a caption or a list of captions, COCO annotations, JSON lines
            (`metadata.jsonl`), or CSV with the columns image,caption and a row per caption; null for images
            without captions. Garbled characters are removed from captions, and very long ones are cut.
        name: Short name of the dataset, in logged keys and results; null for the name of the folder.
        join: "name": captions belong to the image of exactly that name; "stem": folder and ending of the names
            do not matter.
        complete: Whether the caption file lists the whole set, so that a caption without its image is an error:
            a mean over fewer images of a published test set is another figure.
        origin: Where the images and captions come from, in words, for the error when they are missing.
        kwargs: See `CaptionedImageDataModule`.

    Raises:
        DataError: the folder is missing or has no images, the caption file is missing or not of these forms,
            or images and captions do not match.
    """

    def __init__(
        self,
        root: str,
        captions_file: str | None = None,
        name: str | None = None,
        join: Join = "name",
        complete: bool = False,
        origin: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.captions_file = None if captions_file is None else Path(captions_file)
        self.train_name = self.test_name = name or self.root.resolve().name
        self.join: Join = join
        self.complete = complete
        self.origin = origin
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
        come_from = f". They come from {self.origin}" if self.origin else ""
        if not self.root.is_dir():
            raise DataError(
                f"there is no folder {self.root}: set --data.root to the folder that holds the images{come_from}"
            )
        names = [path.name for path in self.root.iterdir() if path.suffix.lower() in IMAGE_EXTENSIONS]
        if not names:
            raise DataError(
                f"no image in {self.root} (looked for {', '.join(sorted(IMAGE_EXTENSIONS))}): "
                f"set --data.root to the folder that holds the images themselves{come_from}"
            )
        names.sort(key=natural_order)
        if self.captions_file is None:
            return [Sample(name, self.root / name) for name in names]
        try:
            captions = read_captions(self.captions_file)
        except DataError as error:
            raise DataError(f"{error}{come_from}") from error
        joined = join_captions(names, captions, self.join, str(self.captions_file))
        hint = advice(joined.missing, joined.surplus) if self.join == "name" else ""
        if joined.missing:
            found = (
                f"{len(joined.missing)} of {len(names)} images in {self.root} have no caption in "
                f"{self.captions_file}: {first_of(joined.missing)}.{hint}"
            )
            # What is left must be something to train on; where nothing is, the file is of other images.
            if self.on_unreadable == "raise" or not joined.captions:
                raise DataError(f"{found} Add their captions, or move these images to another folder.")
            rank_zero_warn(f"{found} They are left out.")
        if joined.surplus:
            surplus = sorted(joined.surplus)
            found = f"{len(surplus)} captions in {self.captions_file} have no image: {first_of(surplus)}"
            if self.complete:
                raise DataError(
                    f"{found}. Put these images into {self.root}, or set --data.complete false{come_from}"
                )
            rank_zero_warn(found)
        return [Sample(name, self.root / name, joined.captions[name]) for name in names if name in joined.captions]
