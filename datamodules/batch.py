"""The one batch type that every datamodule yields and every module reads."""

from typing import TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """A batch of photographs.

    `image`, `name`, `dataset` and `key` are always present; `caption` only where the data has captions.
    """

    image: Tensor
    """float32 (B, 3, H, W) in [0, 1]."""
    name: list[str]
    """B file names without directory, unique within a dataset."""
    dataset: str
    """Short name of the dataset; it appears in logged keys and in result file names."""
    key: Tensor
    """int64 (B,): a hash of (seed, epoch, sample). Everything random about a sample (its crop, its quantisation
    noise) is drawn from this key alone, so results do not depend on workers, ranks, or interruptions."""
    caption: list[str]
    """B captions."""
