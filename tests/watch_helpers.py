"""`report --watch` as a process of its own, and records that arrive as `test` writes them."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

PATIENCE = 200.0
"""Seconds for anything to happen; the imports alone take ten on a machine with nothing else to do."""


class Watch:
    """A running watch: its address, and what it has said."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        wait(lambda: "http://" in self.said() or process.poll() is not None)
        assert process.poll() is None, self.said()
        self.address = self.said().split()[0]

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def get(self, path: str = "") -> str:
        with urllib.request.urlopen(self.address + path, timeout=PATIENCE) as answer:
            return str(answer.read().decode("utf-8"))

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


@contextmanager
def watching(folder: Path, *args: object) -> Iterator[Watch]:
    """The real verb on a free port; stopped at the end if the test has not."""
    log = folder / "watch.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "lightning_modules.cli", "report", "--watch", "--port", "0", *map(str, args)],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            # As at a terminal, also where the tests themselves were started in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        yield Watch(process, log)
    finally:
        process.kill()
        process.wait(PATIENCE)


def wait(condition: Callable[[], Any]) -> Any:
    """What the condition becomes when it becomes true."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.2)
    return value


def arrive(source: Path, target: Path) -> None:
    """Put a record and its pictures where they belong, the record last and at once."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix != ".json":
            shutil.copyfile(file, target / file.name)
    for file in source.glob("*.json"):
        draft = target / f".{file.name}"
        shutil.copyfile(file, draft)
        draft.replace(target / file.name)
