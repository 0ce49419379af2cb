"""Checkpoints that a metric needs and that this program can train: made by their own config where they are
missing.
"""

import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_modules.errors import PretrainedError
from lightning_modules.judge_checkpoint import unfinished

_PROCESS_GROUP = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")
_LAUNCHERS = ("SLURM_", "TORCHELASTIC_")


def make_checkpoint(path: Path, command: str) -> None:
    """Run a command of this program that trains a checkpoint, unless it is there and its training has finished.

    Of several processes, ranks of a run or trials of a sweep, one runs it and the others wait. A checkpoint whose
    training was interrupted is trained to its end, so the command should say `--if_exists resume`. One that was
    trained by hand counts as finished by the same rule, `judge_checkpoint.unfinished`.

    Args:
        path: The checkpoint.
        command: Arguments of the command line, such as "fit -c configs/digits_classifier.yaml --if_exists resume". It
            is run in the working directory, in a process of its own.

    Raises:
        PretrainedError: The command failed, or did not write the checkpoint, or not to its training's end.
    """
    if _missing(path) is None:
        return
    by_hand = f"run the command by hand (python -m lightning_modules.cli {command})"
    with _alone(path, by_hand) as lock:
        missing = _missing(path)
        if missing is None:
            return  # somebody has made it while this process waited
        what = "it is trained now, once" if not path.is_file() else "its training goes on now"
        print(f"{path} {missing}; {what}: {command}", file=sys.stderr)
        code = _run([sys.executable, "-m", "lightning_modules.cli", *shlex.split(command)], lock)
        missing = _missing(path)
        if code or missing is not None:
            raise PretrainedError(
                f"{path} {missing or 'is in doubt'}, and the command that should make it ended with code {code}: run "
                f"it by hand to see why (python -m lightning_modules.cli {command}), or name another checkpoint"
            )


def _missing(path: Path) -> str | None:
    """What keeps a checkpoint from being used, or None."""
    if not path.is_file():
        return "does not exist"
    progress = unfinished(path)
    return None if progress is None else f"has only come to {progress}"


@contextmanager
def _alone(path: Path, by_hand: str) -> Iterator[int]:
    """Hold the lock of a checkpoint, a file beside it; who else wants it waits. Gives the file's descriptor."""
    file = path.with_name(f"{path.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise PretrainedError(
            f"{path} cannot be made, since {file} cannot be written ({error.strerror}): {by_hand}, or name another "
            "checkpoint"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another process, which trains {path}.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise PretrainedError(
                f"{path} cannot be made, since {file} cannot be locked ({error.strerror}): {by_hand}, or name "
                "another checkpoint"
            ) from error
        yield lock
    finally:
        os.close(lock)


def _run(arguments: list[str], lock: int) -> int:
    """The exit status of a command, as one process whatever group this one belongs to."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _PROCESS_GROUP and not name.startswith(_LAUNCHERS)
    }
    # It holds the lock, too: where this process is killed, it trains on, and the next one must not do so beside it.
    with subprocess.Popen(arguments, env=environment, stdout=sys.stderr, pass_fds=[lock]) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has told the command as well, which saves where it stands.
            process.wait()
            raise
