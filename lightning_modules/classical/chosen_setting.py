"""What it took to meet a target rate, image by image."""

from __future__ import annotations

from typing import Any

from callbacks.metrics.value import Value
from callbacks.per_image import PerImageMetric, mean
from lightning_modules.classical.codec import ClassicalCodec
from lightning_modules.classical.search import TOLERANCE, within_tolerance
from lightning_modules.step_output import StepOutput


class ChosenSetting(PerImageMetric):
    """The value of the codec's setting at which each image comes nearest to the target rate: `setting_quality`.

    Its protocol tells the target, and on how many images the rate is within 1 % of it; each image's own rate is its
    `bpp`.

    Args:
        codec: Whose setting it is.
        target_bpp: The target.
    """

    unit = ""
    higher_is_better = None

    def __init__(self, codec: ClassicalCodec, target_bpp: float) -> None:
        super().__init__()
        self.name = f"setting_{codec.setting.name}"
        self.target_bpp = target_bpp

    def protocol(self) -> dict[str, Any]:
        """What is told."""
        return {
            "target_bpp": self.target_bpp,
            "search": "per image, bisection to the nearest rate",
            "tolerance": TOLERANCE,
            "dataset": "mean of the images' settings",
        }

    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """Setting and rate; the rate only travels with it to be counted."""
        height, width = output["image"].shape[-2:]
        bpp = (output["bits"].double() / (height * width)).tolist()
        return {self.name: list(output["setting"]), "bpp": bpp}

    def conclude(self) -> None:
        """Report the mean setting, and how many images meet the target."""
        super().conclude()
        for dataset, images in self.rows.items():
            rates = [values.pop("bpp") for values in images.values()]
            met = sum(within_tolerance(float(bpp), self.target_bpp) for bpp in rates)  # type: ignore[arg-type]
            self.summary[dataset].pop("bpp")
            column = [values[self.name] for values in images.values()]
            self.report(dataset, self.name, mean(column), images=len(rates), images_within_tolerance=met)  # type: ignore[arg-type]
