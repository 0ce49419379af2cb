"""What stands below a picture in a logger: its name, rate, figures and caption."""

from typing import Any, NamedTuple

import lightning as L
from PIL import Image

from callbacks.names import BPP, PSNR
from callbacks.per_image import PerImageMetric


class Panel(NamedTuple):
    """A comparison picture, and what is known of it without any metric callback."""

    name: str
    picture: Image.Image
    bpp: float
    psnr: float
    """In dB."""
    caption: str
    """Of the image; "" for none."""


def panel_text(trainer: L.Trainer, dataset: str, panel: Panel) -> str:
    """Name, every figure that a metric of single images has of it (rate and PSNR always), and the image's caption.

    To be called once the metrics have concluded.

    Args:
        trainer: Whose callbacks have measured.
        dataset: The data set, or the series of a decoder.
        panel: The picture.
    """
    figures: dict[str, Any] = {BPP: panel.bpp, PSNR: panel.psnr}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, PerImageMetric):
            measured = callback.rows.get(dataset, {}).get(panel.name, {})
            figures |= {name: value for name, value in measured.items() if isinstance(value, float)}
    line = "  ".join([panel.name, *(f"{name} {value:.4g}" for name, value in figures.items())])
    return f"{line}\n{panel.caption}" if panel.caption else line
