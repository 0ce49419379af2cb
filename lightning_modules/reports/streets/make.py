"""From result records to the report of street scenes on disk and in the terminal."""

from __future__ import annotations

from lightning_modules.reports.reproduction import Kind, Reproduction
from lightning_modules.reports.section import Section
from lightning_modules.reports.streets.claims import claims_section
from lightning_modules.reports.streets.differences import differences_section
from lightning_modules.reports.streets.kept_records import keep
from lightning_modules.reports.streets.measures import figures_of
from lightning_modules.reports.streets.models import DatasetModels, sort_models
from lightning_modules.reports.streets.rates import models_table, rates_section
from lightning_modules.reports.streets.results import read_results
from lightning_modules.reports.streets.strips import strips_section
from lightning_modules.reports.streets.tradeoff import tradeoff_section


def sections_of(models: DatasetModels) -> list[Section]:
    """The report of one test set, nothing drawn yet."""
    figures = figures_of(models.results)
    return [
        rates_section(models, figures),
        differences_section(models, figures),
        claims_section(models),
        tradeoff_section(models, figures),
        strips_section(models),
        Section("Models", tables=(models_table(models),), remarks=models.remarks),
    ]


REPORT = Reproduction(
    kind=Kind(
        title="Conditional perceptual codec on street scenes",
        paper="Figures of Xu et al., Conditional Perceptual Quality Preserving Image Compression (arXiv 2308.08154, "
        "2023), beside ours. Theirs are of Cityscapes at 512x256.",
        subject="the street-scenes codec",
        manifest="streets_report.manifest",
        latex=True,
    ),
    read=read_results,
    sort=sort_models,
    sections=sections_of,
    keep=keep,
)
