"""Files of images, written in test and predict."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from callbacks.places import Places
from lightning_modules.step_output import StepOutput, outputs_of


class ImageFiles(ABC, L.Callback):
    """Writes files of what the steps of test and predict return, as far as its images' places ask for them."""

    def __init__(self) -> None:
        self._places = Places()

    @abstractmethod
    def write(
        self, trainer: L.Trainer, run_dir: Path, places: Mapping[str, int], outputs: Sequence[StepOutput]
    ) -> None:
        """Write the files of one batch.

        Args:
            trainer: The one that tests or predicts.
            run_dir: Where files go.
            places: Image name -> place in its data set, from 0, over all processes.
            outputs: What the step returned, one of each decoder.
        """

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the start."""
        self._places = Places()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the start."""
        self._places = Places()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Write files."""
        self._write(trainer, outputs, batch)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Write files."""
        self._write(trainer, outputs, batch)

    def _write(self, trainer: L.Trainer, outputs: Any, batch: Any) -> None:
        self.write(trainer, Path(trainer.default_root_dir), self._places.of(trainer, batch), outputs_of(outputs))
