"""What the console shows while data are prepared."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

Advance = Callable[[int], object]
"""Takes the bytes done since the last call."""

_SECONDS_BETWEEN_LINES = 30.0


def gigabytes(size: int) -> str:
    """Bytes as people read them, in decimal units.

    >>> [gigabytes(size) for size in (999, 252_872_794, 13_510_573_713)]
    ['999 bytes', '252.9 MB', '13.5 GB']
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def say(line: str) -> None:
    """Print a line that stays, on standard output."""
    print(line, flush=True)


@contextmanager
def advancing(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show how far a piece of work is: a bar on a terminal, else a line every half minute (for the logs of jobs).

    Args:
        title: What is done.
        total: All of it, in bytes.
        done: What was done before, in bytes.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title, total, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda size: progress.advance(task, size)


def _lines(title: str, total: int, done: int) -> Advance:
    last = time.monotonic()

    def advance(size: int) -> None:
        nonlocal done, last
        done += size
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{title}: {gigabytes(done)} of {gigabytes(total)}", file=sys.stderr, flush=True)

    return advance
