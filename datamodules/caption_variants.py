"""Other captions for the same images, to see what the true ones are worth to an encoder."""

from collections.abc import Sequence

from datamodules.errors import DataError, first_of
from datamodules.samples import Sample

CONSTANT = "NA"
"""The caption of the variant "constant". With it in place of every caption a user of TACO's published weights saw no
difference (issue 2 of effl-lab/TACO)."""


def caption_variants(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Captions that say what is in each image, in another one, the same of all, and nothing.

    Args:
        samples: The images with their captions.

    Returns:
        By the variant's name a caption for each image. "given": its first. "shuffled": the first caption of the image
        half the set further on, so that none keeps its own, and neighbours, which are often alike, are not paired.
        "constant": `CONSTANT`. "empty".

    Raises:
        DataError: There is one image only, so that no other's caption can be had, or images have no caption.
    """
    without = [sample.name for sample in samples if not sample.captions]
    if without or len(samples) < 2:
        found = f"{len(without)} without a caption ({first_of(without)})" if without else "no two"
        raise DataError(
            f"test_captions=ablation needs two or more images, each with a caption: of {len(samples)} there are "
            f"{found}. Set --data.captions_file, or --data.test_captions first"
        )
    given = [sample.captions[0] for sample in samples]
    half = len(given) // 2
    return {
        "given": given,
        "shuffled": [*given[half:], *given[:half]],
        "constant": [CONSTANT] * len(given),
        "empty": [""] * len(given),
    }
