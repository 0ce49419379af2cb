"""The command line, `python -m lightning_modules.cli COMMAND ...`: the Trainer's subcommands and the verbs."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

# Deprecations inside pinned dependencies, which a user of this program can do nothing about.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated", category=FutureWarning)
warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")

from lightning_modules.codecs.bitstream import BitstreamError
from lightning_modules.commands import VERBS
from lightning_modules.commands.errors import CommandError
from lightning_modules.errors import CheckpointError, PretrainedError

if TYPE_CHECKING:
    from lightning_modules.experiment import ExperimentCLI


TRAINER_COMMANDS = ("fit", "validate", "test", "predict")


def main(args: list[str] | None = None) -> ExperimentCLI | None:
    """Run one command.

    Args:
        args: Arguments without the program's name; None takes those of the process.

    Returns:
        The LightningCLI object after a Trainer subcommand, None after a verb.

    Raises:
        SystemExit: With code 2 after an error that the user can mend; its message is on standard error.
    """
    arguments = sys.argv[1:] if args is None else args
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in (*TRAINER_COMMANDS, *VERBS):
            raise CommandError(f"{arguments[0]}: no such command; there are {', '.join((*TRAINER_COMMANDS, *VERBS))}")
        if arguments and arguments[0] in VERBS:
            import_module(f"lightning_modules.commands.{arguments[0]}").main(arguments[1:])
            return None
        # Lightning takes seconds to import, which compressing a photograph need not wait for.
        from lightning_modules.experiment import run_experiment

        return run_experiment(args)
    except (BitstreamError, CheckpointError, CommandError, PretrainedError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
