"""What every module that trains a codec shares: its checkpoints, from which the codec is rebuilt alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
from torch import Tensor

from lightning_modules.errors import CheckpointError
from lightning_modules.step_output import StepOutput, handed_on

if TYPE_CHECKING:
    from lightning_modules.codecs.codec import Codec


class CodecModule(L.LightningModule):
    """A module with a codec.

    Subclasses set `self.codec`. What lies in `self.frozen_losses`, if anything, is left out of checkpoints.
    """

    codec: Codec

    def trade_off(self) -> float | None:
        """λ that the codec is trained with; None where something else sets the rate."""
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen loss networks out, and note λ and how to rebuild the codec without any configuration."""
        for key in self._frozen_keys():
            checkpoint["state_dict"].pop(key)
        checkpoint["codec"] = {"name": self.codec.name, "config": self.codec.config()}
        checkpoint["lambda"] = self.trade_off()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Supply the frozen loss networks, so that everything else is loaded strictly.

        Raises:
            CheckpointError: The checkpoint holds a codec of another kind or size.
        """
        stored = checkpoint.get("codec")
        mine = {"name": self.codec.name, "config": self.codec.config()}
        if stored != mine:
            raise CheckpointError(
                f"the checkpoint holds codec {_describe(stored)}, but the configuration asks for {_describe(mine)}: "
                "use the config.yaml beside the checkpoint, or set the same sizes"
            )
        own = self.state_dict()
        checkpoint["state_dict"].update({key: own[key] for key in self._frozen_keys()})

    def _frozen_keys(self) -> list[str]:
        return [key for key in self.state_dict() if key.startswith("frozen_losses.")]


def _describe(codec: dict[str, Any] | None) -> str:
    if codec is None:
        return "of another program"
    return codec["name"] + "(" + ", ".join(f"{name}={value}" for name, value in codec["config"].items()) + ")"


def step_output(batch: Any, dataset: str, x_hat: Tensor, bits: Tensor, parts: dict[str, Tensor]) -> StepOutput:
    """What a step returns of a batch.

    Args:
        batch: The batch.
        dataset: Its name, or that of the series.
        x_hat: Reconstructions, not clamped.
        bits: float64 (B,).
        parts: Bits by latent, each float64 (B,).
    """
    output: StepOutput = {
        "dataset": dataset,
        "name": batch["name"],
        "image": batch["image"],
        "x_hat": to_8_bit(x_hat),
        "bits": bits,
        "likelihood_bits": parts,
    }
    output.update(handed_on(batch))  # type: ignore[typeddict-item]
    return output


def to_8_bit(x_hat: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to multiples of 1/255: the picture that a decoder writes, as float32."""
    return x_hat.detach().float().clamp(0, 1).mul(255).round().div(255)
