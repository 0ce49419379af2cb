"""From result records to the digits report on disk and in the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as View

from lightning_modules.reports.digits.claims import claims_section
from lightning_modules.reports.digits.differences import Differences, differences_section
from lightning_modules.reports.digits.grids import grids_section
from lightning_modules.reports.digits.kept_records import keep
from lightning_modules.reports.digits.markdown import HEADINGS, section_text, shown
from lightning_modules.reports.digits.measures import figures_of
from lightning_modules.reports.digits.models import DatasetModels, sort_models
from lightning_modules.reports.digits.noise_study import noise_section
from lightning_modules.reports.digits.rates import models_table, rates_section
from lightning_modules.reports.digits.results import Results, read_results
from lightning_modules.reports.digits.section import Section
from lightning_modules.reports.digits.swapped import swapped_section
from lightning_modules.reports.digits.tradeoff import tradeoff_section
from lightning_modules.reports.folder import ReportFolder
from lightning_modules.reports.table import Missing, Table

MANIFEST = "digits_report.manifest"
PAGE = "README.md"
"""What GitHub shows of a folder."""
WIDTH = 240
"""Of a line in the terminal, in characters."""
TITLE = "Conditional perceptual codec on digits"
PAPER = (
    "Figures of Xu et al., Conditional Perceptual Quality Preserving Image Compression (arXiv 2308.08154, 2023), "
    "beside ours. Theirs are of MNIST."
)


def make_digits_report(
    results: Sequence[Path], output: Path, force: bool = False, keep_records: bool = False
) -> None:
    """Read result records, write the report, and print its tables.

    Args:
        results: Result records, or folders that hold them.
        output: Folder of the report: README.md, tables/*.csv, figures/*.png and *.svg, pictures/*.png.
        force: Write into a folder that holds other files too.
        keep_records: Put copies of the records and their sample grids into it, too; see `keep`.

    Raises:
        ReportError: See `read_results`, `sort_models`, `keep` and `ReportFolder`.
    """
    found = read_results(results)
    datasets = sort_models(found.results)
    folder = ReportFolder(output, MANIFEST, force)
    # Wider than most terminals: a line that wraps is better than numbers that are cut off.
    console = Console(highlight=False, markup=False, soft_wrap=True, width=WIDTH)
    lines = [f"{HEADINGS[0]} {TITLE}", "", PAPER, "", *_counted(found), ""]
    for models in datasets:
        lines += [f"{HEADINGS[1]} {models.dataset}", ""]
        for section in sections_of(models):
            csvs = {
                table.name: folder.write_text(f"tables/{_stem(models, table.name)}.csv", table.to_csv())
                for table in section.tables
            }
            pictures = {
                picture.name: folder.add(picture.write(folder.path / _place(models, picture.name)))
                for picture in section.shown
            }
            lines += section_text(section, csvs, pictures)
            _print_section(console, models.dataset, section)
    if keep_records:
        keep(found.results, folder)
    folder.write_text(PAGE, "\n".join(lines).rstrip() + "\n")
    folder.finish()
    for line in _counted(found):
        console.print(line)
    console.print(f"{output / PAGE}  (and {len(folder.written) - 1} files beside it)")


def sections_of(models: DatasetModels) -> list[Section]:
    """The report of one test set, nothing drawn yet."""
    figures = figures_of(models.results)
    differences = Differences(models, figures)
    swapped = swapped_section(models)
    sections = [
        rates_section(models, figures),
        differences_section(differences, figures),
        claims_section(models, figures, differences),
        tradeoff_section(models, figures),
        noise_section(models, figures),
        grids_section(models),
        *([] if swapped is None else [swapped]),
        Section("Models", tables=(models_table(models),), remarks=models.remarks),
    ]
    return [section for section in sections if section.tables or section.shown or section.remarks]


def _place(models: DatasetModels, name: str) -> str:
    folder = "pictures" if name.startswith(("grid", "swapped")) else "figures"
    return f"{folder}/{_stem(models, name)}"


def _stem(models: DatasetModels, name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{models.dataset}_{name}")


def _counted(found: Results) -> list[str]:
    lines = [f"{_records(len(found.results))} of the digits codec."]
    if found.ignored:
        lines.append(f"{_records(found.ignored)} of other codecs ignored.")
    if found.repeated:
        lines.append(
            f"{_records(found.repeated)} left out for a newer one of the same weights, decoder and test set."
        )
    return lines


def _records(count: int) -> str:
    return f"{count} record{'s'[: count != 1]}"


def _print_section(console: Console, dataset: str, section: Section) -> None:
    console.print(f"\n{dataset}: {section.title}")
    for table in section.tables:
        _print_table(console, table)
    for remark in section.remarks:
        console.print(remark)


def _print_table(console: Console, table: Table) -> None:
    view = View(title=table.caption, title_justify="left")
    for column in table.columns:
        # Titles in several lines leave room for the numbers.
        view.add_column(column.head.replace(" ", "\n"), justify="right" if column.numeric else "left", no_wrap=True)
    reasons: dict[str, None] = {}
    for row in table.rows:
        view.add_row(*(shown(cell, column) for cell, column in zip(row, table.columns, strict=True)))
        reasons |= {cell.reason: None for cell in row if isinstance(cell, Missing)}
    console.print(view)
    for line in (*(f"n/a: {reason}" for reason in reasons), *table.notes):
        console.print(line)
