"""Result records in the folder of a trial: whether a test is to write any, and whether it has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lightning_modules.run_directory import CONFIG

Stamps = dict[str, tuple[int, int]]
"""Names of records, and what changes whenever one is written."""


def stamps(folder: Path) -> Stamps:
    """The records that a run's folder holds."""
    found: Stamps = {}
    for path in (folder / "results").glob("*.json"):
        try:
            status = path.stat()
        except OSError:
            continue
        found[path.name] = (status.st_ino, status.st_mtime_ns)
    return found


def expected(folder: Path, test_config: Path | None) -> bool:
    """Whether a test of the run is known to write a record.

    It is where training's config has the callback for it, and a test that runs at all. Of other programs
    than this repository's, and where a test has callbacks of its own, nothing is known.

    Args:
        folder: Of the run.
        test_config: What is laid over for the test.
    """
    trainer = _trainer(folder / CONFIG)
    if test_config is not None:
        overlay = _trainer(test_config)
        if "callbacks" in overlay:
            return False
        trainer = {**trainer, **overlay}
    if trainer.get("fast_dev_run") or trainer.get("limit_test_batches") == 0:
        return False
    callbacks = trainer.get("callbacks")
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    names = [str(callback.get("class_path")) for callback in callbacks if isinstance(callback, Mapping)]
    return any(name.split(".")[-1] == "ResultRecord" for name in names)


def _trainer(config: Path) -> Mapping[str, Any]:
    """The trainer's settings of a config; none where they cannot be read."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    trainer = content.get("trainer") if isinstance(content, Mapping) else None
    return trainer if isinstance(trainer, Mapping) else {}
