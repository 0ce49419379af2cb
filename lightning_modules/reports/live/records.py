"""Result files of which only those that changed are read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Point
from lightning_modules.reports.records import json_files, may_be_result, read_points

Stamp = tuple[int, int, int]
"""Of a file: when it was written (ns), its bytes, its inode. A record that replaces another has another inode."""


@dataclass(frozen=True)
class _Reading:
    """What a file held when it had a stamp; nothing for JSON of another kind."""

    stamp: Stamp
    points: tuple[Point, ...] = ()
    problem: str | None = None


@dataclass
class WatchedRecords:
    """The points of result files that come, change and go.

    Args:
        paths: Result files, and folders that hold them. Neither need exist yet.
        dataset: What CompressAI's files were measured on; see `read_points`.
    """

    paths: Sequence[Path]
    dataset: str | None = None
    _readings: dict[Path, _Reading] = field(default_factory=dict, init=False)
    """By the argument's path; a file that two arguments reach is there once."""
    _origins: dict[Path, Path] = field(default_factory=dict, init=False)
    _doubtful: dict[Path, Stamp] = field(default_factory=dict, init=False)
    """Files that could not be read, until they have been seen twice: somebody may be writing them in place."""

    def look(self) -> bool:
        """Look for files again; whether points or problems are other ones than before.

        Raises:
            OSError: A folder disappeared while it was searched, or cannot be searched.
        """
        found: dict[Path, tuple[Path, Path, bool]] = {}
        for origin in self.paths:
            for file, named in _files(origin):
                found.setdefault(file.resolve(), (file, origin, named))
        before = self._shown()
        readings: dict[Path, _Reading] = {}
        for file, _, named in found.values():
            reading = self._read(file, named)
            if reading is not None:
                readings[file] = reading
        self._readings = readings
        self._origins = {file: origin for file, origin, _ in found.values()}
        return self._shown() != before

    @property
    def points(self) -> Mapping[str, list[Point]]:
        """Argument -> the points that were found under it, for `build_curves`."""
        points: dict[str, list[Point]] = {}
        for file, reading in self._readings.items():
            if reading.points:
                points.setdefault(str(self._origins[file]), []).extend(reading.points)
        return points

    @property
    def problems(self) -> list[str]:
        """What is wrong with the files that cannot be read; each names its file."""
        return [reading.problem for reading in self._readings.values() if reading.problem is not None]

    @property
    def count(self) -> int:
        """How many files have points."""
        return sum(bool(reading.points) for reading in self._readings.values())

    def _shown(self) -> dict[Path, Stamp]:
        return {file: r.stamp for file, r in self._readings.items() if r.points or r.problem is not None}

    def _read(self, file: Path, named: bool) -> _Reading | None:
        known = self._readings.get(file)
        try:
            status = file.stat()
        except FileNotFoundError:
            return None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if known is not None and known.stamp == stamp:
            return known
        try:
            # As in `search`: JSON of another kind is nothing wrong in a folder, but is where it was named.
            points = read_points(file, self.dataset) if named or may_be_result(file) else []
        except ReportError as error:
            if self._doubtful.get(file) == stamp:
                return _Reading(stamp, problem=str(error))
            self._doubtful[file] = stamp
            return known
        self._doubtful.pop(file, None)
        return _Reading(stamp, tuple(points))


def _files(path: Path) -> Iterator[tuple[Path, bool]]:
    """The files that a path stands for, and whether it names them."""
    if path.is_dir():
        yield from ((file, False) for file in json_files(path))
    elif path.is_file():
        yield path, True
