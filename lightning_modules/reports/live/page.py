"""The report's page as it is served: it tells how current it is, and reloads itself."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime

from lightning_modules.reports.page import POLICY, Addition, build_page, read_asset
from lightning_modules.reports.sections import Part

LIVE_POLICY = f"{POLICY}; connect-src 'self'"
"""As of a page on disk, but that it may ask the server that it came from, and nobody else, whether it is current."""


def live_page(parts: Sequence[Part], title: str, notices: Sequence[str], updated: datetime) -> str:
    """The page with a line on top that tells when it was made and whether the server still answers.

    Links to files for papers are not shown: nothing is on disk.

    Args:
        parts: From `choose_parts`; may be empty.
        title: Of the page.
        notices: What the reader must know: records that cannot be read, or that nothing is here yet.
        updated: When the page was made, with a time zone; by it the page knows itself from later ones.
    """
    time = f'<time datetime="{updated.isoformat()}">{updated:%Y-%m-%d %H:%M:%S}</time>'
    unaided = "<noscript><p class='warning'>Without JavaScript the page does not reload itself.</p></noscript>"
    listed = "".join(f'<p class="warning">{html.escape(notice)}</p>' for notice in notices)
    status = f'<p><span role="status">Live report</span>, last updated {time}.</p>'
    top = f'<div id="live">{status}{unaided}{listed}</div>'
    addition = Addition(LIVE_POLICY, read_asset("live.css"), top, read_asset("live.js"))
    return build_page(parts, title, [[""] * len(part.matches) for part in parts], addition)
