"""A table as plain data, and its three forms: CSV, LaTeX, HTML."""

from __future__ import annotations

import csv
import html
import io
from dataclasses import dataclass

ARROWS = {True: "↑", False: "↓", None: ""}

LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "λ": r"$\lambda$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": r"$-$",
    "–": "--",
    "…": r"\dots{}",
    "²": r"\textsuperscript{2}",
    "ø": r"\o{}",
}
"""Characters that LaTeX takes for something else, or lacks in text."""


@dataclass(frozen=True)
class Missing:
    """Stands in a cell whose number is not available."""

    reason: str


Cell = str | int | float | Missing


@dataclass(frozen=True)
class Column:
    """The head of a column, and how its numbers are printed."""

    title: str
    unit: str = ""
    higher_is_better: bool | None = None
    digits: int = 0
    """Decimals of its numbers."""
    numeric: bool = True
    """Whether it holds numbers, which are set flush right."""

    @property
    def head(self) -> str:
        """Title, unit and direction, for example "PSNR [dB] ↑"."""
        unit = f" [{self.unit}]" if self.unit else ""
        arrow = ARROWS[self.higher_is_better]
        return f"{self.title}{unit}{f' {arrow}' if arrow else ''}"


@dataclass(frozen=True)
class Table:
    """Rows of strings and numbers under a head, with a caption and notes."""

    name: str
    """Stem of its files, and its label in LaTeX."""
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.name}: a row of {len(row)} cells under {len(self.columns)} columns")

    @property
    def header(self) -> tuple[str, ...]:
        """The heads of the columns."""
        return tuple(column.head for column in self.columns)

    def to_csv(self) -> str:
        """Comma-separated values, numbers in full precision; what is not available is "n/a".

        Caption and notes are comments in lines that begin with "#" (`pandas.read_csv(..., comment="#")`).
        """
        text = io.StringIO()
        for line in (self.caption, *self.notes):
            text.write("# " + " ".join(line.split()) + "\n")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        for row in self.rows:
            writer.writerow(["n/a" if isinstance(cell, Missing) else cell for cell in row])
        return text.getvalue()

    def to_latex(self) -> str:
        """A `table` environment; needs `\\usepackage{booktabs}`."""
        align = "".join("r" if column.numeric else "l" for column in self.columns)
        lines = [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{_latex(self.caption)}}}",
            f"  \\label{{tab:{self.name}}}",
            f"  \\begin{{tabular}}{{{align}}}",
            r"    \toprule",
            f"    {_latex_row(self.header)}",
            r"    \midrule",
            *(f"    {_latex_row(self._printed(row))}" for row in self.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(f"  \\par{{\\footnotesize {_latex(note)}}}" for note in self.notes),
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """A `table` element of class `report`; cells of numbers have class `number`, missing ones `missing`.

        The reason for a missing number is the cell's `title`. Notes follow in a `ul` of class `notes`.
        """
        heads = [
            f'<th scope="col"{_classes(column.numeric, False)}>{html.escape(column.head)}</th>'
            for column in self.columns
        ]
        lines = [
            f'<table class="report" id="{html.escape(self.name)}">',
            f"<caption>{html.escape(self.caption)}</caption>",
            f"<thead><tr>{''.join(heads)}</tr></thead>",
            "<tbody>",
        ]
        for row in self.rows:
            cells = []
            for column, cell, text in zip(self.columns, row, self._printed(row), strict=True):
                title = f' title="{html.escape(cell.reason)}"' if isinstance(cell, Missing) else ""
                classes = _classes(column.numeric, isinstance(cell, Missing))
                cells.append(f"<td{classes}{title}>{html.escape(text)}</td>")
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines += ["</tbody>", "</table>"]
        if self.notes:
            lines.append('<ul class="notes">')
            lines += [f"<li>{html.escape(note)}</li>" for note in self.notes]
            lines.append("</ul>")
        return "\n".join(lines) + "\n"

    def _printed(self, row: tuple[Cell, ...]) -> tuple[str, ...]:
        return tuple(shown(cell, column) for cell, column in zip(row, self.columns, strict=True))


def shown(cell: Cell, column: Column) -> str:
    """A cell as it is read, in the digits of its column; "n/a" where the number is missing."""
    if isinstance(cell, Missing):
        return "n/a"
    if isinstance(cell, str):
        return cell
    text = f"{cell:.{column.digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")  # -0.00 looks like a result
    return text.replace("-", "−")


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(_latex(cell) for cell in cells) + r" \\"


def _classes(number: bool, missing: bool) -> str:
    names = ["number"] * number + ["missing"] * missing
    return f' class="{" ".join(names)}"' if names else ""
