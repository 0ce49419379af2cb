"""What the parts of a reproduction report hand to its page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightning_modules.reports.table import Table


@dataclass(frozen=True)
class Shown:
    """A figure or picture of the page."""

    name: str
    """Stem of its files."""
    alt: str
    """What it shows, in one sentence."""
    write: Callable[[Path], list[Path]]
    """Takes the path without suffix; returns what it wrote, a PNG or JPEG first."""
    folder: str = "figures"
    """Of its files, in that of the report: "figures", or "pictures" of images."""


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    shown: tuple[Shown, ...] = ()
    remarks: tuple[str, ...] = ()
    """What is not shown, and why."""
