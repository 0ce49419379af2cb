"""The paper's comparison to two stages: encoder and one decoder trained jointly on distortion and realism."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codecs.digit_networks import DigitCritic
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.codecs.keyed_noise import keyed_uniform
from lightning_modules.conditional import optimizer_of
from lightning_modules.decoder_series import DecoderSeriesModule
from lightning_modules.losses.adversarial import gradient_penalty, wasserstein_gap
from lightning_modules.losses.rate_distortion import bits
from lightning_modules.named_gradients import refuse_loss_scaling, step_on
from lightning_modules.perceptual_decoder import MIX, AdversarialTraining


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
        adversarial: How the critic is trained; of the rest, the optimiser and the milestones apply.

    Raises:
        ValueError: β is negative, or the decoder has no noise.
    """

    def __init__(
        self,
        codec: DigitCodec,
        beta: float = 0.005,
        learning_rate: float = 1e-4,
        adversarial: AdversarialTraining = AdversarialTraining(),  # noqa: B008  a plain record, copied
    ) -> None:
        super().__init__(codec, [1.0], [])
        if beta < 0:
            raise ValueError(f"beta is {beta}: it is a weight, 0 or more")
        if not codec.noise_dim:
            raise ValueError("joint training needs a decoder with noise: set codec.noise_dim, such as to 89")
        self.automatic_optimization = False
        self.beta = beta
        self.learning_rate = learning_rate
        self.adversarial = replace(adversarial)
        self.critic = DigitCritic(codec.label.channels if codec.label else 0)

    def setting(self) -> dict[str, Any]:
        """With β, which makes each model a codec of its own."""
        return {**super().setting(), "beta": self.beta}

    def training_details(self) -> dict[str, Any]:
        """Sizes, and how the critic was trained."""
        own = {"noise_dim": self.codec.noise_dim, "adversarial": asdict(self.adversarial)}
        return {**super().training_details(), **own}

    def on_fit_start(self) -> None:
        """Refuse what cannot train."""
        refuse_loss_scaling(self.trainer)

    def configure_optimizers(self) -> Any:
        """One for the codec, one for the critic."""
        a = self.adversarial
        optimizers = [
            optimizer_of(a.optimizer, list(self.codec.parameters()), self.learning_rate),
            optimizer_of(a.optimizer, list(self.critic.parameters()), a.critic_learning_rate),
        ]
        return optimizers, [torch.optim.lr_scheduler.MultiStepLR(o, list(a.milestones), a.decay) for o in optimizers]

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
        step_on(self, critic_optimizer, self.adversarial.penalty * penalty - gap, counted=False)
        mse = F.mse_loss(picture, x)
        rates = {name: bits(values.float()).mean() for name, values in out["likelihoods"].items()}
        loss = mse + rates["code"] - self.beta * self._score(picture, condition)
        step_on(self, codec_optimizer, loss, counted=True)
        figures = {
            "mse": mse,
            "wasserstein": gap,
            "penalty": penalty,
            "bits": torch.stack(list(rates.values())).sum(),
        }
        self.log_dict({f"train/{name}": value.detach() for name, value in figures.items()})
        self.log("mse", mse.detach(), prog_bar=True, logger=False)

    def _score(self, picture: Tensor, condition: Tensor | None) -> Tensor:
        with torch.autocast(picture.device.type, enabled=False):
            return self.critic(picture, condition).mean()
