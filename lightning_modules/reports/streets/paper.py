"""The paper's numbers, from `configs/references`."""

from __future__ import annotations

from functools import lru_cache

from lightning_modules.reports.reference_file import Printed, Reference, read_reference
from lightning_modules.reports.references import FOLDER

DATASET = "cityscapes"
"""What all of them are of."""


def is_of_same_images(dataset: str) -> bool:
    """Whether a test set of ours is the paper's, so that its points can be set beside ours."""
    return dataset == f"{DATASET}-val"


@lru_cache
def table_2() -> Reference:
    """BD differences on Cityscapes."""
    return read_reference(FOLDER / "conditional_table2_cityscapes.json")


@lru_cache
def stage_1() -> Reference:
    """Rates and MSE of baseline and g1, as the first author's code logged them."""
    return read_reference(FOLDER / "conditional_regression_cityscapes.json")


@lru_cache
def captions() -> Reference:
    """Rates in the captions of Figs. 16-19."""
    return read_reference(FOLDER / "conditional_rates_cityscapes.json")


def stage_1_of(codec: str) -> list[Printed]:
    """The logged points of a codec by rate."""
    return sorted((row for row in stage_1().rows if row.codec == codec), key=lambda row: row.bpp or 0.0)
