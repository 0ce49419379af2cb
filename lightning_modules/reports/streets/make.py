"""From result records to the report of street scenes on disk and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_modules.reports.reproduction import Kind, Writer
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

KIND = Kind(
    title="Conditional perceptual codec on street scenes",
    paper="Figures of Xu et al., Conditional Perceptual Quality Preserving Image Compression (arXiv 2308.08154, "
    "2023), beside ours. Theirs are of Cityscapes at 512x256.",
    subject="the street-scenes codec",
    manifest="streets_report.manifest",
    latex=True,
)


def make_streets_report(
    results: Sequence[Path], output: Path, force: bool = False, keep_records: bool = False
) -> None:
    """Read result records, write the report, and print its tables.

    Args:
        results: Result records, or folders that hold them.
        output: Folder of the report: README.md, tables/*.csv and *.tex, figures/*.png and *.svg, pictures/*.
        force: Write into a folder that holds other files too.
        keep_records: Put copies of the records and the pictures of their strips into it, too; see `keep`.

    Raises:
        ReportError: See `read_results`, `sort_models`, `keep` and `ReportFolder`.
    """
    found = read_results(results)
    datasets = sort_models(found.results)
    writer = Writer(KIND, output, force)
    for models in datasets:
        writer.dataset(models.dataset, sections_of(models))
    if keep_records:
        keep(found.results, datasets, writer.folder)
    writer.finish(found)


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
