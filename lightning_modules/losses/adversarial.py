"""The Wasserstein GAN with gradient penalty, conditional."""

from collections.abc import Callable

import torch
from torch import Tensor

Critic = Callable[[Tensor, Tensor | None], Tensor]
"""D(x, condition) -> scores (B,)."""


def wasserstein_gap(critic: Critic, real: Tensor, fake: Tensor, condition: Tensor | None) -> Tensor:
    """Mean score of real images minus mean score of fakes: the critic's estimate of the distance W1, once trained.

    The critic maximises it. Real and fake share their condition, so that what is compared are the distributions
    p(X | condition) (Yan et al., 2021, eq. 6).

    Args:
        critic: D.
        real: Images (B, C, H, W).
        fake: Images like `real`.
        condition: (B, K, 1, 1) or None.
    """
    both = torch.cat((real, fake))
    scores_real, scores_fake = critic(both, None if condition is None else torch.cat((condition, condition))).chunk(2)
    return scores_real.mean() - scores_fake.mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, condition: Tensor | None, mix: Tensor) -> Tensor:
    """Mean of (|∇ₓ D| - 1)² at random points between real and fake images (Gulrajani et al., 2017, eq. 3).

    Of the image's gradient alone, at the condition as it is: Yan et al.'s code takes no gradient by the code and does
    not interpolate it. Always in float32: half precision overflows in the second backward pass.

    Args:
        critic: D.
        real: Images (B, C, H, W).
        fake: Images like `real`.
        condition: (B, K, 1, 1) or None.
        mix: Share of the real image, (B, 1) in [0, 1].
    """
    with torch.autocast(real.device.type, enabled=False):
        share = mix[:, :, None, None]
        between = (share * real.float() + (1 - share) * fake.detach().float()).requires_grad_()
        scores = critic(between, None if condition is None else condition.float())
        (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
