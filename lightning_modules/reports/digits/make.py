"""From result records to the digits report on disk and in the terminal."""

from __future__ import annotations

from lightning_modules.reports.digits.claims import claims_section
from lightning_modules.reports.digits.differences import differences_of, differences_section
from lightning_modules.reports.digits.grids import grids_section
from lightning_modules.reports.digits.kept_records import keep
from lightning_modules.reports.digits.measures import figures_of
from lightning_modules.reports.digits.models import DatasetModels, sort_models
from lightning_modules.reports.digits.noise_study import noise_section
from lightning_modules.reports.digits.rates import models_table, rates_section
from lightning_modules.reports.digits.results import read_results
from lightning_modules.reports.digits.swapped import swapped_section
from lightning_modules.reports.digits.tradeoff import tradeoff_section
from lightning_modules.reports.reproduction import Kind, Reproduction
from lightning_modules.reports.section import Section


def sections_of(models: DatasetModels) -> list[Section]:
    """The report of one test set, nothing drawn yet."""
    figures = figures_of(models.results)
    differences = differences_of(models, figures)
    swapped = swapped_section(models)
    sections = [
        rates_section(models, figures),
        differences_section(models, differences, figures),
        claims_section(models, figures, differences),
        tradeoff_section(models, figures),
        noise_section(models, figures),
        grids_section(models),
        *([] if swapped is None else [swapped]),
        Section("Models", tables=(models_table(models),), remarks=models.remarks),
    ]
    return [section for section in sections if section.tables or section.shown or section.remarks]


REPORT = Reproduction(
    kind=Kind(
        title="Conditional perceptual codec on digits",
        paper="Figures of Xu et al., Conditional Perceptual Quality Preserving Image Compression (arXiv 2308.08154, "
        "2023), beside ours. Theirs are of MNIST.",
        subject="the digits codec",
        manifest="digits_report.manifest",
        latex=False,
    ),
    read=read_results,
    sort=sort_models,
    sections=sections_of,
    keep=lambda results, _, folder: keep(results, folder),
)
