"""Tables as Markdown, and the page of a reproduction report as GitHub reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from lightning_modules.reports.section import Section
from lightning_modules.reports.table import Missing, Table, shown

HEADINGS = ("#", "##", "###")
FORMATS = {".csv": "CSV", ".tex": "LaTeX"}
"""Suffix of a table's file -> how a link to it reads."""


def table_text(table: Table, files: Sequence[str]) -> list[str]:
    """Lines of a table that is also kept in files: its caption has links to them."""
    links = ", ".join(f"[{FORMATS[PurePosixPath(file).suffix]}]({file})" for file in files)
    return [*table_lines(table, f"{table.caption} ({links})"), ""]


def table_markdown(table: Table) -> str:
    """A table by itself."""
    return "\n".join(table_lines(table, f"**{table.caption}**"))


def table_lines(table: Table, caption: str) -> list[str]:
    """Lines of a table: caption, rows, the reasons of missing numbers, notes."""
    reasons: dict[str, int] = {}
    lines = [caption, "", _row(table.header)]
    lines.append("|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|")
    for row in table.rows:
        cells = []
        for cell, column in zip(row, table.columns, strict=True):
            mark = f" [{reasons.setdefault(cell.reason, len(reasons) + 1)}]" if isinstance(cell, Missing) else ""
            cells.append(shown(cell, column) + mark)
        lines.append(_row(cells))
    notes = (*(f"[{number}] {reason}" for reason, number in reasons.items()), *table.notes)
    return [*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]


def section_text(
    section: Section, tables: Mapping[str, Sequence[str]], pictures: Mapping[str, Sequence[str]]
) -> list[str]:
    """Lines of a section.

    Args:
        section: It.
        tables: Table name -> addresses of its files.
        pictures: Name of a figure -> addresses of its files; the first is shown.
    """
    lines = [f"{HEADINGS[2]} {section.title}", ""]
    for paragraph in section.text:
        lines += [paragraph, ""]
    for table in section.tables:
        lines += table_text(table, tables[table.name])
    for picture in section.shown:
        first, *others = pictures[picture.name]
        lines += [f"![{_escape(picture.alt)}]({first})", ""]
        links = " ".join(f"[{PurePosixPath(other).suffix.lstrip('.').upper()}]({other})" for other in others)
        lines += [f"{picture.alt}. {links}".strip(), ""]
    if section.remarks:
        lines += [*(f"- {remark}" for remark in section.remarks), ""]
    return lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _escape(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")
