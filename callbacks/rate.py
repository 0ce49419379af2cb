"""What coding costs: bits and time."""

from typing import Any

from callbacks.gather import all_gather_rows
from callbacks.metrics.value import Value
from callbacks.names import (
    BITS,
    BITS_LIKELIHOOD,
    BPP,
    BPP_GAP,
    BPP_LIKELIHOOD,
    BPP_R_Y_CONSTANT,
    DECODE_MS,
    ENCODE_MS,
    latent_bpp,
)
from callbacks.per_image import PerImageMetric
from lightning_modules.step_output import StepOutput

LABELS = "labels"
"""Latent that is a label map."""


class FileRate(PerImageMetric):
    """What Bpp and Bits share: where one file holds all images of a data set, the record says so."""

    def reset(self) -> None:
        """Forget the rows."""
        super().reset()
        self._shared: set[str] = set()

    def update(self, output: StepOutput) -> None:
        """Measure one batch."""
        if output.get("shared_file"):
            self._shared.add(output["dataset"])
        super().update(output)

    def conclude(self) -> None:
        """Gather the rows and report their means."""
        super().conclude()
        for dataset in set(all_gather_rows(sorted(self._shared))):
            self.details.setdefault(dataset, {})[self.name] = {
                "file": "holds many images, each counts an equal share"
            }


class Bpp(FileRate):
    """Mean of the images' bits per pixel of the original (unpadded) image.

    In test `bpp` counts every byte of the file, header included. Beside it stand `bpp_likelihood`, the
    entropy model's own estimate, its parts `bpp_y` and `bpp_z` (one per latent), and `bpp_gap` = `bpp` -
    `bpp_likelihood`: what the header, the rounding of the probability tables and the coder's escapes cost. A
    codec that tells no likelihoods (JPEG) has `bpp` alone. In validation nothing is written and `bpp` is the
    likelihood estimate.

    Args:
        r_y_constant: bits per pixel to count for a label map in place of its own in `bpp_r_y_constant`, beside the
            real figures; null leaves it out. The conditional codec's paper counts 0.00742 for every image.
    """

    name = BPP
    unit = "bit/pixel"
    higher_is_better = False

    def __init__(self, r_y_constant: float | None = None) -> None:
        super().__init__()
        self.r_y_constant = r_y_constant

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        constant = {} if self.r_y_constant is None else {"r_y_constant": self.r_y_constant}
        return {
            "bpp": "8 * bytes of the whole file / (height * width of the original)",
            "bpp_likelihood": "-log2 of the latents' likelihoods, same pixels",
            "dataset": "mean of the images' values",
            **constant,
        }

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """Bits per pixel."""
        height, width = output["image"].shape[-2:]
        bpp = output["bits"].double() / (height * width)
        figures = {BPP: bpp}
        if "file" in output and output["likelihood_bits"]:
            parts = {name: bits.double() / (height * width) for name, bits in output["likelihood_bits"].items()}
            likelihood = sum(parts.values(), start=0 * bpp)
            figures |= {BPP_LIKELIHOOD: likelihood, BPP_GAP: bpp - likelihood}
            figures |= {latent_bpp(latent): bits for latent, bits in parts.items()}
            if self.r_y_constant is not None and LABELS in parts:
                figures[BPP_R_Y_CONSTANT] = bpp - parts[LABELS] + self.r_y_constant
        return {name: column.tolist() for name, column in figures.items()}


class Bits(FileRate):
    """Mean bits per image: the rate of codecs whose images are worth a few bits.

    In test `bits` is the size of the file, header included, or the image's equal share of a file that holds all
    images of the data set. Beside it stands `bits_likelihood`, the sum of -log2 of all likelihoods: the cross-entropy
    that papers report. In validation nothing is written and `bits` is that sum.
    """

    name = BITS
    unit = "bit/image"
    higher_is_better = False

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "bits": "8 * bytes of the whole file / images in it",
            "bits_likelihood": "-log2 of the latents' likelihoods",
            "dataset": "mean of the images' values",
        }

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """Bits per image."""
        bits = output["bits"].double()
        figures = {BITS: bits}
        if "file" in output and output["likelihood_bits"]:
            parts = [part.double() for part in output["likelihood_bits"].values()]
            figures[BITS_LIKELIHOOD] = sum(parts, start=0 * bits)
        return {name: column.tolist() for name, column in figures.items()}


class CodingTime(PerImageMetric):
    """Mean wall-clock milliseconds per image, `encode_ms` and `decode_ms`; test only.

    The first image of a run pays for the warm-up of the device and is not left out; look at the rows of the
    result record where that matters.
    """

    name = ENCODE_MS
    unit = "ms"
    higher_is_better = False

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "clock": "wall clock per image, first image (warm-up) included",
            "encode_ms": "pixels to bytes, text encoder included",
            "decode_ms": "bytes to pixels",
            "dataset": "mean of the images' values",
        }

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """Milliseconds."""
        figures: dict[str, list[Value]] = {}
        if "encode_seconds" in output:
            figures[ENCODE_MS] = [1000 * seconds for seconds in output["encode_seconds"]]
        if "decode_seconds" in output:
            figures[DECODE_MS] = [1000 * seconds for seconds in output["decode_seconds"]]
        return figures
