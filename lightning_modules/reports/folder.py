"""The folder of a report, which knows its own files from others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lightning_modules.files import write_atomically
from lightning_modules.reports.errors import ReportError


class ReportFolder:
    """A new or empty folder, or that of an earlier report, whose files are replaced; no other file is touched.

    Args:
        path: The folder; it is made.
        manifest: Name of its file that says which files are the report's; reports of one kind replace each other.
            JSON without `.json`, so that a search for records passes it over.
        force: Take a folder that holds other files too.

    Raises:
        ReportError: It is a file, or holds something that is no such report and `force` is false.
    """

    def __init__(self, path: Path, manifest: str, force: bool = False) -> None:
        self.path = path
        self.manifest = manifest
        self.written: list[str] = []
        """Paths relative to the folder."""
        self._earlier = self._read_manifest(force)
        # If this is interrupted, the folder is still known as a report's.
        self._write_manifest(self._earlier)

    def write_text(self, name: str, text: str) -> str:
        """Write a file; its path relative to the folder."""
        path = self.path / name
        write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))
        return self.add([path])[0]

    def write_bytes(self, name: str, data: bytes) -> str:
        """Write a file; its path relative to the folder."""
        path = self.path / name
        write_atomically(path, lambda draft: draft.write_bytes(data))
        return self.add([path])[0]

    def add(self, paths: Sequence[Path]) -> list[str]:
        """Take files that were written into the folder for its own; their paths relative to it."""
        names = [path.relative_to(self.path).as_posix() for path in paths]
        self.written += names
        return names

    def finish(self) -> None:
        """Remove what an earlier report had and this one does not."""
        for name in set(self._earlier) - set(self.written):
            (self.path / name).unlink(missing_ok=True)
        self._write_manifest(self.written)

    def _read_manifest(self, force: bool) -> list[str]:
        if self.path.exists() and not self.path.is_dir():
            raise ReportError(f"{self.path} is a file; a report needs a folder")
        if not self.path.exists() or not any(self.path.iterdir()):
            return []
        try:
            names = json.loads((self.path / self.manifest).read_text(encoding="utf-8"))["files"]
            inside = self.path.resolve()
            # Only files of the folder itself are ever removed, whatever the manifest says.
            return [str(n) for n in names if (self.path / str(n)).resolve().is_relative_to(inside)]
        except (OSError, ValueError, KeyError, TypeError):
            if force:
                return []
            raise ReportError(
                f"{self.path} holds something that is no report; choose another folder, or add the report to it "
                "with --force"
            ) from None

    def _write_manifest(self, names: Sequence[str]) -> None:
        text = json.dumps({"files": sorted(names)}, indent=2) + "\n"
        path = self.path / self.manifest
        write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))
