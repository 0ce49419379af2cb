"""The one batch type that every datamodule yields and every module reads."""

from typing import TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """A batch of images.

    `image`, `name`, `dataset` and `key` are always present, the others only where the data has them.
    """

    image: Tensor
    """float32 (B, C, H, W) in [0, 1]; C is 3, or 1 for digits."""
    name: list[str]
    """B file names without directory (digits: numbers such as `test-00042`), unique within a dataset."""
    dataset: str
    """Short name of the dataset; it appears in logged keys and in result file names."""
    key: Tensor
    """int64 (B,): a hash of (seed, epoch, sample). Everything random about a sample (its crop, its quantisation
    noise) is drawn from this key alone, so results do not depend on workers, ranks, or interruptions."""
    caption: list[str]
    """B captions."""
    captions: list[list[str]]
    """B lists of one or more captions to choose among, for evaluation that takes the best; `caption` is the first."""
    caption_variants: dict[str, list[str]]
    """B captions for each of several ways to caption the same images ("given", "empty"), for evaluation that compares
    them; `caption` is "given"."""
    label: Tensor
    """int64 (B,): class of each image."""
    segmentation: Tensor
    """int64 (B, h, w): class of each pixel; h x w may be a fraction of H x W."""
    path: list[str]
    """B source files, for records and reports."""
