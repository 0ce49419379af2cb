"""Stage 1: the codec that is optimised for MSE, with side information or without."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codecs.conditional_codec import ConditionalCodec, ConditionalOutput
from lightning_modules.codecs.conditional_hyperprior import ConditionalHyperprior
from lightning_modules.decoder_series import DecoderSeriesModule
from lightning_modules.errors import SettingError
from lightning_modules.losses.rate_distortion import bits
from lightning_modules.named_gradients import refuse_loss_scaling, step_on
from lightning_modules.optimizers import OptimizerName, optimizer_of, step_decay


def stage1_loss(
    codec: ConditionalCodec, out: ConditionalOutput, x: Tensor, lmbda: float | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of stage 1, and figures to log.

    With λ it is λ 255² MSE plus bits per pixel, those of Y included, plus the loss of the entropy model's quantiles.
    Without, the rate is set by the length of the code (appendix B.1): MSE alone moves encoder and g1, and the entropy
    model learns H(M|Y) beside them, since its cross-entropy, in bits, reaches no other network.
    """
    mse = F.mse_loss(out["x_hat"].float(), x)
    rates = {name: bits(values.float()).mean() for name, values in out["likelihoods"].items()}
    rate = torch.stack(list(rates.values())).sum()
    if lmbda is None:
        return mse + rates["code"], {"mse": mse, "bits": rate}
    bpp = rate / (x.shape[-2] * x.shape[-1])
    aux = codec.auxiliary_loss()
    loss = lmbda * 255**2 * mse + bpp
    return loss + aux, {"mse": mse, "loss": loss, "bpp": bpp, "psnr": -10 * torch.log10(mse), "aux_loss": aux}


@dataclass
class MseTraining:
    """How f, g1 and H(M|Y) are trained.

    Args:
        learning_rate: Of the networks. Appendix B.1 has 1e-3; for street scenes its repository has 1e-4.
        aux_learning_rate: Of the quantiles of an entropy bottleneck.
        optimizer: The paper's is RMSprop for digits, Adam for street scenes.
        adam_betas: Of Adam.
        gradient_clip_norm: Largest norm of the networks' gradient; null leaves it.
        milestones: Epochs at whose start the learning rate is multiplied by `decay`. The paper names none; Yan et
            al.'s code has one at epoch 50 of 100.
        decay: Factor at each milestone.
    """

    learning_rate: float = 1e-3
    aux_learning_rate: float = 1e-3
    optimizer: OptimizerName = "rmsprop"
    adam_betas: tuple[float, float] = (0.9, 0.999)
    gradient_clip_norm: float | None = None
    milestones: tuple[int, ...] = (50,)
    decay: float = 0.1


def check_trade_off(codec: ConditionalCodec, lmbda: float | None) -> None:
    """Refuse λ where there is none, and its absence where there is.

    Raises:
        ValueError: One of these, or it is not above 0.
    """
    if codec.fixed_rate and lmbda is not None:
        raise ValueError(f"lmbda is {lmbda}, but the rate of codec {codec.name} is set by its bits: leave lmbda out")
    if not codec.fixed_rate and (lmbda is None or lmbda <= 0):
        raise ValueError(f"lmbda is {lmbda}: set it above 0, such as to 0.0006; it trades rate for distortion")


def stage1_optimizer(codec: ConditionalCodec, mse: MseTraining) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser of stage 1 and its schedule."""
    optimizer = optimizer_of(
        mse.optimizer,
        codec,
        mse.learning_rate,
        betas=mse.adam_betas,
        aux_learning_rate=mse.aux_learning_rate,
    )
    return optimizer, step_decay(optimizer, mse.milestones, mse.decay)


def stage1_step(
    module: DecoderSeriesModule, batch: Any, optimizer: Any, mse: MseTraining, lmbda: float | None
) -> None:
    """One batch of stage 1."""
    codec, x = module.codec, batch["image"]
    loss, figures = stage1_loss(codec, codec(x, codec.side_information(batch), batch["key"]), x, lmbda)
    norm = step_on(module, optimizer, loss, counted=True, clip=mse.gradient_clip_norm)
    if mse.gradient_clip_norm is not None:
        figures["grad_norm"] = norm
    module.log_dict({f"train/{name}": value.detach() for name, value in figures.items()})
    for name in ("mse", "bits", "bpp"):
        if name in figures:
            module.log(name, figures[name].detach(), prog_bar=True, logger=False)


def begin_stage1(module: DecoderSeriesModule) -> None:
    """Refuse what cannot train, and fit the coder of label maps to the training maps, once, where some are sent.

    Raises:
        SettingError: See `refuse_loss_scaling`; or the data have no label maps, or maps of another number of classes.
    """
    refuse_loss_scaling(module.trainer)
    codec = module.codec
    if not isinstance(codec, ConditionalHyperprior) or codec.label_prior is None or codec.label_prior.fitted:
        return
    datamodule = module.trainer.datamodule  # type: ignore[attr-defined]
    if not hasattr(datamodule, "training_label_maps"):
        raise SettingError(
            f"{type(datamodule).__name__} has no label maps, which this codec sends as side information: use "
            "datamodules.StreetScenesDataModule, or set model.codec.classes to 0"
        )
    found = len(datamodule.classes)
    if found != codec.classes:
        raise SettingError(
            f"the label maps of {type(datamodule).__name__} have {found} classes, but model.codec.classes is "
            f"{codec.classes}: set it to {found}, or to 0 for no side information"
        )
    strategy = module.trainer.strategy
    if module.trainer.is_global_zero:
        rank_zero_info("Fitting the coder of label maps to the training maps ...")
        codec.fit_label_prior(datamodule.training_label_maps())
    # Not fitted by each process: roundings could differ, and files of one would be unreadable to the other.
    codec.label_prior.load_state_dict(strategy.broadcast(codec.label_prior.state_dict()))


class ConditionalModule(DecoderSeriesModule):
    """Trains f, g1 and H(M|Y) (section 3.2, step 2; without Y it is the paper's baseline).

    Args:
        codec: The codec.
        lmbda: λ, for codecs whose rate it sets; the paper has 0.00015 to 0.0025 for street scenes.
        mse: How it is trained.
        decode_as: Labels to decode a test set of digits with in place of the sent ones; a series of pictures for
            each.

    Raises:
        ValueError: See `check_trade_off`.
    """

    def __init__(
        self,
        codec: ConditionalCodec,
        lmbda: float | None = None,
        mse: MseTraining = MseTraining(),  # noqa: B008  a plain record, copied
        decode_as: list[int] | None = None,
    ) -> None:
        super().__init__(codec, [0.0], decode_as or [])
        check_trade_off(codec, lmbda)
        self.automatic_optimization = False
        self.lmbda = lmbda
        self.mse = replace(mse)

    def trade_off(self) -> float | None:
        """λ."""
        return self.lmbda

    def training_details(self) -> dict[str, Any]:
        """Sizes, and how it was trained."""
        return {**super().training_details(), "mse": asdict(self.mse)}

    def on_fit_start(self) -> None:
        """Refuse what cannot train, and fit the coder of Y."""
        begin_stage1(self)

    def configure_optimizers(self) -> Any:
        """One optimiser and its step decay."""
        optimizer, schedule = stage1_optimizer(self.codec, self.mse)
        return [optimizer], [schedule]

    def on_train_epoch_end(self) -> None:
        """Step the schedule, which nobody else does under manual optimisation."""
        cast(Any, self.lr_schedulers()).step()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One batch."""
        stage1_step(self, batch, self.optimizers(), self.mse, self.lmbda)
