"""Which view and report a dashboard is, so that the next time updates them: `.dashboard.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_modules.dashboard.errors import DashboardError
from lightning_modules.files import write_atomically


@dataclass
class Place:
    """Where one dashboard is; None where it has not been made."""

    view: str | None = None
    """URL of the workspace's view."""
    report: str | None = None
    """URL of the report."""
    report_id: str | None = None
    chart: str | None = None
    """Id of the rate-distortion chart, "entity/name"."""


class Memory:
    """A small JSON file, one entry for each project (and sweep); colleagues who share it update the same views.

    Args:
        path: The file; it need not exist.

    Raises:
        DashboardError: It is there and is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, Any] = {}
        if not path.exists():
            return
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self._entries = {name: asdict(Place(**entry)) for name, entry in content.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DashboardError(
                f"{path} is not a file in which `dashboard` remembers its views ({error}): name another with --state"
            ) from error

    def recall(self, name: str) -> Place:
        """What is known of a dashboard."""
        return Place(**self._entries.get(name, {}))

    def keep(self, name: str, place: Place) -> None:
        """Write down where a dashboard is, at once: what comes next may fail."""
        self._entries[name] = asdict(place)
        text = json.dumps(self._entries, indent=2) + "\n"
        write_atomically(self.path, lambda draft: draft.write_text(text, encoding="utf-8"))
