"""Locks: which process is at work on a trial or on the report, also on another machine."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TextIO

TRIAL_LOCK = ".lock"
SWEEP_LOCK = ".sweep"


class Holder(Enum):
    """Who is at work on a trial that is not ours."""

    SWEEP = "another sweep, which runs it to its end"
    ORPHAN = "the trial's own process, whose sweep is gone"


class TrialLock:
    """A trial's folder as held by this process; see `take`."""

    def __init__(self, trial: int, sweep: int) -> None:
        self.inherited = trial
        """File descriptor that the trial's processes inherit: they hold the lock as long as one of them lives."""
        self._sweep = sweep

    def release(self) -> None:
        """Let others have the trial, once its processes have ended too."""
        # In this order, so that nobody sees a trial without a sweep in between.
        os.close(self.inherited)
        os.close(self._sweep)


def take(folder: Path) -> TrialLock | Holder:
    """Take a trial's folder, which is made, or say who has it.

    There are two locks, since a trial outlives a sweep that is killed: one is this process's alone, the other is the
    trial's too.

    Raises:
        OSError: The folder cannot be written, or its file system knows no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep = _lock(folder / SWEEP_LOCK)
    if sweep is None:
        return Holder.SWEEP
    try:
        trial = _lock(folder / TRIAL_LOCK)
    except OSError:
        os.close(sweep)
        raise
    if trial is None:
        os.close(sweep)
        return Holder.ORPHAN
    return TrialLock(trial, sweep)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the file's lock; None where another one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check(folder: Path) -> None:
    """Make a folder, and see whether files in it can be written and locked.

    Raises:
        OSError: They cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def alone(path: Path) -> Iterator[TextIO]:
    """Open a file, which is made, to read and write; whoever else does so waits.

    Raises:
        OSError: It cannot be written, or its file system knows no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file
