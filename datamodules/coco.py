"""MS-COCO captions in their official layout: the training data of TACO, and its COCO-30k evaluation."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.base import CaptionedImageDataModule
from datamodules.captions import read_coco, read_json
from datamodules.errors import DataError, first_of
from datamodules.samples import Sample

_LAYOUT = "{root}/train{year}/, {root}/val{year}/ and {root}/annotations/captions_{{train,val}}{year}.json"


class CocoCaptionsDataModule(CaptionedImageDataModule):
    """COCO captions: trains on train`year`, holds validation images out of it, tests on val`year`.

    The layout is the official one: `{root}/train{year}/`, `{root}/val{year}/` and
    `{root}/annotations/captions_{train,val}{year}.json`; the command `prepare coco` downloads and checks it. The
    short name of the training data is `coco{year}`. That of the test data is `coco{year}-val`, or, with a
    `test_list`, the name of the list file without its ending; a `test_count` adds `-{count}-seed{seed}`.

    Images that the annotations name but the folder lacks, and images without captions, are an error that
    counts them; with `on_unreadable="skip"` they are left out with a warning instead, in training and test
    alike.

    Args:
        root: Folder of the data set.
        year: 2014 (82,783 training images; what TACO used) or 2017 (118,287).
        test_list: JSON list of file names in val`year` to test on, such as the 30,504 names of COCO-30k; null
            for all.
        test_count: Number of images drawn at random from val`year` or from `test_list`, before any are left out
            for their size; null for all. They keep their order.
        test_seed: Of that draw. Images are ranked by a hash of seed and name, so the same ones are drawn on every
            machine and with every version of the libraries.
        origin: Where `test_list` comes from, in words, for the error when it is missing.
        test_crop: Side of the centre crop of test images, in pixels; null for whole images. Images smaller
            than it are left out and counted.
        val_images: Number of images (with all their captions) held out of the training data for validation.
        kwargs: See `CaptionedImageDataModule`.

    Raises:
        DataError: a folder or file of the layout is missing, annotations and files disagree, `test_list` names
            unknown images or one twice, or there are fewer than `test_count`.
    """

    def __init__(
        self,
        root: str,
        year: Literal[2014, 2017] = 2014,
        test_list: str | None = None,
        test_count: int | None = None,
        test_seed: int = 0,
        origin: str | None = None,
        test_crop: int | None = 256,
        val_images: int = 500,
        **kwargs: Any,
    ) -> None:
        super().__init__(test_crop=test_crop, val_images=val_images, **kwargs)
        self.root = Path(root)
        self.year = year
        self.test_list = None if test_list is None else Path(test_list)
        if test_count is not None and test_count < 1:
            raise DataError(f"test_count is {test_count}: set --data.test_count to 1 or more, or to null for all")
        self.test_count = test_count
        self.test_seed = test_seed
        self.origin = origin
        self.train_name = f"coco{year}"
        self.test_name = f"coco{year}-val" if self.test_list is None else self.test_list.stem
        if test_count is not None:
            self.test_name += f"-{test_count}-seed{test_seed}"

    def training_samples(self) -> list[Sample]:
        """List train`year`, in the order of the annotations, with sizes."""
        return self._check(self._split("train"), "train")

    def test_samples(self) -> list[Sample]:
        """List val`year`, or what `test_list` and `test_count` leave of it in the order of the list, with sizes."""
        samples = self._split("val")
        if self.test_list is not None:
            by_name = {sample.name: sample for sample in samples}
            names = self._listed(self.test_list)
            unknown = [name for name in names if name not in by_name]
            if unknown:
                raise DataError(
                    f"{len(unknown)} of {len(names)} images in {self.test_list} are not annotated in "
                    f"val{self.year} ({first_of(unknown)}): check --data.year and --data.test_list"
                )
            samples = [by_name[name] for name in names]
        if self.test_count is not None:
            samples = draw(samples, self.test_count, self.test_seed)
        return self._check(samples, "val")

    def _listed(self, path: Path) -> list[str]:
        if not path.is_file():
            come_from = f"; it comes from {self.origin}" if self.origin else ""
            raise DataError(
                f"there is no {path}: set --data.test_list to a JSON list of file names, or to null{come_from}"
            )
        names = read_json(path)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(
                f'{path} is not a JSON list of file names: expected ["COCO_val2014_000000000042.jpg", ...]'
            )
        if len(set(names)) < len(names):
            twice = [name for name, count in Counter(names).items() if count > 1]
            raise DataError(f"{path} names {len(twice)} images more than once ({first_of(twice)}): list each once")
        return names

    def _split(self, split: Literal["train", "val"]) -> list[Sample]:
        """Read a split's annotations."""
        folder = self.root / f"{split}{self.year}"
        annotations = self.root / "annotations" / f"captions_{split}{self.year}.json"
        for path, exists in ((folder, folder.is_dir()), (annotations, annotations.is_file())):
            if not exists:
                layout = _LAYOUT.format(root=self.root, year=self.year)
                raise DataError(
                    f"there is no {path}: expected {layout}; check --data.root and --data.year, or download it with "
                    f"`python -m lightning_modules.cli prepare coco --root {self.root} --year {self.year}`"
                )
        return [Sample(name, folder / name, captions, size) for name, captions, size in read_coco(annotations)]

    def _check(self, samples: list[Sample], split: str) -> list[Sample]:
        """Find samples without file or without caption, and refuse or leave out these."""
        folder = self.root / f"{split}{self.year}"
        # One listing: a look-up per image is slow on network disks.
        files = {path.name for path in folder.iterdir()}
        missing = [sample.name for sample in samples if sample.name not in files]
        silent = [sample.name for sample in samples if not sample.captions]
        for names, what in ((missing, f"have no file in {folder}"), (silent, "have no caption")):
            if not names:
                continue
            found = f"{len(names)} of {len(samples)} images of {split}{self.year} {what}: {first_of(names)}"
            if self.on_unreadable == "raise":
                raise DataError(f"{found}. Complete the data, or leave these out with --data.on_unreadable skip.")
            rank_zero_warn(f"{found}. They are left out.")
        left_out = {*missing, *silent}
        return [sample for sample in samples if sample.name not in left_out]


def draw(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Draw `count` samples: those whose hashes of seed and name are smallest, in the order that they come in.

    Raises:
        DataError: there are fewer.
    """
    if count > len(samples):
        raise DataError(f"test_count is {count}, but there are {len(samples)} images: lower --data.test_count")
    ranked = sorted(samples, key=lambda sample: hashlib.sha256(f"{seed}:{sample.name}".encode()).digest())
    drawn = {sample.name for sample in ranked[:count]}
    return [sample for sample in samples if sample.name in drawn]
