"""Tables as Markdown, for panels and reports of W&B."""

from __future__ import annotations

from lightning_modules.reports.table import Missing, Table, shown


def markdown(table: Table) -> str:
    """A table with its caption above, and the reasons of missing numbers and its notes below."""
    reasons: dict[str, int] = {}
    lines = [f"**{table.caption}**", "", _row(table.header)]
    lines.append("|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|")
    for row in table.rows:
        cells = []
        for cell, column in zip(row, table.columns, strict=True):
            mark = f" ({reasons.setdefault(cell.reason, len(reasons) + 1)})" if isinstance(cell, Missing) else ""
            cells.append(shown(cell, column) + mark)
        lines.append(_row(cells))
    notes = [*(f"({number}) {reason}" for reason, number in reasons.items()), *table.notes]
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)])


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
