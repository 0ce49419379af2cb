"""Captioned photographs: reading one file, a map-style dataset over many, and collation into a `Batch`."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import Batch
from datamodules.errors import DataError, UnreadableImageError, first_of
from datamodules.transforms import Crop, to_tensor

MAX_REPLACEMENTS = 10
"""How many unreadable images in a row are replaced before reading gives up."""

# What Pillow raises for broken files, over its formats.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image on disk with its captions.

    `name` is unique within a dataset; `captions` may be empty; `size` is (width, height) in pixels where an
    annotation file tells it, so that filtering by size need not open every file.
    """

    name: str
    path: Path
    captions: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


class Item(TypedDict):
    """One element of a `CaptionedDataset`."""

    image: Tensor
    """float32 (3, H, W) in [0, 1]."""
    name: str
    path: str
    key: int
    caption: NotRequired[str]


def load_rgb(path: Path) -> Image.Image:
    """Read an image file as 8-bit RGB: the one place that decides what the pixels of a file are.

    The EXIF orientation is applied, greyscale is expanded, palettes and CMYK are converted, and transparency
    is composited on white. Of animations the first frame is taken. Colour profiles are ignored, as in the
    published results.

    Raises:
        UnreadableImageError: the file is missing, truncated, not an image, or has more than 8 bits per
            channel (for which there is no conversion that every tool agrees on).
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I") or image.mode == "F":
                raise ValueError(f"mode {image.mode} has more than 8 bits per channel")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return image.convert("RGB")
    except _DECODING_ERRORS as error:
        raise UnreadableImageError(_unreadable(path, error)) from error


def image_size(sample: Sample) -> tuple[int, int]:
    """Return (width, height) of a sample, opening only the file's header where the sample does not tell.

    A quarter turn asked for by the EXIF orientation is not applied: use it for what is the same in both
    directions.

    Raises:
        UnreadableImageError: the file has no readable header.
    """
    if sample.size is not None:
        return sample.size
    try:
        with Image.open(sample.path) as opened:
            return opened.size
    except _DECODING_ERRORS as error:
        raise UnreadableImageError(_unreadable(sample.path, error)) from error


class CaptionedDataset(Dataset[Item]):
    """Map-style dataset over samples, indexed by `(index, key)`: everything random comes from the key.

    Args:
        samples: The images.
        crop: Applied to each image with its key.
        captions: "all": each image-caption pair is one element; "first": each image with its first caption.
        crops_per_image: Elements per image instead of one per caption; they take the captions in turn.
        on_unreadable: "raise" an UnreadableImageError, or "skip": take the next image that can be read. The
            replacement depends on nothing but the index, so it is the same in every run. Skipped files are
            noted in shared memory, where `report_unreadable` finds them whichever worker met them.
        keep_decoded: Keep decoded images in memory, for sets of a few files that are read over and over.

    Raises:
        DataError: on reading, where an image is smaller than the crop, or where too many in a row are
            unreadable.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        crop: Crop,
        captions: Literal["all", "first"] = "first",
        crops_per_image: int | None = None,
        on_unreadable: Literal["raise", "skip"] = "raise",
        keep_decoded: bool = False,
    ) -> None:
        self._decoded: dict[Path, Image.Image] | None = {} if keep_decoded else None
        self.samples = samples
        self.crop = crop
        self.on_unreadable = on_unreadable
        elements = []
        for index, sample in enumerate(samples):
            choices = max(1, len(sample.captions)) if captions == "all" else 1
            elements += [(index, number % choices) for number in range(crops_per_image or choices)]
        # A tensor, not a list of tuples: worker processes share its pages instead of copying them.
        self._elements = torch.tensor(elements, dtype=torch.int32).reshape(-1, 2)
        self._unreadable = torch.zeros(len(samples), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self._elements)

    def __getitem__(self, item: tuple[int, int]) -> Item:
        index, key = item
        first, caption = self._elements[index].tolist()
        for step in range(min(MAX_REPLACEMENTS + 1, len(self.samples))):
            position = (first + step) % len(self.samples)
            sample = self.samples[position]
            try:
                image = self._load(sample.path)
            except UnreadableImageError:
                if self.on_unreadable == "raise":
                    raise
                self._unreadable[position] = 1
                continue
            try:
                image = self.crop(image, key)
            except DataError as error:
                raise DataError(f"{sample.path}: {error}") from error
            element = Item(image=to_tensor(image), name=sample.name, path=str(sample.path), key=key)
            if sample.captions:
                element["caption"] = sample.captions[caption % len(sample.captions)]
            return element
        tried = [self.samples[(first + step) % len(self.samples)].name for step in range(step + 1)]
        raise DataError(
            f"{len(tried)} images in a row cannot be read ({first_of(tried)}): "
            f"check the disk and the folder {self.samples[first].path.parent}"
        )

    def _load(self, path: Path) -> Image.Image:
        if self._decoded is None:
            return load_rgb(path)
        if path not in self._decoded:
            self._decoded[path] = load_rgb(path)
        return self._decoded[path]

    def report_unreadable(self) -> None:
        """Warn, on rank zero, about the files that this process and its workers replaced, and forget them."""
        names = [self.samples[position].name for position in self._unreadable.nonzero().flatten().tolist()]
        if not names:
            return
        self._unreadable.zero_()
        rank_zero_warn(
            f"{len(names)} unreadable images were replaced by the next image (as seen by rank 0): "
            f"{first_of(names)}. Repair or remove them, or stop at the first with --data.on_unreadable raise."
        )


def collate(items: list[Item], dataset: str) -> Batch:
    """Stack items into a `Batch` of the dataset with this short name.

    Raises:
        DataError: the images differ in size.
    """
    for item in items:
        if item["image"].shape != items[0]["image"].shape:
            (_, height, width), (_, other_height, other_width) = items[0]["image"].shape, item["image"].shape
            raise DataError(
                f"one batch holds {items[0]['name']} of {width}x{height} and {item['name']} of "
                f"{other_width}x{other_height}: crop to one size, or use a batch size of 1"
            )
    batch = Batch(
        image=torch.stack([item["image"] for item in items]),
        name=[item["name"] for item in items],
        path=[item["path"] for item in items],
        dataset=dataset,
        key=torch.tensor([item["key"] for item in items], dtype=torch.int64),
    )
    captions = [item["caption"] for item in items if "caption" in item]
    if len(captions) == len(items):
        batch["caption"] = captions
    return batch


def _unreadable(path: Path, error: BaseException) -> str:
    return (
        f"{path} cannot be read as an 8-bit image ({error}): repair or remove it, "
        "or train without such files with --data.on_unreadable skip"
    )
