"""Figs. 11-15: the first test images beside what the methods make of them, near each rate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lightning_modules.reports.digits.models import BASELINE, PROPOSED_2, YAN, DatasetModels, Model
from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.digits.tiles import beside, read_grey, save_png, with_title
from lightning_modules.reports.pairing import nearest_pairs
from lightning_modules.reports.section import Section, Shown

FOLDER = "grids"


class Panel(NamedTuple):
    """One grid of a composite."""

    title: str
    path: Path


def grid_of(result: Result) -> Path:
    """Where `callbacks.SampleGrid` writes the grid of a series."""
    return result.run_dir / FOLDER / f"{result.series}.png"


def original_of(result: Result) -> Path:
    """Where it writes that of the originals."""
    return result.run_dir / FOLDER / f"{result.dataset}-original.png"


def pairs(models: DatasetModels) -> list[tuple[Model | None, Model | None]]:
    """Models without and with the digit that are nearest to each other in rate; the others alone. By rate."""
    plain = [model for model in models.unlabelled if {"g1", "g2"} & set(model.series)]
    proposed = [model for model in models.labelled if "g2" in model.series]
    return nearest_pairs(plain, proposed, lambda model: model.first.rate)


def grids_section(models: DatasetModels) -> Section:
    """One composite per rate."""
    shown, remarks = [], []
    for plain, proposed in pairs(models):
        panels = _panels(plain, proposed)
        there = [panel for panel in panels if panel.path.is_file()]
        if absent := [panel for panel in panels if panel not in there]:
            files = ", ".join(f"{panel.path.parent.parent.name}/{FOLDER}/{panel.path.name}" for panel in absent)
            titles = "; ".join(panel.title for panel in absent)
            remarks.append(f"Not shown: {titles}. There is no {files}; callbacks.SampleGrid writes it.")
        if [panel for panel in there if panel.title != "original"]:
            alt = "; ".join(panel.title for panel in there)
            name = "_".join(str(model.code_bits) for model in (plain, proposed) if model is not None)
            shown.append(Shown(f"grid_{name}", alt, partial(_write, there), "pictures"))
    text = (
        ("The first 100 images of the test set. The rate of the proposed codec includes the digit.",) if shown else ()
    )
    return Section("Figs. 11-15: samples", text, shown=tuple(shown), remarks=tuple(remarks))


def _panels(plain: Model | None, proposed: Model | None) -> list[Panel]:
    panels = []
    for model, method, words in (
        (plain, BASELINE, "MSE"),
        (plain, YAN, "perceptual, Yan et al. 2021"),
        (proposed, PROPOSED_2, "conditional perceptual, proposed"),
    ):
        if model is not None and (result := model.series.get(method.decoder)) is not None:
            panels.append(Panel(f"{words}, {result.rate:.1f} bits", grid_of(result)))
    first = next(model for model in (plain, proposed) if model is not None).first
    return [Panel("original", original_of(first)), *panels]


def _write(panels: list[Panel], stem: Path) -> list[Path]:
    drawn: list[Image.Image] = []
    for panel in panels:
        grey = read_grey(panel.path)
        if grey is not None:
            drawn.append(with_title(grey, panel.title))
    return save_png(beside(drawn, 2), stem)
