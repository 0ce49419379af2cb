from .base import CaptionedImageDataModule
from .captioned_folder import CaptionedFolderDataModule
from .coco import CocoCaptionsDataModule
from .digits import DigitsDataModule
from .sample import SampleDataModule
from .streaming import StreamingCaptionsDataModule
from .street_scenes import StreetScenesDataModule

__all__ = [
    "CaptionedFolderDataModule",
    "CaptionedImageDataModule",
    "CocoCaptionsDataModule",
    "DigitsDataModule",
    "SampleDataModule",
    "StreamingCaptionsDataModule",
    "StreetScenesDataModule",
]
