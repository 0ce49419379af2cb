"""What every metric of pixels checks first: that it is given pictures of equal size."""

import math

from torch import Tensor

from lightning_modules.step_output import StepOutput


class ImageSizeError(ValueError):
    """Original and reconstruction differ in size, so no figure can compare them."""


def pixel_faults(output: StepOutput) -> list[str | None]:
    """Why each image of a batch cannot be measured, or `None` where it can.

    NaN must not reach a metric: rounding, comparison and argmax make plausible numbers of it. Nor must values
    outside [0, 1], which are most often a wrong range.

    Raises:
        ImageSizeError: the shapes of `image` and `x_hat` differ.
    """
    image, x_hat = output["image"], output["x_hat"]
    if image.shape != x_hat.shape:
        raise ImageSizeError(
            f"{output['dataset']}, {', '.join(output['name'])}: the originals have shape {tuple(image.shape)}, "
            f"the reconstructions {tuple(x_hat.shape)}. The codec must crop its padding away; metrics never resize."
        )
    faults = [_fault("the original", *ends) for ends in _ends(image)]
    for i, ends in enumerate(_ends(x_hat)):
        faults[i] = faults[i] or _fault("the reconstruction", *ends)
    named = zip(output["name"], faults, strict=True)
    return [None if fault is None else f"{name}: {fault}" for name, fault in named]


def _ends(images: Tensor) -> list[tuple[float, float]]:
    pixels = images.flatten(1)  # NaN is the least and the greatest value of an image that holds one
    return list(zip(pixels.amin(dim=1).tolist(), pixels.amax(dim=1).tolist(), strict=True))


def _fault(part: str, low: float, high: float) -> str | None:
    if math.isnan(low) or math.isinf(low) or math.isinf(high):
        return f"{part} holds NaN or infinite values"
    return None if low >= 0 and high <= 1 else f"{part} reaches from {low:g} to {high:g}, outside [0, 1]"
