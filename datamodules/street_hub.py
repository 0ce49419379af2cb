"""Street scenes in a data set of the Hugging Face hub, or in a folder that `datasets.load_dataset` can read."""

from typing import Any

from PIL import Image

from datamodules.errors import DataError, UnreadableImageError
from datamodules.street_classes import StreetClasses
from datamodules.street_files import Scenes


class HubScenes(Scenes):
    """A split of a data set with a column of photographs and a column of label maps.

    Args:
        source: Id on the hub, or a local folder.
        split: Name of the split, such as "train" or "validation".
        image_column: Column of photographs.
        label_column: Column of label maps of the same sizes, one channel.
        classes: What the values of label maps mean.

    Raises:
        DataError: it cannot be loaded (there is no network, or no such data set or split), is empty, or has not both
            columns of images.
    """

    def __init__(self, source: str, split: str, image_column: str, label_column: str, classes: StreetClasses) -> None:
        import datasets  # here, for it takes a second, and most runs read no hub

        self.source = f"{source} ({split})"
        self.columns = image_column, label_column
        try:
            self.table: Any = datasets.load_dataset(source, split=split)
        except Exception as error:  # of the hub, the network, the disk, Arrow: there is no common type
            raise DataError(
                f"cannot load split {split} of {source!r} through `datasets` ({type(error).__name__}: {error}). "
                "Check --data.root, --data.train_split and --data.test_split; without network, set --data.root to "
                "the folder of a local copy"
            ) from error
        kinds = {name: type(kind).__name__ for name, kind in self.table.features.items()}
        for column, setting in ((image_column, "image_column"), (label_column, "label_column")):
            if kinds.get(column) != "Image":
                found = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
                raise DataError(f"{source} has no column {column!r} of images, but {found}: set --data.{setting}")
        if len(self.table) == 0:
            raise DataError(f"{self.source} holds no images: set --data.train_split or --data.test_split to another")
        super().__init__([f"{split}-{index:05d}" for index in range(len(self.table))], classes)

    def origin(self, index: int) -> tuple[str, str]:
        """Column and row of both."""
        image, labels = (f"{column} of row {index} of {self.source}" for column in self.columns)
        return image, labels

    def path(self, index: int) -> None:
        """Rows have no file."""
        return None

    def photograph(self, index: int) -> Image.Image:
        """The decoded row, as RGB.

        Raises:
            UnreadableImageError: it cannot be decoded, or has more than 8 bits per channel.
        """
        image = self._decoded(index, 0)
        if image.mode.startswith("I") or image.mode == "F":
            raise UnreadableImageError(
                f"{self.origin(index)[0]} has more than 8 bits per channel (mode {image.mode}): set "
                "--data.image_column to a column of 8-bit photographs"
            )
        return image.convert("RGB")

    def labels(self, index: int) -> Image.Image:
        """The decoded row."""
        return self._decoded(index, 1)

    def photograph_size(self, index: int) -> tuple[int, int]:
        """Of the decoded row."""
        return self.photograph(index).size

    def _decoded(self, index: int, column: int) -> Image.Image:
        try:
            # The column first: a row would be decoded whole.
            image: Image.Image = self.table.select_columns([self.columns[column]])[index][self.columns[column]]
            image.load()
        except Exception as error:  # of Pillow, Arrow, the disk: there is no common type
            raise UnreadableImageError(
                f"{self.origin(index)[column]} cannot be decoded ({type(error).__name__}: {error}): download the "
                "data set again"
            ) from error
        return image
