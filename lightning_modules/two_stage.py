"""Both stages in one fit: the codec by MSE, then g2 on its bits."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, cast

from lightning_modules.codecs.conditional_codec import ConditionalCodec
from lightning_modules.conditional import (
    MseTraining,
    begin_stage1,
    stage1_optimizer,
    stage1_step,
)
from lightning_modules.critics.base import Critic
from lightning_modules.perceptual_decoder import AdversarialTraining, PerceptualDecoderModule


class TwoStageModule(PerceptualDecoderModule):
    """The framework of section 3.2: f, g1 and H(M|Y) for `stage1_epochs`, then g2 with these frozen.

    `trainer.max_epochs` counts both stages. With it equal to `stage1_epochs` only the codec is trained.

    Args:
        codec: The codec.
        stage1_epochs: Epochs of stage 1; the switch is at the start of the next.
        lmbda: λ, for codecs whose rate it sets; the paper has 0.00015 to 0.0025 for street scenes.
        mse: How stage 1 is trained.
        critic: What g2 is trained against; null takes the Wasserstein critic of digits.
        adversarial: How g2 and critic are trained.
        realism: Places between g1 (0) and g2 (1) to validate and test at.
        decode_as: Labels to decode a test set of digits with in place of the sent ones; a series of pictures for
            each.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        codec: ConditionalCodec,
        stage1_epochs: int = 100,
        lmbda: float | None = None,
        mse: MseTraining = MseTraining(),  # noqa: B008  a plain record, copied
        critic: Critic | None = None,
        adversarial: AdversarialTraining = AdversarialTraining(),  # noqa: B008  a plain record, copied
        realism: tuple[float, ...] = (0.0, 1.0),
        decode_as: list[int] | None = None,
    ) -> None:
        super().__init__(codec, None, lmbda, critic, adversarial, realism, decode_as)
        if stage1_epochs < 1:
            raise ValueError(
                f"stage1_epochs is {stage1_epochs}: set it to 1 or more, or train g2 on a trained codec with a "
                "config such as configs/digits_perceptual.yaml"
            )
        self.stage1_epochs = stage1_epochs
        self.mse = replace(mse)

    def training_details(self) -> dict[str, Any]:
        """Sizes, lengths of the stages, and how they were trained."""
        return {**super().training_details(), "stage1_epochs": self.stage1_epochs, "mse": asdict(self.mse)}

    def on_fit_start(self) -> None:
        """Refuse what cannot train, and fit the coder of Y."""
        begin_stage1(self)

    def configure_optimizers(self) -> Any:
        """One for the codec, one for g2, one for the critic."""
        codec, schedule = stage1_optimizer(self.codec, self.mse)
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
        if self.current_epoch < self.stage1_epochs:
            stage1_step(self, batch, codec_optimizer, self.mse, self.lmbda)
            return
        if self.second_stage_batches is None:
            self.begin_second_stage()
        self.second_stage_step(batch, g2_optimizer, critic_optimizer)
