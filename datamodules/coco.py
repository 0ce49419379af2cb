"""MS-COCO captions in their official layout: the training data of TACO, and its COCO-30k evaluation."""

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.base import CaptionedImageDataModule
from datamodules.captions import clean_captions, read_json
from datamodules.errors import DataError, first_of
from datamodules.samples import Sample

_LAYOUT = "{root}/train{year}/, {root}/val{year}/ and {root}/annotations/captions_{{train,val}}{year}.json"


class CocoCaptionsDataModule(CaptionedImageDataModule):
    """COCO captions: trains on train`year`, holds validation images out of it, tests on val`year`.

    The layout is the official one: `{root}/train{year}/`, `{root}/val{year}/` and
    `{root}/annotations/captions_{train,val}{year}.json`. The short name of the training data is `coco{year}`.
    That of the test data is `coco{year}-val`, or, with a `test_list`, the name of the list file without its
    ending.

    Images that the annotations name but the folder lacks, and images without captions, are an error that
    counts them; with `on_unreadable="skip"` they are left out with a warning instead, in training and test
    alike.

    Args:
        root: Folder of the data set.
        year: 2014 (82,783 training images; what TACO used) or 2017 (118,287).
        test_list: JSON list of file names in val`year` to test on, such as the 30,504 names of COCO-30k; null
            for all.
        test_crop: Side of the centre crop of test images, in pixels; null for whole images. Images smaller
            than it are left out and counted.
        val_images: Number of images (with all their captions) held out of the training data for validation.
        kwargs: See `CaptionedImageDataModule`.

    Raises:
        DataError: a folder or file of the layout is missing, annotations and files disagree, or `test_list`
            names unknown images.
    """

    def __init__(
        self,
        root: str,
        year: Literal[2014, 2017] = 2014,
        test_list: str | None = None,
        test_crop: int | None = 256,
        val_images: int = 500,
        **kwargs: Any,
    ) -> None:
        super().__init__(test_crop=test_crop, val_images=val_images, **kwargs)
        self.root = Path(root)
        self.year = year
        self.test_list = None if test_list is None else Path(test_list)
        self.train_name = f"coco{year}"
        self.test_name = f"coco{year}-val" if self.test_list is None else self.test_list.stem

    def training_samples(self) -> list[Sample]:
        """List train`year`, in the order of the annotations, with sizes."""
        return self._check(self._split("train"), "train")

    def test_samples(self) -> list[Sample]:
        """List val`year`, or what `test_list` names of it in the order of the list, with sizes."""
        samples = self._split("val")
        if self.test_list is not None:
            by_name = {sample.name: sample for sample in samples}
            names = _read_name_list(self.test_list)
            unknown = [name for name in names if name not in by_name]
            if unknown:
                raise DataError(
                    f"{len(unknown)} of {len(names)} images in {self.test_list} are not annotated in "
                    f"val{self.year} ({first_of(unknown)}): check --data.year and --data.test_list"
                )
            samples = [by_name[name] for name in names]
        return self._check(samples, "val")

    def _split(self, split: Literal["train", "val"]) -> list[Sample]:
        """Read a split's annotations."""
        folder = self.root / f"{split}{self.year}"
        annotations = self.root / "annotations" / f"captions_{split}{self.year}.json"
        for path, exists in ((folder, folder.is_dir()), (annotations, annotations.is_file())):
            if not exists:
                layout = _LAYOUT.format(root=self.root, year=self.year)
                raise DataError(f"there is no {path}: expected {layout}; check --data.root and --data.year")
        content = read_json(annotations)
        try:
            captions: dict[int, list[str]] = {}
            for annotation in content["annotations"]:  # type: ignore[index]
                captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
            return [
                Sample(
                    name=image["file_name"],
                    path=folder / image["file_name"],
                    captions=clean_captions(captions.get(image["id"], [])),
                    size=(image["width"], image["height"]),
                )
                for image in content["images"]  # type: ignore[index]
            ]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{annotations} is not a COCO captions file ({type(error).__name__}: {error}): "
                "use captions_*.json of the official annotations archive"
            ) from error

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


def _read_name_list(path: Path) -> list[str]:
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f'{path} is not a JSON list of file names: expected ["COCO_val2014_000000000042.jpg", ...]')
    return names
