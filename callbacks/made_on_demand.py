"""Checkpoints that a metric needs and that this program can train: made by their own config where they are
missing."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from lightning_modules.errors import PretrainedError
from lightning_modules.run_directory import is_first_process

_PROCESS_GROUP = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")
_PATIENCE_SECONDS = 3600


def make_checkpoint(path: Path, command: str) -> None:
    """Run a command of this program that writes a checkpoint, unless it is there.

    With several processes the first one runs it, and the others wait for the file.

    Args:
        path: The checkpoint.
        command: Arguments of the command line, such as "fit -c configs/digits_classifier.yaml". It is run in the
            working directory, in a process of its own.

    Raises:
        PretrainedError: The command failed, or did not write the checkpoint.
    """
    if path.is_file():
        return
    if not is_first_process():
        _wait_for(path)
        return
    print(f"{path} does not exist yet; it is trained now, once: {command}", file=sys.stderr)
    environment = {name: value for name, value in os.environ.items() if name not in _PROCESS_GROUP}
    arguments = [sys.executable, "-m", "lightning_modules.cli", *shlex.split(command)]
    result = subprocess.run(arguments, env=environment, stdout=sys.stderr, check=False)
    if result.returncode or not path.is_file():
        raise PretrainedError(
            f"{path} does not exist, and the command that should make it ended with code {result.returncode}: run it "
            f"by hand to see why (python -m lightning_modules.cli {command}), or name another checkpoint"
        )


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not path.is_file():
        if time.monotonic() > deadline:
            raise PretrainedError(f"{path} was not made by the first process within {_PATIENCE_SECONDS} seconds")
        time.sleep(1)
