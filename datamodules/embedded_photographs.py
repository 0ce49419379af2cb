"""The embedded photographs, from the scikit-image wheel, captioned here."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from datamodules.errors import DataError
from datamodules.samples import Sample

_MOTORCYCLE = (
    "a red motorcycle parked in a garage",
    "a motorbike with a black seat stands in front of crowded shelves",
    "side view of a red and chrome motorcycle on a concrete floor",
    "a motorcycle and a wooden bench in a cluttered workshop",
    "cardboard boxes and tools on grey shelves behind a shiny red motorbike",
)

# Held out entirely, from training and from validation.
TEST = {
    "chelsea.png": (
        "a close-up of a tabby cat with green eyes",
        "the face of a striped orange and brown cat looking to the right",
        "a cat with a pink nose and long white whiskers",
        "a ginger tabby in front of a blurred background",
        "a domestic cat stares past the camera",
    ),
    "coffee.png": (
        "a cup of espresso on a saucer with a small spoon",
        "a red coffee cup and saucer on a wooden table",
        "black coffee with foam in a cup that is white inside",
        "a metal spoon lies beside a small cup of coffee",
        "a coffee cup seen from above on reddish brown wood",
    ),
}
VALIDATION = {
    "rocket.jpg": (
        "a white rocket on its launch pad at dusk",
        "a rocket stands between tall lattice towers under a dark blue sky",
        "bright lights shine at the foot of a rocket before launch",
        "a launch pad in the evening with four steel towers",
        "a slender rocket points straight up into a clear night sky",
    ),
    "camera.png": (
        "a man in a dark coat looks through a camera on a tripod",
        "a black and white photograph of a photographer on a lawn",
        "a cameraman films outdoors with tall buildings far behind him",
        "a person bends towards a camera on three legs",
        "a photographer at work in a park, in greyscale",
    ),
}
TRAINING = {
    "astronaut.png": (
        "a smiling woman in an orange space suit",
        "portrait of an astronaut with a flag and a model of a space shuttle",
        "an astronaut with short hair holds a black and white helmet",
        "a woman in an orange flight suit in front of the flag of the United States",
        "an official portrait of a female astronaut",
    ),
    "motorcycle_left.png": _MOTORCYCLE,  # the two views of a stereo pair
    "motorcycle_right.png": _MOTORCYCLE,
    "hubble_deep_field.jpg": (
        "hundreds of distant galaxies in black space",
        "a deep field image of the sky full of small colourful galaxies",
        "bright orange, white and blue specks on a black background",
        "spiral and elliptical galaxies seen by a space telescope",
        "a photograph of outer space with countless points of light",
    ),
    "retina.jpg": (
        "the inside of an eye with branching red blood vessels",
        "a round orange picture of a human retina on black",
        "a fundus photograph with a bright optic disc on the left",
        "red vessels spread from a pale yellow spot over an orange disc",
        "a medical photograph of the back of an eye",
    ),
    "ihc.png": (
        "a stained slice of tissue under a microscope",
        "brown glands and small blue cell nuclei on a white ground",
        "a microscope image of brown and pale blue cells",
        "oval structures stained brown among scattered blue nuclei",
        "a histology slide with dark brown tissue in three corners",
    ),
    "brick.png": (
        "a pavement of long grey bricks",
        "rows of narrow bricks with light joints",
        "a black and white close-up of brickwork running upwards",
        "grey bricks laid in staggered columns",
        "a regular pattern of bricks and mortar",
    ),
    "grass.png": (
        "a patch of grass seen from above",
        "grass blades and small leaves in black and white",
        "a greyscale texture of a lawn",
        "tangled blades of grass cover the ground",
        "a close-up of a meadow with no sky",
    ),
    "gravel.png": (
        "a bed of grey gravel",
        "many small angular stones close together",
        "a black and white texture of crushed rock",
        "pebbles of similar size cover the ground",
        "a close-up of gravel from above",
    ),
    "coins.png": (
        "old coins in four rows on a dark surface",
        "a collection of worn ancient coins",
        "round coins with heads and figures, in black and white",
        "coins of different sizes laid out in a grid",
        "twenty-four antique coins seen from above",
    ),
    "moon.png": (
        "the surface of the moon with a few craters",
        "a grey lunar plain with a round crater near the top",
        "a photograph of the moon taken from above its surface",
        "small dark pits scattered over grey ground",
        "a smooth grey surface with a bright ridge and some craters",
    ),
}


def photographs(captions: Mapping[str, tuple[str, ...]]) -> list[Sample]:
    """Find photographs with their captions.

    Args:
        captions: File name -> captions: `TRAINING`, `VALIDATION` or `TEST`.

    Raises:
        DataError: The installed scikit-image lacks a photograph.
    """
    folder = Path(str(files("skimage"))) / "data"
    samples = [Sample(name, folder / name, texts) for name, texts in captions.items()]
    for sample in samples:
        if not sample.path.is_file():
            raise DataError(
                f"the installed scikit-image has no {sample.path}: "
                "reinstall it with `pip install scikit-image==0.26.0`"
            )
    return samples
