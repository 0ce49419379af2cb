"""Street scenes on disk: pairs of a photograph and a label map, in the layouts of Cityscapes and of CamVid."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from PIL import Image

from datamodules.decoding import DECODING_ERRORS, load_rgb
from datamodules.errors import DataError, UnreadableImageError, first_of
from datamodules.street_classes import StreetClasses

Split = Literal["train", "val"]

CITYSCAPES_COUNTS: dict[Split, int] = {"train": 2975, "val": 500}
"""Images of the official splits with fine annotations."""

_CITYSCAPES_LAYOUT = (
    "leftImg8bit/{train,val}/CITY/X_leftImg8bit.png and gtFine/{train,val}/CITY/X_gtFine_labelIds.png, as the "
    "archives leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip unpack"
)
_CAMVID_LAYOUT = "train/, trainannot/, val/ and valannot/ with PNG files of the same names"


class Scenes(ABC):
    """Street scenes as their source has them, by position: photographs, and label maps in symbols of a table.

    Args:
        names: One per scene, unique.
        classes: What the values of label maps mean.
    """

    def __init__(self, names: list[str], classes: StreetClasses) -> None:
        self.names = names
        self.classes = classes
        self._lookup = classes.lookup()

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def origin(self, index: int) -> tuple[str, str]:
        """Where photograph and label map come from, for messages."""

    @abstractmethod
    def path(self, index: int) -> str | None:
        """The file of a photograph, where it is a file."""

    @abstractmethod
    def photograph(self, index: int) -> Image.Image:
        """A photograph as 8-bit RGB.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """

    @abstractmethod
    def labels(self, index: int) -> Image.Image:
        """A decoded label map as it is stored, one channel.

        Raises:
            UnreadableImageError: it cannot be decoded.
        """

    @abstractmethod
    def photograph_size(self, index: int) -> tuple[int, int]:
        """(width, height) of a photograph, by the cheapest way that notices a damaged one.

        Raises:
            UnreadableImageError: it is damaged.
        """

    def symbols(self, index: int) -> NDArray[np.uint8]:
        """Label map of a scene at its full size, (H, W), in symbols of the table.

        Raises:
            DataError: it is not a map of class numbers, or holds a value that the table does not have.
        """
        labels = self.labels(index)
        where = self.origin(index)[1]
        values = np.asarray(labels)
        if values.ndim != 2 or labels.mode == "F":
            raise DataError(
                f"{where} is an image of mode {labels.mode}, not a map with one class number per pixel: put the "
                "label ids there, not the coloured picture"
            )
        known = (values >= 0) & (values < 256)
        symbols = self._lookup[np.where(known, values, 0)]
        wrong = values[~known | (symbols < 0)]
        if wrong.size > 0:
            raise DataError(
                f"{where} holds the value {wrong[0]} ({wrong.size} pixels have values that are not classes of "
                f"{self.classes.name}, which has {_ranges(sorted(self.classes.symbols))}): correct the file, or name "
                "the table of its classes with --data.class_table"
            )
        return symbols.astype(np.uint8)

    def check(self, index: int) -> None:
        """Find what is wrong with a scene without the cost of decoding a large photograph, where that is possible.

        Raises:
            DataError: see `scene`.
        """
        self._same_size(index, self.photograph_size(index), self.symbols(index))

    def scene(self, index: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Photograph and label map, resized.

        Args:
            index: Position of the scene.
            size: (height, width). Photographs are resized with Pillow's bicubic filter, which averages over what
                becomes one pixel; of label maps, the value nearest to each pixel's centre is taken.

        Returns:
            (3, height, width) and (height, width).

        Raises:
            DataError: one of them cannot be read, their sizes differ, or a label is out of range.
        """
        image, symbols = self.photograph(index), self.symbols(index)
        self._same_size(index, image.size, symbols)
        resized = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        return np.asarray(resized).transpose(2, 0, 1), nearest(symbols, size)

    def _same_size(self, index: int, size: tuple[int, int], symbols: NDArray[np.uint8]) -> None:
        if size != symbols.shape[::-1]:
            image, labels = self.origin(index)
            raise DataError(
                f"{image} is {size[0]}x{size[1]}, but its label map {labels} is "
                f"{symbols.shape[1]}x{symbols.shape[0]}: they must be of one size; take both from one data set"
            )


def nearest(symbols: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a label map to (height, width): each pixel takes the value at its centre."""
    return np.asarray(Image.fromarray(symbols).resize((size[1], size[0]), Image.Resampling.NEAREST))


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of one scene."""

    image: Path
    labels: Path


class SceneFiles(Scenes):
    """Scenes in files."""

    def __init__(self, pairs: list[Pair], classes: StreetClasses) -> None:
        super().__init__([pair.image.name for pair in pairs], classes)
        self.pairs = pairs

    def origin(self, index: int) -> tuple[str, str]:
        """The paths of both files."""
        return str(self.pairs[index].image), str(self.pairs[index].labels)

    def path(self, index: int) -> str:
        """The path of the photograph."""
        return str(self.pairs[index].image)

    def photograph(self, index: int) -> Image.Image:
        """See `datamodules.decoding.load_rgb`."""
        try:
            return load_rgb(self.pairs[index].image)
        except UnreadableImageError as error:
            raise self._unreadable(index, self.pairs[index].image, error.__cause__) from error

    def labels(self, index: int) -> Image.Image:
        """The decoded file."""
        path = self.pairs[index].labels
        try:
            with Image.open(path) as opened:
                opened.load()
                return opened
        except DECODING_ERRORS as error:
            raise self._unreadable(index, path, error) from error

    def photograph_size(self, index: int) -> tuple[int, int]:
        """From the header; of PNG files the checksums are verified."""
        path = self.pairs[index].image
        try:
            with Image.open(path) as opened:
                size = opened.size
                opened.verify()
        except DECODING_ERRORS as error:
            raise self._unreadable(index, path, error) from error
        return size

    def _unreadable(self, index: int, path: Path, cause: BaseException | None) -> UnreadableImageError:
        pair = self.pairs[index]
        other = pair.labels if path == pair.image else pair.image
        return UnreadableImageError(
            f"{path} cannot be read as an 8-bit image ({cause}): copy it again, or remove it and {other}"
        )


def cityscapes(root: Path, split: Split, classes: StreetClasses) -> SceneFiles:
    """List a split of Cityscapes in its official layout, in the order of cities and names.

    Raises:
        DataError: a folder is missing or empty, or an image has no label map or a label map no image.
    """
    images = _listed(root / "leftImg8bit" / split, "*/*_leftImg8bit.png", "_leftImg8bit.png", _CITYSCAPES_LAYOUT)
    labels = _listed(root / "gtFine" / split, "*/*_gtFine_labelIds.png", "_gtFine_labelIds.png", _CITYSCAPES_LAYOUT)
    pairs = _paired(images, labels)
    if len(pairs) != CITYSCAPES_COUNTS[split]:
        rank_zero_warn(
            f"{root} holds {len(pairs)} images of Cityscapes' {split}, which has {CITYSCAPES_COUNTS[split]}: figures "
            "are not comparable with published ones"
        )
    return SceneFiles(pairs, classes)


def camvid(root: Path, split: Split, classes: StreetClasses) -> SceneFiles:
    """List a split of CamVid, in the order of names.

    Raises:
        DataError: a folder is missing or empty, or an image has no label map or a label map no image.
    """
    images, labels = (_listed(root / folder, "*.png", ".png", _CAMVID_LAYOUT) for folder in (split, f"{split}annot"))
    return SceneFiles(_paired(images, labels), classes)


def _listed(folder: Path, pattern: str, ending: str, layout: str) -> dict[str, Path]:
    """Files of a folder by their path in it without the ending."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: expected {layout}; check --data.root and --data.layout")
    files = {str(path.relative_to(folder)).removesuffix(ending): path for path in sorted(folder.glob(pattern))}
    if not files:
        raise DataError(f"{folder} holds no {pattern}: expected {layout}; check --data.root and --data.layout")
    return files


def _paired(images: dict[str, Path], labels: dict[str, Path]) -> list[Pair]:
    for these, those, what, other in (
        (images, labels, "images", "label map"),
        (labels, images, "label maps", "image"),
    ):
        alone = [path for key, path in these.items() if key not in those]
        if alone:
            folder = alone[0].parent
            raise DataError(
                f"{len(alone)} of {len(these)} {what} have no {other} ({first_of([path.name for path in alone])} in "
                f"{folder}): add what is missing, or remove them"
            )
    return [Pair(path, labels[key]) for key, path in images.items()]


def _ranges(values: list[int]) -> str:
    """Sorted numbers in words, such as `0 to 18, 255`."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
