"""Checkpoints as W&B artifacts, found again by λ."""

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

from callbacks.record import place_and_variant
from lightning_modules.run_directory import LAST_CHECKPOINT

ARTIFACT_TYPE = "model"
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


class CheckpointArtifacts(L.Callback):
    """Hands the checkpoints of a finished `fit` to W&B: the last one, and those that `ModelCheckpoint`s keep.

    The last checkpoint becomes a version of the artifact `{codec}-last`, the best (`save_top_k` of them) one of
    `{codec}-best`. Both have an alias that says which curve they are on and where: `lmbda-0.0016` of the paper's
    model, `lmbda-0.0016-k_p-0.0` of an ablation (`bits-4-label` where the length of the code sets the rate). W&B
    moves it to the newest run of that model and value; its own `latest` is the newest of all. Metadata holds step,
    epoch, λ, setting and directory of the run, the fingerprint of the last weights, and the scores of the best.
    Nothing is handed over while training runs, nor after an interruption: the run that continues does so at its own
    end.

    No configuration has this callback unless it asks for it (`configs/logger/wandb_checkpoints.yaml`): a checkpoint
    holds the optimiser's state and, of TACO, the text encoder, which is some hundred megabytes, and a server keeps
    every version. Nothing is copied here. Files are uploaded from the run directory as they are. Offline they wait as
    hard links beside the run's log, `wandb/offline-run-*/checkpoints`: no further bytes on disk until training goes
    on and replaces them, and `wandb sync` finds what was meant. On a file system without hard links the run's own
    files are named instead: synchronise before such a run continues.

    Loggers but W&B, and W&B when it is disabled, are left alone.
    """

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand over what there is."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        # Every rank asks the module, which runs its networks for it: these may wait for each other.
        identity = _identity(pl_module) if loggers else {}
        if not trainer.is_global_zero:
            return
        described = {
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "run_dir": str(trainer.default_root_dir),
            **{key: identity.get(key) for key in ("lambda", "setting")},
        }
        last, best = Path(trainer.default_root_dir) / LAST_CHECKPOINT, _best(trainer)
        for logger in loggers:
            if last.is_file():
                _log(logger.experiment, identity, "last", [last], {**described, "weights": identity.get("weights")})
            if best:
                scores = {path.name: score for path, score in best.items()}
                _log(logger.experiment, identity, "best", list(best), {**described, "scores": scores})


def place_alias(identity: Mapping[str, Any]) -> str | None:
    """What places a model on its curve and tells the curve from others of the codec, as an alias.

    `lmbda-0.0016`, or `lmbda-0.0016-k_p-0.0` and `lmbda-0.0016-frozen_base` with a setting; None where there is
    neither λ nor setting.

    Args:
        identity: Of the module's `result_identity`.
    """
    if not identity.get("setting") and identity.get("lambda") is None:
        return None
    (name, value), variant = place_and_variant(identity)
    items = [f"{'lmbda' if name in ('λ', 'lambda') else name}-{value}"]
    items += [other if isinstance(other, str) else f"{key}-{other}" for key, other in variant.items()]
    return _UNFIT.sub("_", "-".join(items))


def _identity(pl_module: L.LightningModule) -> Mapping[str, Any]:
    describe = getattr(pl_module, "result_identity", None)
    return {"codec": type(pl_module).__name__} if describe is None else describe()


def _best(trainer: L.Trainer) -> dict[Path, float | None]:
    """Files that the trainer's ModelCheckpoints keep -> what they were chosen by."""
    kept: dict[Path, float | None] = {}
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            kept |= {Path(path): float(score) for path, score in callback.best_k_models.items()}
            if callback.best_model_path:
                kept.setdefault(Path(callback.best_model_path), None)
    return {path: score for path, score in kept.items() if path.is_file()}


def _log(run: Any, identity: Mapping[str, Any], kind: str, files: list[Path], metadata: dict[str, Any]) -> None:
    if run.disabled:
        return
    import wandb  # it takes a second, and few runs keep checkpoints there

    artifact = wandb.Artifact(_UNFIT.sub("_", f"{identity['codec']}-{kind}"), ARTIFACT_TYPE, metadata=metadata)
    for file in files:
        kept = _beside_the_log(run, file) if run.offline else file
        # W&B's usual way is to copy the file first, and to copy it into its cache afterwards.
        artifact.add_file(str(kept.resolve()), name=file.name, policy="immutable", skip_cache=True)
    alias = place_alias(identity)
    run.log_artifact(artifact, aliases=[] if alias is None else [alias])


def _beside_the_log(run: Any, file: Path) -> Path:
    link = Path(run.dir).parent / "checkpoints" / file.name
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        os.link(file, link)
        return link
    return file
