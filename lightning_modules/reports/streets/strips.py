"""Figs. 16-19: the first test images beside their label maps and what the methods make of them, near each rate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from callbacks.names import BPP, MSE, PSNR
from callbacks.run_files import label_map_path
from lightning_modules.reports.model import Picture
from lightning_modules.reports.pairing import nearest_pairs
from lightning_modules.reports.pictures import PSNR_TOLERANCE, psnr
from lightning_modules.reports.section import Section, Shown
from lightning_modules.reports.streets import paper
from lightning_modules.reports.streets.models import BASELINE, PROPOSED_2, YAN, DatasetModels, Model
from lightning_modules.reports.streets.rates import BPP_LABELS
from lightning_modules.reports.streets.results import Result
from lightning_modules.reports.streets.strip_drawing import Panel, write_strip

Size = tuple[int, int]
"""Width and height."""

IMAGES = 3
"""Of the test set that are shown, by name."""
ORIGINAL, LABELS = "original", "label map"


class Series(NamedTuple):
    """A column of pictures by a method."""

    title: str
    result: Result


def pairs(models: DatasetModels) -> list[tuple[Model | None, Model | None]]:
    """Models without and with the label map that are nearest to each other in rate; the others alone. By rate."""
    plain = [model for model in models.plain if {BASELINE.decoder, YAN.decoder} & set(model.series)]
    proposed = [model for model in models.labelled if PROPOSED_2.decoder in model.series]
    return nearest_pairs(plain, proposed, lambda model: model.rate)


def strips_section(models: DatasetModels) -> Section:
    """A strip for each of the first images and each rate."""
    shown: list[Shown] = []
    absent: dict[str, list[str]] = {}
    for pair in pairs(models):
        rates = "_".join(dict.fromkeys(f"{model.lmbda:g}" for model in pair if model is not None))
        for name in _names(pair):
            panels, problems = _panels(models.dataset, pair, name)
            for problem in problems:
                absent.setdefault(problem, []).append(f"{name} at λ = {rates.replace('_', ' and ')}")
            if any(panel.title not in (ORIGINAL, LABELS) for panel in panels):
                alt = f"{name}: " + "; ".join(", ".join((panel.title, *panel.lines)) for panel in panels)
                stem = f"strip_{rates}_{Path(name).stem}"
                shown.append(Shown(stem, alt, partial(write_strip, panels), "pictures"))
    text = (
        f"The first {IMAGES} images of the test set, the methods at about the same rate; figures are of the one "
        "image. The rate of the proposed codec includes that of its label map, of which every eighth row and column "
        "is sent.",
        *_captions(models.dataset),
    )
    remarks = tuple(f"Not shown of {', '.join(images)}: {problem}." for problem, images in absent.items())
    return Section("Figs. 16-19: pictures", text if shown else (), shown=tuple(shown), remarks=remarks)


def files_shown(models: DatasetModels) -> Iterator[tuple[Path, Path]]:
    """Run directory and file of every reconstruction and label map in the strips; originals are not the runs'."""
    for pair in pairs(models):
        for name in _names(pair):
            for column in _columns(pair):
                if (file := _picture(column.result, name).reconstruction) is not None:
                    yield column.result.run_dir, file
            for run_dir, file in _label_maps(models.dataset, pair, name):
                yield run_dir, file


def _columns(pair: tuple[Model | None, Model | None]) -> list[Series]:
    plain, proposed = pair
    return [
        Series(words, result)
        for model, method, words in (
            (plain, BASELINE, "MSE"),
            (plain, YAN, "perceptual, Yan et al. 2021"),
            (proposed, PROPOSED_2, "conditional, proposed"),
        )
        if model is not None and (result := model.series.get(method.decoder)) is not None
    ]


def _names(pair: tuple[Model | None, Model | None]) -> list[str]:
    first, *others = [{picture.name for picture in column.result.pictures} for column in _columns(pair)]
    return sorted(first.intersection(*others))[:IMAGES]


def _picture(result: Result, name: str) -> Picture:
    return next(picture for picture in result.pictures if picture.name == name)


def _panels(dataset: str, pair: tuple[Model | None, Model | None], name: str) -> tuple[list[Panel], list[str]]:
    """What can be shown of an image, and why other columns cannot."""
    problems: list[str] = []
    columns = _columns(pair)
    row = next(row for row in columns[0].result.rows if row["name"] == name)
    size = (row["width"], row["height"])
    original = _original(_picture(columns[0].result, name), row.get("original"), size, problems)
    panels = [] if original is None else [Panel(ORIGINAL, (), original)]
    labels = _label_maps(dataset, pair, name)
    if not labels:
        problems.append("the label map, for want of label_maps/ in the run directory; callbacks.LabelMaps writes it")
    elif (drawn := _opened(labels[0][1], problems)) is not None:
        # A palette picture turns RGB before it is resized, and every pixel stays that of a class.
        cost = _picture(columns[-1].result, name).figures.get(BPP_LABELS)
        lines = () if cost is None else (f"{cost:.4f} bpp",)
        panels.append(Panel(LABELS, lines, drawn.resize(size, Image.Resampling.NEAREST)))
    for column in columns:
        picture = _picture(column.result, name)
        if picture.reconstruction is None:
            problems.append(f"{column.title}, for want of its reconstruction; callbacks.Reconstructions writes it")
            continue
        decoded = _opened(picture.reconstruction, problems)
        if decoded is None or (original is not None and not _as_measured(original, decoded, column, name, problems)):
            continue
        figures = (f"{picture.figures[BPP]:.4f} bpp", *_mse_in_words(picture))
        panels.append(Panel(column.title, figures, decoded))
    return panels, problems


def _mse_in_words(picture: Picture) -> tuple[str, ...]:
    return (f"MSE {picture.figures[MSE]:.5f}",) if MSE in picture.figures else ()


def _original(picture: Picture, stated: str | None, size: Size, problems: list[str]) -> Image.Image | None:
    """The original at the size that it was measured at: the data are resized by Pillow's bicubic filter."""
    if picture.original is None:
        where = "which the record does not name" if stated is None else f"in {PurePosixPath(stated).parent}"
        problems.append(f"the original, {where} and not on this machine; set DATA_ROOT to where the data are")
        return None
    opened = _opened(picture.original, problems)
    return None if opened is None else opened.resize(size, Image.Resampling.BICUBIC)


def _as_measured(original: Image.Image, decoded: Image.Image, column: Series, name: str, problems: list[str]) -> bool:
    """Whether the two files have the PSNR of the record, so that they are what was measured."""
    stated = _picture(column.result, name).figures.get(PSNR)
    if stated is None:
        return True
    if original.size != decoded.size:
        problems.append(f"{column.title}, whose reconstruction on disk is of another size than the record's")
        return False
    found = psnr(np.asarray(original), np.asarray(decoded))
    if abs(found - stated) <= PSNR_TOLERANCE:
        return True
    problems.append(
        f"{column.title}: the files on disk have {found:.2f} dB and the record {stated:.2f} dB, so they are not what "
        "was measured"
    )
    return False


def _label_maps(dataset: str, pair: tuple[Model | None, Model | None], name: str) -> list[tuple[Path, Path]]:
    """Run directories of a pair with their label map of an image, as far as it is there."""
    runs = dict.fromkeys(model.first.run_dir for model in pair if model is not None)
    found = [(run_dir, label_map_path(run_dir, dataset, name)) for run_dir in runs]
    return [(run_dir, file) for run_dir, file in found if file.is_file()][:1]


def _opened(path: Path, problems: list[str]) -> Image.Image | None:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        problems.append(f"{path.name}, which cannot be read as a picture ({type(error).__name__})")
        return None


def _captions(dataset: str) -> tuple[str, ...]:
    """The rates of the paper's own strips, where ours are of the same images."""
    if not paper.is_of_same_images(dataset):
        return ()
    found: dict[str, list[str]] = {}
    for row in paper.captions().rows:
        found.setdefault(row.setting, []).append(f"{row.codec} {row.bpp:g}")
    listed = "; ".join(f"{figure}: {', '.join(rates)}" for figure, rates in found.items())
    return (f"Rates in the paper's captions, in bpp: {listed}.",)
