"""What every metric callback shares: when it runs, what it logs, what it tells the result record."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.gather import all_gather_rows
from callbacks.names import Stage, metric_key
from lightning_modules.errors import PretrainedError
from lightning_modules.step_output import StepOutput, outputs_of

OnMissing = Literal["raise", "record"]


class MetricCallback(L.Callback, ABC):
    """A metric over validation and test, one figure (or several of one kind) per dataset. Where the steps return
    several outputs, one per decoder, each counts as a dataset of its own.

    A subclass gives the class attributes, `protocol`, `reset`, `update` and `conclude`; `prepare` where it
    needs a network. A metric of single images derives from `PerImageMetric`; a metric of whole datasets (FID)
    from this.

    Figures are logged as `{stage}/{dataset}/{metric}` at the end of the epoch, equal on all ranks, so that
    `ModelCheckpoint` can monitor them. In the sanity check they are computed but not logged. What is not
    available is not logged either; it is never logged as 0.
    """

    name: str
    """Name of the (main) figure in logged keys and records."""
    unit: str
    """Unit of its figures; "" where there is none."""
    higher_is_better: bool | None
    """Direction; `None` where neither is better."""
    on_missing: OnMissing = "raise"
    """What happens where `prepare` lacks its weights; subclasses with a network offer it as an argument."""

    def __init__(self) -> None:
        self.summary: dict[str, dict[str, float]] = {}
        """Dataset -> figure -> value, of the latest validation or test."""
        self.not_available: dict[str, dict[str, str]] = {}
        """Dataset -> figure -> why it is missing, or on how many images it is."""
        self.details: dict[str, dict[str, dict[str, Any]]] = {}
        """Dataset -> figure -> what its protocol is on this dataset alone, such as the number of samples."""
        self._datasets: list[str] = []
        self._missing: str | None = None

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that are missing where the metric's weights are; those of most metrics are one."""
        return (self.name,)

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """What exactly is computed, as plain values: everything that makes two figures comparable or not."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the images seen."""

    @abstractmethod
    def update(self, output: StepOutput) -> None:
        """Take in one batch, or what one of several decoders made of it."""

    @abstractmethod
    def conclude(self) -> None:
        """Call `report` and `report_missing` for each dataset, the same on all ranks.

        Called at the end of the epoch on every rank, so it may gather.
        """

    def prepare(self, device: torch.device) -> None:
        """Load what the metric needs, or move it to `device`. Called at the start of every validation and
        test.

        Raises:
            PretrainedError: weights are missing; `on_missing` says what then happens.
        """

    def report(self, dataset: str, metric: str, value: float, **details: Any) -> None:
        """Set the figure of a dataset; `details` (plain values) join its protocol in the record."""
        self.summary.setdefault(dataset, {})[metric] = value
        if details:
            self.details.setdefault(dataset, {})[metric] = details

    def report_missing(self, dataset: str, metric: str, reason: str) -> None:
        """Say why a dataset has no figure, or why some of its images are not in it."""
        self.not_available.setdefault(dataset, {})[metric] = reason

    def _start(self, pl_module: L.LightningModule) -> None:
        self.reset()
        self._datasets = []
        if self._missing is not None:  # one attempt and one warning are enough for a run
            return
        try:
            self.prepare(pl_module.device)
        except PretrainedError as error:
            if self.on_missing == "raise":
                raise
            self._missing = str(error)
            rank_zero_warn(f"{self.name} will be recorded as not available. {error}")

    def _batch(self, outputs: Any) -> None:
        for output in outputs_of(outputs):
            if output["dataset"] not in self._datasets:
                self._datasets.append(output["dataset"])
            if self._missing is None:
                self.update(output)

    def _end(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: Stage) -> None:
        self.summary, self.not_available, self.details = {}, {}, {}
        # Weights may be on one node and not on another: then the figure is missing everywhere.
        states = all_gather_rows([(self._datasets, self._missing)])
        missing = next((reason for _, reason in states if reason is not None), None)
        if missing is None:
            self.conclude()
        else:
            for dataset in dict.fromkeys(name for datasets, _ in states for name in datasets):
                for figure in self.figures:
                    self.report_missing(dataset, figure, missing)
        if trainer.sanity_checking:
            return
        for dataset, figures in self.summary.items():
            for metric, value in figures.items():
                # All ranks hold the same value; sync_dist only keeps Lightning from warning that they might
                # not.
                pl_module.log(metric_key(stage, dataset, metric), value, sync_dist=True)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prepare."""
        self._start(pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prepare."""
        self._start(pl_module)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Measure a batch."""
        self._batch(outputs)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Measure a batch."""
        self._batch(outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather and log."""
        self._end(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gather and log."""
        self._end(trainer, pl_module, "test")
