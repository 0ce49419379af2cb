"""A report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources

from plotly.offline import get_plotlyjs

from lightning_modules.reports.interactive import CONFIG
from lightning_modules.reports.picture_section import picture_section
from lightning_modules.reports.sections import (
    Part,
    bd_section,
    curves_section,
    days,
    printed_tables,
    scroll,
    summary_table,
    table_section,
    to_script,
)

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""Content security policy: the browser itself refuses every request that would leave the page."""


@dataclass(frozen=True)
class Addition:
    """What a page has beside the report itself."""

    policy: str = POLICY
    style: str = ""
    top: str = ""
    """HTML above the title."""
    script: str = ""
    """Runs last."""


def build_page(
    parts: Sequence[Part], title: str, strips: Sequence[Sequence[str]], addition: Addition = Addition()
) -> str:
    """The page: one section per dataset; scripts, styles and pictures within it.

    Links to the files beside it (figures, tables, pictures) are only followed when clicked.

    Args:
        parts: one per dataset.
        title: of the page.
        strips: per dataset and match, the address of the strip relative to the page.
        addition: of a page that is more than a file.
    """
    plotly = get_plotlyjs()
    if "</script" in plotly.lower():
        raise RuntimeError("this version of plotly.js cannot be put inside a page: it holds the end of a script")
    body = [_head(parts, title)]
    body += [_part(part, files) for part, files in zip(parts, strips, strict=True)]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{addition.policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(title)}</title>",
            f"<style>\n{read_asset('report.css')}{addition.style}</style>",
            "</head>",
            "<body>",
            "<noscript><p class='warning'>The curves, the choice of an anchor and the enlarged windows need "
            "JavaScript, which is all inside this page. The figures beside it do not.</p></noscript>",
            *([addition.top] if addition.top else []),
            *body,
            f'<script type="application/json" id="plotly-config">{to_script(CONFIG)}</script>',
            f"<script>{plotly}</script>",
            f"<script>\n{read_asset('curves.js')}</script>",
            f"<script>\n{read_asset('compare.js')}</script>",
            *([f"<script>\n{addition.script}</script>"] if addition.script else []),
            "</body>",
            "</html>",
            "",
        ]
    )


def _head(parts: Sequence[Part], title: str) -> str:
    points = [point for part in parts for curve in part.curves for point in curve.points]
    codecs = dict.fromkeys(curve.codec for part in parts for curve in part.curves)
    made = days(points)
    measured = f", measured {' to '.join(made)}" if made else ""
    links = "".join(f'<li><a href="#{part.slug}">{html.escape(part.dataset)}</a></li>' for part in parts)
    navigation = f'<nav aria-label="Datasets"><ul>{links}</ul></nav>' if len(parts) > 1 else ""
    return (
        f"<header><h1>{html.escape(title)}</h1>"
        f"<p>{_count(len(codecs), 'codec')} on {_count(len(parts), 'dataset')} at {_count(len(points), 'point')}"
        f"{measured}. Made from result records alone.</p>"
        f"{navigation}</header>"
    )


def _part(part: Part, strips: Sequence[str]) -> str:
    points, cost, missing, protocols, sources = part.tables()
    # What the notes of the points say stands under the curves already, where it is seen.
    points = replace(points, notes=())
    printed_bd, printed_costs = (
        "".join(scroll(table.to_html()) for table in group) for group in printed_tables(part)
    )
    pictures = picture_section(part.matches, part.problems, strips)
    sections = [
        ("summary", "Summary", scroll(summary_table(part).to_html())),
        ("curves", "Rate-distortion curves", curves_section(part)),
        ("bd", "BD-rate and BD-metric", bd_section(part) + printed_bd),
        ("points", "All points", _folded("Every point as numbers", table_section(points, "There are no points."))),
        ("costs", "Costs", table_section(cost, "No record tells sizes, operations or times.") + printed_costs),
        ("pictures", "Pictures at matched rate", pictures or "<p>No pictures were asked for, or recorded.</p>"),
        ("missing", "Not available", table_section(missing, "No record lists a figure that could not be measured.")),
        (
            "how",
            "Protocols and sources",
            _folded("How every figure was computed", table_section(protocols, "The sources do not say."))
            + _folded("Where every point comes from", table_section(sources, "There are no points.")),
        ),
    ]
    links = "".join(f'<li><a href="#{part.slug}-{key}">{name}</a></li>' for key, name, _ in sections)
    lines = [
        f'<section id="{part.slug}" aria-labelledby="{part.slug}-title">',
        f'<h2 id="{part.slug}-title">{html.escape(part.dataset)}</h2>',
        f'<nav aria-label="{html.escape(part.dataset)}"><ul>{links}</ul></nav>',
    ]
    for key, name, content in sections:
        lines += [f'<section id="{part.slug}-{key}">', f"<h3>{name}</h3>", content, "</section>"]
    return "\n".join([*lines, "</section>"])


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>"


def read_asset(name: str) -> str:
    """A style or script that pages hold."""
    return resources.files("lightning_modules.reports").joinpath("assets", name).read_text(encoding="utf-8")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
