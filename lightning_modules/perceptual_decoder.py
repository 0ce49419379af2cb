"""Stage 2: a decoder g2 that draws from p(X | M, Y), trained against a critic on the bits of a frozen codec."""

from __future__ import annotations

import copy
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.street_classes import StreetClasses
from lightning_modules.codecs.checkpoint import load_codec, trained_with
from lightning_modules.codecs.conditional_codec import NOISE, ConditionalCodec, PerceptualDecoder, Start
from lightning_modules.codecs.keyed_noise import keyed_normal
from lightning_modules.conditional import check_trade_off
from lightning_modules.critics.base import Critic, CriticBatch
from lightning_modules.critics.wasserstein import WassersteinCritic
from lightning_modules.decoder_series import DecoderSeriesModule
from lightning_modules.errors import CheckpointError
from lightning_modules.moving_average import average_weights
from lightning_modules.named_gradients import refuse_loss_scaling, step_on
from lightning_modules.optimizers import OptimizerName, optimizer_of, step_decay

MIX = 1
"""First of two purposes of the critic's random numbers; see `keyed_noise`."""
FURTHER = 16
"""First purpose of the random numbers of further critic steps, which take three each: noise, and two the critic's."""


@dataclass
class AdversarialTraining:
    """How g2 and its critic are trained, whatever the critic.

    Args:
        noise_dim: Length of W; null takes the paper's (of digits: fills g2's inputs up to the 100 of Yan et al.'s
            code; of street scenes: 64), 0 makes g2 deterministic.
        start: How g2 begins. "g1": digits copy the MSE decoder's weights, with inputs for noise at a tenth of their
            random weights, so that g2 knows code and label from its first step; street scenes paint on g1's picture.
            "random" is the paper's silence taken literally, and learns the label late.
        learning_rate: Of g2. The paper prints 1e-3, the code that it follows a tenth.
        critic_learning_rate: Of the critic: a tenth, too, of the paper's 1e-2 (digits) and 4e-3 (street scenes), with
            which critics were seen to blow up or to swing.
        optimizer: Of both. The paper's is RMSprop for digits, where Adam got further within a CPU's budget.
        adam_betas: Of Adam: (0, 0.9) with a gradient penalty, (0, 0.999) in OASIS.
        critic_steps: Critic steps per batch, each with noise of its own; g2 takes one, on the noise of the last.
        critic_warmup: Batches at the start of stage 2 in which the critic learns and g2 waits. An untrained critic
            swings, and drives g2 away from g1 before its scores mean anything; Yan et al.'s code takes an epoch.
        lambda_xhat: Weight of MSE(g2, g1) in g2's loss: 0 in the paper and Yan et al. (2021); later code of both
            groups has it.
        ema_decay: Of the average of g2's weights and statistics, which is what is measured and saved as g2. It grows
            to this value with the number of steps n, as (1 + n) / (10 + n), so that short trainings forget their
            start.
        milestones: Epochs after the start of stage 2 at which both learning rates are multiplied by `decay`.
        decay: Factor at each milestone.
    """

    noise_dim: int | None = None
    start: Start = "g1"
    learning_rate: float = 3e-4
    critic_learning_rate: float = 5e-4
    optimizer: OptimizerName = "adam"
    adam_betas: tuple[float, float] = (0.0, 0.9)
    critic_steps: int = 2
    critic_warmup: int = 150
    lambda_xhat: float = 0.0
    ema_decay: float = 0.999
    milestones: tuple[int, ...] = (50,)
    decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("critic_steps", "noise_dim", "critic_warmup"):
            value, least = getattr(self, name), int(name == "critic_steps")
            if value is not None and value < least:
                raise ValueError(f"adversarial.{name} is {value}: set it to {least} or more")
        if self.lambda_xhat < 0:
            raise ValueError(f"adversarial.lambda_xhat is {self.lambda_xhat}: it is a weight, 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"adversarial.ema_decay is {self.ema_decay}: it is a share, from 0 to below 1")


class PerceptualDecoderModule(DecoderSeriesModule):
    """Trains g2 and its critic; the codec stays as it is, its BatchNorm statistics included.

    Args:
        codec: The codec, in the sizes of the checkpoint `stage1_ckpt`.
        lmbda: λ that the codec was trained with, for codecs that have one: it places results on their curve.
        stage1_ckpt: Checkpoint that the codec's weights are taken from when training starts. A resumed or tested run
            has them in its own checkpoint and does not look for the file.
        critic: What g2 is trained against; null takes the Wasserstein critic of digits.
        adversarial: How both are trained.
        realism: Places between g1 (0) and g2 (1) to validate and test at.
        decode_as: Labels to decode a test set of digits with in place of the sent ones; a series of pictures for
            each.

    Raises:
        ValueError: An argument is out of range; see also `check_trade_off`.
    """

    def __init__(
        self,
        codec: ConditionalCodec,
        stage1_ckpt: str | None = None,
        lmbda: float | None = None,
        critic: Critic | None = None,
        adversarial: AdversarialTraining = AdversarialTraining(),  # noqa: B008  a plain record, copied
        realism: tuple[float, ...] = (0.0, 1.0),
        decode_as: list[int] | None = None,
    ) -> None:
        super().__init__(codec, realism, decode_as or [])
        if codec.noise_dim:
            raise ValueError(
                f"codec.noise_dim is {codec.noise_dim}: g1 of a two-stage codec has no noise, set it to 0"
            )
        check_trade_off(codec, lmbda)
        self.automatic_optimization = False
        self.stage1_ckpt = stage1_ckpt
        self.lmbda = lmbda
        self.adversarial = replace(adversarial)
        self.g2 = codec.perceptual_decoder(adversarial.noise_dim, adversarial.start)
        self.critic_kind = critic or WassersteinCritic()
        self.critic = self.critic_kind.network(codec)
        self.ema = copy.deepcopy(self.g2).requires_grad_(False)
        self.second_stage_batches: int | None = None
        """Batches of stage 2 so far, None before it. In checkpoints, so that a resumed run goes on with the stage."""

    def trade_off(self) -> float | None:
        """λ."""
        return self.lmbda

    def trained_g2(self) -> PerceptualDecoder | None:
        """The averaged g2, from the start of stage 2 on."""
        return None if self.second_stage_batches is None else self.ema

    def training_details(self) -> dict[str, Any]:
        """Sizes, and how g2 was trained."""
        own = {"noise_dim": self.g2.noise_dim, "adversarial": asdict(self.adversarial)}
        return {**super().training_details(), **own, "critic": self.critic_kind.details()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note how far stage 2 is."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["second_stage_batches"] = self.second_stage_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there, with the codec frozen if stage 2 had begun.

        Raises:
            CheckpointError: See `CodecModule`.
        """
        super().on_load_checkpoint(checkpoint)
        self.second_stage_batches = checkpoint.get("second_stage_batches")
        if self.second_stage_batches is not None:
            self.codec.requires_grad_(False).eval()

    def setup(self, stage: str) -> None:
        """Let the critic see the data's table of classes, where there is one.

        Raises:
            SettingError: The critic does not fit it.
        """
        classes = getattr(getattr(self.trainer, "datamodule", None), "classes", None)
        if stage == "fit" and isinstance(classes, StreetClasses):
            self.critic_kind.check_classes(classes)

    # -- the stage --------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Take over the first stage's codec, unless a checkpoint of this run has brought it.

        Raises:
            CheckpointError: No checkpoint was named, or it holds another codec or one of another λ.
            SettingError: See `refuse_loss_scaling`.
        """
        refuse_loss_scaling(self.trainer)
        if self.second_stage_batches is None:
            self._load_stage1()
            self.begin_second_stage()

    def _load_stage1(self) -> None:
        if self.stage1_ckpt is None:
            raise CheckpointError(
                "stage 2 needs the codec of stage 1: set model.stage1_ckpt to its checkpoint, or train both stages "
                "at once with a config such as configs/digits_two_stage.yaml"
            )
        codec = load_codec(self.stage1_ckpt, self.device).codec
        if codec.name != self.codec.name or codec.config() != self.codec.config():
            raise CheckpointError(
                f"{self.stage1_ckpt} holds codec {codec.name} with {codec.config()}, but model.codec is "
                f"{self.codec.config()}: set the same sizes"
            )
        lmbda = trained_with(self.stage1_ckpt)
        if lmbda is not None and lmbda != self.lmbda:
            raise CheckpointError(
                f"{self.stage1_ckpt} was trained with λ = {lmbda}, but model.lmbda is {self.lmbda}, which would put "
                f"its results at another rate: set --model.lmbda {lmbda}"
            )
        weights = {name: value for name, value in codec.state_dict().items() if not name.startswith("perceptual.")}
        self.codec.load_state_dict(weights)

    def begin_second_stage(self) -> None:
        """Freeze the codec and start g2 from g1, or leave it random."""
        self.codec.requires_grad_(False).eval()
        if self.adversarial.start == "g1":
            self.g2.start_from(self.codec.g1)
        self.ema.load_state_dict(self.g2.state_dict())
        self.second_stage_batches = 0

    def train(self, mode: bool = True) -> PerceptualDecoderModule:
        """Switch mode; from stage 2 on the codec stays in eval mode, whoever asks."""
        frozen = self.second_stage_batches is not None
        for name, child in self.named_children():
            child.train(mode and name != "ema" and not (name == "codec" and frozen))
        self.training = mode
        return self

    def configure_optimizers(self) -> Any:
        """One for g2, one for the critic."""
        return self._adversarial_optimizers()

    def _adversarial_optimizers(self) -> tuple[list[Any], list[Any]]:
        a = self.adversarial
        optimizers = [
            optimizer_of(a.optimizer, self.g2, a.learning_rate, betas=a.adam_betas),
            optimizer_of(a.optimizer, self.critic, a.critic_learning_rate, betas=a.adam_betas),
        ]
        return optimizers, [step_decay(optimizer, a.milestones, a.decay) for optimizer in optimizers]

    def on_train_epoch_end(self) -> None:
        """Step the schedules of the stage, which nobody else does under manual optimisation."""
        with warnings.catch_warnings():
            # torch remarks that g2 has taken no step yet, where the critic warms up for an epoch or longer.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for schedule in cast(list[Any], self.lr_schedulers())[-2:]:
                schedule.step()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Critic, then g2, then its average."""
        g2_optimizer, critic_optimizer = cast(list[Any], self.optimizers())[-2:]
        self.second_stage_step(batch, g2_optimizer, critic_optimizer)

    def second_stage_step(self, batch: Any, g2_optimizer: Any, critic_optimizer: Any) -> None:
        """One batch of stage 2.

        Args:
            batch: Images, side information and keys.
            g2_optimizer: Of g2.
            critic_optimizer: Of the critic.
        """
        assert self.second_stage_batches is not None
        a, x, keys = self.adversarial, batch["image"], batch["key"]
        code = self.codec.code(x, self.codec.side_information(batch))
        x = self.codec.padded(x)
        waits = self.second_stage_batches < a.critic_warmup
        for again in range(1, a.critic_steps):
            with torch.no_grad():
                fake = self._draw(code, keys, FURTHER + 3 * again)
            shown = CriticBatch(x, fake, code, keys, FURTHER + 3 * again + 1, self._neighbour)
            self._critic_step(critic_optimizer, shown, counted=False)
        with torch.set_grad_enabled(not waits):
            picture = self._draw(code, keys, NOISE)
        shown = CriticBatch(x, picture.detach(), code, keys, MIX, self._neighbour)
        figures = self._critic_step(critic_optimizer, shown, counted=waits)
        if not waits:
            loss = self.critic_kind.decoder_loss(self.critic, picture, code)
            figures["g2_loss"] = loss
            if a.lambda_xhat:
                with torch.no_grad():
                    x_mse = self.codec.by_g1(code, keys)
                loss = loss + a.lambda_xhat * F.mse_loss(picture, x_mse.float())
            step_on(self, g2_optimizer, loss, counted=True)
            self._average()
        self.second_stage_batches += 1
        with torch.no_grad():
            figures["mse_g2"] = F.mse_loss(picture, x)
        self.log_dict({f"train/{name}": value.detach() for name, value in figures.items()})
        for name in (next(iter(figures)), "mse_g2"):
            self.log(name, figures[name].detach(), prog_bar=True, logger=False)

    @torch.no_grad()
    def _average(self) -> None:
        """Move the average of g2, statistics included, towards g2."""
        assert self.second_stage_batches is not None
        steps = self.second_stage_batches - self.adversarial.critic_warmup
        decay = min(self.adversarial.ema_decay, (1 + steps) / (10 + steps))
        average_weights(self.ema, self.g2, decay)

    def _draw(self, code: Tensor, keys: Tensor, purpose: int) -> Tensor:
        picture: Tensor = self.g2(code, keyed_normal(keys, self.g2.noise_dim, purpose))
        return picture.float()

    def _critic_step(self, optimizer: Any, shown: CriticBatch, *, counted: bool) -> dict[str, Tensor]:
        """Steps on the critic's losses; where it alone learns, the first of them counts the batch."""
        figures: dict[str, Tensor] = {}
        for loss, latest in self.critic_kind.losses(self.critic, shown):
            step_on(self, optimizer, loss, counted=counted)
            counted, figures = False, latest
        return figures

    def _neighbour(self, rows: Tensor) -> Tensor:
        """For each image the row of the one before it in the batch of all processes, dealt out in turn."""
        world, rank = self.trainer.world_size, self.trainer.global_rank
        if world == 1:
            return rows.roll(1, 0)
        everything = self.all_gather(rows)
        assert isinstance(everything, Tensor)
        return everything.transpose(0, 1).flatten(0, 1).roll(1, 0)[rank::world]
