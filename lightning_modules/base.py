"""What every codec's training shares: optimiser groups, clipping, logging, and tests through real files."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_modules.codec_module import CodecModule, step_output
from lightning_modules.coded_files import code_pictures
from lightning_modules.losses.rate_distortion import bits, bits_per_pixel
from lightning_modules.step_output import CaptionVariant, StepOutput

if TYPE_CHECKING:
    from lightning_modules.codecs.codec import CodecOutput


class CompressionModule(CodecModule):
    """Trains a codec with one Adam over two parameter groups and measures it through files.

    Group `net` holds the networks, group `aux` the entropy model's quantiles. The returned loss is rate-distortion
    plus the quantiles' loss, which touch disjoint parameters; so a single backward pass equals the usual
    two-optimiser loop, counts steps once, and stays correct under DDP, where a second backward pass would not be
    synchronised.

    Subclasses set `self.codec` and implement `side_information` and `loss_terms`.

    Args:
        learning_rate: Adam's learning rate of the networks.
        aux_learning_rate: Adam's learning rate of the quantiles; never decayed.
        milestones: Epochs at whose start the learning rate of `net` is multiplied by `decay`.
        decay: Factor at each milestone.
    """

    def __init__(
        self,
        learning_rate: float,
        aux_learning_rate: float,
        milestones: list[int],
        decay: float,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.aux_learning_rate = aux_learning_rate
        self.milestones = milestones
        self.decay = decay

    @abstractmethod
    def side_information(self, captions: list[str] | None, count: int) -> Any:
        """Y of `count` images, as the codec takes it, from their captions (None where the data has none)."""

    @abstractmethod
    def loss_terms(self, x: Tensor, out: CodecOutput, y: Any) -> dict[str, Tensor]:
        """Weighted terms of the loss but the rate; their sum plus the rate in bits per pixel is minimised."""

    @abstractmethod
    def trade_off(self) -> float | None:
        """λ of this run, for result records."""

    # -- optimisation -----------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Adam with groups `net` and `aux`, and the step decay of `net`."""
        trainable = [(name, p) for name, p in self.codec.named_parameters() if p.requires_grad]
        groups = [
            {
                "params": [p for name, p in trainable if not name.endswith("quantiles")],
                "lr": self.learning_rate,
                "name": "net",
            },
            {
                "params": [p for name, p in trainable if name.endswith("quantiles")],
                "lr": self.aux_learning_rate,
                "name": "aux",
            },
        ]
        optimizer = torch.optim.Adam(groups, fused=True)

        def step_decay(epoch: int) -> float:
            return self.decay ** sum(epoch >= milestone for milestone in self.milestones)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [step_decay, lambda epoch: 1.0])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "name": "lr"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of `net` alone, and log it as it was before.

        Raises:
            ValueError: `trainer.gradient_clip_algorithm` is not "norm".
        """
        if gradient_clip_algorithm not in (None, "norm"):
            raise ValueError(f"trainer.gradient_clip_algorithm={gradient_clip_algorithm} is not offered: use norm")
        limit = float("inf") if not gradient_clip_val else float(gradient_clip_val)
        norm = torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], limit)
        self.log("train/grad_norm", norm)

    # -- training and validation ------------------------------------------------------------------------------------

    def _rate_and_loss(self, batch: Any, y: Any, out: CodecOutput) -> tuple[Tensor, dict[str, Tensor]]:
        x = batch["image"]
        rates = bits_per_pixel(out["likelihoods"], x.shape[-2] * x.shape[-1])
        bpp = torch.stack(list(rates.values())).sum()
        terms = self.loss_terms(x, out, y)
        loss = bpp + torch.stack(list(terms.values())).sum()
        report = {"loss": loss, "bpp": bpp, **{f"bpp_{name}": rate for name, rate in rates.items()}}
        report.update({f"term_{name}": term for name, term in terms.items()})
        return loss, report

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Rate-distortion loss plus the quantiles' loss."""
        y = self.side_information(batch.get("caption"), len(batch["image"]))
        out = self.codec(batch["image"], y, batch.get("key"))
        loss, report = self._rate_and_loss(batch, y, out)
        aux = self.codec.auxiliary_loss()
        report["aux_loss"] = aux
        with torch.no_grad():
            mse = (out["x_hat"].float() - batch["image"]).square().mean()
            report["psnr"] = -10 * torch.log10(mse)
        self.log_dict({f"train/{name}": value.detach() for name, value in report.items()})
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        self.log("bpp", report["bpp"].detach(), prog_bar=True, logger=False)
        self.log("psnr", report["psnr"], prog_bar=True, logger=False)
        return loss + aux

    def validation_step(self, batch: Any, batch_idx: int) -> StepOutput:
        """Likelihood rate and reconstruction, rounded as when coding."""
        y = self.side_information(batch.get("caption"), len(batch["image"]))
        out = self.codec(batch["image"], y)
        _, report = self._rate_and_loss(batch, y, out)
        self.log_dict(
            {f"val/{name}": value.float() for name, value in report.items()},
            batch_size=len(batch["image"]),
            sync_dist=True,
        )
        parts = {name: bits(values.double()) for name, values in out["likelihoods"].items()}
        total = torch.stack(list(parts.values())).sum(0)
        return step_output(batch, batch["dataset"], out["x_hat"], total, parts)

    # -- testing through files --------------------------------------------------------------------------------------

    def test_step(  # type: ignore[override]  # Lightning hands on whatever it is to the callbacks
        self, batch: Any, batch_idx: int
    ) -> StepOutput | list[StepOutput]:
        """Compress each image to a file, read it back and decompress it: once, or with each kind of caption."""
        if "caption_variants" not in batch:
            return self._through_files(batch)
        return [self._captioned(batch, kind, captions) for kind, captions in batch["caption_variants"].items()]

    def predict_step(self, batch: Any, batch_idx: int) -> StepOutput | list[StepOutput]:
        """The same as a test; callbacks then only write pictures."""
        return self.test_step(batch, batch_idx)

    def _captioned(self, batch: Any, kind: str, captions: list[str]) -> StepOutput:
        series = {"dataset": f"{batch['dataset']}-{kind}", "caption": captions}
        return {**self._through_files({**batch, **series}), "series": CaptionVariant(batch["dataset"], kind)}

    def _through_files(self, batch: Any) -> StepOutput:
        if "captions" in batch:
            batch = {**batch, "caption": self.best_captions(batch)}
        captions = batch.get("caption")
        coded = code_pictures(
            self.codec,
            batch,
            Path(self.trainer.default_root_dir) / "bitstreams",
            lambda i: self.side_information(None if captions is None else [captions[i]], 1),
            self.codec.decompress,
        )
        return coded.describe(step_output(batch, batch["dataset"], torch.cat(coded.opened), coded.bits, coded.parts))

    @torch.no_grad()
    def best_captions(self, batch: Any) -> list[str]:
        """Of each image's `captions` the one that gives the least loss, with latents rounded as when coding.

        An encoder may choose so, because it sees the image and the decoder needs no caption. The TACO authors' script
        for COCO means to choose by LPIPS alone.
        """
        best = []
        for x, captions in zip(batch["image"], batch["captions"], strict=True):
            losses = []
            for caption in captions:
                y = self.side_information([caption], 1)
                loss, _ = self._rate_and_loss({"image": x[None]}, y, self.codec(x[None], y))
                losses.append(float(loss))
            best.append(captions[losses.index(min(losses))])
        return best

    # -- records ----------------------------------------------------------------------------------------------------

    def result_identity(self) -> dict[str, Any]:
        """What a result record is about: codec, λ, weights, and parameters and operations by part."""
        return {
            "codec": self.codec.name,
            "lambda": self.trade_off(),
            "parameters": self.codec.parameter_counts(),
            "kmacs_per_pixel": self.codec.kmacs_per_pixel(self.side_information(None, 1)),
            "weights": self.codec.fingerprint(),
        }
