"""What the console shows of a running sweep."""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
_TAIL_BYTES = 16384

COMMAND_MARK = "$"
"""How the lines of a log begin that say which command follows."""


class Row(NamedTuple):
    """A trial that is running."""

    name: str
    stage: str
    """`fit` or `test`, and where."""
    seconds: float
    log: Path


class Progress:
    """Lines for what has happened and, on a terminal, a table of what is running.

    Trials go on without them: where nobody reads any more, since the terminal was closed or `tee` was ended by the
    same Ctrl-C, this falls silent.

    Args:
        console: Where to; None for standard output.
        refresh_seconds: How often the table is drawn.
    """

    def __init__(self, console: Console | None = None, refresh_seconds: float = 1.0) -> None:
        self.console = console or Console(highlight=False)
        self.refresh_seconds = refresh_seconds
        self._live = self._new_live()
        self._drawn = 0.0

    def _new_live(self) -> Live:
        return Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        # Without a terminal, Live would print the last table once more at the end.
        if self.console.is_terminal:
            with self._silent_if_lost():
                self._live.start()
            if self.console.quiet:
                # One that has not come to start cannot be stopped either.
                self._live = self._new_live()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A terminal that has been closed is none any more, but Live has still to give standard output back.
        if self._live.is_started:
            with self._silent_if_lost():
                self._live.stop()

    def say(self, line: str, style: str = "") -> None:
        """Print a line that stays, in one piece so that paths in it can be copied."""
        with self._silent_if_lost():
            self.console.print(Text(line, style=style), soft_wrap=True)

    def show(self, running: Sequence[Row], counts: str) -> None:
        """Redraw the table, if that is due.

        Args:
            running: The trials that are running.
            counts: How many are done, failed and to come, in words.
        """
        now = time.monotonic()
        if not self.console.is_terminal or now - self._drawn < self.refresh_seconds:
            return
        self._drawn = now
        table = Table(box=None, title=counts, title_justify="left", title_style="bold", padding=(0, 2, 0, 0))
        for heading in ("trial", "stage", "time"):
            table.add_column(heading, no_wrap=True)
        table.add_column("log", no_wrap=True, overflow="ellipsis", ratio=1)
        for row in running:
            table.add_row(row.name, row.stage, duration(row.seconds), Text(last_line(row.log), style="dim"))
        with self._silent_if_lost():
            self._live.update(table, refresh=True)

    @contextlib.contextmanager
    def _silent_if_lost(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SystemExit):  # rich makes the latter of a broken pipe
            self.console.quiet = True
            # What is still in its buffer, and what others print, would fail again, at the latest when Python ends.
            with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), self.console.file.fileno())


def duration(seconds: float) -> str:
    """Seconds as people read them.

    >>> [duration(seconds) for seconds in (7.4, 83, 7265)]
    ['7 s', '1 min 23 s', '2 h 1 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def last_line(log: Path) -> str:
    """The last line of a log that says something, without control sequences; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    # A progress bar overwrites its line.
    lines = [_CONTROL.sub("", line).strip() for line in re.split(r"[\r\n]+", text)]
    # W&B has the last word also after an error, on where its files are.
    telling = [line for line in lines if line and not line.startswith(("wandb:", f"{COMMAND_MARK} "))]
    return telling[-1] if telling else ""
