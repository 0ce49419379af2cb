"""What is published of COCO: archives with sizes and checksums, and how much must be in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

OFFICIAL_SERVER = "http://images.cocodataset.org"
"""Serves plain HTTP; checksums stand in for its authenticity."""


@dataclass(frozen=True)
class Archive:
    """A zip file that is published.

    `path` is below the server; `size` is in bytes and `md5` in hexadecimal digits, None where none is known.
    """

    path: str
    size: int | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        """File name."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Split:
    """A part of a release: `images` in the folder `name`, `captions` in `annotations/captions_{name}.json`."""

    name: str
    archive: Archive
    images: int
    captions: int


@dataclass(frozen=True)
class Release:
    """The splits of a year by `train` and `val`, and the archive of their annotations."""

    year: int
    annotations: Archive
    splits: Mapping[str, Split]


# COCO's own pages give neither sizes nor checksums; each figure here stands in at least two unrelated public places.
# MD5s of 2014: NVIDIA/DeepLearningExamples (PyTorch/Segmentation/MaskRCNN/hashes.md5), those of the images also in
# salesforce/LAVIS (lavis/datasets/download_scripts/download_coco.py), that of the annotations also as the ETag of the
# server. MD5s of 2017: PaddlePaddle/PaddleDetection (ppdet/utils/download.py) and intel/neural-compressor (the
# download script of its Mask R-CNN example). Sizes: the Content-Length of the server in published logs of downloads.
# Counts: of the annotation files; both years have 616,767 captions, because 2017 divides the images of 2014 anew.
COCO: Mapping[int, Release] = MappingProxyType(
    {
        2014: Release(
            2014,
            Archive("annotations/annotations_trainval2014.zip", 252_872_794, "0a379cfc70b0e71301e0f377548639bd"),
            {
                "train": Split(
                    "train2014",
                    Archive("zips/train2014.zip", 13_510_573_713, "0da8c0bd3d6becc4dcb32757491aca88"),
                    images=82_783,
                    captions=414_113,
                ),
                "val": Split(
                    "val2014",
                    Archive("zips/val2014.zip", 6_645_013_297, "a3d79f5ed8d289b7a7554ce06a5782b3"),
                    images=40_504,
                    captions=202_654,
                ),
            },
        ),
        2017: Release(
            2017,
            Archive("annotations/annotations_trainval2017.zip", 252_907_541, "f4bbac642086de4f52a3fdda2de5fa2c"),
            {
                "train": Split(
                    "train2017",
                    Archive("zips/train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2"),
                    images=118_287,
                    captions=591_753,
                ),
                "val": Split(
                    "val2017",
                    Archive("zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80"),
                    images=5_000,
                    captions=25_014,
                ),
            },
        ),
    }
)
