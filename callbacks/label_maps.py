"""Label maps as pictures (test, predict)."""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning as L
import numpy as np
from PIL import Image
from torch import Tensor

from callbacks.image_files import ImageFiles
from callbacks.run_files import label_map_path
from lightning_modules.files import write_atomically
from lightning_modules.step_output import StepOutput, dataset_of

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    **dict.fromkeys(("void", "unlabeled", "ego vehicle", "rectification border", "out of roi", "static"), (0, 0, 0)),
    "dynamic": (111, 74, 0),
    "ground": (81, 0, 81),
    "road": (128, 64, 128),
    **dict.fromkeys(("sidewalk", "pavement"), (244, 35, 232)),
    "parking": (250, 170, 160),
    "rail track": (230, 150, 140),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "guard rail": (180, 165, 180),
    "bridge": (150, 100, 100),
    "tunnel": (150, 120, 90),
    **dict.fromkeys(("pole", "polegroup"), (153, 153, 153)),
    "traffic light": (250, 170, 30),
    **dict.fromkeys(("traffic sign", "sign symbol"), (220, 220, 0)),
    **dict.fromkeys(("vegetation", "tree"), (107, 142, 35)),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    **dict.fromkeys(("person", "pedestrian"), (220, 20, 60)),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "caravan": (0, 0, 90),
    "trailer": (0, 0, 110),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    **dict.fromkeys(("bicycle", "bicyclist"), (119, 11, 32)),
}
"""Those in which Cityscapes' label maps are customarily drawn (Cordts et al., "The Cityscapes dataset for semantic
urban scene understanding", CVPR 2016, and its list of labels); CamVid's classes have those of the same things."""

GOLDEN_ANGLE = 0.381966
"""Share of the colour circle between one number and the next: neighbours, and those after them, stay far apart."""


class LabelMaps(ImageFiles):
    """Writes the label maps of the first images, for pictures beside what a codec makes of them.

    In test and predict `{run_dir}/label_maps/{dataset}/{name}.png` holds the label map at the size that it has: a
    palette picture whose values are the classes' numbers. Its colours are those of the classes' names where the
    data have a table of them (`classes.names` of the datamodule), with void black; a class without a colour of its
    own, and all classes of data without a table, have one that its number alone decides. `name` keeps its suffix
    unless that is `.png`. Batches without `segmentation` are passed over. Where the steps return outputs of several
    decoders, they share the label map, which is of the data set proper.

    Args:
        max_images: How many of each data set, the first in its order, also with several processes.

    Raises:
        ValueError: `max_images` is below 1; or a label map holds a number that is not from 0 to 255.
    """

    def __init__(self, max_images: int = 8) -> None:
        if max_images < 1:
            raise ValueError(f"max_images is {max_images}: set it to at least 1, or leave callbacks.LabelMaps out")
        super().__init__()
        self.max_images = max_images

    def write(
        self, trainer: L.Trainer, run_dir: Path, places: Mapping[str, int], outputs: Sequence[StepOutput]
    ) -> None:
        """Write the label maps of one batch."""
        written: set[Path] = set()
        for output in outputs:
            if "segmentation" not in output:
                continue
            dataset = dataset_of(output)
            for name, labels in zip(output["name"], output["segmentation"], strict=True):
                path = label_map_path(run_dir, dataset, name)
                if places[name] < self.max_images and path not in written:
                    written.add(path)
                    write_atomically(path, to_label_picture(labels, _names(trainer)).save)


def to_label_picture(labels: Tensor, names: tuple[str, ...] = ()) -> Image.Image:
    """A label map as a palette picture.

    Args:
        labels: int (h, w), numbers of classes from 0 to 255.
        names: Of the classes, by number; those beyond have the colour of their number.

    Raises:
        ValueError: A number that 8 bits do not hold.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 255:
        raise ValueError(
            f"this label map reaches from {low} to {high}, and callbacks.LabelMaps draws classes from 0 to 255: "
            "leave it out of trainer.callbacks for such data"
        )
    picture = Image.fromarray(labels.cpu().numpy().astype(np.uint8))
    picture.putpalette([level for i in range(256) for level in class_colour(i, names)])
    return picture


def class_colour(number: int, names: tuple[str, ...] = ()) -> Colour:
    """The colour of a class: that of its name in `COLOURS`, or else one by its number."""
    if number < len(names) and names[number] in COLOURS:
        return COLOURS[names[number]]
    hue, lightness = number * GOLDEN_ANGLE % 1, (0.45, 0.6, 0.75)[number % 3]
    red, green, blue = (round(255 * level) for level in colorsys.hls_to_rgb(hue, lightness, 0.7))
    return red, green, blue


def _names(trainer: L.Trainer) -> tuple[str, ...]:
    table = getattr(getattr(trainer, "datamodule", None), "classes", None)
    return tuple(getattr(table, "names", ()))
