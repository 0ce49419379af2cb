"""Losses of a discriminator that segments: N classes of real pixels, and one for fakes (Sushko et al., ICLR 2021).

Label maps are int64 (B, H, W) with classes 0 to N - 1; logits are (B, N + 1, H, W), of which 0 is "fake" and c + 1 is
class c. A generator that wants its pixels taken for their classes minimises `balanced_cross_entropy` of its own
pictures' logits.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


def class_weights(labels: Tensor, classes: int, ignored: int | None = None) -> Tensor:
    """Weight of each class: pixels / (classes present * pixels of the class) (Sushko et al., 2021, section 3.2).

    Thus the mean over pixels of weighted losses is the mean over classes of the class's mean loss, however rare it
    is. Classes that no image has, and the ignored one, weigh 0 and are not counted as present. Pixels are counted
    over the batches of all processes: the mean of the processes' losses is then that of the whole batch.

    Args:
        labels: int64 (B, H, W), of equal size in all processes.
        classes: N.
        ignored: A class to leave out, such as "unknown".

    Returns:
        float32 (N,).
    """
    counts = torch.bincount(labels.flatten(), minlength=classes)
    pixels = labels.numel()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
        pixels *= dist.get_world_size()
    if ignored is not None:
        counts[ignored] = 0
    present = counts > 0
    weights = pixels / (present.sum() * counts).clamp(min=1).double()
    return torch.where(present, weights, 0.0).float()


def balanced_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean over pixels of weight times -log softmax at the pixel's class (Sushko et al., 2021, eqs. 1 and 2).

    Args:
        logits: (B, N + 1, H, W).
        labels: int64 (B, H, W).
        weights: (N,), of `class_weights`.
    """
    return (weights[labels] * F.cross_entropy(logits, labels + 1, reduction="none")).mean()


def fake_cross_entropy(logits: Tensor) -> Tensor:
    """Mean over pixels of -log softmax at "fake" (Sushko et al., 2021, eq. 1, second term): it has no weights.

    Args:
        logits: Of fakes, (B, N + 1, H, W).
    """
    return F.cross_entropy(logits, torch.zeros_like(logits[:, 0], dtype=torch.int64))


def label_mix(real: Tensor, fake: Tensor, labels: Tensor, choice: Tensor) -> Tensor:
    """LabelMix: some classes' pixels of one tensor, the others of the other (Sushko et al., 2021, section 3.3).

    Borders between both follow those of the label map. Choices are made per class and per image. Published code draws
    one choice per class for a whole batch; here an image's mask must depend on its own key alone, so that it is the
    same whatever images are beside it and however many processes share the batch. The distribution of the mask of
    each image is the same.

    Args:
        real: (B, C, H, W): pictures or logits.
        fake: Like `real`.
        labels: int64 (B, H, W).
        choice: bool (B, N): which classes are taken from `real`.
    """
    # Gathered into a new mask: a label map that is relabelled in place class by class would draw class 0's pixels
    # again with class 1, once they are set to 1.
    mask = choice.gather(1, labels.flatten(1)).view_as(labels)
    return torch.where(mask[:, None], real, fake)


def label_mix_loss(
    mixed_logits: Tensor, real_logits: Tensor, fake_logits: Tensor, labels: Tensor, choice: Tensor
) -> Tensor:
    """How far D of a mix is from the mix of D: mean square over all logits (Sushko et al., 2021, eq. 3).

    The gradient flows to all three.

    Args:
        mixed_logits: D(LabelMix(real, fake)), (B, N + 1, H, W).
        real_logits: D(real).
        fake_logits: D(fake).
        labels: As in `label_mix`.
        choice: As in `label_mix`.
    """
    return F.mse_loss(mixed_logits, label_mix(real_logits, fake_logits, labels, choice))
