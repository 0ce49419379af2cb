"""Errors of the data wing: every message names the offending value and what to change."""

from collections.abc import Sequence


class DataError(ValueError):
    """Data on disk, or a setting about data, cannot be used as it is."""


class UnreadableImageError(DataError):
    """A file that should be an image cannot be decoded."""


def first_of(names: Sequence[str], count: int = 3) -> str:
    """Return `names` shortened for a message, e.g. `a.png, b.png, c.png and 5 more`."""
    shown = ", ".join(names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"
