"""The parts of a report's page that are curves and tables."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from lightning_modules.reports.figures import KNOWN
from lightning_modules.reports.interactive import rate_figure
from lightning_modules.reports.model import Curve, Figure, Kind, Point
from lightning_modules.reports.pictures import Match
from lightning_modules.reports.references import Reference, bd_references, cost_references
from lightning_modules.reports.style import CurveStyle, in_decibel
from lightning_modules.reports.tables import (
    Cell,
    Column,
    Missing,
    Table,
    bd_tables,
    cost_table,
    not_available_table,
    points_table,
    protocols_table,
)

KIND_WORDS: dict[Kind, str] = {
    "measured": "measured here",
    "compressai": "published by CompressAI",
    "printed": "printed in a paper",
}
LINE_WORDS: dict[Kind, str] = {
    "measured": "solid lines and filled markers were measured here",
    "compressai": "dashed lines and open markers are CompressAI's published results",
    "printed": "open markers without a line are figures that papers print",
}


@dataclass(frozen=True)
class Part:
    """What the report shows of one dataset."""

    dataset: str
    slug: str
    """The dataset in file names and addresses within the page."""
    curves: tuple[Curve, ...]
    styles: tuple[CurveStyle, ...]
    figures: tuple[Figure, ...]
    anchor: str | None
    """What BD values are against at first; `None` where there is one curve only."""
    matches: tuple[Match, ...]
    problems: tuple[str, ...]
    """Which pictures are not shown, and why."""
    common_range: bool
    log_rate: bool
    references: tuple[Reference, ...] = ()
    """Figures that papers print for this dataset."""

    def bd(self, anchor: str) -> list[Table]:
        """BD tables against an anchor."""
        return bd_tables(self.curves, self.figures, anchor, common_range=self.common_range)

    def tables(self) -> list[Table]:
        """The other tables, under names of their own."""
        made = [
            points_table(self.curves, self.figures),
            cost_table(self.curves),
            not_available_table(self.curves),
            protocols_table(self.curves),
            sources_table(self.curves),
        ]
        return [replace(table, name=f"{table.name}_{self.slug}") for table in made]


def summary_table(part: Part) -> Table:
    """What each codec's curve is made of."""
    columns = (
        *(Column("Codec", numeric=False), Column("Figures", numeric=False), Column("Points"), Column("Images")),
        *(Column("Rate, from", "bit/pixel", None, 3), Column("Rate, to", "bit/pixel", None, 3)),
        Column("Measured on", numeric=False),
    )
    rows = []
    for curve in part.curves:
        images = max((len(point.pictures) for point in curve.points), default=0)
        rates = [point.bpp for point in curve.points]
        rows.append(
            (
                *(curve.codec, KIND_WORDS[curve.kind], len(curve.points), images or "not stated"),
                *(min(rates), max(rates), " to ".join(days(curve.points)) or "not stated"),
            )
        )
    return Table(f"summary_{part.slug}", f"What was compared on {part.dataset}.", columns, tuple(rows))


def days(points: Sequence[Point]) -> list[str]:
    """First and last day on which points were measured, once if they are one; none if no record says."""
    found = sorted(
        str(point.record["created"])[:10] for point in points if point.record and "created" in point.record
    )
    return list(dict.fromkeys((found[0], found[-1]))) if found else []


def sources_table(curves: Sequence[Curve]) -> Table:
    """Where every point comes from."""
    titles = ("Codec", "Setting", "Source", "Created", "Code", "Versions")
    columns = tuple(Column(title, numeric=False) for title in titles)
    rows = []
    for curve in curves:
        for point in curve.points:
            record = point.record or {}
            versions = record.get("versions") or {}
            rows.append(
                (
                    *(curve.codec, point.label, point.source, str(record.get("created", ""))),
                    *(_git(record.get("git")), ", ".join(f"{name} {version}" for name, version in versions.items())),
                )
            )
    return Table("sources", "Where every point comes from.", columns, tuple(rows))


def curves_section(part: Part) -> str:
    """Plots, their controls, and what a reader must know of the curves."""
    drawings = [rate_figure(part.curves, part.styles, figure, part.log_rate) for figure in part.figures]
    has_images = any(trace.meta["role"] != "mean" for drawing in drawings for trace in drawing.data)
    lines = ["<div data-curves>", _controls(part, has_images), '<div class="plots">']
    for figure, drawing in zip(part.figures, drawings, strict=True):
        stem = f"{part.slug}_{figure.name}"
        about = html.escape(f"Rate against {figure.title} on {part.dataset}; the table of all points has the numbers")
        lines += [
            "<figure>",
            f'<script type="application/json" id="data-{stem}">{script_safe(drawing.to_json())}</script>',
            f'<div class="plot" id="plot-{stem}" data-source="data-{stem}" data-file="{stem}" role="group" '
            f'style="--curves: {len(part.curves)}" aria-label="{about}"></div>',
            f'<figcaption class="files">{_links(f"figures/{stem}", ("png", "svg", "pdf"))}</figcaption>',
            "</figure>",
        ]
    kinds = dict.fromkeys(curve.kind for curve in part.curves)
    words = "; ".join(LINE_WORDS[kind] for kind in kinds)
    reading = f"{words[0].upper()}{words[1:]}." if words else ""
    if any(in_decibel(figure) for figure in part.figures):
        reading += " MS-SSIM is drawn in dB, −10 log₁₀(1 − MS-SSIM) of the stated value."
    lines += ["</div>", f'<p class="quiet">{reading}']
    if len(part.figures) > 1:
        links = _links(f"figures/{part.slug}_all", ("png", "svg", "pdf"))
        lines.append(f'<span class="files">All in one figure: {links}.</span>')
    lines += ["</p>", _notes(part.curves), "</div>"]
    return "\n".join(lines)


def bd_section(part: Part) -> str:
    """BD tables against every possible anchor, one of them in sight."""
    if part.anchor is None:
        return "<p>BD values compare two codecs; there is one only.</p>"
    groups, names = [], []
    for i, curve in enumerate(part.curves):
        tables = part.bd(curve.codec)
        if not tables:
            continue
        names.append(curve.codec)
        shown = []
        for table in tables:
            shown.append(scroll(replace(table, name=f"{table.name}_against_{i}").to_html()))
            if curve.codec == part.anchor:
                shown.append(f'<p class="files">{_links(f"tables/{table.name}", ("csv", "tex"))}</p>')
        hidden = "" if curve.codec == part.anchor else " hidden"
        groups.append(f'<div data-against="{html.escape(curve.codec)}"{hidden}>{"".join(shown)}</div>')
    if part.anchor not in names:
        return f"<p>{html.escape(part.anchor)} has no figure in common with another codec on this dataset.</p>"
    options = "".join(
        f"<option{' selected' if name == part.anchor else ''}>{html.escape(name)}</option>" for name in names
    )
    return (
        '<div data-bd><p class="controls"><label>Anchor <select data-anchor autocomplete="off">'
        f"{options}</select></label></p>"
        "<p class='quiet'>Bjøntegaard deltas: the mean difference in rate at equal quality (BD-rate, negative is "
        "better), and in quality at equal rate (BD-metric), with a cubic fit as in the papers and with piecewise "
        "cubic interpolation (pchip) beside it. Where the two are far apart, trust neither.</p>"
        f"{''.join(groups)}</div>"
    )


def table_section(table: Table, nothing: str) -> str:
    """A table with its files, or a sentence where it is empty."""
    if not table.rows:
        return f"<p>{html.escape(nothing)}</p>"
    return f'{scroll(table.to_html())}<p class="files">{_links(f"tables/{table.name}", ("csv", "tex"))}</p>'


def printed_tables(part: Part) -> tuple[list[Table], list[Table]]:
    """BD values and costs that papers print for the dataset, as tables."""
    return (
        [_printed_table(reference) for reference in bd_references(part.references)],
        [_printed_table(reference) for reference in cost_references(part.references)],
    )


def script_safe(text: str) -> str:
    """JSON that no browser takes for the end of a script."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def to_script(value: Any) -> str:
    """A value as JSON within a script element."""
    return script_safe(json.dumps(value, sort_keys=True))


def _printed_table(reference: Reference) -> Table:
    known = {figure.name: figure for figure in KNOWN}
    names = list(dict.fromkeys(name for row in reference.rows for name in row.figures))
    bd = reference.kind == "bd"
    columns = [Column("Codec", numeric=False)]
    for name in names:
        title = known[name].title if name in known else name.removesuffix("_ms").removesuffix("_m").replace("_", " ")
        better = known[name].higher_is_better if name in known and reference.units.get(name) != "%" else False
        digits = max(_decimals(row.figures[name]) for row in reference.rows if name in row.figures)
        columns.append(Column(f"BD-{title}" if bd else title, reference.units.get(name, ""), better, digits))
    rows: list[tuple[Cell, ...]] = []
    for row in reference.rows:
        rows.append((row.codec, *(row.figures.get(name, Missing("not printed")) for name in names)))
    remarks = [f"{row.codec}: {text}" for row in reference.rows for text in (row.note, row.doubtful) if text]
    against = f", against {reference.anchor}" if bd else ""
    hardware = f", on {reference.hardware}" if reference.hardware else ""
    caption = f"As printed: {reference.title}{against}{hardware} ({reference.source})."
    return Table(f"printed_{reference.path.stem}", caption, tuple(columns), tuple(rows), (*reference.notes, *remarks))


def _decimals(value: float) -> int:
    """As many as it was printed with."""
    return max(0, -int(Decimal(repr(value)).normalize().as_tuple().exponent))


def _controls(part: Part, has_images: bool) -> str:
    linear, log = ("false", "true") if part.log_rate else ("true", "false")
    images = (
        '<label><input type="checkbox" data-per-image autocomplete="off"> Points of single images</label>'
        if has_images
        else ""
    )
    return (
        '<div class="controls"><span>Rate axis <span class="segments" role="group" aria-label="Rate axis">'
        f'<button type="button" data-rate="linear" aria-pressed="{linear}">linear</button>'
        f'<button type="button" data-rate="log" aria-pressed="{log}">logarithmic</button></span></span>{images}'
        '<span class="quiet">Click a name to hide its curve, twice to see it alone.</span></div>'
    )


def _notes(curves: Sequence[Curve]) -> str:
    codecs: dict[str, list[str]] = {}
    for curve in curves:
        for note in curve.notes:
            codecs.setdefault(note, []).append(curve.codec)
    if not codecs:
        return ""
    lines = [f"<li>{html.escape(', '.join(names))}: {html.escape(note)}</li>" for note, names in codecs.items()]
    return f'<h4>Notes on these curves</h4><ul class="notes">{"".join(lines)}</ul>'


def _git(git: Any) -> str:
    if not isinstance(git, dict):
        return ""
    return str(git.get("commit", ""))[:10] + (", with changes" if git.get("dirty") else "")


def _links(stem: str, suffixes: Sequence[str]) -> str:
    names = {"tex": "LaTeX"}
    return " · ".join(
        f'<a href="{html.escape(stem)}.{suffix}">{names.get(suffix, suffix.upper())}</a>' for suffix in suffixes
    )


def scroll(table: str) -> str:
    """A table that scrolls by itself where it is too wide, also by keyboard; the page never does."""
    return f'<div class="scroll" tabindex="0">{table}</div>'
