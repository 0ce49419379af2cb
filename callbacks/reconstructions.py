"""Reconstructions as files (test, predict) and in the logger (validation, test)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image

from callbacks.image_captions import Panel, panel_text
from callbacks.image_files import ImageFiles
from callbacks.metrics.psnr import psnr
from callbacks.names import RECONSTRUCTIONS, Stage, metric_key
from callbacks.pictures import comparison, to_picture
from callbacks.run_files import png_path
from lightning_modules.files import write_atomically
from lightning_modules.step_output import StepOutput, outputs_of


class Reconstructions(ImageFiles):
    """Shows what the codec makes of images.

    In test and predict every reconstruction is written to `{run_dir}/reconstructions/{dataset}/{name}.png`
    (lossless: the file holds exactly the pixels that were measured), and comparisons with the original, with
    caption, rate and PSNR, to `{run_dir}/pictures/{dataset}/{name}.png`. In validation and test comparisons go to the
    logger as `{stage}/{dataset}/reconstructions`, where it takes pictures (W&B, TensorBoard); in W&B the text of each
    is its name, all figures of single images, and its caption. `name` keeps its suffix unless that is `.png`.

    Where the steps return outputs of several decoders, the series takes the place of the data set in these names; the
    first images are the same ones for all decoders, less those that a decoder leaves out.

    "First images" are the first ones of the dataset in its order, also with several processes; pictures in
    the logger are the first ones of rank 0.

    Args:
        max_images: write the reconstructions of the first so many images per dataset; null writes all, 0
            none.
        panel_images: write comparisons of the first so many images per dataset.
        log_images: log comparisons of so many images per dataset at each validation and test.
    """

    def __init__(self, max_images: int | None = None, panel_images: int = 8, log_images: int = 4) -> None:
        super().__init__()
        self.max_images = max_images
        self.panel_images = panel_images
        self.log_images = log_images
        self._panels: dict[str, list[Panel]] = {}

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last validation's pictures."""
        self._panels = {}

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the start, and forget the last pictures."""
        super().on_test_start(trainer, pl_module)
        self._panels = {}

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the first pictures of each dataset."""
        if not trainer.sanity_checking:
            self._keep(trainer, outputs)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Write files, and keep the first pictures of each dataset."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch)
        self._keep(trainer, outputs)

    # Not at the end of the epoch: the metrics, whose figures stand below the pictures, conclude there.
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the pictures to the loggers."""
        self._log(trainer, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the pictures to the loggers."""
        self._log(trainer, "test")

    def _keep(self, trainer: L.Trainer, outputs: Any) -> None:
        if not trainer.is_global_zero or not picture_loggers(trainer):
            return
        for output in outputs_of(outputs):
            panels = self._panels.setdefault(output["dataset"], [])
            panels += [_panel(output, i) for i in range(min(len(output["name"]), self.log_images - len(panels)))]

    def _log(self, trainer: L.Trainer, stage: Stage) -> None:
        for dataset, panels in self._panels.items():
            key = metric_key(stage, dataset, RECONSTRUCTIONS)
            for logger in picture_loggers(trainer) if panels else ():
                if isinstance(logger, WandbLogger):
                    pictures, texts = [p.picture for p in panels], [panel_text(trainer, dataset, p) for p in panels]
                    logger.log_image(key, pictures, step=trainer.global_step, caption=texts)
                else:
                    for panel in panels:
                        pixels = np.asarray(panel.picture)
                        logger.experiment.add_image(
                            f"{key}/{panel.name}", pixels, trainer.global_step, dataformats="HWC"
                        )
        self._panels = {}

    def write(
        self, trainer: L.Trainer, run_dir: Path, places: Mapping[str, int], outputs: Sequence[StepOutput]
    ) -> None:
        """Write the pictures of one batch."""
        for output in outputs:
            for i, name in enumerate(output["name"]):
                if self.max_images is None or places[name] < self.max_images:
                    path = png_path(run_dir / "reconstructions", output["dataset"], name)
                    write_atomically(path, to_picture(output["x_hat"][i]).save)
                if places[name] < self.panel_images:
                    path = png_path(run_dir / "pictures", output["dataset"], name)
                    write_atomically(path, draw_panel(output, i).save)


def draw_panel(output: StepOutput, i: int) -> Image.Image:
    """Comparison picture of the i-th image of a step output: with rate, PSNR and caption."""
    return _panel(output, i).picture


def _panel(output: StepOutput, i: int) -> Panel:
    image, x_hat, name = output["image"][i], output["x_hat"][i], output["name"][i]
    bpp = output["bits"][i].item() / (image.shape[-2] * image.shape[-1])
    db = psnr(image[None], x_hat[None]).item()
    caption = output["caption"][i] if "caption" in output else ""
    figures = f"{name}    {bpp:.4f} bpp    PSNR {db:.2f} dB"
    return Panel(name, comparison(to_picture(image), to_picture(x_hat), figures, caption), bpp, db, caption)


def picture_loggers(trainer: L.Trainer) -> list[WandbLogger | TensorBoardLogger]:
    """The trainer's loggers that take pictures."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger | TensorBoardLogger)]
