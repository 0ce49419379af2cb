"""Metrics of single images: one value per image, their mean per dataset."""

import math
from abc import abstractmethod
from typing import Any, NamedTuple, cast

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.gather import all_gather_rows
from callbacks.metric import MetricCallback
from callbacks.metrics.value import NotAvailable, Value
from callbacks.pixel_check import pixel_faults
from lightning_modules.step_output import StepOutput


class ImageRow(NamedTuple):
    """The figures of one image."""

    dataset: str
    image: str
    values: dict[str, Value]


class PerImageMetric(MetricCallback):
    """A metric of single images; a subclass gives `compute`.

    The figure of a dataset is the float64 mean over its images on which the metric is available. Rows of all
    processes are gathered, and images that a distributed sampler repeated to fill the last batch count once;
    the result is the same for any number of processes, to the last bit.

    A reconstruction that is no picture (NaN, or values outside [0, 1]) has no figures at all, so that the means of
    rate and quality stay means over the same images; the reason names it. Sizes that differ are an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, dict[str, Value]]] = {}
        """Dataset -> image name -> figure -> value, sorted by name; of the latest validation or test."""
        self._gathering: list[ImageRow] = []

    @abstractmethod
    def compute(self, output: StepOutput) -> dict[str, list[Value]]:
        """Figure name -> B values, for one batch. Most metrics have one figure, `self.name`.

        Return fewer figures (or none) where the output lacks what they are made of.
        """

    def reset(self) -> None:
        """Forget the rows."""
        self.rows, self._gathering = {}, []

    def update(self, output: StepOutput) -> None:
        """Measure one batch.

        Raises:
            ImageSizeError: the sizes of originals and reconstructions differ.
        """
        faults = pixel_faults(output)
        sound = [i for i, fault in enumerate(faults) if fault is None]
        figures = self.compute(output if len(sound) == len(faults) else _select(output, sound)) if sound else {}
        for image, fault in zip(output["name"], faults, strict=True):
            if fault is not None:
                values: dict[str, Value] = dict.fromkeys(figures or [self.name], NotAvailable(fault))
                self._gathering.append(ImageRow(output["dataset"], image, values))
        for at, i in enumerate(sound):
            values = {metric: column[at] for metric, column in figures.items()}
            self._gathering.append(ImageRow(output["dataset"], output["name"][i], values))

    def conclude(self) -> None:
        """Gather the rows and report their means."""
        names = [(row.dataset, row.image) for row in self._gathering]
        if len(set(names)) < len(names):  # a sampler repeats images across ranks, never within one
            again = next(name for name in names if names.count(name) > 1)
            rank_zero_warn(f"{self.name}: image {again[1]!r} occurs twice in {again[0]}; it is counted once")
        rows = all_gather_rows(self._gathering)
        self._gathering = []
        for row in sorted(rows, key=lambda row: (row.dataset, row.image)):
            self.rows.setdefault(row.dataset, {}).setdefault(row.image, row.values)
        for dataset, images in self.rows.items():
            for metric in sorted({metric for values in images.values() for metric in values}):
                column = [values[metric] for values in images.values() if metric in values]
                self._report_column(dataset, metric, column)

    def _report_column(self, dataset: str, metric: str, column: list[Value]) -> None:
        available = [value for value in column if not isinstance(value, NotAvailable)]
        reasons = [value.reason for value in column if isinstance(value, NotAvailable)]
        if available:
            self.report(dataset, metric, mean(available))
        if reasons:
            count = f"{len(reasons)} of {len(column)} images" if available else "all images"
            self.report_missing(dataset, metric, f"{count}: {'; '.join(dict.fromkeys(reasons))}")


def _select(output: StepOutput, images: list[int]) -> StepOutput:
    """The output of some images of a batch."""

    def rows(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[images]
        if isinstance(value, list):
            return [value[i] for i in images]
        return {key: rows(part) for key, part in value.items()} if isinstance(value, dict) else value

    return cast(StepOutput, {key: rows(value) for key, value in output.items()})


def mean(values: list[float]) -> float:
    """Float64 mean that does not depend on the order; `inf` and `nan` pass through."""
    if all(math.isfinite(value) for value in values):
        return math.fsum(values) / len(values)
    return sum(values) / len(values)
