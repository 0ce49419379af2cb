"""Getting data ready: COCO's archives downloaded, checked and unpacked, and shards written for streaming.

`coco.prepare_coco` does all of it and can be interrupted anywhere; `shards.write_shards` turns any list of samples
into shards.
"""

from datamodules.preparation.coco import prepare_coco
from datamodules.preparation.releases import COCO
from datamodules.preparation.shards import write_shards

__all__ = ["COCO", "prepare_coco", "write_shards"]
