"""The first images of a data set in one picture, as each decoder shows them."""

from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from PIL import Image

from callbacks.gather import all_gather_rows
from callbacks.names import GRID, Stage, metric_key
from callbacks.pictures import to_picture
from callbacks.places import Places
from callbacks.reconstructions import picture_loggers
from callbacks.run_files import png_path
from lightning_modules.files import write_atomically
from lightning_modules.step_output import dataset_of, outputs_of

Pixels = NDArray[np.uint8]
"""(H, W), or (H, W, 3)."""


class Tile(NamedTuple):
    """One image of a grid."""

    grid: str
    """Series, or `{dataset}-original`."""
    place: int
    """Of the image in its data set, from 0."""
    name: str
    pixels: Pixels


class SampleGrid(L.Callback):
    """Shows the first images of a data set as tiles without text, row by row in the order of the data set.

    In test `{run_dir}/grids/{series}.png` holds the reconstructions, pixel by pixel, and
    `{run_dir}/grids/{dataset}-original.png` the originals; a codec with one decoder has its data set for a series.
    They go to the logger too, as `test/{series}/grid`, where it takes pictures (W&B, TensorBoard); in validation the
    reconstructions do, as `val/{series}/grid`. An image that a decoder leaves out, and the rest of a data set that
    has too few, stays white, so that all grids of a data set show the same image at the same place. Images of
    different sizes make no grid; a warning says so. With `trainer.fast_dev_run` no file is written.

    Args:
        rows: of tiles.
        columns: of tiles.
    """

    def __init__(self, rows: int = 10, columns: int = 10) -> None:
        if rows < 1 or columns < 1:
            raise ValueError(f"rows and columns must be at least 1, not {rows} and {columns}")
        self.rows = rows
        self.columns = columns
        self._reset()

    def _reset(self) -> None:
        self._places = Places()
        self._tiles: dict[tuple[str, int], Tile] = {}

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin empty grids."""
        self._reset()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin empty grids."""
        self._reset()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the first images, and their originals."""
        self._keep(trainer, outputs, batch, originals=True)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep the first images."""
        if not trainer.sanity_checking and picture_loggers(trainer):
            self._keep(trainer, outputs, batch, originals=False)

    def _keep(self, trainer: L.Trainer, outputs: Any, batch: Any, originals: bool) -> None:
        places = self._places.of(trainer, batch)
        if min(places.values()) >= self.rows * self.columns:
            return
        for output in outputs_of(outputs):
            dataset = dataset_of(output)
            sides = {output["dataset"]: output["x_hat"]}
            if originals:
                sides[f"{dataset}-original"] = output["image"]
            for grid, images in sides.items():
                for name, image in zip(output["name"], images, strict=True):
                    place = places[name]
                    if place < self.rows * self.columns and (grid, place) not in self._tiles:
                        self._tiles[grid, place] = Tile(grid, place, name, np.asarray(to_picture(image)))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the grids, and hand them to the loggers."""
        grids = self._gather()
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for grid, picture in grids.items():
            path = png_path(Path(trainer.default_root_dir), "grids", f"{grid}.png")
            write_atomically(path, picture.save)
        self._log(trainer, "test", grids)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the grids to the loggers."""
        grids = self._gather()
        if trainer.is_global_zero:
            self._log(trainer, "val", grids)

    def _log(self, trainer: L.Trainer, stage: Stage, grids: dict[str, Image.Image]) -> None:
        for grid, picture in grids.items():
            key = metric_key(stage, grid, GRID)
            for logger in picture_loggers(trainer):
                if isinstance(logger, WandbLogger):
                    logger.log_image(key, [picture], step=trainer.global_step)
                else:
                    pixels = np.asarray(picture)
                    logger.experiment.add_image(
                        key, pixels, trainer.global_step, dataformats="HW" if pixels.ndim == 2 else "HWC"
                    )

    def _gather(self) -> dict[str, Image.Image]:
        """The grids of all processes, in the order in which they were begun; every process must call it."""
        tiles = all_gather_rows(list(self._tiles.values()))
        self._reset()
        grids = {}
        for grid in dict.fromkeys(tile.grid for tile in tiles):
            mine = sorted((tile for tile in tiles if tile.grid == grid), key=lambda tile: tile.place)
            first, other = mine[0], next((tile for tile in mine if tile.pixels.shape != mine[0].pixels.shape), None)
            if other is None:
                grids[grid] = self._draw(mine)
            else:  # a picture is not worth the figures of a whole test
                sizes = [f"{tile.name} ({tile.pixels.shape[1]}x{tile.pixels.shape[0]})" for tile in (first, other)]
                rank_zero_warn(
                    f"no grid of {grid}: it shows images of one size, but {' and '.join(sizes)} differ. "
                    "callbacks.Reconstructions shows images of any size."
                )
        return grids

    def _draw(self, tiles: list[Tile]) -> Image.Image:
        """A grid of images of one size, by rising place."""
        first = tiles[0]
        height, width = first.pixels.shape[:2]
        canvas = np.full((self.rows * height, self.columns * width, *first.pixels.shape[2:]), 255, np.uint8)
        drawn: set[str] = set()
        for tile in tiles:
            if tile.name in drawn:  # a distributed sampler repeats images to fill the last batch
                continue
            drawn.add(tile.name)
            row, column = divmod(tile.place, self.columns)
            canvas[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile.pixels
        return Image.fromarray(canvas)
