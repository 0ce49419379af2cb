"""Captions that are kept as they come, so that an interrupted command repeats none of them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from lightning_modules.commands.errors import CommandError

_HEADER = "captions made with"


class PartialCaptions:
    """A file beside the output: a line with the settings, then a JSON line per caption, as a context manager.

    It outlasts the context if it holds captions.

    Each line is on the disk before the next caption is made. A line that was being written when the process died is
    cut off.

    Args:
        path: The file; it is made when the context is entered.
        settings: What the captions depend on, plain values. Captions of other settings are not continued.
        force: Throw captions of other settings away instead of refusing to.

    Raises:
        CommandError: On entering: the file holds captions of other settings, or is not such a file. Then and when
            captions are added: a setting or a name is not text.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], force: bool) -> None:
        self.path = path
        self.settings = dict(settings)
        self.force = force
        self.captions: dict[str, str] = {}
        """Captions by image name: those found, and those added."""
        self._file: BinaryIO | None = None

    def __enter__(self) -> "PartialCaptions":
        header = _line({_HEADER: self.settings})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._read()
        self._file = self.path.open("ab")
        self._file.truncate(kept)
        if kept == 0:
            self.captions = {}
            self._write(header)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            if not self.captions:
                self.path.unlink()

    def add(self, captions: Mapping[str, str]) -> None:
        """Keep captions by image name."""
        for name, caption in captions.items():
            self._write(_line({"name": name, "caption": caption}))
        self.captions.update(captions)

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Read what is there; return how many bytes of it to keep."""
        if not self.path.exists():
            return 0
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            return 0
        header, *lines = whole.splitlines()
        try:
            found = json.loads(header)[_HEADER]
            captions = {entry["name"]: entry["caption"] for entry in map(json.loads, lines)}
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(
                f"{self.path} does not hold captions of this command: move it out of the way"
            ) from error
        if found == self.settings:
            self.captions = captions
            return len(whole)
        if self.force:
            return 0
        keys = [key for key in {**found, **self.settings} if found.get(key) != self.settings.get(key)]
        differences = ", ".join(f"{key} {found.get(key)!r} instead of {self.settings.get(key)!r}" for key in keys)
        raise CommandError(
            f"{self.path} holds {len(captions)} captions made with {differences}: finish them with those settings, "
            "choose another --output, or throw them away with --force"
        )


def _line(entry: dict[str, Any]) -> bytes:
    try:
        return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise CommandError(
            f"{entry} has a name that is not UTF-8, which a JSON file cannot hold: rename that file or folder"
        ) from error
