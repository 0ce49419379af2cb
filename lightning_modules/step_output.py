"""What a validation, test or predict step returns: all that a callback may read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from torch import Tensor


class StepOutput(TypedDict):
    """Result of coding one batch.

    In `test` and `predict` every figure comes from a real file that was written and read back; in `validate` (and
    during `fit`) `bits` is the likelihood estimate and the file and timing fields are absent.
    """

    dataset: str
    name: list[str]
    image: Tensor
    """float32 (B, 3, H, W) in [0, 1]: the original."""
    x_hat: Tensor
    """float32 (B, 3, H, W): the reconstruction, clamped to [0, 1] and rounded to multiples of 1/255. This is the
    only place where rounding happens; metrics must not round again."""
    bits: Tensor
    """float64 (B,): size of the file in bits (test, predict), or of its likelihood estimate (validate)."""
    likelihood_bits: dict[str, Tensor]
    """-log2 likelihood per latent ("y", "z"), each float64 (B,)."""
    caption: NotRequired[list[str]]
    label: NotRequired[Tensor]
    """int64 (B,): class of each image."""
    segmentation: NotRequired[Tensor]
    """int64 (B, h, w): class of each pixel; h x w may be a fraction of H x W."""
    path: NotRequired[list[str]]
    """The source files."""
    setting: NotRequired[list[float]]
    """The value of a classical codec's setting that was chosen for each image to meet a target rate."""
    file: NotRequired[list[Path]]
    """The bitstream files."""
    encode_seconds: NotRequired[list[float]]
    """Wall-clock seconds from pixels to bytes, text encoder included."""
    decode_seconds: NotRequired[list[float]]
    """Wall-clock seconds from bytes to pixels."""


def handed_on(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What a step's output takes over from its batch as it is: caption, label, segmentation and path, if present."""
    return {key: batch[key] for key in ("caption", "label", "segmentation", "path") if key in batch}
