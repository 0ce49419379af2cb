"""DataModules: photographs with captions, from COCO, folders, streams or the embedded sample; digits; streets.

Every datamodule yields `batch.Batch`. `base.CaptionedImageDataModule` says what those of photographs share; a new
source of captioned images subclasses it and lists its training and test samples.
"""

from datamodules.base import CaptionedImageDataModule
from datamodules.captioned_folder import CaptionedFolderDataModule
from datamodules.coco import CocoCaptionsDataModule
from datamodules.digits import DigitsDataModule
from datamodules.sample import SampleDataModule
from datamodules.streaming import StreamingCaptionsDataModule
from datamodules.street_scenes import StreetScenesDataModule

__all__ = [
    "CaptionedFolderDataModule",
    "CaptionedImageDataModule",
    "CocoCaptionsDataModule",
    "DigitsDataModule",
    "SampleDataModule",
    "StreamingCaptionsDataModule",
    "StreetScenesDataModule",
]
