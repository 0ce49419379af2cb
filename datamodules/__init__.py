"""DataModules: photographs with captions, from COCO, folders, streams or the embedded sample; digits; streets.

Every datamodule yields `batch.Batch`. `base.CaptionedImageDataModule` says what those of photographs share; a new
source of captioned images subclasses it and lists its training and test samples.

The names are those of `__init__.pyi`. Each is imported at its first use: most need Lightning, which takes seconds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
