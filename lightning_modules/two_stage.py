"""Both stages in one fit: the codec by MSE, then g2 on its bits."""

from __future__ import annotations

from typing import Any, cast

import torch

from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.conditional import OptimizerName, optimizer_of, stage1_loss
from lightning_modules.named_gradients import refuse_loss_scaling, step_on
from lightning_modules.perceptual_decoder import AdversarialTraining, PerceptualDecoderModule


class TwoStageModule(PerceptualDecoderModule):
    """The framework of section 3.2: f, g1 and H(M|Y) for `stage1_epochs`, then g2 with these frozen.

    `trainer.max_epochs` counts both stages. With it equal to `stage1_epochs` only the codec is trained.

    Args:
        codec: The codec.
        stage1_epochs: Epochs of stage 1; the switch is at the start of the next.
        learning_rate: Of stage 1.
        optimizer: Of stage 1; the paper's is RMSprop.
        milestones: Epochs of stage 1 at whose start its learning rate is multiplied by `decay`.
        decay: Factor at each milestone.
        adversarial: How g2 is trained.
        realism: Places between g1 (0) and g2 (1) to validate and test at.
        decode_as: Labels to decode the test set with in place of the sent ones; a series of pictures for each.
    """

    def __init__(
        self,
        codec: DigitCodec,
        stage1_epochs: int = 100,
        learning_rate: float = 1e-3,
        optimizer: OptimizerName = "rmsprop",
        milestones: tuple[int, ...] = (50,),
        decay: float = 0.1,
        adversarial: AdversarialTraining = AdversarialTraining(),  # noqa: B008  a plain record, copied
        realism: tuple[float, ...] = (0.0, 1.0),
        decode_as: list[int] | None = None,
    ) -> None:
        super().__init__(codec, None, adversarial, realism, decode_as)
        if stage1_epochs < 1:
            raise ValueError(
                f"stage1_epochs is {stage1_epochs}: set it to 1 or more, or train g2 on a trained codec with "
                "configs/digits_perceptual.yaml"
            )
        self.stage1_epochs = stage1_epochs
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.milestones = milestones
        self.decay = decay

    def training_details(self) -> dict[str, Any]:
        """Sizes, lengths of the stages, and how g2 was trained."""
        return {**super().training_details(), "stage1_epochs": self.stage1_epochs}

    def on_fit_start(self) -> None:
        """Refuse what cannot train."""
        refuse_loss_scaling(self.trainer)

    def configure_optimizers(self) -> Any:
        """One for the codec, one for g2, one for the critic."""
        codec = optimizer_of(self.optimizer, list(self.codec.parameters()), self.learning_rate)
        schedule = torch.optim.lr_scheduler.MultiStepLR(codec, list(self.milestones), self.decay)
        optimizers, schedules = self._adversarial_optimizers()
        return [codec, *optimizers], [schedule, *schedules]

    def on_train_epoch_end(self) -> None:
        """Step the schedule of the codec, or those of g2 and critic, which count from the start of their stage."""
        if self.current_epoch >= self.stage1_epochs:
            super().on_train_epoch_end()
        else:
            cast(list[Any], self.lr_schedulers())[0].step()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """A batch of the stage that the epoch belongs to."""
        codec_optimizer, g2_optimizer, critic_optimizer = cast(list[Any], self.optimizers())
        if self.current_epoch >= self.stage1_epochs:
            if self.second_stage_batches is None:
                self.begin_second_stage()
            self.second_stage_step(batch, g2_optimizer, critic_optimizer)
            return
        loss, figures = stage1_loss(self.codec, batch)
        step_on(self, codec_optimizer, loss, counted=True)
        self.log_dict({f"train/{name}": value.detach() for name, value in figures.items()})
        self.log("mse", figures["mse"].detach(), prog_bar=True, logger=False)
