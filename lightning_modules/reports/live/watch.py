"""From folders that records arrive in to a page that is always that of the last ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lightning_modules.reports.curves import build_curves
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.live.page import live_page
from lightning_modules.reports.live.records import WatchedRecords
from lightning_modules.reports.live.server import Page, PageServer
from lightning_modules.reports.make import choose_parts
from lightning_modules.reports.sections import Part
from lightning_modules.reports.writer import Options

PERIOD = 1.0
"""Seconds between two looks for records."""

SHARE = 0.1
"""Of its time at most is spent looking: a folder of a hundred thousand files is looked at less often."""


def watch(
    results: Sequence[Path],
    port: int,
    options: Options,
    references: Sequence[Path] | None = None,
    dataset: str | None = None,
) -> None:
    """Serve a report on loopback, and make it anew when records arrive, change or go; nothing is written.

    Records that cannot be read are named on the page and in the terminal, and the others are shown. Where records
    do not fit together, or have not yet what was asked for, the last report that could be made stays.

    Args:
        results: Result records, or folders that hold them; waited for where they do not exist yet.
        port: Where the server listens; 0 takes a free one.
        options: See `make_report`.
        references: See `make_report`.
        dataset: See `make_report`.

    Raises:
        ReportError: The port cannot be used.
        KeyboardInterrupt: Ctrl-C, which is the only end.
    """
    report = LiveReport(WatchedRecords(results, dataset), options, references)
    server = PageServer(port, report.page())
    try:
        print(f"{server.address}  (Ctrl-C ends it)", flush=True)
        pause, changed = PERIOD, True
        report.refresh()
        while True:
            if changed:
                server.page = report.page()
                report.tell()
            time.sleep(pause)
            started = time.monotonic()
            changed = report.refresh()
            # Making the page anew is not looking.
            pause = PERIOD if changed else max(PERIOD, (time.monotonic() - started) * (1 / SHARE - 1))
    finally:
        server.close()


@dataclass
class LiveReport:
    """The report of what the records were at the last look, or the last one that could be made.

    Args:
        records: What is watched.
        options: See `make_report`.
        references: See `make_report`.
    """

    records: WatchedRecords
    options: Options
    references: Sequence[Path] | None = None
    _parts: list[Part] = field(default_factory=list, init=False)
    _trouble: str | None = field(default=None, init=False)
    """Why the parts are those of an earlier look."""
    _unmade: bool = field(default=False, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def refresh(self) -> bool:
        """Look again; whether the page is another one."""
        trouble = self._trouble
        try:
            # A file that went while it was read says nothing of the records: the next look will tell.
            self._unmade |= self.records.look()
            if not self._unmade:
                return False
            self._make()
            self._unmade = False
            return True
        except OSError as error:
            self._trouble = f"{error}; trying again"
            self._unmade = True
            return self._trouble != trouble

    def page(self) -> Page:
        """The page, as of now."""
        updated = datetime.now().astimezone()
        text = live_page(self._parts, self.options.title, self._notices(), updated)
        return Page(text, updated.isoformat())

    def tell(self) -> None:
        """Print what is new."""
        points = sum(len(curve.points) for part in self._parts for curve in part.curves)
        if points:
            print(f"{datetime.now():%H:%M:%S}  {self.records.count} records, {points} points", flush=True)
        notices = self._notices()
        for notice in notices:
            if notice not in self._told:
                print(f"{datetime.now():%H:%M:%S}  {notice}", flush=True)
        self._told = set(notices)

    def _make(self) -> None:
        self._trouble = None
        points = self.records.points
        if not points:
            self._parts = []
            return
        try:
            self._parts = choose_parts(build_curves(points), self.options, self.references)
        except ReportError as error:
            self._trouble = str(error)

    def _notices(self) -> list[str]:
        notices = [f"Not shown: {problem}" for problem in self.records.problems]
        if self._trouble is not None:
            notices.append(
                f"Not up to date: {self._trouble}" if self._parts else f"Nothing to show yet: {self._trouble}"
            )
        elif not self._parts:
            where = ", ".join(
                str(path) if path.exists() else f"{path} (not there yet)" for path in self.records.paths
            )
            notices.append(f"Waiting for the first result record in {where}; `test` and `anchors` write them.")
        return notices
