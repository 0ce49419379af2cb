"""A reproduction report on disk and in the terminal: tables, figures and pictures, ours beside a paper's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.table import Table as View

from lightning_modules.reports.decoder_result import DecoderResult, Found
from lightning_modules.reports.folder import ReportFolder
from lightning_modules.reports.markdown import HEADINGS, section_text
from lightning_modules.reports.measured_models import MeasuredModels
from lightning_modules.reports.section import Section
from lightning_modules.reports.table import Missing, Table, shown

PAGE = "README.md"
"""What GitHub shows of a folder."""
WIDTH = 240
"""Of a line in the terminal, in characters."""


R = TypeVar("R", bound=DecoderResult)
D = TypeVar("D", bound=MeasuredModels[Any, Any])


@dataclass(frozen=True)
class Kind:
    """What makes reports of one kind alike."""

    title: str
    paper: str
    """Which paper's figures stand beside ours."""
    subject: str
    """The codec, as in "the digits codec"."""
    manifest: str
    """See `ReportFolder`."""
    latex: bool
    """Whether tables are also written as LaTeX."""


@dataclass(frozen=True)
class Reproduction(Generic[R, D]):
    """How a report is made of result records."""

    kind: Kind
    read: Callable[[Sequence[Path]], Found[R]]
    """Finds the records."""
    sort: Callable[[Iterable[R]], list[D]]
    """The models of each test set."""
    sections: Callable[[D], list[Section]]
    """The report of one test set, nothing drawn yet."""
    keep: Callable[[Sequence[R], Sequence[D], ReportFolder], None]
    """Puts copies of the records into the report's folder, with what else it takes to make the report again."""

    def make(self, results: Sequence[Path], output: Path, force: bool = False, keep_records: bool = False) -> None:
        """Read result records, write the report, and print its tables.

        Args:
            results: Result records, or folders that hold them.
            output: Folder of the report: README.md, tables/*, figures/*.png and *.svg, pictures/*.
            force: Write into a folder that holds other files too.
            keep_records: Put copies of the records into it, too; see `keep`.

        Raises:
            ReportError: See `ReportFolder`, and `read`, `sort` and `keep`.
        """
        found = self.read(results)
        datasets = self.sort(found.results)
        writer = Writer(self.kind, output, force)
        for models in datasets:
            writer.dataset(models.dataset, self.sections(models))
        if keep_records:
            self.keep(found.results, datasets, writer.folder)
        writer.finish(found)


class Writer:
    """Writes one report.

    Args:
        kind: What it is.
        output: Its folder: README.md, tables/, figures/, pictures/.
        force: Write into a folder that holds other files too.

    Raises:
        ReportError: See `ReportFolder`.
    """

    def __init__(self, kind: Kind, output: Path, force: bool) -> None:
        self.kind = kind
        self.folder = ReportFolder(output, kind.manifest, force)
        # Wider than most terminals: a line that wraps is better than numbers that are cut off.
        self._console = Console(highlight=False, markup=False, soft_wrap=True, width=WIDTH)
        self._lines: list[str] = []

    def dataset(self, name: str, sections: Sequence[Section]) -> None:
        """Write and print the sections of one test set."""
        self._lines += [f"{HEADINGS[1]} {name}", ""]
        for section in sections:
            tables = {table.name: self._tables(name, table) for table in section.tables}
            pictures = {
                picture.name: self.folder.add(
                    picture.write(self.folder.path / picture.folder / _stem(name, picture.name))
                )
                for picture in section.shown
            }
            self._lines += section_text(section, tables, pictures)
            _print_section(self._console, name, section)

    def finish(self, found: Found) -> None:
        """Write the page, and drop what an earlier report had.

        Args:
            found: What the report was made of.
        """
        counted = _counted(found, self.kind.subject)
        head = [f"{HEADINGS[0]} {self.kind.title}", "", self.kind.paper, "", *counted, ""]
        self.folder.write_text(PAGE, "\n".join([*head, *self._lines]).rstrip() + "\n")
        self.folder.finish()
        for line in counted:
            self._console.print(line)
        others = len(self.folder.written) - 1
        self._console.print(f"{self.folder.path / PAGE}  (and {others} files beside it)")

    def _tables(self, dataset: str, table: Table) -> list[str]:
        stem = f"tables/{_stem(dataset, table.name)}"
        written = [self.folder.write_text(f"{stem}.csv", table.to_csv())]
        if self.kind.latex:
            written.append(self.folder.write_text(f"{stem}.tex", table.to_latex()))
        return written


def _stem(dataset: str, name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{dataset}_{name}")


def _counted(found: Found, subject: str) -> list[str]:
    lines = [f"{_records(len(found.results))} of {subject}."]
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
