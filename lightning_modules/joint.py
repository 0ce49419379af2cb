"""The paper's comparison to two stages: encoder and one decoder trained jointly on distortion and realism."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from lightning_modules.codecs.digit_networks import DigitCritic
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.codecs.keyed_noise import keyed_uniform
from lightning_modules.conditional import stage1_loss
from lightning_modules.decoder_series import DecoderSeriesModule
from lightning_modules.losses.adversarial import gradient_penalty, wasserstein_gap
from lightning_modules.named_gradients import refuse_loss_scaling, step_on
from lightning_modules.optimizers import OptimizerName, optimizer_of, step_decay
from lightning_modules.perceptual_decoder import MIX

ADAM_BETAS = (0.0, 0.9)
"""Of both optimisers, where they are Adam: those of critics with a gradient penalty (Gulrajani et al., 2017)."""


class JointModule(DecoderSeriesModule):
    """MSE + β d(p_{X|Y}, p_{X̂|Y}): one model per β, the D-P trade-off "by adjusting β" (section 4.2, Fig. 5, Table
    3).

    Unlike in two stages the encoder receives the critic's gradient, and the critic is conditioned on Y alone, as the
    objective is. The paper prints no β; Blau and Michaeli's kind of end-to-end training uses 0.003 to 0.015 with the
    mean squared error per pixel and the mean score.

    Args:
        codec: The codec; its one decoder reads noise (`codec.noise_dim`).
        beta: β, weight of the critic's score against the MSE.
        learning_rate: Of encoder, decoder and entropy model.
        critic_learning_rate: Of the critic.
        optimizer: Of both: "adam" with β = (0, 0.9), or the paper's "rmsprop".
        penalty: Weight of the critic's gradient penalty.
        milestones: Epochs at which both learning rates are multiplied by `decay`.
        decay: Factor at each milestone.

    Raises:
        ValueError: β is negative, or the decoder has no noise.
    """

    codec: DigitCodec

    def __init__(
        self,
        codec: DigitCodec,
        beta: float = 0.005,
        learning_rate: float = 1e-4,
        critic_learning_rate: float = 5e-4,
        optimizer: OptimizerName = "adam",
        penalty: float = 10.0,
        milestones: tuple[int, ...] = (50,),
        decay: float = 0.1,
    ) -> None:
        super().__init__(codec, [1.0], [])
        if beta < 0:
            raise ValueError(f"beta is {beta}: it is a weight, 0 or more")
        if not codec.noise_dim:
            raise ValueError("joint training needs a decoder with noise: set codec.noise_dim, such as to 89")
        self.automatic_optimization = False
        self.beta = beta
        self.learning_rate, self.critic_learning_rate = learning_rate, critic_learning_rate
        self.optimizer = optimizer
        self.penalty = penalty
        self.milestones, self.decay = milestones, decay
        self.critic = DigitCritic(codec.label.channels if codec.label else 0)

    def setting(self) -> dict[str, Any]:
        """With β, which makes each model a codec of its own."""
        return {**super().setting(), "beta": self.beta}

    def training_details(self) -> dict[str, Any]:
        """Sizes, and how the critic was trained."""
        names = ("learning_rate", "critic_learning_rate", "optimizer", "penalty", "milestones", "decay")
        own = {"noise_dim": self.codec.noise_dim, **{name: getattr(self, name) for name in names}}
        return {**super().training_details(), **own}

    def on_fit_start(self) -> None:
        """Refuse what cannot train."""
        refuse_loss_scaling(self.trainer)

    def configure_optimizers(self) -> Any:
        """One for the codec, one for the critic."""
        optimizers = [
            optimizer_of(self.optimizer, self.codec, self.learning_rate, betas=ADAM_BETAS),
            optimizer_of(self.optimizer, self.critic, self.critic_learning_rate, betas=ADAM_BETAS),
        ]
        return optimizers, [step_decay(optimizer, self.milestones, self.decay) for optimizer in optimizers]

    def on_train_epoch_end(self) -> None:
        """Step the schedules, which nobody else does under manual optimisation."""
        for schedule in cast(list[Any], self.lr_schedulers()):
            schedule.step()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Critic, then codec."""
        codec_optimizer, critic_optimizer = cast(list[Any], self.optimizers())
        x, keys, y = batch["image"], batch["key"], self.codec.side_information(batch)
        condition = self.codec.label.embed(y) if self.codec.label and y is not None else None
        out = self.codec(x, y, keys)
        picture = out["x_hat"].float()
        with torch.autocast(x.device.type, enabled=False):
            gap = wasserstein_gap(self.critic, x, picture.detach(), condition)
        penalty = gradient_penalty(self.critic, x, picture.detach(), condition, keyed_uniform(keys, 1, MIX))
        step_on(self, critic_optimizer, self.penalty * penalty - gap, counted=False)
        loss, figures = stage1_loss(self.codec, out, x, None)
        step_on(self, codec_optimizer, loss - self.beta * self._score(picture, condition), counted=True)
        figures = {**figures, "wasserstein": gap, "penalty": penalty}
        self.log_dict({f"train/{name}": value.detach() for name, value in figures.items()})
        self.log("mse", figures["mse"].detach(), prog_bar=True, logger=False)

    def _score(self, picture: Tensor, condition: Tensor | None) -> Tensor:
        with torch.autocast(picture.device.type, enabled=False):
            return self.critic(picture, condition).mean()
