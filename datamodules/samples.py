"""Captioned photographs: a map-style dataset over files, the choice of captions, and collation into a `Batch`."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from datamodules.batch import Batch
from datamodules.decoding import Decode, header_size, load_rgb, read_crop
from datamodules.errors import DataError, UnreadableImageError, first_of
from datamodules.tally import Tally
from datamodules.transforms import Crop, to_bytes, to_unit_range

MAX_REPLACEMENTS = 10
"""How many unreadable images in a row are replaced before reading gives up."""

Captions = Literal["all", "random", "first"]
"""Which captions of an image are trained on. "all": each image-caption pair is a sample. "random": each image is one
sample, and its key draws one of its captions, another in each epoch. "first": each image with its first caption."""


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
    """uint8 (3, H, W): a quarter of what the batch's float32 takes, until `collate` writes that in one go."""
    name: str
    path: str
    key: int
    caption: NotRequired[str]
    captions: NotRequired[list[str]]
    """For evaluation that takes the best of several captions; `caption` is the first of them."""
    caption_variants: NotRequired[dict[str, str]]
    """For evaluation that compares captions of several kinds."""


def image_size(sample: Sample) -> tuple[int, int]:
    """Return (width, height) of a sample, opening only the file's header where the sample does not tell.

    A quarter turn asked for by the EXIF orientation is not applied: use it for what is the same in both
    directions.

    Raises:
        UnreadableImageError: the file has no readable header.
    """
    return header_size(sample.path) if sample.size is None else sample.size


def draw_caption(count: int, key: int) -> int:
    """Which of `count` captions a sample takes under the policy "random": in [0, count), from its key alone.

    It is independent of the crop that the key draws.
    """
    digest = hashlib.blake2b(struct.pack("<q", key), digest_size=8, person=b"caption").digest()
    return int.from_bytes(digest, "little") % count


def unreadable_tally(limit: int | None, slots: int | None = None) -> Tally:
    """A tally of unreadable images that training goes on without; `slots` where they are known by number."""
    advice = "Repair or remove them, or stop at the first with --data.on_unreadable raise."
    known = {} if slots is None else {"slots": slots}
    return Tally(
        "were replaced by the next image", advice, limit, "max_unreadable", kind="unreadable images", **known
    )


class CaptionedDataset(Dataset[Item]):
    """Map-style dataset over samples, indexed by `(index, key)`: everything random comes from the key.

    Args:
        samples: The images.
        crop: Applied to each image with its key.
        captions: See `Captions`.
        crops_per_image: Elements per image instead of one per caption; they take the captions in turn, or at random.
        on_unreadable: "raise" an UnreadableImageError, or "skip": take the next image that can be read. The
            replacement depends on nothing but the index, so it is the same in every run. Skipped files are
            noted in shared memory, where `report_unreadable` finds them whichever worker met them.
        max_unreadable: How many distinct files may be skipped before `report_unreadable` is called; None for any
            number.
        decode: How JPEG files are decoded.
        keep_decoded: Keep decoded images in memory, for sets of a few files that are read over and over. They are
            decoded exactly.
        best_of: Give each element up to this many `captions`; None for its one `caption` alone.
        variants: Other captions, by kind one of each sample; where every sample is one element.

    Raises:
        DataError: on reading, where an image is smaller than the crop, where too many in a row are unreadable, or
            where more than `max_unreadable` are.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        crop: Crop,
        captions: Captions = "first",
        crops_per_image: int | None = None,
        on_unreadable: Literal["raise", "skip"] = "raise",
        max_unreadable: int | None = None,
        decode: Decode = "exact",
        keep_decoded: bool = False,
        best_of: int | None = None,
        variants: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._decoded: dict[Path, Image.Image] | None = {} if keep_decoded else None
        self.samples = samples
        self.crop = crop
        self.captions = captions
        self.on_unreadable = on_unreadable
        self.decode = decode
        self.best_of = best_of
        self.variants = variants
        elements = []
        for index, sample in enumerate(samples):
            choices = max(1, len(sample.captions)) if captions == "all" else 1
            elements += [(index, number % choices) for number in range(crops_per_image or choices)]
        # A tensor, not a list of tuples: worker processes share its pages instead of copying them.
        self._elements = torch.tensor(elements, dtype=torch.int32).reshape(-1, 2)
        self._unreadable = unreadable_tally(max_unreadable, slots=len(samples))

    def __len__(self) -> int:
        return len(self._elements)

    def __getitem__(self, item: tuple[int, int]) -> Item:
        index, key = item
        first, caption = self._elements[index].tolist()
        for step in range(min(MAX_REPLACEMENTS + 1, len(self.samples))):
            position = (first + step) % len(self.samples)
            sample = self.samples[position]
            try:
                image = self._read(sample.path, key)
            except UnreadableImageError:
                if self.on_unreadable == "raise":
                    raise
                self._unreadable.note(sample.name, position)
                continue
            except DataError as error:
                raise DataError(f"{sample.path}: {error}") from error
            element = Item(image=image, name=sample.name, path=str(sample.path), key=key)
            if sample.captions:
                count = len(sample.captions)
                number = draw_caption(count, key) if self.captions == "random" else caption % count
                element["caption"] = sample.captions[number]
                if self.best_of is not None:
                    element["captions"] = list(sample.captions[: self.best_of])
            if self.variants is not None:
                element["caption_variants"] = {kind: texts[position] for kind, texts in self.variants.items()}
            return element
        tried = [self.samples[(first + step) % len(self.samples)].name for step in range(step + 1)]
        raise DataError(
            f"{len(tried)} images in a row cannot be read ({first_of(tried)}): "
            f"check the disk and the folder {self.samples[first].path.parent}"
        )

    def _read(self, path: Path, key: int) -> Tensor:
        if self._decoded is None:
            return read_crop(path, self.crop, key, decode=self.decode)
        if path not in self._decoded:
            self._decoded[path] = load_rgb(path)
        return to_bytes(self.crop(self._decoded[path], key))

    def report_unreadable(self) -> None:
        """Warn, on rank zero, about the files that this process and its workers replaced, and forget them."""
        self._unreadable.report()


def collate(items: list[Item], dataset: str) -> Batch:
    """Gather items into a `Batch` of the dataset with this short name.

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
        image=_floats([item["image"] for item in items]),
        name=[item["name"] for item in items],
        path=[item["path"] for item in items],
        dataset=dataset,
        key=torch.tensor([item["key"] for item in items], dtype=torch.int64),
    )
    # An image without a caption among others has the empty one, as all have where none has.
    if any("caption" in item for item in items):
        batch["caption"] = [item.get("caption", "") for item in items]
    if any("captions" in item for item in items):
        batch["captions"] = [item.get("captions", [item.get("caption", "")]) for item in items]
    variants = [item["caption_variants"] for item in items if "caption_variants" in item]
    if variants:
        batch["caption_variants"] = {kind: [each[kind] for each in variants] for kind in variants[0]}
    return batch


def _floats(images: list[Tensor]) -> Tensor:
    floats = torch.empty(len(images), *images[0].shape)
    if get_worker_info() is not None:
        floats.share_memory_()  # now, before it is filled: what carries the batch to the main process
    to_unit_range(images, floats)
    return floats
