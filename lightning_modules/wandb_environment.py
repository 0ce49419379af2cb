"""What W&B's logger learns from the command that runs and from the environment, and not from a config."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn

JOB_TYPE = "WANDB_JOB_TYPE"
MODE = "WANDB_MODE"
SWEEP = "WANDB_SWEEP_ID"
DATA_DIR = "WANDB_DATA_DIR"

_COMMANDS = ("fit", *(stage.value for stage in TrainerFn))
_own_data_dir: str | None = None
"""What `settle_wandb` has put into WANDB_DATA_DIR, which is no choice of the user's."""


def settle_wandb(command: str, trainer: Any) -> None:
    """Make the job type of W&B's runs the command's name, and let the environment choose server, disk or nothing.

    WANDB_MODE (online, offline, disabled) goes before the logger's `offline`, which would otherwise go before it; so
    does the agent of a W&B sweep, which has no use for a trial but online. A job type of the user's own, in
    WANDB_JOB_TYPE or the config, stands.

    Offline, the files of tables wait for `wandb sync` below the logger's folder and not below the home directory,
    unless WANDB_DATA_DIR says where.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        trainer: The configuration of the trainer, before anything is built; its loggers are changed in place.
    """
    mode = os.environ.get(MODE)
    # "dryrun" is no choice of the user's: Lightning's logger leaves it here.
    if mode not in ("online", "offline", "disabled"):
        mode = "online" if SWEEP in os.environ else None
    loggers = trainer["logger"]
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if not (hasattr(logger, "get") and str(logger.get("class_path")).endswith("WandbLogger")):
            continue
        settings = logger["init_args"]
        # A run's own config.yaml names the command that wrote it, and is used with others.
        if JOB_TYPE not in os.environ and settings.get("job_type") in (None, *_COMMANDS):
            settings["job_type"] = command
        if mode is not None:
            settings["offline"] = mode == "offline"
            settings["mode"] = "disabled" if mode == "disabled" else None
        if settings.get("offline"):
            _stage_in(Path(settings.get("save_dir") or "."))


def _stage_in(folder: Path) -> None:
    global _own_data_dir
    if os.environ.get(DATA_DIR) in (None, _own_data_dir):
        _own_data_dir = os.environ[DATA_DIR] = str((folder / "wandb").resolve())
