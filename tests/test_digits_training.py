"""Training of the digits codec in stages: what is frozen, what is counted, what a stopped run continues with."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from lightning_modules.codecs.batch_norm import SharedBatchNorm2d
from lightning_modules.codecs.checkpoint import load_codec
from lightning_modules.codecs.digits import DigitCodec
from lightning_modules.conditional import ConditionalModule
from lightning_modules.errors import CheckpointError
from lightning_modules.joint import JointModule
from lightning_modules.losses.adversarial import gradient_penalty, wasserstein_gap
from lightning_modules.perceptual_decoder import AdversarialTraining, PerceptualDecoderModule
from tests.conftest import quiet_trainer
from tests.digit_helpers import WIDTH, digits_data, fit, small_codec, small_two_stage

STEPS = 20
"""Of an epoch of the embedded digits in batches of 64."""


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name, value in a.items() if not torch.equal(value, b[name])]
    assert not different, different


# -- losses ---------------------------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """D(x, c) = sum of a·x² + c, whose gradient is known."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        assert condition is not None
        return (self.a * x.square()).flatten(1).sum(1) + condition.flatten(1).sum(1)


def test_gap_and_penalty_by_hand() -> None:
    torch.manual_seed(0)
    real, fake, condition, mix = (
        torch.rand(5, 1, 4, 4),
        torch.rand(5, 1, 4, 4),
        torch.rand(5, 2, 1, 1),
        torch.rand(5, 1),
    )
    critic = Quadratic()
    gap = wasserstein_gap(critic, real, fake, condition)
    torch.testing.assert_close(gap, 0.3 * (real.square() - fake.square()).sum() / 5)
    between = mix[:, :, None, None] * real + (1 - mix[:, :, None, None]) * fake
    norms = 2 * critic.a * between.flatten(1).norm(dim=1)
    penalty = gradient_penalty(critic, real, fake, condition, mix)
    torch.testing.assert_close(penalty, (norms - 1).square().mean())
    (gradient,) = torch.autograd.grad(penalty, critic.a)
    expected = (2 * (norms - 1) * 2 * between.flatten(1).norm(dim=1)).mean()
    torch.testing.assert_close(gradient, expected)


def test_shared_batch_norm_is_batch_norm_in_one_process() -> None:
    torch.manual_seed(0)
    ours, theirs = SharedBatchNorm2d(3), nn.BatchNorm2d(3)
    x = torch.randn(8, 3, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    assert_equal(state_of(ours), state_of(theirs))


# -- stages ---------------------------------------------------------------------------------------------------------


class AtStart(L.Callback):
    """Keeps the codec as it is when stage 2 begins, and switches the whole module to training mode now and then."""

    def __init__(self) -> None:
        self.codec: dict[str, torch.Tensor] = {}
        self.global_steps: list[int] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        self.global_steps.append(trainer.global_step)
        if pl_module.second_stage_batches == 1:
            self.codec = state_of(pl_module.codec)
        pl_module.train()


def test_stage_2_leaves_the_codec_bit_for_bit_and_counts_batches(tmp_path: Path) -> None:
    module, watch = small_two_stage(), AtStart()
    module.train()
    before = state_of(module)
    trainer = fit(module, tmp_path, callbacks=[watch])
    assert_equal(watch.codec, state_of(module.codec))
    changed = {name.split(".")[0] for name, value in state_of(module).items() if not torch.equal(value, before[name])}
    assert changed == {"codec", "g2", "critic", "ema"}
    tracked = [value for name, value in watch.codec.items() if name.endswith("num_batches_tracked")]
    assert tracked and all(int(value) == STEPS for value in tracked)
    # Three optimisers, one of them in two steps a batch: a global step is a batch all the same.
    assert watch.global_steps == list(range(1, 2 * STEPS + 1))
    assert trainer.global_step == 2 * STEPS


def test_max_steps_are_batches_in_both_stages(tmp_path: Path) -> None:
    trainer = fit(small_two_stage(), tmp_path, epochs=-1, max_steps=STEPS + 7)
    assert trainer.global_step == STEPS + 7


def test_average_of_g2_is_that_of_its_steps(tmp_path: Path) -> None:
    module = small_two_stage(adversarial={"critic_warmup": 3, "ema_decay": 0.5})
    raw: list[dict[str, torch.Tensor]] = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
            if pl_module.second_stage_batches:
                raw.append(state_of(pl_module.g2))

    fit(module, tmp_path, callbacks=[Keep()])
    # While the critic warms up, g2's weights wait.
    assert torch.equal(raw[0]["network.0.weight"], raw[2]["network.0.weight"])
    assert not torch.equal(raw[2]["network.0.weight"], raw[3]["network.0.weight"])
    name = "network.0.weight"
    mean = raw[0][name].double()
    for n, state in enumerate(raw[3:]):
        decay = min(0.5, (1 + n) / (10 + n))
        mean = decay * mean + (1 - decay) * state[name].double()
    torch.testing.assert_close(module.ema.state_dict()[name].double(), mean, rtol=1e-4, atol=1e-6)
    assert not any(p.requires_grad for p in module.ema.parameters())


class StopAfter(L.Callback):
    """Saves and fails after a step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if not trainer.is_last_batch:  # as LastCheckpoint does
            self.on_train_epoch_end(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)
            raise InterruptedError


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    module = small_two_stage(adversarial={"critic_warmup": 4})
    fit(module, tmp_path_factory.mktemp("whole"))
    return module


@pytest.mark.parametrize("stops", [(7, STEPS + 9), (STEPS, STEPS + 2)], ids=str)
def test_stopped_and_resumed_equals_uninterrupted(uninterrupted: Any, tmp_path: Path, stops: tuple[int, ...]) -> None:
    """Stopped in the middle of both stages, and at the switch and within the critic's warm-up."""
    checkpoint = None
    for stop in (*stops, None):
        torch.manual_seed(99)  # a new process starts from other random weights
        part = small_two_stage(adversarial={"critic_warmup": 4})
        callbacks = [] if stop is None else [StopAfter(stop, tmp_path / f"{stop}.ckpt")]
        trainer = quiet_trainer(
            tmp_path, max_epochs=2, limit_val_batches=0, gradient_clip_val=None, callbacks=callbacks
        )
        if stop is None:
            trainer.fit(part, datamodule=digits_data(), ckpt_path=checkpoint)
        else:
            with pytest.raises(InterruptedError):
                trainer.fit(part, datamodule=digits_data(), ckpt_path=checkpoint)
            checkpoint = tmp_path / f"{stop}.ckpt"
    assert_equal(state_of(part), state_of(uninterrupted))
    assert part.second_stage_batches == uninterrupted.second_stage_batches == STEPS


def test_second_stage_alone_on_a_trained_codec(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = ConditionalModule(DigitCodec(bits=4, width=WIDTH))
    trainer = fit(first, tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "stage1.ckpt", weights_only=False)
    adversarial = AdversarialTraining(noise_dim=6, critic_warmup=2)
    stage1_ckpt = str(tmp_path / "stage1.ckpt")
    second = PerceptualDecoderModule(DigitCodec(bits=4, width=WIDTH), stage1_ckpt, adversarial=adversarial)
    trainer = fit(second, tmp_path, epochs=1)
    assert_equal(state_of(second.codec), state_of(first.codec))
    trainer.save_checkpoint(tmp_path / "stage2.ckpt", weights_only=False)
    (tmp_path / "stage1.ckpt").unlink()
    # The file of stage 1 may be gone when stage 2 is resumed, tested or decoded with.
    again = PerceptualDecoderModule(DigitCodec(bits=4, width=WIDTH), stage1_ckpt, adversarial=adversarial)
    quiet_trainer(tmp_path).test(again, digits_data(), ckpt_path=tmp_path / "stage2.ckpt", verbose=False)
    codec = load_codec(tmp_path / "stage2.ckpt").codec
    assert isinstance(codec, DigitCodec) and codec.perceptual is not None
    assert_equal(state_of(codec.perceptual), state_of(second.ema))
    # One bitstream: what the codec of stage 1 writes, that of stage 2 reads.
    x = next(iter(digits_data().test_dataloader()))
    data = first.codec.eval().compress(x["image"], x["label"])
    assert torch.equal(codec.decompress(data, 0), first.codec.decompress(data, 0))


def test_second_stage_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"set model\.stage1_ckpt"):
        fit(PerceptualDecoderModule(DigitCodec(bits=4, width=WIDTH)), tmp_path)
    module = small_two_stage()
    trainer = fit(module, tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "other.ckpt", weights_only=False)
    with pytest.raises(CheckpointError, match="set the same sizes"):
        fit(PerceptualDecoderModule(DigitCodec(bits=8, width=WIDTH), str(tmp_path / "other.ckpt")), tmp_path)


def test_joint_training_moves_the_encoder_by_the_critic(tmp_path: Path) -> None:
    weights = []
    for beta in (0.0, 0.1):
        torch.manual_seed(0)
        module = JointModule(DigitCodec(bits=4, width=WIDTH, noise_dim=6), beta=beta, learning_rate=1e-3)
        trainer = fit(module, tmp_path, epochs=1)
        assert trainer.global_step == STEPS
        weights.append(module.codec.f[0].weight.detach().clone())
    assert not torch.equal(*weights)
    with pytest.raises(ValueError, match=r"codec\.noise_dim"):
        JointModule(small_codec())


@pytest.mark.parametrize(
    "wrong",
    [{"critic_steps": 0}, {"noise_dim": -1}, {"ema_decay": 1.0}, {"lambda_xhat": -1}, {"critic_warmup": -1}],
    ids=str,
)
def test_settings_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"adversarial.{next(iter(wrong))} is"):
        AdversarialTraining(**wrong)


def test_half_precision_with_loss_scaling_is_refused(tmp_path: Path) -> None:
    module = small_two_stage()
    trainer = quiet_trainer(tmp_path, max_epochs=1, gradient_clip_val=None)
    trainer.strategy.precision_plugin.precision = "16-mixed"
    with pytest.raises(ValueError, match="use 32-true or bf16-mixed"):
        trainer.fit(module, datamodule=digits_data())
