"""The directory of a run: who may write into it, and which checkpoint continues it."""

import os
import shutil
from pathlib import Path
from typing import Literal

IfExists = Literal["error", "resume", "overwrite"]

LAST_CHECKPOINT = "last.ckpt"
CONFIG = "config.yaml"


class RunDirectoryError(RuntimeError):
    """A run directory is in the way, or lacks what was asked of it."""


def prepare(run_dir: Path, if_exists: IfExists) -> Path | None:
    """Claim a directory for training.

    Args:
        run_dir: The run's directory; it is made when training starts.
        if_exists: What to do when an earlier run is there.

    Returns:
        The checkpoint to resume from, or None for a fresh start.

    Raises:
        RunDirectoryError: A run is there and `if_exists` is "error", or "overwrite" would delete something that is
            not a run.
    """
    last = run_dir / LAST_CHECKPOINT
    if if_exists == "resume":
        return last if last.is_file() else None
    # What a start that failed left behind, a config and empty logs, is nobody's loss. And the other processes of a
    # distributed run arrive when the first has already begun to write.
    worth_keeping = any(run_dir.glob("*.ckpt")) or (run_dir / "results").is_dir()
    if not worth_keeping or not is_first_process():
        return None
    if if_exists == "error":
        raise RunDirectoryError(
            f"{run_dir} already holds the checkpoints or results of a run. Continue it with --if_exists resume, "
            "delete it with --if_exists overwrite, or choose another --run_dir."
        )
    if not (run_dir / CONFIG).is_file():
        raise RunDirectoryError(
            f"{run_dir} has no {CONFIG}, so it is not a run of this program and --if_exists overwrite leaves it "
            "alone. Choose another --run_dir."
        )
    shutil.rmtree(run_dir)
    return None


def checkpoint_to_measure(run_dir: Path) -> Path:
    """The checkpoint that validate, test and predict take when none is named.

    Raises:
        RunDirectoryError: The run has none.
    """
    last = run_dir / LAST_CHECKPOINT
    if not last.is_file():
        raise RunDirectoryError(f"{last} does not exist: train first (fit), or name a checkpoint with --ckpt_path.")
    return last


def is_first_process() -> bool:
    """Whether this process starts the run, judged before any process group exists."""
    return all(int(os.environ.get(name, 0)) == 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))
