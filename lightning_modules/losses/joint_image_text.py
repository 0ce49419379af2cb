"""TACO's joint image-text loss (eq. 7), with the choices that the paper leaves open as named options."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F
from transformers import CLIPModel

AUTHORS_TEMPERATURE = 14.28
"""exp(2.6592): CLIP's value before training, which the authors' code keeps fixed. A trained CLIP has 100."""

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class JointLossPart:
    """The joint image-text loss.

    Args:
        beta: Weight β of the embedding distance against the contrastive term.
        temperature: Multiplier of the cosine similarities: "clip" for the value stored in CLIP's weights,
            "authors" for 14.28, or a number.
        distance: How ||f_I(x) - f_I(x_hat)|| is taken: "per_sample" averages the norms of the samples; the authors'
            "batch_frobenius" is the norm of the whole batch, about √B times as large.
        resize: Interpolation to CLIP's input size; the authors' loss uses bilinear, CLIP's own processor bicubic.
    """

    beta: float = 40.0
    temperature: Literal["clip", "authors"] | float = "clip"
    distance: Literal["per_sample", "batch_frobenius"] = "per_sample"
    resize: Literal["bilinear", "bicubic"] = "bilinear"


class JointLossTerms(NamedTuple):
    """Scalars; the loss is contrastive + β · distance."""

    contrastive: Tensor
    distance: Tensor


class JointImageTextLoss(nn.Module):
    """L_con(f_I(x_hat), f_T(c)) + β ||f_I(x) - f_I(x_hat)||, on L2-normalised CLIP embeddings.

    Args:
        clip: The CLIP whose text tower also steers the encoder; only its image tower, its projections and its
            temperature are used here.
        part: Options.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, clip: CLIPModel, part: JointLossPart) -> None:
        super().__init__()
        self.vision_model = clip.vision_model.eval().requires_grad_(False)
        self.visual_projection = clip.visual_projection.requires_grad_(False)
        self.text_projection = clip.text_projection.requires_grad_(False)
        self.part = part
        if part.temperature == "clip":
            self.temperature = float(clip.logit_scale.detach().exp())
        elif part.temperature == "authors":
            self.temperature = AUTHORS_TEMPERATURE
        else:
            self.temperature = float(part.temperature)
        self.side = int(clip.vision_model.config.image_size)
        self.register_buffer("mean", torch.tensor(_CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_CLIP_STD).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "JointImageTextLoss":
        """Stay in eval mode: CLIP is frozen."""
        super().train(False)
        return self

    def embed_image(self, x: Tensor) -> Tensor:
        """f_I: pictures (B, 3, H, W) in [0, 1] to unit vectors (B, D); shorter side to 224, centre crop."""
        height, width = x.shape[-2:]
        scale = self.side / min(height, width)
        size = [max(self.side, round(height * scale)), max(self.side, round(width * scale))]
        x = F.interpolate(x, size=size, mode=self.part.resize, align_corners=False, antialias=True)
        top, left = (size[0] - self.side) // 2, (size[1] - self.side) // 2
        x = x[..., top : top + self.side, left : left + self.side]
        pooled = self.vision_model(pixel_values=(x - self.mean) / self.std).pooler_output
        return F.normalize(self.visual_projection(pooled), dim=-1)

    def embed_text(self, pooled: Tensor) -> Tensor:
        """f_T: pooled states (B, text_dim) of the text tower to unit vectors (B, D)."""
        return F.normalize(self.text_projection(pooled), dim=-1)

    def forward(self, x: Tensor, x_hat: Tensor, pooled_text: Tensor) -> JointLossTerms:
        """Both terms.

        The contrastive term compares every picture with every caption of all processes; with one pair in total it
        is identically 0.

        Args:
            x: Originals (B, 3, H, W) in [0, 1].
            x_hat: Reconstructions, not clamped.
            pooled_text: (B, text_dim), before projection.
        """
        with torch.autocast(x.device.type, enabled=False):
            reconstructed = self.embed_image(x_hat.float())
            with torch.no_grad():
                original = self.embed_image(x.float())
                text = self.embed_text(pooled_text.float())
            difference = reconstructed - original
            per_sample = self.part.distance == "per_sample"
            distance = difference.norm(dim=-1).mean() if per_sample else difference.norm()
            contrastive = self._contrastive(_all_processes(reconstructed), _all_processes(text))
        return JointLossTerms(contrastive, distance)

    def _contrastive(self, image: Tensor, text: Tensor) -> Tensor:
        logits = self.temperature * text @ image.T
        target = torch.arange(len(logits), device=logits.device)
        return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def _all_processes(features: Tensor) -> Tensor:
    """Concatenate (B, D) over processes; the gradient flows back to each process's own rows.

    Every process computes the whole loss, so its rows receive world_size times their gradient, and the averaging of
    DDP divides by world_size again: the result is that of one process with the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return features
    return torch.cat(all_gather(features), 0)
