"""Reconstructions as files (test, predict) and in the logger (validation)."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image

from callbacks.metrics.psnr import psnr
from callbacks.names import RECONSTRUCTIONS, metric_key
from callbacks.pictures import comparison, to_picture
from callbacks.places import Places
from callbacks.run_files import png_path
from lightning_modules.files import write_atomically
from lightning_modules.step_output import StepOutput, outputs_of


class Reconstructions(L.Callback):
    """Shows what the codec makes of images.

    In test and predict every reconstruction is written to `{run_dir}/reconstructions/{dataset}/{name}.png`
    (lossless: the file holds exactly the pixels that were measured), and comparisons with the original, with
    caption, rate and PSNR, to `{run_dir}/pictures/{dataset}/{name}.png`. In validation comparisons go to the
    logger as `val/{dataset}/reconstructions`, where it takes pictures (W&B, TensorBoard). `name` keeps its
    suffix unless that is `.png`.

    Where the steps return outputs of several decoders, the series takes the place of the data set in these names; the
    first images are the same ones for all decoders, less those that a decoder leaves out.

    "First images" are the first ones of the dataset in its order, also with several processes; pictures in
    the logger are the first ones of rank 0.

    Args:
        max_images: write the reconstructions of the first so many images per dataset; null writes all, 0
            none.
        panel_images: write comparisons of the first so many images per dataset.
        log_images: log comparisons of so many images per dataset at each validation.
    """

    def __init__(self, max_images: int | None = None, panel_images: int = 8, log_images: int = 4) -> None:
        self.max_images = max_images
        self.panel_images = panel_images
        self.log_images = log_images
        self._places = Places()
        self._panels: dict[str, list[tuple[str, Image.Image]]] = {}

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the start."""
        self._places = Places()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the start."""
        self._places = Places()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last validation's pictures."""
        self._panels = {}

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

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the first pictures of each dataset."""
        if trainer.sanity_checking or not trainer.is_global_zero or not picture_loggers(trainer):
            return
        for output in outputs_of(outputs):
            panels = self._panels.setdefault(output["dataset"], [])
            for i, name in enumerate(output["name"][: self.log_images - len(panels)]):
                panels.append((name, draw_panel(output, i)))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the pictures to the loggers."""
        for dataset, panels in self._panels.items():
            key = metric_key("val", dataset, RECONSTRUCTIONS)
            names, pictures = [name for name, _ in panels], [picture for _, picture in panels]
            for logger in picture_loggers(trainer):
                if isinstance(logger, WandbLogger):
                    logger.log_image(key, pictures, step=trainer.global_step, caption=names)
                else:
                    for name, picture in panels:
                        logger.experiment.add_image(
                            f"{key}/{name}", np.asarray(picture), trainer.global_step, dataformats="HWC"
                        )
        self._panels = {}

    def _write(self, trainer: L.Trainer, outputs: Any, batch: Any) -> None:
        places, run_dir = self._places.of(trainer, batch), Path(trainer.default_root_dir)
        for output in outputs_of(outputs):
            for i, name in enumerate(output["name"]):
                if self.max_images is None or places[name] < self.max_images:
                    path = png_path(run_dir / "reconstructions", output["dataset"], name)
                    write_atomically(path, to_picture(output["x_hat"][i]).save)
                if places[name] < self.panel_images:
                    path = png_path(run_dir / "pictures", output["dataset"], name)
                    write_atomically(path, draw_panel(output, i).save)


def draw_panel(output: StepOutput, i: int) -> Image.Image:
    """Comparison picture of the i-th image of a step output: with rate, PSNR and caption."""
    image, x_hat = output["image"][i], output["x_hat"][i]
    bpp = output["bits"][i].item() / (image.shape[-2] * image.shape[-1])
    db = psnr(image[None], x_hat[None]).item()
    caption = output["caption"][i] if "caption" in output else ""
    figures = f"{output['name'][i]}    {bpp:.4f} bpp    PSNR {db:.2f} dB"
    return comparison(to_picture(image), to_picture(x_hat), figures, caption)


def picture_loggers(trainer: L.Trainer) -> list[WandbLogger | TensorBoardLogger]:
    """The trainer's loggers that take pictures."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger | TensorBoardLogger)]
