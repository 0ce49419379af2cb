"""The resolved configuration, in the run directory and with every logger."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from lightning_modules.files import write_atomically


class SaveRunConfig(SaveConfigCallback):
    """Saves what a command of the CLI ran with: `LightningCLI(save_config_callback=SaveRunConfig)`.

    Written to `{run_dir}/config.yaml` for `fit` and to `config_{stage}.yaml` for `validate`, `test` and
    `predict`, so that evaluating a run does not disturb the record of its training. An older file with other
    content is kept as `config.1.yaml`, `config.2.yaml`, ... in the order of age.

    Loggers receive the same values as hyperparameters under dotted names without `init_args`, which are the
    names that the command line and sweeps use (`model.lmbda`).

    Args:
        parser: the subcommand's parser.
        config: its resolved configuration.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace) -> None:
        # Lightning's own place is the logger's directory, which several runs may share.
        super().__init__(parser, config, save_to_log_dir=False)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the file and tell the loggers. Called on rank 0 alone: nothing collective here."""
        stage = TrainerFn(stage).value  # the enum that Lightning passes prints as its member's name
        name = "config" if stage == "fit" else f"config_{stage}"
        save_text(Path(trainer.default_root_dir) / f"{name}.yaml", self.text())
        for logger in trainer.loggers:
            # W&B's logger puts these into the run's config, where sweeps and dashboards look.
            logger.log_hyperparams(dict(flatten(self.plain())))

    def text(self) -> str:
        """The configuration as YAML; running from it repeats the run."""
        return self.parser.dump(self.config, skip_unset=False)

    def plain(self) -> dict[str, Any]:
        """The configuration as nested plain values."""
        return yaml.safe_load(self.text())


def save_text(path: Path, text: str) -> None:
    """Write a file atomically; if it exists with other content, that is kept under the first free number."""
    if path.exists():
        if path.read_text(encoding="utf-8") == text:
            return
        numbered = (path.with_name(f"{path.stem}.{i}{path.suffix}") for i in itertools.count(1))
        path.rename(next(older for older in numbered if not older.exists()))
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values of nested mappings and lists.

    `init_args` is left out of names, and items of a list are numbered unless all are plain: such a list stays
    one.

    >>> dict(flatten({"model": {"class_path": "Taco", "init_args": {"lmbda": 0.01, "widths": [8, 16]}}}))
    {'model.class_path': 'Taco', 'model.lmbda': 0.01, 'model.widths': [8, 16]}
    """
    if isinstance(value, Mapping):
        items = [("" if key == "init_args" else str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        yield prefix, value
        return
    for key, item in items:
        yield from flatten(item, ".".join(filter(None, (prefix, key))))
