"""Ranks over gloo that start at once: forks of a process that has imported everything, with torchrun's variables."""

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.conftest import ROOT


class Rank:
    """A started process.

    Args:
        work: A function of a module, which the process runs.
        arguments: Its arguments.
        variables: Of the environment, beside those of this process.
    """

    def __init__(self, work: Callable[..., None], arguments: tuple[Any, ...], variables: dict[str, str]) -> None:
        with tempfile.NamedTemporaryFile(prefix="rank-", suffix=".log", delete=False) as log:
            self.log = Path(log.name)
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=_run, args=(work, arguments, {**os.environ, **variables}, self.log))
        self._process.start()

    def wait(self, timeout: float) -> int | None:
        """The exit code, negative that of a signal; None where it still runs after so many seconds."""
        self._process.join(timeout)
        return self._process.exitcode

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.join()


def start(world: int, work: Callable[..., None], *arguments: Any) -> list[Rank]:
    """Run a function in as many processes, for each of which Lightning takes the environment of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
        "HF_HUB_OFFLINE": "1",
    }
    return [Rank(work, arguments, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(world)]


def finish(ranks: list[Rank], timeout: float = 300) -> None:
    """Wait for processes that are to succeed. One that hangs fails the test."""
    try:
        for rank in ranks:
            assert rank.wait(timeout) == 0, rank.log.read_text(errors="replace")
    finally:
        for rank in ranks:
            rank.kill()  # it would wait for one that has failed
            rank.log.unlink()


def _run(work: Callable[..., None], arguments: tuple[Any, ...], variables: dict[str, str], log: Path) -> None:
    multiprocessing.set_start_method("fork", force=True)  # as usual, for what the process starts itself
    os.environ.update(variables)
    os.chdir(ROOT)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    work(*arguments)
