"""What a validation, test or predict step returns: all that a callback may read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from torch import Tensor


class Decoder(NamedTuple):
    """Which of several decoders of one bitstream made a reconstruction."""

    dataset: str
    """The data set proper, "mnist-test"."""
    name: str
    """Short name, unique among the module's decoders: "g1", "realism_0.4"."""
    realism: float
    """Share a of the perceptual decoder in (1 - a) g1 + a g2: 0 is least error, 1 is most realism."""

    def setting(self) -> dict[str, Any]:
        """What its results have in `setting`."""
        return {"decoder": self.name}


class CaptionVariant(NamedTuple):
    """Which captions steered the encoder, where each image was coded with several."""

    dataset: str
    """The data set proper, "kodak"."""
    name: str
    """Which captions, a key of `Batch.caption_variants`: "given", "empty"."""

    def setting(self) -> dict[str, Any]:
        """What its results have in `setting`."""
        return {"captions": f"{self.name} captions"}


class StepOutput(TypedDict):
    """Result of coding one batch.

    In `test` and `predict` every figure comes from a real file that was written and read back; in `validate` (and
    during `fit`) `bits` is the likelihood estimate and the file and timing fields are absent.

    A step may return a list of them, one per decoder of the same bits or per variant of the captions (see
    `outputs_of`).
    """

    dataset: str
    """The data set, or the series "{dataset}-{decoder}" where there are several decoders ("{dataset}-{captions}" with
    several captions): whatever is logged, written or averaged is told apart by it."""
    name: list[str]
    image: Tensor
    """float32 (B, C, H, W) in [0, 1], C = 3 or 1: the original. Decoders of one batch share the tensor, so that what
    is computed of the originals is computed once."""
    x_hat: Tensor
    """float32 (B, C, H, W): the reconstruction, clamped to [0, 1] and rounded to multiples of 1/255. This is the
    only place where rounding happens; metrics must not round again."""
    bits: Tensor
    """float64 (B,): size of the file in bits (test, predict), or of its likelihood estimate (validate). Of a file
    that all images share, each has an equal part, which need not be whole."""
    likelihood_bits: dict[str, Tensor]
    """-log2 likelihood per latent ("y", "z"; "code", "label"), each float64 (B,)."""
    series: NotRequired[Decoder | CaptionVariant]
    """Which of several outputs of one batch this is."""
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
    shared_file: NotRequired[bool]
    """True where one file holds all images of the data set, so that no image has a size of its own; `file` is then
    the same path B times."""
    encode_seconds: NotRequired[list[float]]
    """Wall-clock seconds from pixels to bytes, text encoder included."""
    decode_seconds: NotRequired[list[float]]
    """Wall-clock seconds from bytes to pixels."""


def outputs_of(outputs: Any) -> list[StepOutput]:
    """What a step returned, as a list: one output, or one per series.

    Outputs without images are left out: a decoder need not have something to do in every batch.

    Raises:
        TypeError: it is neither a step output nor a list of them.
        ValueError: two outputs are of the same series, so that their figures could not be told apart.
    """
    several = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    for output in several:
        if not isinstance(output, Mapping) or not {"dataset", "name", "image", "x_hat"} <= output.keys():
            raise TypeError(
                "callbacks of metrics and pictures read what validation_step, test_step and predict_step return: a "
                f"StepOutput or a list of them, not {type(output).__name__}"
            )
    series = [output["dataset"] for output in several]
    if len(set(series)) < len(series):
        again = next(name for name in series if series.count(name) > 1)
        raise ValueError(
            f"the step returned two outputs of {again!r}; with several decoders each needs a `dataset` of its own, "
            'such as "{dataset}-{decoder}"'
        )
    return [output for output in several if output["name"]]


def handed_on(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What a step's output takes over from its batch as it is: caption, label, segmentation and path, if present."""
    return {key: batch[key] for key in ("caption", "label", "segmentation", "path") if key in batch}


def dataset_of(output: StepOutput) -> str:
    """The data set proper of an output, whatever series it is of."""
    return output["series"].dataset if "series" in output else output["dataset"]
