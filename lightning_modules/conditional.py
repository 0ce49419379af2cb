"""Stage 1: the codec that is optimised for MSE, with side information or without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.codecs.conditional_codec import ConditionalOutput
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.decoder_series import DecoderSeriesModule
from lightning_modules.losses.rate_distortion import bits

OptimizerName = Literal["rmsprop", "adam"]


def optimizer_of(
    name: OptimizerName, parameters: Sequence[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """RMSprop with torch's defaults (appendix B.1, Yan et al.'s code), or Adam with β = (0, 0.9)."""
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=learning_rate)
    return torch.optim.Adam(parameters, lr=learning_rate, betas=(0.0, 0.9))


def codec_loss(out: ConditionalOutput, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """MSE plus what trains the entropy model, and figures to log.

    The rate is set by the length of the code (appendix B.1), so that MSE alone moves f and g1. The entropy model
    learns H(M|Y) beside them: its cross-entropy, in bits, reaches no other network.
    """
    mse = F.mse_loss(out["x_hat"].float(), x)
    rates = {name: bits(values.float()).mean() for name, values in out["likelihoods"].items()}
    rate = torch.stack(list(rates.values())).sum()
    return mse + rates["code"], {"mse": mse, "bits": rate}


def stage1_loss(codec: DigitCodec, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """`codec_loss` of a batch."""
    return codec_loss(codec(batch["image"], codec.side_information(batch), batch["key"]), batch["image"])


class ConditionalModule(DecoderSeriesModule):
    """Trains f, g1 and H(M|Y) (section 3.2, step 2; without Y it is the paper's baseline).

    Args:
        codec: The codec.
        learning_rate: Of RMSprop or Adam.
        optimizer: The paper's is RMSprop.
        milestones: Epochs at whose start the learning rate is multiplied by `decay`. The paper names none; Yan et
            al.'s code has one at epoch 50 of 100.
        decay: Factor at each milestone.
        decode_as: Labels to decode the test set with in place of the sent ones; a series of pictures for each.
    """

    def __init__(
        self,
        codec: DigitCodec,
        learning_rate: float = 1e-3,
        optimizer: OptimizerName = "rmsprop",
        milestones: list[int] | None = None,
        decay: float = 0.1,
        decode_as: list[int] | None = None,
    ) -> None:
        super().__init__(codec, [0.0], decode_as or [])
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.milestones = [50] if milestones is None else milestones
        self.decay = decay

    def configure_optimizers(self) -> Any:
        """One optimiser and its step decay."""
        optimizer = optimizer_of(self.optimizer, list(self.codec.parameters()), self.learning_rate)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, self.milestones, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "name": "lr"}}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """MSE, and the entropy model's cross-entropy."""
        loss, figures = stage1_loss(self.codec, batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in figures.items()})
        self.log("mse", figures["mse"].detach(), prog_bar=True, logger=False)
        return loss
