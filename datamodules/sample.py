"""The embedded default: captioned photographs without network and without files to prepare."""

from typing import Any

from datamodules.base import CaptionedImageDataModule
from datamodules.embedded_photographs import TEST, TRAINING, VALIDATION, photographs
from datamodules.errors import DataError
from datamodules.samples import Sample


class SampleDataModule(CaptionedImageDataModule):
    """Fifteen photographs that ship in the scikit-image wheel, with five captions each: works out of the box.

    It trains on eleven images (five of them greyscale), validates on two and tests on two colour images that
    appear nowhere else. It serves to try things out and to test the code; eleven images teach a codec little.

    Args:
        crops_per_image: Random crops of each image in an epoch; they take the image's captions in turn.
        kwargs: See `CaptionedImageDataModule`. What is held out is fixed, so there is no `val_images`.

    Raises:
        DataError: `crops_per_image` is not positive, or the installed scikit-image lacks a photograph.
    """

    train_name = "sample"
    keep_decoded = True
    test_name = "sample-test"

    def __init__(self, crops_per_image: int = 32, **kwargs: Any) -> None:
        super().__init__(val_images=len(VALIDATION), **kwargs)
        if crops_per_image < 1:
            raise DataError(f"crops_per_image is {crops_per_image}: set --data.crops_per_image to 1 or more")
        self.crops_per_image = crops_per_image

    def training_samples(self) -> list[Sample]:
        """List the images to train and to validate on."""
        return photographs(TRAINING) + photographs(VALIDATION)

    def test_samples(self) -> list[Sample]:
        """List the test images."""
        return photographs(TEST)

    def hold_out(self, samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
        """Hold out the fixed validation images: the two motorcycles show one scene, so a hash must not part
        them."""
        train = [sample for sample in samples if sample.name not in VALIDATION]
        return train, [sample for sample in samples if sample.name in VALIDATION]
