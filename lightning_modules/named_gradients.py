"""Optimiser steps under manual optimisation: each on the gradients of its own parameters, counted once a batch."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure
from torch import Tensor

from lightning_modules.errors import SettingError


def step_on(
    module: L.LightningModule,
    optimizer: LightningOptimizer,
    loss: Tensor,
    *,
    counted: bool,
    clip: float | None = None,
) -> Tensor:
    """Minimise a loss by one step on the optimiser's parameters, and on nothing else.

    The gradients are asked for by name (`torch.autograd.grad`): none are left on other networks, there is nothing to
    zero and nothing to toggle, and DDP's reducer, which wants every parameter in every backward pass, is not
    involved. Gradients are averaged over the processes here.

    Lightning counts every optimiser step as a global step. With `counted` false a step passes it by, so that
    `global_step`, `max_steps`, checkpoint intervals and loggers count batches, whatever the number of networks.

    Args:
        module: The module in training.
        optimizer: One of `module.optimizers()`.
        loss: Scalar; it must depend on all of the optimiser's parameters.
        counted: Whether this is the batch's step; exactly one per batch should be.
        clip: Largest norm of the gradient of the optimiser's first group; None leaves it.

    Returns:
        The norm before clipping; 0 where nothing was to be clipped.
    """
    trainer = module.trainer
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        callback.on_before_backward(trainer, module, loss)  # guards look at the loss here
    parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = list(torch.autograd.grad(loss, parameters))
    if trainer.world_size > 1:
        flat = trainer.strategy.reduce(torch.cat([g.reshape(-1) for g in gradients]), reduce_op="mean")
        assert isinstance(flat, Tensor)
        parts = flat.split([g.numel() for g in gradients])
        gradients = [part.view(g.shape) for part, g in zip(parts, gradients, strict=True)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = torch.zeros(())
    if clip is not None:
        norm = torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], clip)
    if counted:
        optimizer.step()
    else:
        trainer.strategy.optimizer_step(optimizer.optimizer, do_nothing_closure, model=module)
    return norm


def refuse_loss_scaling(trainer: Any) -> None:
    """Say so before training starts where gradients would need scaling.

    Raises:
        SettingError: precision is 16-mixed.
    """
    if str(trainer.precision).startswith("16"):
        raise SettingError(
            f"trainer.precision {trainer.precision} needs loss scaling, which the gradient penalty does not survive: "
            "use 32-true or bf16-mixed"
        )
