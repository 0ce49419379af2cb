"""Training of ELIC and of TACO."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lightning_modules.base import CompressionModule
from lightning_modules.codecs.checkpoint import load_codec
from lightning_modules.codecs.clip import ClipPart, load_clip
from lightning_modules.codecs.codec import COMPLEXITY_SIDE, CodecOutput
from lightning_modules.codecs.complexity import macs_by_part
from lightning_modules.codecs.elic import ElicCodec
from lightning_modules.codecs.taco import TacoCodec, TextFeatures
from lightning_modules.codecs.text_encoder import ClipTextEncoder
from lightning_modules.errors import CheckpointError
from lightning_modules.losses.joint_image_text import JointImageTextLoss, JointLossPart
from lightning_modules.losses.perceptual import LpipsLoss, LpipsPart
from lightning_modules.losses.rate_distortion import squared_error_255

PAPER_K_P = 3.5
PAPER_K_J = 0.0025
"""The paper's weights of LPIPS and of the joint loss (section 4.1)."""


class ElicModule(CompressionModule):
    """ELIC, optimised for rate + λ·255²·MSE: TACO's backbone without text (paper section 3.1).

    Args:
        lmbda: λ, weight of the distortion 255²·MSE against the rate in bits per pixel.
        N: Channels inside the transforms.
        M: Channels of the latent.
        slices: Channels per slice of the latent, adding up to M; null splits M in the paper's proportions.
        context_hidden: Widths of the channel context networks.
        learning_rate: Adam's learning rate of the networks.
        aux_learning_rate: Adam's learning rate of the entropy bottleneck's quantiles; never decayed.
        milestones: Epochs at whose start the networks' learning rate is multiplied by `decay`.
        decay: Factor at each milestone.
    """

    def __init__(
        self,
        lmbda: float = 0.0016,
        N: int = 192,
        M: int = 320,
        slices: list[int] | None = None,
        context_hidden: tuple[int, int] = (224, 128),
        learning_rate: float = 1e-4,
        aux_learning_rate: float = 1e-3,
        milestones: list[int] | None = None,
        decay: float = 0.1,
    ) -> None:
        super().__init__(learning_rate, aux_learning_rate, [45, 48] if milestones is None else milestones, decay)
        self.lmbda = lmbda
        self.codec = ElicCodec(N, M, slices, context_hidden)

    def side_information(self, captions: list[str] | None, count: int) -> None:
        """None: ELIC reads no text."""
        return

    def loss_terms(self, x: Tensor, out: CodecOutput, y: Any) -> dict[str, Tensor]:
        """λ·255²·MSE."""
        return {"mse": self.lmbda * squared_error_255(x, out["x_hat"].float())}

    def trade_off(self) -> float:
        """λ."""
        return self.lmbda


class TacoModule(CompressionModule):
    """TACO: ELIC with a text adapter, optimised for eq. 6, rate + λ·255²·MSE + k_p·LPIPS + k_j·L_j.

    Result records name, beside λ, what is not as in the paper, so that its ablations (section 4.4) become curves of
    their own.

    Args:
        lmbda: λ, weight of the distortion 255²·MSE against the rate in bits per pixel.
        k_p: Weight of LPIPS; 0 builds no LPIPS network.
        k_j: Weight of the joint image-text loss; 0 builds no image tower.
        adapter: Whether the encoder reads the caption. Without it the codec is ELIC, trained with the same loss
            (Fig. 10), and compressing takes no caption.
        base_ckpt: Checkpoint of an ELIC of the same sizes, whose weights are taken over and stay as they are: only
            the adapter is trained (Fig. A2). A resumed or tested run has them in its own checkpoint and does not look
            for the file. null trains everything from random weights.
        N: Channels inside the transforms.
        M: Channels of the latent.
        slices: Channels per slice of the latent, adding up to M; null splits M in the paper's proportions.
        context_hidden: Widths of the channel context networks.
        clip: The frozen CLIP behind the text adapter and the joint loss.
        lpips: The frozen LPIPS network of the loss.
        joint: Options of the joint image-text loss.
        learning_rate: Adam's learning rate of the networks.
        aux_learning_rate: Adam's learning rate of the entropy bottleneck's quantiles; never decayed.
        milestones: Epochs at whose start the networks' learning rate is multiplied by `decay`.
        decay: Factor at each milestone.
    """

    codec: ElicCodec

    def __init__(
        self,
        lmbda: float = 0.0016,
        k_p: float = PAPER_K_P,
        k_j: float = PAPER_K_J,
        adapter: bool = True,
        base_ckpt: str | None = None,
        N: int = 192,
        M: int = 320,
        slices: list[int] | None = None,
        context_hidden: tuple[int, int] = (224, 128),
        clip: ClipPart = ClipPart(),  # noqa: B008  a plain record; copied below, never changed
        lpips: LpipsPart = LpipsPart(),  # noqa: B008
        joint: JointLossPart = JointLossPart(),  # noqa: B008
        learning_rate: float = 1e-4,
        aux_learning_rate: float = 1e-3,
        milestones: list[int] | None = None,
        decay: float = 0.1,
    ) -> None:
        super().__init__(learning_rate, aux_learning_rate, [45, 48] if milestones is None else milestones, decay)
        self.lmbda, self.k_p, self.k_j = lmbda, k_p, k_j
        self.beta = joint.beta
        model, tokenizer = load_clip(replace(clip))
        self.text_encoder = ClipTextEncoder(model.text_model, tokenizer, clip.max_tokens)
        self.adapter, self.base_ckpt = adapter, base_ckpt
        if base_ckpt is not None and not adapter:
            raise ValueError("model.base_ckpt leaves only the adapter to train: set model.adapter to true")
        if adapter:
            self.codec = TacoCodec(N, M, slices, context_hidden, self.text_encoder.width)
            if base_ckpt is not None:
                self.codec.requires_grad_(False)  # before DDP looks which gradients to wait for
                self.codec.adapter.requires_grad_(True)
        else:
            self.codec = ElicCodec(N, M, slices, context_hidden)
        self.frozen_losses = nn.ModuleDict()
        if k_p:
            self.frozen_losses["lpips"] = LpipsLoss(replace(lpips))
        if k_j:
            self.frozen_losses["joint"] = JointImageTextLoss(model, replace(joint))

    def side_information(self, captions: list[str] | None, count: int) -> TextFeatures:
        """CLIP's view of the captions; pictures without one get the empty caption."""
        features: TextFeatures = self.text_encoder([""] * count if captions is None else captions)
        return features

    def loss_terms(self, x: Tensor, out: CodecOutput, y: TextFeatures) -> dict[str, Tensor]:
        """The three weighted terms of eq. 6 after the rate; the joint loss as its two parts."""
        x_hat = out["x_hat"].float()
        terms = {"mse": self.lmbda * squared_error_255(x, x_hat)}
        if self.k_p:
            terms["lpips"] = self.k_p * self.frozen_losses["lpips"](x, x_hat)
        if self.k_j:
            joint = self.frozen_losses["joint"](x, x_hat, y.pooled)
            terms["joint_contrastive"] = self.k_j * joint.contrastive
            terms["joint_distance"] = self.k_j * self.beta * joint.distance
        return terms

    def trade_off(self) -> float:
        """λ."""
        return self.lmbda

    def on_fit_start(self) -> None:
        """Take over the weights of a frozen base, unless a checkpoint of this run has brought them.

        Raises:
            CheckpointError: The checkpoint cannot be read, or holds something else than an ELIC of these sizes.
        """
        if self.base_ckpt is None or self.trainer.ckpt_path is not None:
            return
        base, mine = load_codec(self.base_ckpt).codec, ElicCodec.config(self.codec)
        if type(base) is not ElicCodec or base.config() != mine:
            raise CheckpointError(
                f"{self.base_ckpt} holds codec {base.name} with {base.config()}, but model.base_ckpt must be an elic "
                f"with {mine}: train one with configs/elic.yaml in the same sizes"
            )
        self.codec.load_state_dict(base.state_dict(), strict=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep text encoder and tokeniser in the checkpoint: compressing then needs no other file."""
        super().on_save_checkpoint(checkpoint)
        if self.adapter:
            checkpoint["text_encoder"] = self.text_encoder.config()

    def result_identity(self) -> dict[str, Any]:
        """As for every codec, with the text encoder counted as a part, and what is not as in the paper."""
        identity = super().result_identity()
        paper = {"k_p": PAPER_K_P, "k_j": PAPER_K_J}
        other = {name: getattr(self, name) for name in paper if getattr(self, name) != paper[name]}
        if not self.adapter:
            other["loss"] = "TACO's loss"  # which is what tells it from ELIC of ElicModule
        if self.base_ckpt is not None:
            other["base"] = "frozen base"
        identity["setting"] = other or None
        if not self.adapter:
            return identity
        identity["parameters"]["text_encoder"] = sum(p.numel() for p in self.text_encoder.parameters())
        macs = macs_by_part({"text_encoder": self.text_encoder}, lambda: self.text_encoder([""]))
        # The caption costs the same whatever the picture's size; here it is spread over 256x256 pixels.
        identity["kmacs_per_pixel"]["text_encoder"] = macs["text_encoder"] / 1000 / COMPLEXITY_SIDE**2
        return identity
