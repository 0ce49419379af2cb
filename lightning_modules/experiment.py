"""Trainer subcommands: LightningCLI with a run directory that owns everything a run writes."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from callbacks import NonFiniteLossError, ResultExistsError, SaveRunConfig
from callbacks.last_checkpoint import TERMINATED
from datamodules.errors import DataError
from lightning_modules.atomic_checkpoints import AtomicCheckpointIO
from lightning_modules.commands import VERBS
from lightning_modules.errors import CheckpointError, PretrainedError, SettingError
from lightning_modules.run_directory import IfExists, RunDirectoryError, checkpoint_to_measure, prepare
from lightning_modules.wandb_environment import settle_wandb

# At import, since the other processes of a distributed run execute this module again. Without it, an interpolation
# such as ${model.init_args.lmbda} is looked up beside the subcommand instead of inside it.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)

_DESCRIPTION = (
    "Train, measure and use learned image codecs. Besides the subcommands below, which take -c CONFIG: "
    + "; ".join(f"'{name}' {what}" for name, what in VERBS.items())
    + ". Flags go after configs: the last value wins."
)


# Lightning's remarks on what is so on purpose here: config.yaml lies beside the checkpoints, frozen networks stay in
# eval mode; and its advertisements.
warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
warnings.filterwarnings("ignore", message=r"Total length of `list` across ranks is zero")  # no images held out
warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start of training")
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "💡" not in record.getMessage())


class ExperimentCLI(LightningCLI):
    """Adds `run_dir` and `if_exists`, and chooses the checkpoint to resume or to measure."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Run directory and what to do when it exists."""
        parser.add_argument(
            "--run_dir",
            type=str,
            default="runs/default",
            help="Directory of the run: checkpoints, config, logs, results and pictures.",
        )
        parser.add_argument(
            "--if_exists",
            type=IfExists,
            default="error",
            help="What fit does when run_dir holds a run: stop, continue from its last.ckpt, or delete it.",
        )

    def before_instantiate_classes(self) -> None:
        """Settle run directory and checkpoint before anything expensive is built."""
        config = self.config[self.subcommand]
        settle_wandb(str(self.subcommand), config["trainer"])
        run_dir = Path(config["run_dir"])
        callbacks = config["trainer"]["callbacks"] or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        if self.subcommand == "test" and any(c["class_path"].endswith("ResultRecord") for c in callbacks):
            config["verbose"] = False  # the record prints its own table
        if config["trainer"]["default_root_dir"] not in (None, config["run_dir"]):
            raise RunDirectoryError("trainer.default_root_dir is not used: set --run_dir")
        if config["ckpt_path"] is None and not config["trainer"]["fast_dev_run"]:
            if self.subcommand == "fit":
                checkpoint = prepare(run_dir, config["if_exists"])
            else:
                checkpoint = checkpoint_to_measure(run_dir)
            config["ckpt_path"] = None if checkpoint is None else str(checkpoint)
            if checkpoint is not None:
                print(f"Using checkpoint {checkpoint}", file=sys.stderr)
        elif config["ckpt_path"] not in (None, "best", "last") and not Path(config["ckpt_path"]).is_file():
            raise CheckpointError(f"checkpoint {config['ckpt_path']} does not exist: correct --ckpt_path")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The configured trainer, writing checkpoints atomically and everything else below the run directory."""
        plugins = self._get(self.config_init, "trainer")["plugins"] or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        run_dir = self._get(self.config_init, "run_dir")
        return super().instantiate_trainer(
            default_root_dir=run_dir, plugins=[*plugins, AtomicCheckpointIO()], **kwargs
        )


def run_experiment(args: list[str] | None) -> ExperimentCLI:
    """Parse and run fit, validate, test or predict.

    Args:
        args: Arguments from the subcommand on; None takes those of the process.

    Raises:
        SystemExit: With code 2 after an error that the user can mend, with 143 after SIGTERM.
    """
    # TF32 where there are tensor cores: convolutions use it by default, matrix products only on request.
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return ExperimentCLI(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveRunConfig,
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False},
            parser_kwargs={"parser_mode": "omegaconf+", "description": _DESCRIPTION},
            auto_configure_optimizers=False,
            args=args,
        )
    except (DataError, NonFiniteLossError, ResultExistsError, RunDirectoryError, SettingError) as error:
        print(f"error: {_told(error)}", file=sys.stderr)
        raise SystemExit(2) from error
    except SIGTERMException as error:
        # Lightning's has exit status 0, as if the run were finished.
        raise SystemExit(TERMINATED) from error
    except MisconfigurationException as error:
        # Lightning's, of flags that exclude each other or ask for hardware that is not there.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from error
    except ValueError as error:
        # What the constructor of a model or datamodule raises comes wrapped in a page about types.
        if not str(error).startswith("Does not validate against"):
            raise
        print(f"error: {_cause(error)}", file=sys.stderr)
        raise SystemExit(2) from error


def _told(error: BaseException) -> str:
    """The message, which torch wraps into the traceback of the worker process that it comes from."""
    message = str(error)
    if not message.startswith("Caught ") or "Original Traceback" not in message:
        return message
    return message.rstrip().rpartition(f"{type(error).__name__}: ")[2]


def _cause(error: BaseException) -> BaseException:
    """The constructor's own error: one of ours if there is one, and else the first that was raised."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    ours = [e for e in chain if isinstance(e, (DataError, PretrainedError))]
    return ours[0] if ours else chain[-1]
